"""How ``env.py`` comes by its connection: each way that real projects have, unmodified."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy

from migrator.errors import ExitCode
from tests.harness import SYNC_ENV, UNSET, Database, Project, Role, table_revisions
from tests.integration.proving import (
    ENGINE,
    RUN,
    SHORTEST_ENV,
    THREE_TABLES,
    Proving,
    Shape,
    nobody_holds_the_lock,
    recording_revisions,
    tables,
)

DEV_ENV = f"""\
import os
from alembic import context
from sqlalchemy import create_engine

with create_engine(os.environ["DEV_DATABASE_URL"]).connect() as connection:
    context.configure(connection=connection)
{RUN}"""
"""Reads a variable that nothing but the project knows."""

both_drivers = pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])


@both_drivers
def test_the_template_of_alembic_with_engine_from_config(proving: Proving, driver: str) -> None:
    proof = proving.prove(Shape(SYNC_ENV, driver=driver), contenders=3)
    assert proof.database.tables == THREE_TABLES
    assert proof.database.revisions == ["c3"]
    assert [run.stderr.count("\nverified  at c3") for run in proof.runs] == [1, 1, 1]


@both_drivers
def test_a_database_that_only_env_py_knows(proving: Proving, driver: str) -> None:
    shape = Shape(DEV_ENV, driver=driver, variables={"DEV_DATABASE_URL": "{url}"}, configured=False)
    proof = proving.prove(shape, contenders=3)
    assert proof.database.tables == THREE_TABLES
    assert all("from env.py" in run.stderr for run in proof.runs)


def test_a_variable_that_the_project_reads_gets_the_configured_url(proving: Proving) -> None:
    shape = Shape(DEV_ENV, variables={"DEV_DATABASE_URL": "{url}"})
    unset = {"DEV_DATABASE_URL": UNSET, "MIGRATOR_EXPORT_URL_AS": "DEV_DATABASE_URL"}
    proof = proving.prove(shape, env=unset)
    assert proof.database.tables == THREE_TABLES


def test_the_projects_own_url_gives_way_where_it_is_exported(
    proving: Proving, new_database: Callable[..., Database]
) -> None:
    """One that names the developer's database, in the environment of the process, must not win."""
    developers, wanted = new_database(), new_database()
    project = proving.project(Shape(DEV_ENV), wanted)
    variables = {
        "DEV_DATABASE_URL": developers.sqlalchemy_url(),
        "MIGRATOR_EXPORT_URL_AS": "DEV_DATABASE_URL",
    }
    project.migrator("upgrade", env=variables, check=True)
    assert (wanted.tables, tables(developers)) == (THREE_TABLES, [])


def test_another_database_than_the_configured_one_is_refused_before_any_change(
    proving: Proving, new_database: Callable[..., Database]
) -> None:
    developers, wanted = new_database(), new_database()
    project = proving.project(Shape(DEV_ENV), wanted)
    refused = project.migrator("upgrade", env={"DEV_DATABASE_URL": developers.sqlalchemy_url()})
    assert refused.returncode == 2, refused.output
    assert developers.name in refused.stderr
    assert wanted.name in refused.stderr
    assert "MIGRATOR_EXPORT_URL_AS" in refused.stderr
    assert (tables(wanted), tables(developers)) == ([], [])
    assert nobody_holds_the_lock(developers)


@both_drivers
def test_a_connection_that_is_never_closed(proving: Proving, driver: str) -> None:
    env = f"""{ENGINE}
connection = engine.connect()
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""
    proof = proving.prove(Shape(env, driver=driver), contenders=3)
    assert proof.database.tables == THREE_TABLES


def test_a_connection_is_given_to_an_env_py_that_demands_one(proving: Proving) -> None:
    env = """\
from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""
    shape = Shape(env)
    alone = proving.project(shape).alembic("upgrade", "head")
    assert "KeyError: 'connection'" in alone.stderr
    proof = proving.prove(shape, bare=False, contenders=3)
    assert proof.database.tables == THREE_TABLES


def test_an_env_py_that_can_connect_by_itself_is_given_no_connection(proving: Proving) -> None:
    env = f"""{ENGINE}
given = config.attributes.get("connection", None)
if given is None and "connection" not in config.attributes:
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            connection.execute(text("SET LOCAL application_name = 'by itself'"))
            context.run_migrations()
else:
    raise RuntimeError("a connection was given")
"""
    assert proving.prove(Shape(env)).database.tables == THREE_TABLES


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_asynchronous_engine_of_psycopg(proving: Proving, loop: str) -> None:
    env = f"""\
import asyncio
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine

{"import uvloop; uvloop.install()" if loop == "uvloop" else ""}


def migrate(connection):
    context.configure(connection=connection)
{RUN}

async def main():
    engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(main())
"""
    proof = proving.prove(Shape(env, driver="psycopg"), contenders=3 if loop == "asyncio" else 1)
    assert proof.database.tables == THREE_TABLES


def test_an_asynchronous_engine_whose_connection_is_left_to_its_pool(proving: Proving) -> None:
    env = f"""\
import asyncio
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"))


def migrate(connection):
    context.configure(connection=connection)
{RUN}

async def main():
    async with engine.begin() as connection:
        await connection.run_sync(migrate)


asyncio.get_event_loop_policy().new_event_loop().run_until_complete(main())
"""
    assert proving.prove(Shape(env, driver="psycopg")).database.tables == THREE_TABLES


