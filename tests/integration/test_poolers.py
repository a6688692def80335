"""Behind PgBouncer: what cannot work is refused before anything is changed, what can works as without it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg2
import pytest

from tests.harness import (
    ASYNC_ENV,
    SYNC_ENV,
    UNSET,
    Completed,
    Database,
    Project,
    Revision,
    Server,
    wait_until,
    with_driver,
    write_project,
)
from tests.integration.proving import THREE, THREE_TABLES, gate, nobody_holds_the_lock
from tests.servers.pgbouncer import Mode, PgBouncer, pgbouncer

DRIVERS = ("psycopg2", "psycopg", "asyncpg")
SESSION = {"MIGRATOR_POOLER": "session"}
SOON = {"MIGRATOR_WAIT_TIMEOUT": "2s", "MIGRATOR_CONNECT_TIMEOUT": "1s"}
# Nothing of PgBouncer's own puts a server connection in order before the next client has it.
NO_RESET = {"server_reset_query": ""}
# The server connections take turns, so that one after the other is seen.
IN_TURN = {"server_round_robin": "1"}
# Prepared statements outlive a transaction, and PgBouncer before 1.21 knows nothing of them.
ASYNCPG_ENV = ASYNC_ENV.replace(
    "poolclass=pool.NullPool",
    'poolclass=pool.NullPool, connect_args={"statement_cache_size": 0, "prepared_statement_cache_size": 0}',
)

NewPooler = Callable[..., PgBouncer]
NewProject = Callable[..., Project]
SETTINGS = ("application_name", "lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout")
SETTINGS += ("client_connection_check_interval", "tcp_keepalives_idle")


@pytest.fixture
def new_pooler(server: Server) -> Iterator[NewPooler]:
    """Start PgBouncers in front of the server: ``new_pooler("session", default_pool_size="1")``."""
    with ExitStack() as poolers:

        def start(mode: Mode, **settings: str) -> PgBouncer:
            return poolers.enter_context(pgbouncer(server.url, mode, settings))

        yield start


@pytest.fixture
def new_project(tmp_path: Path, database: Database) -> NewProject:
    """A project whose ini and MIGRATOR_DATABASE_URL lead to ``database`` through a pooler."""

    def make(
        pooler: PgBouncer, driver: str = "psycopg2", *, env: str = "", revisions: object = THREE
    ) -> Project:
        through = Database(pooler.server, database.name)
        script = env or (ASYNCPG_ENV if driver == "asyncpg" else SYNC_ENV)
        project = write_project(tmp_path / "project", through, env=script, revisions=list(revisions))  # type: ignore[call-overload]
        ini = project.path / "alembic.ini"
        ini.write_text(ini.read_text().replace("postgresql+psycopg2:", f"postgresql+{driver}:"))
        return project

    return make


def backends(database: Database) -> list[int]:
    """The pids of the server connections that somebody has to the database."""
    rows = database.query(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid"
    )
    return [pid for (pid,) in rows]


def settings_in_the_pool(
    pooler: PgBouncer, database: Database, connections: int = 1
) -> set[tuple[object, ...]]:
    """What the pooler's next clients, so many at once, find set."""
    asked = ", ".join(f"current_setting('{name}')" for name in SETTINGS)
    found = set()
    with ExitStack() as together:
        clients = [
            together.enter_context(closing(psycopg2.connect(pooler.url(database.name))))
            for _ in range(connections)
        ]
        for client in clients:  # each in a transaction that stays open, so each on a backend of its own
            cursor = client.cursor()
            cursor.execute(f"SELECT {asked}")
            found.add(cursor.fetchone())
        for client in clients:  # PgBouncer would close a backend that is left in a transaction
            client.rollback()
    return found


def untouched(database: Database) -> set[tuple[object, ...]]:
    """The same on a new connection past the pooler."""
    asked = ", ".join(f"current_setting('{name}')" for name in SETTINGS)
    return set(database.query(f"SELECT {asked}"))


