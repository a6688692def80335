"""Nobody named a database to migrator, and env.py fails: that this is so is said, and which secrets were shut away."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import QUICK, explained, refused
from tests.harness import (
    UNSET,
    Completed,
    Project,
    Revision,
    clean_environment,
    table_revisions,
    write_project,
)

MakeProject = Callable[..., Project]
NONE: Mapping[str, str] = {"MIGRATOR_DATABASE_URL": UNSET}
READS_A_VARIABLE = """
import os

from alembic import context
from sqlalchemy import create_engine

with create_engine(os.environ["SHOP_URL"]).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
READS_SETTINGS = """
from pydantic import BaseModel

class Settings(BaseModel):
    database_url: str

Settings()
"""
SAYS_SO_ITSELF = """
import os

from alembic import context
from alembic.util import CommandError

if "SHOP_URL" not in os.environ:
    raise CommandError("Set SHOP_URL to the database to migrate.")
"""
NO_DATABASE = "no database is configured for migrator"


@pytest.fixture
def shop(project: MakeProject) -> Project:
    return project(READS_A_VARIABLE, revisions=table_revisions("a1"))


@pytest.mark.parametrize("env", [READS_A_VARIABLE, READS_SETTINGS], ids=["KeyError", "ValidationError"])
def test_an_env_py_that_misses_its_variable_is_told_with_what_migrator_was_given(
    project: MakeProject, env: str
) -> None:
    refused(
        project(env, revisions=table_revisions("a1")),
        "upgrade",
        env=NONE,
        code=ExitCode.USAGE,
        says=["Error", NO_DATABASE, "MIGRATOR_DATABASE_URL"],
        then=["set MIGRATOR_DATABASE_URL", "DATABASE_URL", "--verbose"],
    )