@both_drivers
def test_an_engine_that_commits_each_statement(proving: Proving, driver: str) -> None:
    env = ENGINE.replace("NullPool)", 'NullPool, isolation_level="AUTOCOMMIT")')
    env += f"\nwith engine.connect() as connection:\n    context.configure(connection=connection)\n{RUN}"
    proof = proving.prove(Shape(env, driver=driver), contenders=3)
    assert proof.database.tables == THREE_TABLES


def test_credentials_that_only_the_engines_creator_knows(
    proving: Proving, new_role: Callable[..., Role], new_database: Callable[..., Database]
) -> None:
    """Verification and cancelling connect as the project's own engine does, not by what its URL says."""
    role = new_role("known-to-env.py")
    database = new_database(owner=role.name)
    env = f"""\
import psycopg2
from alembic import context
from sqlalchemy import create_engine

dsn = {database.server.url_of(database.name, user=role.name, password=role.password)!r}
engine = create_engine("postgresql+psycopg2://nobody:nothing@invalid.invalid/nowhere",
                       creator=lambda: psycopg2.connect(dsn))
with engine.connect() as connection:
    context.configure(connection=connection)
{RUN}"""
    project = proving.project(Shape(env, configured=False), database)
    project.migrator("upgrade", check=True)
    assert database.tables == THREE_TABLES
    assert role.password not in project.migrator("upgrade", check=True).output


@pytest.mark.parametrize("way", ["set_main_option", "set_section_option", "file_config"])
def test_a_percent_sign_in_a_password_reaches_the_database(
    proving: Proving, new_role: Callable[..., Role], new_database: Callable[..., Database], way: str
) -> None:
    role = new_role("p%40@s%s/w:%(x)s")
    url = f"postgresql+psycopg2://{role.name}:p%2540%40s%25s%2Fw%3A%25(x)s@{{place}}"
    calls = {
        "set_main_option": "config.set_main_option('sqlalchemy.url', url)",
        "set_section_option": "config.set_section_option(config.config_ini_section, 'sqlalchemy.url', url)",
        "file_config": "config.file_config.set(config.config_ini_section, 'sqlalchemy.url', url)",
    }
    env = f"""\
import os
from alembic import context
from sqlalchemy import engine_from_config

config = context.config
url = os.environ["APP_URL"]
{calls[way]}
assert config.get_main_option("sqlalchemy.url") == url
with engine_from_config(config.get_section(config.config_ini_section)).connect() as connection:
    context.configure(connection=connection)
{RUN}"""
    database = new_database(owner=role.name)
    place = database.url.partition("@")[2]
    project = proving.project(Shape(env, configured=False), database)
    project.variables["APP_URL"] = url.format(place=place)
    alone = project.alembic("upgrade", "head")
    assert "invalid interpolation syntax" in alone.stderr, alone.output
    finished = project.migrator("upgrade", check=True)
    assert database.tables == THREE_TABLES
    assert role.password not in finished.output
    assert "p%2540" not in finished.output


def test_each_revision_runs_with_our_settings_in_a_transaction_of_its_own(proving: Proving) -> None:
    noted = ["lock_timeout", "idle_in_transaction_session_timeout", "application_name"]
    expression = (
        "ARRAY[" + ", ".join(f"current_setting('{name}')" for name in noted) + ", txid_current()::text]"
    )
    project = proving.project(
        Shape(SHORTEST_ENV, recording_revisions("a1", "b2", "c3", expression=expression))
    )
    assert project.database is not None
    project.migrator("upgrade", env={"MIGRATOR_LOCK_TIMEOUT": "700ms"}, check=True)
    rows = [
        (revision, *value) for revision, value in project.database.query("SELECT * FROM noted ORDER BY 1")
    ]
    assert [row[:3] for row in rows] == [(one, "700ms", "0") for one in ("a1", "b2", "c3")]
    assert [row[3].partition(" ")[0] + row[3].rpartition(":")[2] for row in rows] == [
        "migrator a1",
        "migrator b2",
        "migrator c3",
    ]
    assert len({row[4] for row in rows}) == 3


@pytest.mark.parametrize("own", ["postgresql+asyncpg", "postgresql+psycopg", "none"])
def test_an_asynchronous_env_py_needs_its_driver_named_in_one_of_the_two_urls_alone(
    project: Callable[..., Project], database: Database, own: str
) -> None:
    """Where neither names one, it is SQLAlchemy's choice: from 2.1 on psycopg 3, which is both."""
    shop = project("async", revisions=table_revisions("a1"))
    ini = shop.path / "alembic.ini"
    named = ini.read_text().replace("postgresql+asyncpg://", f"{own}://")
    lines = [line for line in named.splitlines() if not line.startswith("sqlalchemy.url = none")]
    ini.write_text("\n".join(lines) + "\n")
    ran = shop.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": database.url})
    if own == "none" and sqlalchemy.__version__.startswith("2.0."):
        assert "names no asynchronous driver" in ran.stderr, ran.output
    else:
        assert (ran.returncode, database.revisions) == (0, ["a1"]), ran.output


def test_a_synchronous_env_py_with_the_url_of_an_asynchronous_driver_is_told_what_to_write(
    project: Callable[..., Project], database: Database
) -> None:
    shop = project(f"{SHORTEST_ENV}", revisions=table_revisions("a1"))
    url = database.url.replace("postgresql://", "postgresql+asyncpg://")
    ran = shop.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": url})
    assert ran.returncode == ExitCode.USAGE, ran.output
    assert "env.py is synchronous, and the URL names an asynchronous driver" in ran.stderr
    assert "Write postgresql:// in MIGRATOR_DATABASE_URL" in " ".join(ran.stderr.split())
    assert database.tables == []