def assert_refused(run: Completed, database: Database, *words: str) -> None:
    assert run.returncode == 22, run.output
    for word in (*words, "MIGRATOR_DIRECT_DATABASE_URL", "Nothing was changed."):
        assert word in run.stderr, run.output
    assert (database.tables, database.revisions) == ([], [])
    assert nobody_holds_the_lock(database)


def assert_done(run: Completed, database: Database) -> None:
    assert run.returncode == 0, run.output
    assert "verified  at c3" in run.stderr
    assert (database.tables, database.revisions) == (THREE_TABLES, ["c3"])
    assert nobody_holds_the_lock(database)


# Refused


@pytest.mark.parametrize("driver", DRIVERS)
def test_session_mode_is_refused_until_somebody_vouches_for_it(
    new_pooler: NewPooler, new_project: NewProject, database: Database, driver: str
) -> None:
    pooler = new_pooler("session", **NO_RESET)
    run = new_project(pooler, driver).migrator("upgrade")
    assert_refused(run, database, "a connection pooler", f"127.0.0.1:{pooler.port} announced backend pid")
    assert "or set MIGRATOR_POOLER=session if the pooler is in session mode" in run.stderr
    assert f"the server says {backends(database)[0]}" in run.stderr
    assert settings_in_the_pool(pooler, database) == untouched(database)