COMMANDS = (
    ["upgrade"],
    ["upgrade", "--sql"],
    ["sql"],
    ["sql", "a1:head"],
    ["downgrade", "a1:base", "--sql"],
    ["status"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_env_py_that_says_itself_what_to_set_is_a_matter_of_configuration(
    project: MakeProject, command: list[str]
) -> None:
    """Alembic's CommandError is how the example project says it; raised by Alembic, it is about the history."""
    done = project(SAYS_SO_ITSELF, revisions=table_revisions("a1")).migrator(*command, env=NONE)
    reasons, then = explained(done, ExitCode.USAGE)
    assert reasons.startswith("Set SHOP_URL to the database to migrate."), done.output
    assert "migrations/env.py:8" in reasons
    assert NO_DATABASE in reasons
    assert "set MIGRATOR_DATABASE_URL" in then
    assert "Nothing was changed." in then
    assert done.stdout == ""


@pytest.mark.parametrize("command", [["upgrade"], ["sql"]], ids=" ".join)
def test_the_words_of_an_env_py_are_its_own_where_a_database_is_configured(
    project: MakeProject, command: list[str]
) -> None:
    done = project(SAYS_SO_ITSELF, revisions=table_revisions("a1")).migrator(*command)
    reasons, then = explained(done, ExitCode.USAGE)
    assert "Set SHOP_URL" in reasons
    assert NO_DATABASE not in reasons
    assert then.startswith("Correct it, or the settings that it reads")


def test_sql_without_a_url_is_a_matter_of_configuration(tmp_path: Path) -> None:
    """Alembic's own template hands context.configure() no URL then, and it is Alembic that complains."""
    done = write_project(tmp_path / "shop", None, revisions=table_revisions("a1")).migrator("sql", env=NONE)
    reasons, then = explained(done, ExitCode.USAGE)
    assert "url" in reasons
    assert NO_DATABASE in reasons
    assert "set MIGRATOR_DATABASE_URL" in then


def test_where_a_database_is_configured_nothing_of_the_kind_is_said(shop: Project) -> None:
    told = refused(shop, "upgrade", code=ExitCode.USAGE, says=["SHOP_URL"], then=["Correct it"])
    assert NO_DATABASE not in told.completed.stderr


def test_an_env_py_that_cannot_connect_is_told_with_what_migrator_was_given(shop: Project) -> None:
    assert shop.database is not None
    refused(
        shop,
        "upgrade",
        env={**NONE, "SHOP_URL": shop.database.server.url_of("no_such_database")},
        code=ExitCode.REFUSED,
        says=["no_such_database", NO_DATABASE],
        then=[],
    )


def test_an_import_that_fails_has_nothing_to_do_with_it(project: MakeProject) -> None:
    shop = project("import no_such_module", revisions=table_revisions("a1"))
    told = refused(
        shop,
        "upgrade",
        env=NONE,
        code=ExitCode.USAGE,
        says=["no_such_module"],
        then=["Correct it", "install no_such_module", "docs/docker.md"],
    )
    assert NO_DATABASE not in told.completed.stderr


@pytest.mark.parametrize("command", ["heads", "upgrade"])
def test_a_revision_that_fails_is_not_said_to_miss_a_database(project: MakeProject, command: str) -> None:
    shop = project(revisions=[Revision("a1", None, header="no_such_name")])
    told = shop.migrator(command, env=NONE)
    assert told.returncode != 0, told.output
    assert "NameError" in told.output, told.output
    assert "MIGRATOR_DATABASE_URL" not in told.stderr, told.output


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_a_default_of_env_py_that_nobody_listens_at_is_told_with_the_variable_to_set(
    project: MakeProject, closed_port: int, driver: str
) -> None:
    """As in a pod whose manifest forgot the URL: env.py falls back to the developer's own database."""
    shop = project("async" if driver == "asyncpg" else "sync", revisions=table_revisions("a1"), driver=driver)
    ini = shop.path / "alembic.ini"
    before, _, after = ini.read_text().partition("sqlalchemy.url = ")
    url = f"postgresql+{driver}://shop:x@localhost:{closed_port}/shop"
    ini.write_text(f"{before}sqlalchemy.url = {url}\n{after.partition(chr(10))[2]}")
    refused(
        shop,
        "upgrade",
        env={**NONE, **QUICK, "KUBERNETES_SERVICE_HOST": "10.96.0.1"},
        code=ExitCode.UNREACHABLE,
        says=[NO_DATABASE, "localhost is the pod itself"],
        then=["set MIGRATOR_DATABASE_URL", "Check that the server is up"],
    )


OWN_RUN = """
mount -t tmpfs none /run || exit 77
mkdir /run/secrets && printf %s "$URL" > /run/secrets/database-url && chmod "$1" /run/secrets || exit 77
unset URL
shift
exec "$@"
"""


def with_secrets(shop: Project, mode: str, *arguments: str) -> Completed:
    """Run migrator with a ``/run/secrets`` of that mode, as somebody for whom modes hold."""
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("there is no unshare(1) or setpriv(1), for a /run of the process's own")
    assert shop.database is not None
    rights = "--bounding-set=-dac_override,-dac_read_search"
    command = [sys.executable, "-m", "migrator", *arguments]
    ran = subprocess.run(
        [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            OWN_RUN,
            "sh",
            mode,
            "setpriv",
            rights,
            *command,
        ],
        cwd=shop.path,
        env=clean_environment({"URL": shop.database.url}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if ran.returncode == 77 or "unshare:" in ran.stderr:
        pytest.skip(f"no mount namespace here: {ran.stderr.strip()}")
    return Completed(ran.returncode, ran.stdout, ran.stderr)


@pytest.mark.parametrize(
    ("mode", "deed"), [("000", "read or enter"), ("100", "read")], ids=["closed", "no list"]
)
def test_secrets_that_this_user_may_not_read_are_told(shop: Project, mode: str, deed: str) -> None:
    done = with_secrets(shop, mode, "upgrade")
    assert done.returncode == ExitCode.USAGE, done.output
    assert f"/run/secrets is there, and user 0 may not {deed} it" in done.stderr, done.output
    assert "Let that user read the secrets" in done.stderr
    assert NO_DATABASE in done.stderr


def test_a_secret_whose_folder_may_be_listed_and_not_entered_is_told_by_its_path(shop: Project) -> None:
    done = with_secrets(shop, "400", "upgrade")
    assert done.returncode == ExitCode.USAGE, done.output
    assert "the secret file /run/secrets/database-url cannot be used: Permission denied" in done.stderr
    assert "readable for the user" in done.stderr


def test_secrets_that_may_be_read_are_not_told_of(shop: Project) -> None:
    done = with_secrets(shop, "700", "status")
    assert "SHOP_URL" in done.stderr  # the secrets are read, and env.py misses a variable of its own
    assert NO_DATABASE not in done.stderr
