"""``status``, ``check`` and ``wait``: they say what is true, and change nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import assert_keeps, contents, refused, valid_document
from tests.harness import (
    UNSET,
    Completed,
    Database,
    Project,
    Revision,
    Role,
    query,
    table_revision,
    table_revisions,
    transaction,
    wait_until,
)

MakeProject = Callable[..., Project]
DUPLICATES = "CREATE TABLE doubled AS SELECT 1 AS id FROM generate_series(1, 2)"
INVALID = "CREATE UNIQUE INDEX CONCURRENTLY ix_doubled ON doubled (id)"


@pytest.fixture
def shop(project: MakeProject) -> Project:
    return project(revisions=table_revisions("a1", "b2", "c3"))


def leave_an_invalid_index(database: Database) -> None:
    database.query(DUPLICATES)
    with pytest.raises(Exception, match="could not create unique index"):
        database.query(INVALID)


def test_status_says_in_one_breath_where_the_database_stands(shop: Project, database: Database) -> None:
    empty = contents(database)
    assert "at base, no version table yet · 3 pending: a1, b2, c3 · nobody holds the lock" in status(shop)
    assert contents(database) == empty
    shop.migrator("upgrade", "a1", check=True)
    assert "at a1 · 2 pending: b2, c3 · nobody holds the lock" in status(shop)
    assert status(shop, "--exit-code", code=3)
    shop.migrator("upgrade", check=True)
    assert "at c3 · up to date · nobody holds the lock" in status(shop, "--exit-code")


def status(project: Project, *options: str, code: int = 0) -> str:
    told = project.migrator("status", *options)
    assert told.returncode == code, told.output
    return told.stdout


def test_status_says_that_tables_were_made_by_something_else(shop: Project, database: Database) -> None:
    database.query(DUPLICATES)
    told = status(shop)
    assert "no version table, but 1 other table" in told
    assert "migrator stamp REVISION" in told


def test_status_says_that_the_database_is_ahead(shop: Project) -> None:
    shop.migrator("upgrade", check=True)
    (shop.versions / "c3_create_t_c3.py").unlink()
    assert "not in this image: c3 (the database is ahead)" in status(shop, "--exit-code", code=3)


def test_status_names_an_invalid_index(shop: Project, database: Database) -> None:
    leave_an_invalid_index(database)
    assert "INVALID index ix_doubled on doubled" in status(shop)


def test_status_says_who_holds_the_lock_and_does_not_wait_for_it(shop: Project, database: Database) -> None:
    shop.add_revision("d4", "c3", 'op.execute("SELECT pg_sleep(60)")')
    running = shop.start("upgrade")
    sleeping = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    wait_until(lambda: database.query(sleeping), "the revision sleeps")
    ((pid,),) = database.query(sleeping)
    told = valid_document(shop.migrator("status", "--json", check=True))
    (target,) = told["targets"]
    assert (target["at"], target["lock_holder"]["pid"]) == (["c3"], pid)
    assert target["lock_holder"]["application"].endswith(": d4")
    assert f"lock held by pid {pid} (migrator " in status(shop)
    database.query(f"SELECT pg_terminate_backend({pid})")
    ended = running.wait()
    assert ended.returncode == ExitCode.CONNECTION_LOST, ended.output


def test_check_finds_everything_that_is_wrong_at_once(project: MakeProject) -> None:
    shop = project(revisions=[table_revision("a1", None), Revision("b2", "a1"), Revision("b3", "a1")])
    shop.add_revision("c4", "b2", header="import shop.models")
    broken = shop.add_revision("c5", "b3", message="break")
    broken.write_text(broken.read_text().replace("def upgrade():", "def upgrade(:"))
    env = shop.path / "migrations" / "env.py"
    env.write_text(env.read_text() + "\nif True print()\n")
    found = refused(shop, "check", code=ExitCode.CHECK_SAYS_NO, says=[], then=[], harmless=False)
    document = valid_document(found.completed)
    places = {(one["check"], one["file"], one["line"]) for one in document["findings"]}
    line = len(env.read_text().splitlines())
    assert {
        ("import", "migrations/versions/c4.py", 4),
        ("import", "migrations/versions/c5_break.py", 11),
        ("env.py", "migrations/env.py", line),
    } <= places, places
    assert all(one["message"] and one["next"] for one in document["findings"])
    text = shop.migrator("check").stdout
    for words in ("found     import: ModuleNotFoundError", "migrations/versions/c4.py:4", "exit      3 "):
        assert words in text, text


@pytest.mark.parametrize("offline", [True, False])
def test_check_finds_several_heads_without_a_database(
    project: MakeProject, offline: bool, closed_port: int
) -> None:
    shop = project(revisions=[table_revision("a1", None), Revision("b2", "a1"), Revision("b3", "a1")])
    nowhere = {"MIGRATOR_DATABASE_URL": f"postgresql://shop:x@127.0.0.1:{closed_port}/shop"}
    told = shop.migrator("check", *(["--offline"] if offline else []), env=nowhere)
    assert told.returncode == ExitCode.CHECK_SAYS_NO, told.output
    assert "two heads: b2 (migrations/versions/b2.py) and b3 (migrations/versions/b3.py)" in told.stdout
    assert "migrator merge b2 b3" in told.stdout


MISSING = {
    "a package of the project's": ("from shop.models import Base", "imports shop,"),
    "a package of others": ("import no_such_package", "imports no_such_package,"),
    "a module of a package": ("import billing.models", "imports billing.models,"),
    "a module below a module": ("import plain.below", "imports plain.below,"),
    "one of several": ("import os, json, no_such_package", "imports no_such_package,"),
}


@pytest.fixture
def with_modules(project: MakeProject) -> Callable[[str], Project]:
    """A project with these lines in front of its env.py, a package ``billing`` and a module ``plain``."""

    def make(lines: str) -> Project:
        shop = project(revisions=table_revisions("a1"))
        shop.write("billing/__init__.py", "MONEY = 1\n")
        shop.write("billing/money.py", "raise AssertionError('nothing is run')")
        shop.write("plain.py", "MONEY = 1\n")
        env = shop.path / "migrations" / "env.py"
        env.write_text(f"{lines}\n{env.read_text()}")
        return shop

    return make


@pytest.mark.parametrize(("line", "said"), MISSING.values(), ids=MISSING)
def test_check_offline_finds_what_env_py_imports_and_is_not_there(
    with_modules: Callable[[str], Project], line: str, said: str
) -> None:
    shop = with_modules(f"import os\n{line}")
    told = shop.migrator("check", "--offline", "--json", env={"MIGRATOR_DATABASE_URL": UNSET})
    assert told.returncode == ExitCode.CHECK_SAYS_NO, told.output
    (found,) = valid_document(told)["findings"]
    assert (found["check"], found["file"], found["line"]) == ("env.py", "migrations/env.py", 2)
    assert said in found["message"]
    assert "prepend_sys_path" in found["next"]
    ran = shop.migrator("upgrade")
    assert "Module" in ran.stderr or "AssertionError" in ran.stderr, ran.output


SOUND = {
    "one that may be missing": "try:\n    import no_such_package\nexcept ImportError:\n    pass",
    "one under a condition": "import os\nif 'NEVER' in os.environ:\n    import no_such_package",
    "one that is only for types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import no_such_package",
    "one in a with": "import contextlib\nwith contextlib.suppress(ImportError):\n    import no_such_package",
    "one in a function": "def later():\n    import no_such_package",
    "a relative one": "from . import no_such_package",
    "what is there": "import os.path, billing.money, plain\nfrom alembic import op\nfrom sqlalchemy.orm import Session",
    "a module that is in no file of its name": "import concurrent.futures, xml.etree.ElementTree",
}


@pytest.mark.parametrize("lines", SOUND.values(), ids=SOUND)
def test_check_offline_runs_nothing_of_env_py_and_leaves_alone_what_may_be_missing(
    with_modules: Callable[[str], Project], lines: str
) -> None:
    told = with_modules(lines).migrator("check", "--offline", env={"MIGRATOR_DATABASE_URL": UNSET})
    assert told.returncode == 0, told.output
    assert "env.py finds its imports" in told.stdout
    assert "not found" not in told.stderr


UNCERTAIN = {
    "env.py itself": "import sys\nsys.path.insert(0, 'src')\nimport shop",
    "env.py for Flask": "from flask import current_app\nimport shop",
    "a module before it": "import paths\nimport shop",
    "a module of a package before it": "import setting.up\nimport shop",
}


@pytest.mark.parametrize("lines", UNCERTAIN.values(), ids=UNCERTAIN)
def test_check_offline_only_tells_where_code_may_change_what_is_found(
    with_modules: Callable[[str], Project], lines: str
) -> None:
    shop = with_modules(lines)
    shop.write("src/shop.py", "")
    shop.write("paths.py", "import sys\nsys.path.insert(0, 'src')\n")
    shop.write("setting/up.py", "")
    shop.write("setting/deep/path.py", "import sys\nsys.path.insert(0, 'src')\n")
    told = shop.migrator("check", "--offline", env={"MIGRATOR_DATABASE_URL": UNSET})
    assert told.returncode == 0, told.output
    place = f"migrations/env.py:{len(lines.splitlines())}"
    assert f"{place} imports shop, which is not found; code that changes sys.path may find it" in told.stderr


BY_ANOTHER_WAY = {
    "the path imported by its name": (["from sys import path", "path.insert(0, 'lib')"], {}),
    "the path of sys by another name": (["import sys as system", "system.path.insert(0, 'lib')"], {}),
    "an installed package that does it": (
        ["import rootfinder", "rootfinder.set_up()"],
        {"site-packages/rootfinder.py": "import sys\ndef set_up():\n    sys.path.insert(0, 'lib')\n"},
    ),
    "one import further": (
        ["import conf"],
        {"conf.py": "import bootstrap\n", "bootstrap.py": "import sys\nsys.path.insert(0, 'lib')\n"},
    ),
    "all names of a package": (
        ["from proj import *"],
        {"proj/__init__.py": "import pathing\n", "pathing.py": "import sys\nsys.path.insert(0, 'lib')\n"},
    ),
    "in a try": (
        ["try:", "    import conf", "except ImportError:", "    pass"],
        {"conf.py": "import bootstrap\n", "bootstrap.py": "import sys\nsys.path.insert(0, 'lib')\n"},
    ),
    "a file that is executed": (
        ["exec(open('activate_this.py').read(), {})"],
        {"activate_this.py": "import sys\nsys.path.insert(0, 'lib')\n"},
    ),
}


@pytest.mark.parametrize(("lines", "files"), BY_ANOTHER_WAY.values(), ids=BY_ANOTHER_WAY)
def test_check_offline_fails_for_no_import_that_a_run_finds(
    project: MakeProject, lines: list[str], files: dict[str, str]
) -> None:
    told = finds_it_at_run_time(project, [*lines, "import shopmodels"], {"lib/shopmodels.py": "", **files})
    assert f"migrations/env.py:{len(lines) + 1} imports shopmodels, which is not found; code" in told.stderr


def test_check_offline_fails_for_no_module_that_its_package_makes_by_itself(project: MakeProject) -> None:
    made = "from sys import modules\nimport types\nmodules['proj.models'] = types.ModuleType('proj.models')\n"
    finds_it_at_run_time(project, ["import proj.models"], {"proj/__init__.py": made})


def test_check_offline_asks_the_finder_of_an_editable_installation(project: MakeProject) -> None:
    finder = """\
