"""Connections that break, at every moment and in every way: the exit code is right, and so is what is said to be true.

The proxy stands between the run and the server, and the tests look past it.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import pytest

from tests.harness import (
    Completed,
    Database,
    Project,
    Revision,
    Running,
    Server,
    create_database,
    start,
    table_revision,
    transaction,
    wait_until,
    write_project,
)
from tests.integration.proving import THREE, THREE_TABLES, gate, nobody_holds_the_lock, run_locks
from tests.servers.network import Network, NoNamespaces, network
from tests.servers.postgres import VERSIONS, PostgresServer, postgres
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


def in_a_statement(database: Database) -> bool:
    """The one that sleeps, or the one that waits for a lock of the test's."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event IN ('PgSleep', 'advisory')"
    return database.query(f"{waiting} AND datname = current_database()") == [(1,)]


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
        wait_until(lambda: in_a_statement(database), "the statement runs")
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
    wait_until(lambda: in_a_statement(database), "the statement runs")
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
    with gate(database):
        project = new_project(driver, Revision("d4", "c3", slow))
        run = project.start("upgrade", env={"MIGRATOR_LOCK_TIMEOUT": "5m"})
        wait_until(lambda: in_a_statement(database), "the COMMIT is under way")
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
    wait_until(lambda: in_a_statement(database), "the statement runs")
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


def test_in_silence_the_deadline_ends_the_run_and_nothing_is_claimed(
    new_project: NewProject, between: Proxy, database: Database, driver: str
) -> None:
    project = new_project(driver, Revision("d4", "c3", HALF_DONE + IN_A_STATEMENT))
    run = project.start("upgrade", "--deadline", "10s", env={"MIGRATOR_CONNECT_TIMEOUT": "1s"})
    run.wait_for_line("at the gate")
    between.stall()
    ended = run.wait()
    assert ended.returncode == 14, ended.output
    assert "the deadline of 10 s passed" in ended.stderr
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


# Torn, with nobody who answers in the server's or the client's place


@pytest.fixture
def torn_later(tmp_path: Path) -> Iterator[TornLater]:
    try:
        with network() as wire:
            options = {"listen_addresses": f"127.0.0.1,{wire.server_address}"}
            with postgres(VERSIONS[-1], options) as server:
                server.admit(wire.client_address)
                yield TornLater(wire, server, tmp_path)
    except NoNamespaces as missing:
        pytest.skip(f"no network to tear: {missing}")


class TornLater:
    """Runs in a network of their own, with a server outside it that the tests reach past it."""

    def __init__(self, wire: Network, server: PostgresServer, path: Path) -> None:
        self.wire = wire
        self._server = server
        self._path = path
        self._far = Server(server.url().replace(server.host, wire.server_address))

    def new_database(self, name: str) -> Database:
        """A database, as the tests reach it."""
        return create_database(Server(self._server.url()), name)

    def start(self, database: Database, driver: str, body: str, *options: str) -> tuple[Project, Running]:
        """A run that comes to stand in the last of its revisions."""
        env = "async" if driver == "asyncpg" else "sync"
        revisions = [*THREE, Revision("d4", "c3", HALF_DONE + body)]
        far = Database(self._far, database.name)
        project = write_project(self._path / database.name, far, env=env, revisions=revisions)
        ini = project.path / "alembic.ini"
        ini.write_text(ini.read_text().replace("postgresql+psycopg2:", f"postgresql+{driver}:"))
        command = self.wire.inside(sys.executable, "-m", "migrator", "upgrade", *options)
        return project, start(*command, env={"MIGRATOR_DATABASE_URL": far.url}, cwd=project.path)


SITUATIONS = {
    "idle": WAITS_FOR_A_FILE,
    "in a statement": IN_A_STATEMENT,
    # The server sends an answer that nobody acknowledges, so it does not probe whether somebody is there.
    "at the end of a statement": 'print("at the gate", flush=True)\nop.execute("SELECT pg_advisory_xact_lock(1)")',
}
TORN_SECONDS = 30
"""More than keepalives and ``tcp_user_timeout`` take, which is 15 s."""

START_SECONDS = 120
"""Several runs begin at once."""


@pytest.mark.slow
def test_a_torn_network_frees_the_lock_and_ends_every_run_by_itself(
    torn_later: TornLater, record_property: Callable[[str, object], None]
) -> None:
    held = ExitStack()
    runs = {}
    for number, (driver, (situation, body)) in enumerate(product(DRIVERS, SITUATIONS.items())):
        database = torn_later.new_database(f"db{number}")
        held.enter_context(transaction(database.url, "SELECT pg_advisory_xact_lock_shared(1)"))
        project, run = torn_later.start(database, driver, body, "--lock-timeout", "5m")
        runs[driver, situation] = project, database, run
    for (_, situation), (_, database, run) in runs.items():
        run.wait_for_line("at the gate", timeout=START_SECONDS)
        if situation != "idle":
            wait_until(lambda database=database: in_a_statement(database), "the statement runs")
    torn_later.wire.tear()
    torn = time.monotonic()
    held.close()
    for project, _, _ in runs.values():
        (project.path / "go").touch()

    freed: dict[tuple[str, str], float] = {}

    def all_free() -> bool:
        for key, (_, database, _) in runs.items():
            if key not in freed and run_locks(database) == 0:
                freed[key] = round(time.monotonic() - torn, 1)
        return len(freed) == len(runs)

    try:
        wait_until(all_free, "every run lock is free", timeout=TORN_SECONDS)
    finally:
        record_property("seconds_until_the_lock_was_free", freed)
        print("seconds until the lock was free:", freed)
    for _, database, run in runs.values():
        ended = run.wait()
        assert ended.returncode == 13, ended.output
        assert "could not be read on a new connection" in ended.stderr
        assert "not known whether undone: d4" in ended.stderr
        assert (database.revisions, database.tables) == (["c3"], THREE_TABLES)
    torn_later.wire.mend()
    project, database, _ = runs["psycopg2", "idle"]
    (project.versions / "d4.py").unlink()
    again = torn_later.wire.inside(sys.executable, "-m", "migrator", "upgrade")
    assert project.database is not None
    variables = {"MIGRATOR_DATABASE_URL": project.database.url}
    done = start(*again, env=variables, cwd=project.path).wait()
    assert_done(done, database)


@pytest.mark.slow
def test_in_a_torn_network_a_signal_ends_a_run(torn_later: TornLater) -> None:
    runs = []
    for driver in DRIVERS:
        database = torn_later.new_database(driver)
        runs.append((database, torn_later.start(database, driver, IN_A_STATEMENT)[1]))
    for database, run in runs:
        run.wait_for_line("at the gate", timeout=START_SECONDS)
        wait_until(lambda database=database: in_a_statement(database), "the statement runs")
    torn_later.wire.tear()
    for _, run in runs:
        run.send_signal(signal.SIGTERM)
    for _, run in runs:
        ended = run.wait()
        assert ended.returncode == 143, ended.output
        assert "rolled back: d4" not in ended.stderr
    for database, _ in runs:
        wait_until(
            lambda database=database: run_locks(database) == 0, "the lock is free", timeout=TORN_SECONDS
        )
        assert (database.revisions, database.tables) == (["c3"], THREE_TABLES)
