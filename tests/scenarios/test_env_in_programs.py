"""Variants of ``env.py`` with their applications: what a Flask project, a running loop, a script of upgrades need."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.harness import Completed, Database, Project, Revision, checked, start, table_revision
from tests.scenarios.shapes import TOOLS, Copy
from tests.scenarios.variants import ALL, PLACEHOLDER, flask, flask_init

ALEMBIC, MIGRATOR = TOOLS["alembic"], TOOLS["migrator"]
INI = ("-c", "migrations/alembic.ini")


def flask_project(path: Path, database: Database, folder: str = "flask_migrate") -> Copy:
    copy = Copy(f"env_variants/{folder}", path, {"DATABASE_URL": database.sqlalchemy_url()})
    flask_init()(copy)
    return copy


def run_python(copy: Copy, text: str) -> Completed:
    """Run a program in the project."""
    (copy.path / "program.py").write_text(text)
    return start(sys.executable, "program.py", env=copy.variables, cwd=copy.path).wait()


def applied(database: Database) -> list[str]:
    return [row for (row,) in database.query("SELECT revision FROM migration_log ORDER BY 1")]


def test_flask_db_and_migrator_carry_on_what_the_other_began(database: Database, tmp_path: Path) -> None:
    copy = flask_project(tmp_path / "shop", database)
    flask(copy, "db", "upgrade", ALL[0])
    copy.run(MIGRATOR, *INI, "upgrade", ALL[1])
    copy.run(MIGRATOR, *INI, "downgrade", "-1")
    flask(copy, "db", "upgrade")
    copy.run(MIGRATOR, *INI, "status", "--exit-code")
    checked(copy.run(MIGRATOR, *INI, "alembic", "current"))


def test_a_flask_project_says_where_its_configuration_is(database: Database, tmp_path: Path) -> None:
    copy = flask_project(tmp_path / "shop", database)
    failed = copy.run(MIGRATOR, "upgrade", check=False)
    assert failed.returncode == ExitCode.USAGE
    assert "-c migrations/alembic.ini" in failed.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "none was found"), ("shopp:create_app", "Could not import 'shopp'"), ("shop:make", "'make'")],
)
@pytest.mark.parametrize("command", [("upgrade",), ("status",), ("sql",), ("alembic", "current")])
def test_without_its_flask_application_env_py_cannot_run_and_what_to_set_is_said(
    database: Database, tmp_path: Path, name: str, said: str, command: tuple[str, ...]
) -> None:
    copy = flask_project(tmp_path / "shop", database)
    (copy.path / ".flaskenv").write_text(f"FLASK_APP={name}\n")
    failed = copy.run(MIGRATOR, *INI, *command, check=False)
    assert failed.returncode == ExitCode.USAGE, failed.output
    assert said in failed.stderr
    assert "FLASK_APP=shop:create_app" in failed.stderr
    assert database.tables == []


def test_what_the_factory_of_the_application_raises_is_told_with_its_place(
    database: Database, tmp_path: Path
) -> None:
    copy = flask_project(tmp_path / "shop", database)
    del copy.variables["DATABASE_URL"]
    failed = copy.run(MIGRATOR, *INI, "upgrade", check=False)
    assert failed.returncode == ExitCode.USAGE, failed.output
    assert "KeyError: 'DATABASE_URL'" in failed.stderr
    assert "shop/__init__.py:" in failed.stderr


def test_the_configured_database_reaches_the_flask_application(database: Database, tmp_path: Path) -> None:
    copy = flask_project(tmp_path / "shop", database)
    del copy.variables["DATABASE_URL"]
    copy.variables["MIGRATOR_DATABASE_URL"] = database.url
    copy.run(MIGRATOR, *INI, "upgrade")
    assert applied(database) == list(ALL)


def test_an_application_that_sets_variables_when_it_is_imported_may_be_asked_for_again(
    database: Database, tmp_path: Path
) -> None:
    copy = flask_project(tmp_path / "shop", database)
    copy.replace("shop/__init__.py", 'os.environ["DATABASE_URL"]', 'os.environ["SHOP_DATABASE_URL"]')
    copy.replace(
        "shop/__init__.py",
        "import os\n",
        "import os\n\nos.environ.update(SHOP_DATABASE_URL=os.environ['DATABASE_URL'])\n",
    )
    program = """\
import migrator

for revision in ("+1", "head"):
    migrator.upgrade(revision, config="migrations/alembic.ini")
"""
    checked(run_python(copy, program))
    assert applied(database) == list(ALL)


def test_a_program_within_its_application_context_migrates(database: Database, tmp_path: Path) -> None:
    copy = flask_project(tmp_path / "shop", database)
    (copy.path / ".flaskenv").unlink()
    program = """\