import importlib.util, sys

class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "proj.models":
            return importlib.util.spec_from_file_location(name, "elsewhere/models.py")

sys.meta_path.append(Finder)
"""
    files = {"proj/__init__.py": "", "elsewhere/models.py": "", "site-packages/sitecustomize.py": finder}
    told = finds_it_at_run_time(project, ["import proj.models"], files)
    assert "is not found" not in told.stderr


def finds_it_at_run_time(project: MakeProject, lines: list[str], files: dict[str, str]) -> Completed:
    """The check, with which no fault was found; an upgrade with the same env.py works."""
    shop = project(revisions=table_revisions("a1"))
    for name, text in files.items():
        shop.write(name, text)
    env = shop.path / "migrations" / "env.py"
    env.write_text("\n".join(lines) + f"\n{env.read_text()}")
    installed = {"PYTHONPATH": str(shop.path / "site-packages")}
    told = shop.migrator("check", "--offline", env={**installed, "MIGRATOR_DATABASE_URL": UNSET})
    assert told.returncode == 0, told.output
    shop.migrator("upgrade", env=installed, check=True)
    return told


def test_check_offline_is_certain_after_what_every_env_py_begins_with(project: MakeProject) -> None:
    shop = project(revisions=table_revisions("a1"))
    env = shop.path / "migrations" / "env.py"
    env.write_text(f"{BEGINNING}import shop.models\n{env.read_text()}")
    told = shop.migrator("check", "--offline", env={"MIGRATOR_DATABASE_URL": UNSET})
    assert told.returncode == ExitCode.CHECK_SAYS_NO, told.output
    assert "imports shop, which is neither installed" in told.stdout


BEGINNING = """\
import os
import sys
from logging.config import fileConfig
from pathlib import Path
from alembic import context
from sqlalchemy import engine_from_config, pool
import yaml
config = context.config
if config.config_file_name is not None and Path("nowhere.ini").exists():
    fileConfig(config.config_file_name)
