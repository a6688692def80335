"""No password on any way out: not printed by a revision, not raised by it, not in its SQL, not from env.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import assert_keeps, refused, valid_document
from tests.harness import SYNC_ENV, UNSET, Completed, Database, Project, Role, with_driver

MakeProject = Callable[..., Project]
PASSWORD = "p%40s/s:\"w@rd'é"
FORMATS = pytest.mark.parametrize(
    "options", [[], ["--verbose"], ["--log-format", "json", "--verbose"]], ids=["text", "verbose", "json"]
)


@dataclass(frozen=True)
class Shop:
    """A project whose database belongs to a role with a difficult password."""

    project: Project
    database: Database
    variables: Mapping[str, str]

    def upgrade(self, *options: str) -> Completed:
        completed = self.project.migrator("upgrade", "--json", *options, env=self.variables)
        assert_keeps(completed, PASSWORD, document=valid_document(completed))
        return completed


@pytest.fixture
def shop(project: MakeProject, new_role: Callable[..., Role], new_database: Callable[..., Database]) -> Shop:
    role = new_role(PASSWORD)
    own = new_database(owner=role.name)
    url = own.server.url_of(own.name, user=role.name, password=PASSWORD)
    return Shop(project(), own, {"MIGRATOR_DATABASE_URL": url})


READ = """
import os
from sqlalchemy.engine import make_url

url = os.environ["DATABASE_URL"]
password = make_url(url).password
"""

PRINTED = """
print("connecting to", url)
print("with", password, flush=True)
print({"password": password, "again": [password]})
"""


@FORMATS
def test_what_a_revision_prints_does_not_show_it(shop: Shop, options: list[str]) -> None:
    shop.project.add_revision("a1", None, READ + PRINTED)
    done = shop.upgrade(*options)
    assert done.returncode == 0, done.output
    assert "connecting to postgresql://" in done.stderr
    assert "with ***" in done.stderr


@FORMATS
def test_what_a_revision_raises_does_not_show_it(shop: Shop, options: list[str]) -> None:
    shop.project.add_revision(
        "a1", None, READ + 'raise RuntimeError(f"cannot log in with {password} at {url}")'
    )
    failed = shop.upgrade(*options)
    assert failed.returncode == ExitCode.MIGRATION_FAILED, failed.output
    assert "RuntimeError: cannot log in with *** at postgresql://" in failed.stderr
    assert "a1.py" in failed.stderr


@FORMATS
def test_a_failing_statement_does_not_show_the_password_in_it(shop: Shop, options: list[str]) -> None:
    """Neither the one that is known nor one that nobody has told us of."""
    statement = "CREATE ROLE reporting LOGIN PASSWORD 'unheard-of-3!' IN ROLE nobody_of_that_name"
    shop.project.add_revision("a1", None, f'op.execute("{statement}")')
    failed = shop.upgrade(*options)
    assert failed.returncode in (ExitCode.MIGRATION_FAILED, ExitCode.REFUSED), failed.output
    assert "CREATE ROLE reporting LOGIN PASSWORD '***'" in failed.stderr
    assert_keeps(failed, "unheard-of-3!")


def test_parameters_of_a_failing_statement_are_not_shown(shop: Shop) -> None:
    shop.project.add_revision(
        "a1",
        None,
        """
        table = sa.table("accounts", sa.column("login"), sa.column("secret"))
        op.get_bind().execute(table.insert(), {"login": "miller", "secret": "unheard-of-3!"})
        """,
    )
    for options in ([], ["--verbose"]):
        failed = shop.upgrade(*options)
        assert failed.returncode == ExitCode.MIGRATION_FAILED, failed.output
        assert "INSERT INTO accounts" in failed.stderr
        if not options:  # A traceback that was asked for is Python's own.
            assert_keeps(failed, "unheard-of-3!")


@FORMATS
def test_what_env_py_prints_does_not_show_it(shop: Shop, options: list[str]) -> None:
    printing = f"{READ}{PRINTED}import logging, sys\nlogging.warning('at %s', url)\n"
    printing += "sys.stderr.write(password + chr(10))\n"
    shop.project.write(
        "migrations/env.py", SYNC_ENV.replace("target_metadata = None", printing + "target_metadata = None")
    )
    shop.project.add_revision("a1", None)
    done = shop.upgrade(*options)
    assert done.returncode == 0, done.output
    assert "connecting to postgresql://" in done.stderr


@FORMATS
def test_what_env_py_raises_does_not_show_it(shop: Shop, options: list[str]) -> None:
    shop.project.write(
        "migrations/env.py", READ + 'raise RuntimeError(f"no tenant at {url} with {password!r}")\n'
    )
    failed = shop.upgrade(*options)
    assert failed.returncode == ExitCode.USAGE, failed.output
    assert "RuntimeError: no tenant at postgresql://" in failed.stderr


def test_a_password_that_only_env_py_knows_is_kept_from_what_comes_after(
    shop: Shop, database: Database
) -> None:
    """It is learnt when the connection arrives: before that, nobody but env.py knows what it is."""
    url = with_driver(shop.variables["MIGRATOR_DATABASE_URL"], "psycopg2")
    env = SYNC_ENV.replace(
        "config.get_section(config.config_ini_section, {})", f"{{'sqlalchemy.url': {url!r}}}"
    )
    shop.project.write("migrations/env.py", env)
    shop.project.add_revision(
        "a1",
        None,
        "password = op.get_bind().engine.url.password\nprint('it is', password)\nraise ValueError(password)",
    )
    failed = shop.project.migrator("upgrade", "--json", env={"MIGRATOR_DATABASE_URL": UNSET})
    assert failed.returncode == ExitCode.MIGRATION_FAILED, failed.output
    assert_keeps(failed, PASSWORD, document=valid_document(failed))
    assert "it is ***" in failed.stderr


def test_a_line_of_alembic_ini_that_cannot_be_parsed_does_not_show_its_password(project: MakeProject) -> None:
    shop = project(ini="[alembic]\nscript_location = migrations\nDB_PASSWORD unheard-of-3!\n")
    refused(
        shop,
        "upgrade",
        code=ExitCode.USAGE,
        says=["alembic.ini", "line 3"],
        then=["Correct the file"],
        secrets=["unheard-of-3!"],
    )


@pytest.mark.parametrize("command", ["status", "config", "check", "wait"])
def test_no_other_command_shows_it(shop: Shop, command: str) -> None:
    shop.project.add_revision("a1", None)
    for options in ([], ["--json"]):
        told = shop.project.migrator(command, *options, env=shop.variables)
        assert told.returncode == 0, told.output
        assert_keeps(told, PASSWORD)
