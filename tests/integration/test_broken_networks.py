"""Connections that break, at every moment and in every way: the exit code is right, and so is what is said to be true.

The proxy stands between the run and the server, and the tests look past it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import (
    Completed,
    Database,
    Project,
    Revision,
    Running,
    Server,
    table_revision,
    wait_until,
    write_project,
)
from tests.integration.proving import THREE, THREE_TABLES, gate, nobody_holds_the_lock, run_locks
from tests.servers.proxy import Cut, Direction, Point, Proxy, proxy_of

DRIVERS = ("psycopg2", "psycopg", "asyncpg")
CUTS = ("rst", "fin")
SOON = {"MIGRATOR_WAIT_TIMEOUT": "3s", "MIGRATOR_CONNECT_TIMEOUT": "1s"}
# What a client sends first, after it asked for TLS: its user name.
HANDSHAKE = b"user\0"
HALF_DONE = 'op.execute("CREATE TABLE half_done ()")\n'
# Not at the gate, which asks the server all the time: here the connection is idle until a file is there.
WAITS_FOR_A_FILE = (
    "import os, time\n"
    'print("at the gate", flush=True)\n'
    'while not os.path.exists("go"):\n'
    "    time.sleep(0.02)\n"
    'op.execute("SELECT 1")\n'
)
IN_A_STATEMENT = 'print("at the gate", flush=True)\nop.execute("SELECT pg_sleep(300)")'

NewProject = Callable[..., Project]


@pytest.fixture
def between(server: Server) -> Iterator[Proxy]:
    with proxy_of(server.url) as made:
        yield made


@pytest.fixture
def new_project(tmp_path: Path, database: Database, between: Proxy) -> NewProject:
    """A project that reaches ``database`` through the proxy."""

    def make(driver: str = "psycopg2", *more: Revision) -> Project:
        through = Database(Server(between.url(database.server.url)), database.name)
        env = "async" if driver == "asyncpg" else "sync"
        project = write_project(tmp_path / "project", through, env=env, revisions=[*THREE, *more])
        ini = project.path / "alembic.ini"
        ini.write_text(ini.read_text().replace("postgresql+psycopg2:", f"postgresql+{driver}:"))
        return project

    return make


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sleeping(database: Database) -> bool:
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    return database.query(count) == [(1,)]


def assert_done(run: Completed, database: Database) -> None:
    assert run.returncode == 0, run.output
    assert "verified  at c3" in run.stderr
    assert (database.tables, database.revisions) == (THREE_TABLES, ["c3"])
    assert nobody_holds_the_lock(database)


def assert_lost(run: Completed, database: Database, *, at: str = "c3") -> None:
    """Exit 13, and what is said to be true is what the database says."""
    assert run.returncode == 13, run.output
    assert f"state     at {at}, read on a new connection" in run.stderr, run.output
    assert database.revisions == [at]
    assert nobody_holds_the_lock(database)
    if at == "c3":
        assert "rolled back: d4" in run.stderr
        assert "The open transaction rolled back. Run the same command again." in run.stderr
        assert database.tables == THREE_TABLES


def goes_on(project: Project, database: Database) -> None:
    """Without the trouble, the same command ends at head, everything applied once."""
    (project.versions / "d4.py").unlink()
    project.add(table_revision("d4", "c3"))
    run = project.migrator("upgrade")
    assert run.returncode == 0, run.output
    assert (database.revisions, database.tables) == (["d4"], ["t_a1", "t_b2", "t_c3", "t_d4"])


# Before there is a connection


@pytest.mark.parametrize("how", CUTS)
def test_a_server_that_ends_each_new_connection_is_waited_for(
    new_project: NewProject, between: Proxy, database: Database, driver: str, how: Cut
) -> None:
    project = new_project(driver)
    between.cut_new(how)
    run = project.migrator("upgrade", env=SOON)
    assert run.returncode == 10, run.output
    assert "Nothing was changed." in run.stderr
    waiting = project.start("upgrade")
    waiting.wait_for_line("not ready: ")
    between.cut_new(None)
    assert_done(waiting.wait(), database)


def test_a_server_that_accepts_and_says_nothing_is_waited_for(
    new_project: NewProject, between: Proxy, database: Database, driver: str
) -> None:
    project = new_project(driver)
    between.stall()
    run = project.migrator("upgrade", env=SOON)
    assert run.returncode == 10, run.output
    assert "nothing was answered within 1 s" in run.stderr
    waiting = project.start("upgrade", env={"MIGRATOR_CONNECT_TIMEOUT": "1s"})
    waiting.wait_for_line("not ready: nothing was answered within 1 s")
    between.resume()
    assert_done(waiting.wait(), database)


@pytest.mark.parametrize("point", ["before", "answered"])
def test_whichever_handshake_is_cut_the_run_ends_well(
    new_project: NewProject,
    between: Proxy,
    new_database: Callable[..., Database],
    driver: str,
    point: Point,
) -> None:
    project = new_project(driver)
    project.migrator("upgrade", check=True)
    connections = between.connections
    assert connections >= 4  # to wait, env.py's, to prove where it leads, to verify
    for number in range(connections):
        database = new_database()
        copy = copy_for(project, between, database)
        trap = between.trap(HANDSHAKE, point=point, fault=CUTS[number % 2], skip=number)
        run = copy.migrator("upgrade")
        trap.wait(0)
        assert_done(run, database)


def copy_for(project: Project, between: Proxy, database: Database) -> Project:
    """The same project on another database."""
    assert project.database is not None
    ini = project.path / "alembic.ini"
    ini.write_text(ini.read_text().replace(project.database.name, database.name))
    project.database = Database(Server(between.url(database.server.url)), database.name)
    return project


# During the run


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("body", [IN_A_STATEMENT, WAITS_FOR_A_FILE], ids=["in a statement", "idle"])
def test_a_cut_in_a_statement_or_between_two_rolls_back_and_says_so(
    new_project: NewProject, between: Proxy, database: Database, driver: str, how: Cut, body: str
) -> None:
    project = new_project(driver, Revision("d4", "c3", HALF_DONE + body))
    run = project.start("upgrade")
    run.wait_for_line("at the gate")
    if body is IN_A_STATEMENT:
        wait_until(lambda: sleeping(database), "the statement runs")
    between.cut(how)
    (project.path / "go").touch()
    assert_lost(run.wait(), database)
    goes_on(project, database)


@pytest.mark.parametrize("direction", Direction, ids=lambda direction: direction.value)
def test_a_connection_that_is_half_closed_ends_the_run(
    new_project: NewProject, between: Proxy, database: Database, driver: str, direction: Direction
) -> None:
    project = new_project(driver, Revision("d4", "c3", HALF_DONE + IN_A_STATEMENT))
    run = project.start("upgrade")
    run.wait_for_line("at the gate")
    wait_until(lambda: sleeping(database), "the statement runs")
    between.half_close(direction)
    assert_lost(run.wait(), database)
    goes_on(project, database)


def at_commit(project: Project, between: Proxy, database: Database, point: Point, how: Cut) -> Completed:
    """A run whose connection is cut at the COMMIT of its last revision."""
    with gate(database) as body:
        project.add(Revision("d4", "c3", 'op.create_table("t_d4", sa.Column("id", sa.Integer))\n' + body))
        run = project.start("upgrade")
        run.wait_for_line("at the gate")
        trap = between.trap(b"COMMIT", point=point, fault=how)
    ended = run.wait()
    trap.wait(0)
    return ended


@pytest.mark.parametrize("how", CUTS)
def test_a_commit_that_never_arrived_is_said_to_have_rolled_back(
    new_project: NewProject, between: Proxy, database: Database, driver: str, how: Cut
) -> None:
    project = new_project(driver)
    assert_lost(at_commit(project, between, database, "before", how), database)
    goes_on(project, database)


@pytest.mark.parametrize("how", CUTS)
def test_a_commit_whose_answer_was_lost_is_said_to_have_been_made(
    new_project: NewProject, between: Proxy, database: Database, driver: str, how: Cut
) -> None:
    project = new_project(driver)
    run = at_commit(project, between, database, "answered", how)
    assert_lost(run, database, at="d4")
    assert "applied: a1, b2, c3, d4" in run.stderr
    assert "rolled back" not in run.stderr
    assert "Nothing is half done: d4 had been committed." in run.stderr
    again = project.migrator("upgrade", check=True)
    assert "nothing to do" in again.stderr
    assert database.tables == ["t_a1", "t_b2", "t_c3", "t_d4"]


def test_a_commit_that_is_still_under_way_is_waited_for_before_anything_is_said_of_it(
    new_project: NewProject, between: Proxy, database: Database, driver: str
) -> None:
    # The COMMIT waits for this trigger, and the server is not told that the client has gone.
    slow = """
    op.execute("CREATE TABLE t_d4 ()")
    op.execute("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
               "$$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$")
    op.execute("CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t_d4 DEFERRABLE INITIALLY DEFERRED "
               "FOR EACH ROW EXECUTE FUNCTION slow()")
    op.execute("INSERT INTO t_d4 DEFAULT VALUES")
    """
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
    )
    with gate(database):
        project = new_project(driver, Revision("d4", "c3", slow))
        run = project.start("upgrade", env={"MIGRATOR_LOCK_TIMEOUT": "5m"})
        wait_until(lambda: database.query(waiting) == [(1,)], "the COMMIT is under way")
        between.forsake()
        looked = between.connections
        wait_until(lambda: between.connections > looked + 1, "the run looks at the database")
    ended = run.wait()
    assert ended.returncode == 13, ended.output
    assert database.revisions == ["d4"]
    assert "state     at d4, read on a new connection" in ended.stderr, ended.output
    assert "Nothing is half done: d4 had been committed." in ended.stderr


def test_a_session_that_outlives_its_connection_is_named_and_nothing_is_claimed(
    new_project: NewProject, between: Proxy, database: Database, driver: str
) -> None:
    project = new_project(driver, Revision("d4", "c3", HALF_DONE + IN_A_STATEMENT))
    run = project.start("upgrade")
    run.wait_for_line("at the gate")
    wait_until(lambda: sleeping(database), "the statement runs")
    between.forsake()
    ended = run.wait()
    assert ended.returncode == 13, ended.output
    (pid,) = {row[0] for row in database.query("SELECT pid FROM pg_locks WHERE locktype = 'advisory'")}
    assert f"the session of this run (pid {pid}) is still there, active" in ended.stderr
    assert "not known whether undone: d4" in ended.stderr
    assert "Whether d4 was committed is not known. Run the same command again." in ended.stderr
    # What is said stays true: the next run finds that session, and waits for it by its pid.
    second = project.migrator("upgrade", env={"MIGRATOR_RUN_LOCK_TIMEOUT": "1s"})
    assert second.returncode == 11, second.output
    assert f"pg_terminate_backend({pid})" in second.stderr
    between.cut()
    assert nobody_holds_the_lock(database)
    goes_on(project, database)


# Slow, and silent


def test_a_slow_network_only_takes_longer(
    new_project: NewProject, between: Proxy, database: Database, driver: str
) -> None:
    between.slow(delay=0.02, bytes_per_second=20_000)
    assert_done(new_project(driver).migrator("upgrade"), database)


@pytest.mark.parametrize("body", [IN_A_STATEMENT, WAITS_FOR_A_FILE], ids=["in a statement", "idle"])
def test_in_silence_the_deadline_ends_the_run_and_nothing_is_claimed(
    new_project: NewProject, between: Proxy, database: Database, driver: str, body: str
) -> None:
    project = new_project(driver, Revision("d4", "c3", HALF_DONE + body))
    run: Running = project.start("upgrade", "--deadline", "6s", env={"MIGRATOR_CONNECT_TIMEOUT": "1s"})
    run.wait_for_line("at the gate")
    between.stall()
    (project.path / "go").touch()
    ended = run.wait()
    assert ended.returncode == 14, ended.output
    assert "the deadline of 6 s passed" in ended.stderr
    assert "rolled back: d4" not in ended.stderr
    # The proxy still answers the server's probes, as no torn network would: only its end frees the lock.
    assert run_locks(database) > 0
    between.cut()
    assert nobody_holds_the_lock(database)
    between.resume()
    goes_on(project, database)


def test_a_network_that_comes_back_in_time_is_not_noticed(
    new_project: NewProject, between: Proxy, database: Database, driver: str
) -> None:
    with gate(database) as body:
        project = new_project(driver, Revision("d4", "c3", body))
        run = project.start("upgrade")
        run.wait_for_line("at the gate")
        between.stall()
    between.resume()
    assert run.wait().returncode == 0, run.output
    assert database.revisions == ["d4"]