url = os.environ.get("SOME_URL", "")
"""


def test_check_offline_names_a_missing_package_once_and_says_how_an_image_gets_it(
    with_modules: Callable[[str], Project],
) -> None:
    shop = with_modules("from app.db import Base\nfrom app.models import User")
    told = shop.migrator("check", "--offline", "--json", env={"MIGRATOR_DATABASE_URL": UNSET})
    assert told.returncode == ExitCode.CHECK_SAYS_NO, told.output
    (found,) = valid_document(told)["findings"]
    assert found["line"] == 1
    assert "COPY app ./app" in found["next"]


def test_check_looks_into_the_database_too(shop: Project, database: Database) -> None:
    sound = shop.migrator("check", check=True)
    assert "version table readable, indexes valid" in sound.stdout
    shop.migrator("upgrade", check=True)
    leave_an_invalid_index(database)
    (shop.versions / "c3_create_t_c3.py").unlink()
    told = shop.migrator("check")
    assert told.returncode == ExitCode.CHECK_SAYS_NO, told.output
    assert "the database is ahead of this image: it is at c3" in told.stdout
    assert "ix_doubled on doubled is INVALID" in told.stdout
    assert "DROP INDEX CONCURRENTLY ix_doubled;" in told.stdout


def test_check_without_a_configuration_has_nothing_to_look_at(shop: Project) -> None:
    (shop.path / "alembic.ini").unlink()
    refused(shop, "check", code=ExitCode.USAGE, says=["there is no alembic.ini"], then=["-c"])


def test_check_that_cannot_reach_the_database_is_no_answer(shop: Project, closed_port: int) -> None:
    nowhere = {
        "MIGRATOR_DATABASE_URL": f"postgresql://shop:x@127.0.0.1:{closed_port}/shop",
        "MIGRATOR_WAIT_TIMEOUT": "0",
    }
    refused(
        shop,
        "check",
        env=nowhere,
        code=ExitCode.UNREACHABLE,
        says=["Connection refused"],
        then=["server is up"],
    )


def test_wait_for_head_returns_when_another_process_has_upgraded(shop: Project, database: Database) -> None:
    shop.migrator("upgrade", "a1", check=True)
    waiting = shop.start("wait", "--for", "head", "--wait-timeout", "60s")
    waiting.wait_for_line("at a1, wanted c3")
    shop.migrator("upgrade", check=True)
    ended = waiting.wait()
    assert ended.returncode == 0, ended.output
    assert database.revisions == ["c3"]
    assert "at c3 · up to date" in ended.stdout


def test_wait_for_head_says_where_the_database_is_when_the_time_is_over(shop: Project) -> None:
    shop.migrator("upgrade", "a1", check=True)
    refused(
        shop,
        "wait",
        "--for",
        "head",
        "--wait-timeout",
        "700ms",
        code=ExitCode.UNREACHABLE,
        says=["the database is not at head", "at a1, wanted c3"],
        then=["migration job", "MIGRATOR_WAIT_TIMEOUT"],
        harmless=False,
    )


def test_wait_for_head_does_not_wait_for_a_database_that_is_ahead(shop: Project) -> None:
    shop.migrator("upgrade", check=True)
    (shop.versions / "c3_create_t_c3.py").unlink()
    command = ("wait", "--for", "head")
    refused(
        shop,
        *command,
        code=ExitCode.HISTORY,
        says=["the database is ahead of this image: it is at c3"],
        then=["MIGRATOR_ALLOW_AHEAD=yes"],
    )
    assert shop.migrator(*command, "--allow-ahead").returncode == 0


def test_wait_for_head_needs_to_read_the_version_table_and_nothing_else(
    shop: Project, database: Database, new_role: Callable[..., Role]
) -> None:
    shop.migrator("upgrade", check=True)
    role = new_role()
    database.query(f'REVOKE ALL ON DATABASE "{database.name}" FROM PUBLIC')
    database.query("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    database.query(f'GRANT CONNECT ON DATABASE "{database.name}" TO "{role.name}"')
    database.query(f'GRANT USAGE ON SCHEMA public TO "{role.name}"')
    database.query(f'GRANT SELECT ON alembic_version TO "{role.name}"')
    url = database.server.url_of(database.name, user=role.name, password=role.password)
    with pytest.raises(Exception, match="permission denied"):
        query(url, "SELECT * FROM t_a1")
    for command in (["wait", "--for", "head"], ["status", "--exit-code"]):
        told = shop.migrator(*command, env={"MIGRATOR_DATABASE_URL": url})
        assert told.returncode == 0, told.output
        assert_keeps(told, role.password)


def test_wait_for_head_works_while_somebody_migrates(shop: Project, database: Database) -> None:
    """A lock on the version table, as a migration in its transaction holds one, is no reason to fail."""
    shop.migrator("upgrade", check=True)
    with transaction(database.url, "UPDATE alembic_version SET version_num = 'b2'"):
        assert shop.migrator("wait", "--for", "head").returncode == 0
