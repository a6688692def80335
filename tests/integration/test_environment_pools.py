"""An application that migrates at its start and lives on: its engine, its pool and its connections."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest

from tests.harness import Database, Project, Revision, checked, start
from tests.integration.proving import RUN, THREE, THREE_TABLES, Proving, Shape, run_locks

DATABASE_MODULE = """\
import os
from sqlalchemy import create_engine, text

engine = create_engine(
    os.environ["APP_URL"],
    pool_size=1,
    max_overflow=0,
    pool_reset_on_return=None,
    connect_args={"options": "-c lock_timeout=7s -c statement_timeout=8s", "application_name": "the shop"},
)
SETTINGS = (
    "lock_timeout", "statement_timeout", "application_name", "idle_in_transaction_session_timeout",
    "client_connection_check_interval", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count",
)
LOCKS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def look(connection):
    found = {name: connection.scalar(text(f"SELECT current_setting('{name}')")) for name in SETTINGS}
    found["locks"] = connection.scalar(text(LOCKS))
    return found
"""

POOLED_ENV = f"""\
from alembic import context
from shop.database import engine

with engine.connect() as connection:
    context.configure(connection=connection)
{RUN}"""

KEPT_ENV = """\
from alembic import context
from shop.database import kept

context.configure(connection=kept)
with context.begin_transaction():
    context.run_migrations()
"""

BEFORE_AND_AFTER = """\
import json
import migrator
from shop.database import engine, look

with engine.connect() as connection:
    before = look(connection)
try:
    migrator.upgrade(statement_timeout="30s")
except migrator.MigratorError as error:
    print("failed:", error.exit_code.value)
with engine.connect() as connection:
    after = look(connection)
print(json.dumps([before, after]))
"""


KEPT = "\n\nkept = engine.connect()\n"


def application(
    proving: Proving, database: Database, shape: Shape, main: str, *, kept: bool = False
) -> Project:
    """A project with an engine of its own, and ``main.py``; ``kept``: and one connection that it never closes."""
    module = DATABASE_MODULE + (KEPT if kept else "")
    files = {"shop/__init__.py": "", "shop/database.py": module, "main.py": main}
    whole = replace(shape, files=files, variables={"APP_URL": "{url}"}, configured=False)
    return proving.project(whole, database)


def run(project: Project) -> list[Any]:
    """Run ``main.py``: the lines that it printed, the last one as what it means in JSON."""
    completed = checked(start(sys.executable, "main.py", env=project.variables, cwd=project.path).wait())
    *lines, last = completed.stdout.splitlines()
    return [*lines, json.loads(last)]


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_neither_lock_nor_settings_stay_in_the_pool_of_an_application(
    proving: Proving, database: Database, driver: str
) -> None:
    project = application(proving, database, Shape(POOLED_ENV, driver=driver), BEFORE_AND_AFTER)
    ((before, after),) = run(project)
    assert database.tables == THREE_TABLES
    assert before["application_name"] == "the shop"
    assert before["lock_timeout"] == "7s"
    assert after == before
    assert before["locks"] == 0


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_a_connection_that_the_application_keeps_open_is_as_it_was(
    proving: Proving, database: Database, driver: str
) -> None:
    main = """\
import json
import migrator
from sqlalchemy import text
from shop.database import kept, look

before = look(kept)
kept.rollback()
migrator.upgrade()
after = look(kept)
kept.execute(text("CREATE TABLE of_the_application (id int)"))
kept.commit()
migrator.upgrade()
kept.execute(text("INSERT INTO of_the_application VALUES (1)"))
kept.commit()
print(json.dumps([before, after]))
"""
    project = application(proving, database, Shape(KEPT_ENV, driver=driver), main, kept=True)
    ((before, after),) = run(project)
    assert database.tables == ["of_the_application", *THREE_TABLES]
    assert after == before


def test_a_failed_migration_leaves_nothing_in_the_pool_either(proving: Proving, database: Database) -> None:
    revisions = [*THREE, Revision("d4", "c3", 'op.execute("SELECT 1 / 0")')]
    project = application(proving, database, Shape(POOLED_ENV, revisions), BEFORE_AND_AFTER)
    failed, (before, after) = run(project)
    assert failed == "failed: 20"
    assert after == before
    assert database.tables == THREE_TABLES


def test_a_transaction_that_failed_and_was_left_open_does_not_keep_the_lock(
    proving: Proving, database: Database
) -> None:
    env = """\
from alembic import context
from shop.database import kept

context.configure(connection=kept, transaction_per_migration=False)
context.run_migrations()
"""
    main = """\
import json
import migrator
from sqlalchemy import text
from shop.database import kept, look

try:
    migrator.upgrade()
except migrator.MigratorError as error:
    print("failed:", error.exit_code.value)
kept.rollback()
print(json.dumps(look(kept)))
"""
    revisions = [Revision("a1", None, 'op.execute("SELECT 1 / 0")')]
    project = application(proving, database, Shape(env, revisions), main, kept=True)
    failed, after = run(project)
    assert failed == "failed: 20"
    assert after["locks"] == 0
    assert (after["lock_timeout"], after["application_name"]) == ("7s", "the shop")


def test_one_process_may_run_alembic_itself_and_then_migrator(proving: Proving, database: Database) -> None:
    """An application factory that upgrades a database at import, and a command that calls it."""
    main = """\
import json
import migrator
from alembic import command
from alembic.config import Config

command.upgrade(Config("alembic.ini"), "b2")
applied = [step.step.revision for step in migrator.upgrade().applied]
command.downgrade(Config("alembic.ini"), "a1")
print(json.dumps([applied, [step.step.revision for step in migrator.upgrade().applied]]))
"""
    project = application(proving, database, Shape(POOLED_ENV), main)
    assert run(project) == [[["c3"], ["b2", "c3"]]]
    assert database.tables == THREE_TABLES


def test_the_lock_of_a_connection_that_is_never_closed_goes_with_the_run(
    proving: Proving, database: Database
) -> None:
    """Not only with the process: others wait for it meanwhile."""
    main = """\
import os, time
import migrator

migrator.upgrade()
print("migrated", flush=True)
while not os.path.exists("enough"):
    time.sleep(0.02)
"""
    project = application(proving, database, Shape(KEPT_ENV), main, kept=True)
    living = start(sys.executable, "main.py", env=project.variables, cwd=project.path)
    living.wait_for_line("migrated")
    assert run_locks(database) == 0
    assert living.process.poll() is None
    project.migrator("upgrade", check=True)
    (project.path / "enough").touch()
    checked(living.wait())