@pytest.mark.parametrize("override", [{}, SESSION], ids=["refuse", "session"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_transaction_mode_is_refused_also_where_it_is_taken_for_session_mode(
    new_pooler: NewPooler,
    new_project: NewProject,
    database: Database,
    driver: str,
    override: dict[str, str],
) -> None:
    pooler = new_pooler("transaction")
    run = new_project(pooler, driver).migrator("upgrade", env=override)
    seen = f"two connections to 127.0.0.1:{pooler.port} were served by the same backend (pid "
    assert_refused(run, database, "a transaction pooler", seen)
    assert "MIGRATOR_POOLER=session" not in run.stderr
    assert settings_in_the_pool(pooler, database) == untouched(database)


@pytest.mark.parametrize("driver", DRIVERS)
def test_transaction_mode_is_found_out_when_its_server_connections_take_turns(
    new_pooler: NewPooler, new_project: NewProject, database: Database, driver: str
) -> None:
    pooler = new_pooler("transaction", **IN_TURN)
    assert len(settings_in_the_pool(pooler, database, 3)) == 1
    assert len(backends(database)) == 3
    run = new_project(pooler, driver).migrator("upgrade", env=SESSION)
    assert_refused(run, database, "a transaction pooler", "(pid")
    assert settings_in_the_pool(pooler, database, 3) == untouched(database)


@pytest.mark.parametrize("override", [{}, SESSION], ids=["refuse", "session"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_statement_mode_is_refused_at_once(
    new_pooler: NewPooler,
    new_project: NewProject,
    database: Database,
    driver: str,
    override: dict[str, str],
) -> None:
    run = new_project(new_pooler("statement"), driver).migrator("upgrade", env=override)
    assert_refused(run, database, "a pooler in statement mode", "a transaction is not")


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_statement_mode_is_refused_where_only_env_py_knows_the_database(
    new_pooler: NewPooler, new_project: NewProject, database: Database, driver: str
) -> None:
    project = new_project(new_pooler("statement"), driver)
    run = project.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": UNSET})
    assert_refused(run, database, "a pooler in statement mode", "transaction blocks not allowed")


def test_where_only_env_py_knows_a_database_in_statement_mode_psycopg2_says_no_more_than_that_it_was_cut(
    new_pooler: NewPooler, new_project: NewProject, database: Database
) -> None:
    project = new_project(new_pooler("statement"))
    run = project.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": UNSET, **SOON})
    assert (run.returncode, database.tables) == (10, []), run.output
    assert "server closed the connection unexpectedly" in run.stderr


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_direct_connection_is_never_taken_for_a_pooler(
    tmp_path: Path, database: Database, driver: str
) -> None:
    env = "async" if driver == "asyncpg" else "sync"
    project = write_project(tmp_path / "project", database, env=env, revisions=THREE)
    ini = project.path / "alembic.ini"
    ini.write_text(ini.read_text().replace("postgresql+psycopg2:", f"postgresql+{driver}:"))
    run = project.migrator("upgrade")
    assert_done(run, database)
    assert "pooler" not in run.stderr


# Around it

READS_VARIABLE = """\
import os
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(os.environ["{name}"], poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
READS_VARIABLE_ASYNC = """\
import asyncio
import os
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine


def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    engine = create_async_engine(os.environ["{name}"], poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(main())
"""
ENVS = {
    "the ini's": (SYNC_ENV, "psycopg2"),
    "the ini's, psycopg": (SYNC_ENV, "psycopg"),
    "the ini's, asyncpg": (ASYNC_ENV, "asyncpg"),
    "DATABASE_URL": (READS_VARIABLE.replace("{name}", "DATABASE_URL"), "psycopg2"),
    "DATABASE_URL, asyncpg": (READS_VARIABLE_ASYNC.replace("{name}", "DATABASE_URL"), "asyncpg"),
}


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("kind", ENVS)
def test_the_direct_url_is_used_while_the_applications_leads_to_the_pooler(
    new_pooler: NewPooler, new_project: NewProject, database: Database, kind: str, mode: Mode
) -> None:
    env, driver = ENVS[kind]
    pooler = new_pooler(mode)
    project = new_project(pooler, driver, env=env)
    variables = {
        "DATABASE_URL": with_driver(pooler.url(database.name), driver),
        "MIGRATOR_DATABASE_URL": UNSET,
        "MIGRATOR_DIRECT_DATABASE_URL": database.url,
    }
    run = project.migrator("upgrade", env=variables)
    assert_done(run, database)
    assert "from MIGRATOR_DIRECT_DATABASE_URL" in run.stderr
    assert pooler.admin("SHOW POOLS")[0][0] == "pgbouncer"  # nobody asked it for the database


def test_an_env_py_that_goes_to_the_pooler_all_the_same_is_told_how_to_get_the_direct_url(
    new_pooler: NewPooler, new_project: NewProject, database: Database
) -> None:
    pooler = new_pooler("transaction")
    project = new_project(pooler, env=READS_VARIABLE.replace("{name}", "APP_DATABASE_URL"))
    project.variables |= {
        "APP_DATABASE_URL": pooler.url(database.name),
        "MIGRATOR_DIRECT_DATABASE_URL": database.url,
    }
    run = project.migrator("upgrade")
    direct = database.url.rpartition("@")[2].partition("/")[0]
    said = f"env.py does not connect to what MIGRATOR_DIRECT_DATABASE_URL names ({direct})"
    assert_refused(run, database, "a transaction pooler", said, "MIGRATOR_EXPORT_URL_AS")
    run = project.migrator("upgrade", env={"MIGRATOR_EXPORT_URL_AS": "APP_DATABASE_URL"})
    assert_done(run, database)


# Session mode that somebody vouches for


@pytest.mark.parametrize("driver", DRIVERS)
def test_in_session_mode_five_contenders_apply_everything_once(
    new_pooler: NewPooler, new_project: NewProject, database: Database, driver: str
) -> None:
    # psycopg 3 prepares what it runs often, and leaves that to the next client where nothing resets.
    pooler = new_pooler("session", **({} if driver == "psycopg" else NO_RESET))
    project = new_project(pooler, driver)
    runs = [run.wait() for run in [project.start("upgrade", env=SESSION) for _ in range(5)]]
    for run in runs:
        assert_done(run, database)
        assert "taken for session mode (MIGRATOR_POOLER=session)" in run.stderr
    assert sum("nothing to do" not in run.stderr for run in runs) == 1, [run.output for run in runs]
    pooled = backends(database)
    assert pooled
    assert settings_in_the_pool(pooler, database, len(pooled)) == untouched(database)


@pytest.mark.parametrize("driver", DRIVERS)
def test_in_session_mode_a_failed_run_gives_everything_back(
    new_pooler: NewPooler, new_project: NewProject, database: Database, driver: str
) -> None:
    pooler = new_pooler("session", **NO_RESET)
    wrong = [*THREE, Revision("d4", "c3", 'op.execute("SELECT 1 / 0")')]
    run = new_project(pooler, driver, revisions=wrong).migrator("upgrade", env=SESSION)
    assert run.returncode == 20, run.output
    assert (database.tables, database.revisions) == (THREE_TABLES, ["c3"])
    assert nobody_holds_the_lock(database)
    assert settings_in_the_pool(pooler, database, len(backends(database))) == untouched(database)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_in_session_mode_a_stopped_or_killed_run_leaves_no_lock(
    new_pooler: NewPooler, new_project: NewProject, database: Database, number: signal.Signals
) -> None:
    endless = Revision(
        "a1", None, 'op.execute("CREATE TABLE half_done ()")\nop.execute("SELECT pg_sleep(300)")'
    )
    project = new_project(new_pooler("session"), revisions=[endless])
    run = project.start("upgrade", env=SESSION)
    sleeping = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    wait_until(lambda: database.query(sleeping) == [(1,)], "the statement runs")
    run.send_signal(number)
    assert run.wait().returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    wait_until(lambda: database.query(sleeping) == [(0,)], "the server ends the statement")
    assert nobody_holds_the_lock(database)
    assert database.tables == []


# Looking


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_looking_works_through_a_pooler_and_changes_nobody_elses_settings(
    new_pooler: NewPooler, new_project: NewProject, database: Database, driver: str, mode: Mode
) -> None:
    pooler = new_pooler(mode, **NO_RESET, **IN_TURN)
    settings_in_the_pool(pooler, database, 3)
    project = new_project(pooler, driver)
    found = project.migrator("status", check=True)
    assert "at base, no version table yet · 3 pending: a1, b2, c3" in found.stdout
    project.migrator("check", check=True, env=SESSION)
    run = project.start("wait", "--for", "head")
    run.wait_for_line("at base, wanted c3")
    assert settings_in_the_pool(pooler, database, 3) == untouched(database)
    project.migrator("upgrade", env={"MIGRATOR_DIRECT_DATABASE_URL": database.url}, check=True)
    assert run.wait().returncode == 0, run.output
    assert "at c3" in project.migrator("status", check=True).stdout
    assert settings_in_the_pool(pooler, database, 3) == untouched(database)
    assert nobody_holds_the_lock(database)


def test_check_says_beforehand_that_a_run_would_refuse_the_pooler(
    new_pooler: NewPooler, new_project: NewProject, database: Database
) -> None:
    project = new_project(new_pooler("session"))
    refused = project.migrator("check")
    assert refused.returncode == 3, refused.output
    for words in ("a connection pooler is between us and the server", "MIGRATOR_DIRECT_DATABASE_URL"):
        assert words in refused.output
    vouched_for = project.migrator("check", env=SESSION)
    assert vouched_for.returncode == 0, vouched_for.output


def test_looking_in_autocommit_through_a_transaction_pooler_leaves_no_probe_behind(
    new_pooler: NewPooler, new_project: NewProject, database: Database
) -> None:
    env = SYNC_ENV.replace("poolclass=", 'isolation_level="AUTOCOMMIT", poolclass=')
    project = new_project(new_pooler("transaction", **IN_TURN), env=env)
    assert "3 pending" in project.migrator("status", check=True).stdout
    assert nobody_holds_the_lock(database)


# A pooler in trouble


def test_a_pooler_that_is_down_is_waited_for(
    new_pooler: NewPooler, new_project: NewProject, database: Database
) -> None:
    pooler = new_pooler("session")
    project = new_project(pooler)
    pooler.stop()
    run = project.migrator("upgrade", env={**SESSION, **SOON})
    assert run.returncode == 10, run.output
    assert "Connection refused" in run.stderr
    waiting = project.start("upgrade", env=SESSION)
    waiting.wait_for_line("not ready: .*Connection refused")
    pooler.start()
    assert_done(waiting.wait(), database)


def test_a_pooler_that_pauses_is_waited_for(
    new_pooler: NewPooler, new_project: NewProject, database: Database
) -> None:
    pooler = new_pooler("session")
    project = new_project(pooler)
    pooler.admin("PAUSE")
    run = project.migrator("upgrade", env={**SESSION, **SOON})
    assert run.returncode == 10, run.output
    assert "nothing was answered within 1 s" in run.stderr
    waiting = project.start("upgrade", env={**SESSION, "MIGRATOR_CONNECT_TIMEOUT": "1s"})
    waiting.wait_for_line("not ready: nothing was answered within 1 s")
    pooler.admin("RESUME")
    assert_done(waiting.wait(), database)


def test_a_pool_without_a_free_connection_is_waited_for(
    new_pooler: NewPooler, new_project: NewProject, database: Database
) -> None:
    pooler = new_pooler("session", default_pool_size="3")
    project = new_project(pooler)
    with ExitStack() as taken:
        for _ in range(3):
            client = taken.enter_context(closing(psycopg2.connect(pooler.url(database.name))))
            client.cursor().execute("SELECT 1")
        run = project.migrator("upgrade", env={**SESSION, **SOON})
        assert run.returncode == 10, run.output
        assert "nothing was answered within 1 s" in run.stderr
        waiting = project.start("upgrade", env={**SESSION, "MIGRATOR_CONNECT_TIMEOUT": "1s"})
        waiting.wait_for_line("not ready: nothing was answered within 1 s")
    assert_done(waiting.wait(), database)


def test_a_pool_too_small_for_the_proofs_is_said_not_to_answer_and_nothing_runs(
    new_pooler: NewPooler, new_project: NewProject, database: Database
) -> None:
    pooler = new_pooler("session", default_pool_size="1")
    run = new_project(pooler).migrator("upgrade", env={**SESSION, **SOON})
    assert run.returncode == 10, run.output
    assert "does not answer" in run.stderr
    assert database.tables == []
    assert nobody_holds_the_lock(database)


def test_a_wrong_password_is_refused_at_once(
    new_pooler: NewPooler, new_project: NewProject, database: Database
) -> None:
    pooler = new_pooler("session")
    project = new_project(pooler, "asyncpg")
    password = pooler.url("").partition("://")[2].partition(":")[2].partition("@")[0]
    wrong = pooler.url(database.name).replace(password, "wr0ng-password")
    for variables in (
        {"MIGRATOR_DATABASE_URL": wrong},
        {"MIGRATOR_DATABASE_URL": UNSET},
    ):
        ini = project.path / "alembic.ini"
        ini.write_text(ini.read_text().replace(password, "wr0ng-password"))
        run = project.migrator("upgrade", env=variables)
        assert run.returncode == 24, run.output
        assert "authentication failed" in run.stderr
        assert "wr0ng-password" not in run.output


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_pooler_that_restarts_ends_the_run_and_the_next_one_goes_on(
    new_pooler: NewPooler, new_project: NewProject, database: Database, driver: str
) -> None:
    pooler = new_pooler("session")
    with gate(database) as wait_at_the_gate:
        made = 'op.execute("CREATE TABLE half_done ()")\n'
        stopped = [*THREE[:2], Revision("c3", "b2", made + wait_at_the_gate)]
        project = new_project(pooler, driver, revisions=stopped)
        run = project.start("upgrade", env=SESSION)
        run.wait_for_line("at the gate")
        pooler.restart()
        ended = run.wait()
    assert ended.returncode == 13, ended.output
    assert "state     at b2" in ended.stderr
    assert "rolled back: c3" in ended.stderr
    assert (database.tables, database.revisions) == (["t_a1", "t_b2"], ["b2"])
    assert nobody_holds_the_lock(database)
    project.add(THREE[2])
    (project.versions / "c3.py").unlink()
    assert_done(project.migrator("upgrade", env=SESSION), database)
