"""An Alembic project that is not where it should be, or not whole: said at once, with the place that is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import refused
from tests.harness import SYNC_ENV, UNSET, Database, Project, table_revisions

MakeProject = Callable[..., Project]


@pytest.fixture
def shop(project: MakeProject) -> Project:
    return project(revisions=table_revisions("a1", "b2"))


def test_a_folder_without_alembic_ini_is_named(shop: Project) -> None:
    (shop.path / "alembic.ini").unlink()
    refused(
        shop,
        "upgrade",
        code=ExitCode.USAGE,
        says=["there is no alembic.ini", str(shop.path), "the default"],
        then=["-c", "MIGRATOR_CONFIG"],
    )


@pytest.mark.parametrize(
    ("arguments", "variables", "source"),
    [
        (["-c", "deploy/alembic.ini", "upgrade"], {}, "--config"),
        (["upgrade", "-c", "deploy/alembic.ini"], {}, "--config"),
        (["upgrade"], {"MIGRATOR_CONFIG": "deploy/alembic.ini"}, "MIGRATOR_CONFIG"),
    ],
)
def test_a_configuration_file_that_is_missing_is_named_with_the_setting_that_names_it(
    shop: Project, arguments: list[str], variables: dict[str, str], source: str
) -> None:
    refused(
        shop,
        *arguments,
        env=variables,
        code=ExitCode.USAGE,
        says=["there is no deploy/alembic.ini", f"from {source}"],
        then=["Correct it", "the folder that the command is run in"],
    )


def test_a_section_that_is_missing_is_told_with_those_that_are_there(shop: Project) -> None:
    refused(
        shop,
        "-n",
        "tenants",
        "upgrade",
        code=ExitCode.USAGE,
        says=["alembic.ini has no section [tenants]", "alembic, loggers"],
        then=["-n", "MIGRATOR_NAME"],
    )


def test_an_alembic_ini_that_cannot_be_parsed_is_named_with_its_line(shop: Project) -> None:
    shop.write("alembic.ini", "[alembic]\nscript_location = migrations\nscript_location = elsewhere\n")
    refused(
        shop,
        "upgrade",
        code=ExitCode.USAGE,
        says=["alembic.ini", "line 3", "script_location"],
        then=["Correct"],
    )


def test_a_script_location_that_leads_nowhere_is_named(shop: Project) -> None:
    ini = shop.path / "alembic.ini"
    ini.write_text(ini.read_text().replace("script_location = migrations", "script_location = db/migrations"))
    refused(
        shop,
        "upgrade",
        code=ExitCode.USAGE,
        says=["db/migrations", "script_location in", "alembic.ini"],
        then=["script_location"],
    )


def test_a_folder_of_scripts_without_env_py_is_named(shop: Project) -> None:
    (shop.path / "migrations" / "env.py").unlink()
    refused(
        shop,
        "upgrade",
        code=ExitCode.USAGE,
        says=["there is no env.py in migrations", "script_location in", "alembic.ini"],
        then=["script_location", "image"],
    )


@pytest.mark.parametrize("missing", [False, True], ids=["empty", "missing"])
def test_a_job_without_any_revision_is_a_packaging_mistake(project: MakeProject, missing: bool) -> None:
    empty = project()
    if missing:
        empty.versions.rmdir()
    refused(
        empty,
        "upgrade",
        code=ExitCode.USAGE,
        says=["no revision", "migrations/versions"],
        then=["image", "MIGRATOR_ALLOW_EMPTY=yes"],
    )


@pytest.mark.parametrize("missing", [False, True], ids=["empty", "missing"])
def test_revisions_that_are_gone_while_the_database_is_at_one_are_no_success(
    shop: Project, missing: bool
) -> None:
    shop.migrator("upgrade", check=True)
    shutil.rmtree(shop.versions)
    if not missing:
        shop.versions.mkdir()
    for command in (["upgrade"], ["upgrade", "heads"]):
        refused(
            shop,
            *command,
            env={"MIGRATOR_ALLOW_EMPTY": "yes"},
            code=ExitCode.HISTORY,
            says=["the database is at b2", "no revision in migrations/versions", "not mounted"],
            then=["script_location"],
        )


def test_a_project_that_has_no_revision_yet_may_be_run_if_that_is_said(
    project: MakeProject, database: Database
) -> None:
    empty = project()
    told = empty.migrator("upgrade", env={"MIGRATOR_ALLOW_EMPTY": "yes"}, check=True)
    assert "nothing to do" in told.stderr
    assert empty.migrator("upgrade", "--allow-empty").returncode == 0
    assert (database.revisions, database.tables) == ([], [])


def test_a_syntax_error_in_env_py_is_told_with_file_and_line(shop: Project) -> None:
    shop.write("migrations/env.py", "from alembic import context\n\ncontext.configure(connection=)\n")
    refused(
        shop,
        "upgrade",
        code=ExitCode.USAGE,
        says=["migrations/env.py:3", "syntax"],
        then=["Correct"],
    )


RAISING = {
    "a setting that is missing": (
        "import os\nos.environ['SHOP_TENANT']\n",
        "migrations/env.py:2",
        "SHOP_TENANT",
    ),
    "a module that is missing": (
        "import os\nimport shop.models\n",
        "migrations/env.py:2",
        "No module named 'shop'",
    ),
    "its own exit": ("import sys\nsys.exit(1)\n", "migrations/env.py:2", "sys.exit(1)"),
}


@pytest.mark.parametrize(("text", "place", "reason"), RAISING.values(), ids=RAISING)
def test_what_env_py_raises_before_it_connects_is_told_with_its_line(
    shop: Project, text: str, place: str, reason: str
) -> None:
    shop.write("migrations/env.py", text + SYNC_ENV)
    refused(shop, "upgrade", code=ExitCode.USAGE, says=[place, reason], then=["Correct", "--verbose"])


def test_what_a_module_of_the_project_raises_is_told_with_its_own_line(shop: Project) -> None:
    shop.write("settings.py", "import os\n\nTENANT = os.environ['SHOP_TENANT']\n")
    shop.write("migrations/env.py", "import settings\n" + SYNC_ENV)
    refused(
        shop,
        "upgrade",
        code=ExitCode.USAGE,
        says=["settings.py:3", "KeyError", "SHOP_TENANT"],
        then=["Correct"],
    )


def test_an_env_py_that_does_nothing_is_no_green_job(shop: Project) -> None:
    shop.write("migrations/env.py", "from alembic import context\n")
    refused(
        shop,
        "upgrade",
        code=ExitCode.NOT_VERIFIED,
        says=["env.py ended without running any migration", "context.configure"],
        then=["migrator explain nothing-ran"],
        harmless=False,
    )
    assert shop.database is not None
    assert (shop.database.revisions, shop.database.tables) == ([], [])


def test_an_env_py_that_wants_a_connection_gets_none_where_no_database_is_known(project: MakeProject) -> None:
    shop = project(ini="[alembic]\nscript_location = migrations\n", revisions=table_revisions("a1"))
    shop.write(
        "migrations/env.py",
        """\
        from alembic import context

        context.configure(connection=context.config.attributes["connection"])
        with context.begin_transaction():
            context.run_migrations()
        """,
    )
    refused(
        shop,
        "upgrade",
        env={"MIGRATOR_DATABASE_URL": UNSET},
        code=ExitCode.USAGE,
        says=['config.attributes["connection"]', "no database is configured"],
        then=["MIGRATOR_DATABASE_URL"],
    )


def test_the_url_that_alembic_init_wrote_is_told_as_no_database_at_all(project: MakeProject) -> None:
    shop = project(revisions=table_revisions("a1"))
    ini = shop.path / "alembic.ini"
    lines = ini.read_text().splitlines()
    lines = [
        "sqlalchemy.url = driver://user:pass@localhost/dbname" if "sqlalchemy.url" in line else line
        for line in lines
    ]
    ini.write_text("\n".join(lines))
    refused(
        shop,
        "upgrade",
        env={"MIGRATOR_DATABASE_URL": UNSET},
        code=ExitCode.USAGE,
        says=["no database is configured", "alembic init"],
        then=["Set MIGRATOR_DATABASE_URL"],
    )