import migrator
from shop import create_app

with create_app().app_context():
    migrator.upgrade(config="migrations/alembic.ini")
"""
    checked(run_python(copy, program))
    assert applied(database) == list(ALL)


def test_a_factory_that_upgrades_first_and_the_run_are_two_runs_in_one_process(
    new_database: Callable[..., Database], tmp_path: Path
) -> None:
    for number, run in enumerate(
        (lambda copy: flask(copy, "db", "upgrade"), lambda copy: copy.run(MIGRATOR, *INI, "upgrade"))
    ):
        database = new_database()
        copy = flask_project(tmp_path / f"shop{number}", database, "flask_app_upgrades_first")
        copy.variables["MIGRATE_AT_START"] = "yes"
        run(copy)
        assert applied(database) == list(ALL)


LOOP = """\
import asyncio
import migrator

async def start():
    before = migrator.upgrade("+1")
    after = await migrator.aio.upgrade()
    print(len(before.applied), len(after.applied))

asyncio.run(start())
"""


def test_an_env_py_that_would_make_a_task_of_the_running_loop_is_not_run_in_it(
    database: Database, tmp_path: Path
) -> None:
    variables = {"DATABASE_URL": database.sqlalchemy_url("asyncpg")}
    copy = Copy("env_variants/async_task_in_running_loop", tmp_path / "shop", variables)
    ended = checked(run_python(copy, LOOP))
    assert ended.stdout.split() == ["1", "2"], ended.output
    assert applied(database) == list(ALL)


EXPAND_CONTRACT = """\
import migrator

for branch in ("expand@head", "contract@head"):
    print(branch, *[step.step.revision for step in migrator.upgrade(branch).applied])
"""


def test_expand_and_contract_are_several_upgrades_of_one_process(
    new_database: Callable[..., Database], tmp_path: Path
) -> None:
    for name, text in (("bare", None), ("ours", EXPAND_CONTRACT)):
        database = new_database()
        copy = Copy(
            "env_variants/expand_contract",
            tmp_path / name,
            {"DATABASE_URL": database.sqlalchemy_url()},
        )
        ini = copy.path / "alembic.ini"
        ini.write_text(ini.read_text().replace(PLACEHOLDER, database.sqlalchemy_url()))
        ended = checked(run_python(copy, text or (copy.path / "manage.py").read_text()))
        if text:
            assert ended.stdout.split() == ["expand@head", *ALL[:2], "contract@head", ALL[2]]
        assert applied(database) == list(ALL)


def test_autogenerate_goes_through_every_hook(database: Database, tmp_path: Path) -> None:
    copy = Copy(
        "env_variants/autogenerate_hooks", tmp_path / "shop", {"DATABASE_URL": database.sqlalchemy_url()}
    )
    copy.run(MIGRATOR, "upgrade")
    for tool in (ALEMBIC, MIGRATOR):
        before = copy.revisions("migrations/versions")
        copy.run(tool, "check") if tool is ALEMBIC else copy.run(tool, "alembic", "check")
        copy.run(tool, "revision", "--autogenerate", "-m", "nothing")
        assert copy.revisions("migrations/versions") == before


def test_what_env_py_writes_on_standard_output_is_masked_and_not_in_the_document(
    database: Database, tmp_path: Path
) -> None:
    url = database.sqlalchemy_url()
    copy = Copy("env_variants/logging_json", tmp_path / "shop", {"DATABASE_URL": url})
    done = copy.run(MIGRATOR, "--json", "upgrade")
    assert done.json["exit_code"] == 0
    assert "migrating postgresql+psycopg2://" in done.stderr
    assert '"logger": "alembic.runtime.migration"' not in done.stdout
    assert url.split("@")[0].rsplit(":", 1)[1] not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("leaves", "code", "said"),
    [
        ("sys.exit(3)", 3, ""),
        ("raise ValueError('of the child')", 1, "ValueError: of the child"),
        ("return", 0, ""),
    ],
)
def test_a_child_that_a_revision_forks_ends_where_the_revision_does(
    project: Callable[..., Project], database: Database, leaves: str, code: int, said: str
) -> None:
    body = f"""
op.execute("CREATE TABLE t_a1 ()")
child = os.fork()
if child == 0:
    {leaves}
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == {code}
"""
    shop = project(
        revisions=[Revision("a1", None, body, header="import os, sys"), table_revision("b2", "a1")]
    )
    done = shop.migrator("upgrade", check=True)
    assert done.stderr.count("verified  at b2") == 1, done.output
    assert said in done.stderr
    assert (database.revisions, database.tables) == (["b2"], ["t_a1", "t_b2"])
