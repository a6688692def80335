"""Runs that are killed, told to stop or out of time: what is left is true, named, and a rerun goes on from there."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from migrator.stopping import DOUBLED_SECONDS
from tests.harness import Database, Project, Revision, Running, start, transaction, wait_until

MakeProject = Callable[..., Project]

# A boundary is the moment before a statement, before a COMMIT, and after the last of both.
BOUNDARIES_ENV = """\
import os
import signal

from alembic import context
from sqlalchemy import create_engine, event, pool

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
seen = []


def boundary(name):
    seen.append(" ".join(name.split()))
    if os.environ.get("KILL_AT") == str(len(seen)):
        os.kill(os.getpid(), signal.SIGKILL)


@event.listens_for(engine, "before_cursor_execute")
def before_statement(connection, cursor, statement, *rest):
    boundary(statement)


@event.listens_for(engine, "commit")
def before_commit(connection):
    boundary("COMMIT")


with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
    boundary("end")
if "KILL_AT" not in os.environ:
    print("\\n".join(f"boundary {number}: {name}" for number, name in enumerate(seen, start=1)))
"""
INDEX = """
with op.get_context().autocommit_block():
    op.create_index("ix_log", "log", ["revision"], postgresql_concurrently=True)
"""
HISTORY = [
    Revision(
        "a1",
        None,
        'op.execute("CREATE TABLE log (revision text)")\nop.execute("INSERT INTO log VALUES (\'a1\')")',
    ),
    Revision(
        "b2",
        "a1",
        'op.execute("INSERT INTO log VALUES (\'b2\')")\nop.execute("ALTER TABLE log ADD COLUMN note text")',
    ),
    Revision("c3", "b2", INDEX),
]

BEGUN = 'import sys, time\nprint("begun", file=sys.stderr, flush=True)\n'
IN_SQL = 'op.execute("SELECT pg_sleep(300)")'
IN_SLEEP = "time.sleep(300)"
IN_A_LOOP = "while True:\n    pass"
PLACES = {"in SQL": IN_SQL, "in sleep": IN_SLEEP, "in a loop": IN_A_LOOP}


def stuck_in(body: str) -> list[Revision]:
    """A revision that goes well, and one that makes a table and then stays in ``body`` for ever."""
    make = 'op.execute("CREATE TABLE half_done ()")\n'
    return [
        Revision("a1", None, 'op.execute("CREATE TABLE done ()")'),
        Revision("b2", "a1", make + BEGUN + body),
    ]


def begun(project: Project, *args: str) -> Running:
    """A run that is where it stays for ever."""
    run = project.start("upgrade", *args)
    run.wait_for_line("^begun")
    assert project.database is not None
    wait_until(lambda: others(project.database) != [("active", None)], "the statement is under way")
    return run


def others(database: Database) -> list[tuple[str, str]]:
    """State and wait event of every other session in the database."""
    return database.query(
        "SELECT state, wait_event FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )


def sleeping(database: Database) -> bool:
    return any(event == "PgSleep" for _, event in others(database))


def advisory_locks(database: Database) -> list[tuple[int]]:
    return database.query(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )


def assert_stopped_cleanly(database: Database) -> None:
    """The first revision is there, nothing of the second, and nobody holds the lock or a connection."""
    assert (database.revisions, database.tables) == (["a1"], ["done"])
    wait_until(lambda: not others(database), "its connections end")
    assert advisory_locks(database) == []


# SIGKILL


def boundaries(project: Project) -> dict[int, str]:
    """The boundaries of a run that is not killed, by number."""
    ended = project.migrator("upgrade", check=True)
    return {int(n): name for n, name in re.findall(r"^boundary (\d+): (.*)$", ended.stderr, re.MULTILINE)}


def test_after_sigkill_at_any_boundary_a_rerun_ends_at_head_or_names_what_is_left(
    project: MakeProject, database: Database, new_database: Callable[..., Database]
) -> None:
    made = project(env=BOUNDARIES_ENV, revisions=HISTORY)
    names = boundaries(made)
    whole = [f"{number}: {name}" for number, name in names.items()]
    statements = [
        "CREATE TABLE log",
        "INSERT INTO log VALUES ('b2')",
        "ADD COLUMN note",
        "CONCURRENTLY",
        "end",
    ]
    assert [[name for name in whole if each in name] != [] for each in statements] == [True] * 5, whole
    databases = {number: new_database() for number in names}

    def kill_and_run_again(number: int) -> str:
        """What was not as it should be, or an empty string."""
        copy = databases[number]
        url = {"MIGRATOR_DATABASE_URL": copy.url}
        killed = made.migrator("upgrade", env={**url, "KILL_AT": str(number)})
        if killed.returncode != -signal.SIGKILL:
            return f"was not killed: {killed.output}"
        left = copy.revisions == ["b2"] and indexes(copy) != []
        again = made.migrator("upgrade", env=url)
        if left:
            if again.returncode != 20 or not all(
                words in again.stderr for words in ('relation "ix_log" already exists', "at b2", "c3")
            ):
                return f"the index that is left is not named: {again.output}"
            copy.query("DROP INDEX ix_log")
            again = made.migrator("upgrade", env=url)
        if again.returncode != 0:
            return f"the rerun failed: {again.output}"
        found = (copy.revisions, copy.query("SELECT revision FROM log ORDER BY 1"), indexes(copy))
        if found != (["c3"], [("a1",), ("b2",)], [("ix_log", True)]):
            return f"the rerun ended with {found}"
        return ""

    with ThreadPoolExecutor(2) as executor:
        outcomes = dict(zip(whole, executor.map(kill_and_run_again, names), strict=True))
    assert {name: wrong for name, wrong in outcomes.items() if wrong} == {}


def indexes(database: Database) -> list[tuple[str, bool]]:
    return database.query(
        "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = to_regclass('log')"
    )


def test_after_sigkill_in_a_statement_the_server_ends_it_and_a_rerun_succeeds(
    project: MakeProject, database: Database
) -> None:
    made = project(revisions=stuck_in(IN_SQL))
    run = begun(made)
    wait_until(lambda: sleeping(database), "the statement runs")
    run.kill()
    assert run.wait().returncode == -signal.SIGKILL
    wait_until(lambda: not others(database), "the server ends the statement of the dead client")
    assert_stopped_cleanly(database)
    made.add_revision("b2", "a1", 'op.execute("CREATE TABLE half_done ()")')
    made.migrator("upgrade", check=True)
    assert (database.revisions, database.tables) == (["b2"], ["done", "half_done"])


def test_after_sigkill_in_a_concurrent_index_build_a_rerun_names_the_invalid_index(
    project: MakeProject, database: Database
) -> None:
    made = project(revisions=HISTORY)
    made.migrator("upgrade", "b2", check=True)
    with transaction(database.url, "SET application_name = 'slow-writer'", "UPDATE log SET note = ''"):
        run = made.start("upgrade")
        wait_until(lambda: indexes(database) == [("ix_log", False)], "the build begins")
        run.kill()
        run.wait()
        wait_until(lambda: len(others(database)) == 1, "the server ends the statement of the dead client")
    again = made.migrator("upgrade")
    assert again.returncode == 20, again.output
    assert re.search(r"invalid +INVALID index ix_log on log, there before this run", again.stderr)
    assert 'relation "ix_log" already exists' in again.stderr
    assert "state     at b2" in again.stderr


# The connection


@pytest.mark.parametrize("body", ["in a transaction", "in a concurrent index build"])
def test_a_terminated_backend_ends_the_run_with_13_and_the_state_is_read_anew(
    project: MakeProject, database: Database, body: str
) -> None:
    made = project(revisions=HISTORY)
    made.migrator("upgrade", "b2", check=True)
    if body == "in a transaction":
        (made.versions / "c3.py").unlink()
        made.add_revision("c3", "b2", 'op.execute("CREATE TABLE half_done ()")\n' + IN_SQL)
    with transaction(database.url, "SET application_name = 'slow-writer'", "UPDATE log SET note = ''"):
        run = made.start("upgrade", "--json")
        pid = int(run.wait_for_line(r"lock +held \(pid (\d+)\)")[1])
        wait_until(lambda: sleeping(database) or indexes(database) != [], "the statement is under way")
        assert database.query("SELECT pg_terminate_backend(%s)", [pid]) == [(True,)]
        ended = run.wait()
    assert ended.returncode == 13, ended.output
    # psycopg2 drops the server's words (57P01) when the connection ends right behind them; libpq's remain.
    assert "server closed the connection unexpectedly" in ended.stderr, ended.output
    assert "state     at b2, read on a new connection" in ended.stderr
    assert ended.json["exit_code"] == 13
    assert database.revisions == ["b2"]
    assert database.tables == ["log"]
    if body == "in a concurrent index build":
        assert "INVALID index ix_log on log, left by this run" in ended.stderr
        assert "DROP INDEX CONCURRENTLY" in ended.json["error"]["next"]


BETWEEN = """
import pathlib, time
with op.get_context().autocommit_block():
    op.execute("SELECT 1")
    print("between two statements", flush=True)
    while not pathlib.Path("go-on").exists():
        time.sleep(0.05)
    op.execute("SELECT 2")
"""


@pytest.mark.parametrize("env", ["sync", "async"])
def test_a_backend_that_ended_between_two_statements_of_an_autocommit_block_is_a_lost_connection(
    project: MakeProject, database: Database, env: str
) -> None:
    made = project(env=env, revisions=[Revision("a1", None, BETWEEN)])
    run = made.start("upgrade")
    pid = int(run.wait_for_line(r"lock +held \(pid (\d+)\)")[1])
    run.wait_for_line("between two statements")
    database.query("SELECT pg_terminate_backend(%s)", [pid])
    wait_until(
        lambda: not database.query("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]), "it has ended"
    )
    (made.path / "go-on").touch()
    ended = run.wait()
    assert ended.returncode == 13, ended.output
    assert "state     at base, read on a new connection" in ended.stderr


# Signals


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_a_run_rolls_back_and_frees_the_lock(
    project: MakeProject, database: Database, place: str, number: signal.Signals, code: int
) -> None:
    run = begun(project(revisions=stuck_in(PLACES[place])))
    if place == "in SQL":
        wait_until(lambda: sleeping(database), "the statement runs")
    run.send_signal(number)
    ended = run.wait(9)  # before the grace of 10 s is over: nobody had to force it
    assert ended.returncode == code, ended.output
    assert f"stopped by {number.name}" in ended.stderr
    assert "state     at a1, read on a new connection · applied: a1 · rolled back: b2" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert_stopped_cleanly(database)


IN_A_PROGRAM_WITH_MANY_FILES = """
import os, resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
opened = [os.dup(2) for _ in range(1100)]
sys.argv = ["migrator", "upgrade"]
runpy.run_module("migrator", run_name="__main__", alter_sys=True)
"""


def test_a_signal_stops_a_run_in_a_program_that_has_more_files_open_than_select_can_count(
    project: MakeProject, database: Database
) -> None:
    made = project(revisions=stuck_in(IN_SQL))
    run = start(sys.executable, "-c", IN_A_PROGRAM_WITH_MANY_FILES, cwd=made.path, env=made.variables)
    wait_until(lambda: sleeping(database), "the statement is under way")
    run.send_signal(signal.SIGTERM)
    ended = run.wait()
    assert ended.returncode == 143, ended.output
    assert "rolled back" in ended.stderr


def test_a_waiter_leaves_at_once_when_it_is_told_to(project: MakeProject, database: Database) -> None:
    made = project(revisions=stuck_in(IN_SLEEP))
    begun(made)
    waiter = made.start("upgrade")
    waiter.wait_for_line("lock +held by pid")
    waiter.send_signal(signal.SIGTERM)
    ended = waiter.wait(9)
    assert ended.returncode == 143, ended.output
    assert database.revisions == ["a1"]


# The outer handler is for what is raised while the inner one prints.
SWALLOWING = """\
told = False
while True:
    try:
        try:
            op.execute("SELECT pg_sleep(300)")
            time.sleep(0.01)
        except BaseException:
            told = told or print("swallowed", file=sys.stderr, flush=True) is None
    except BaseException:
        pass
"""


@pytest.mark.slow
def test_a_migration_that_swallows_every_exception_is_ended_after_the_grace(
    project: MakeProject, database: Database
) -> None:
    run = begun(project(revisions=stuck_in(SWALLOWING)))
    run.send_signal(signal.SIGTERM)
    run.wait_for_line("^swallowed")
    ended = run.wait(30)
    assert ended.returncode == 143, ended.output
    assert "stopped by SIGTERM" in ended.stderr
    assert "ended by force: what became of the open transaction could not be asked" in ended.stderr
    assert_stopped_cleanly(database)


def test_a_second_signal_ends_a_migration_that_swallowed_the_first(
    project: MakeProject, database: Database
) -> None:
    run = begun(project(revisions=stuck_in(SWALLOWING)))
    run.send_signal(signal.SIGTERM)
    run.wait_for_line("^swallowed")
    time.sleep(2 * DOUBLED_SECONDS)  # sooner, it would be the same request
    run.send_signal(signal.SIGTERM)
    ended = run.wait(8)  # the grace would be 10 s
    assert ended.returncode == 143, ended.output
    assert_stopped_cleanly(database)


# The deadline


CALL_FROM_A_THREAD = """\
import threading
import time

import migrator


def call():
    try:
        migrator.upgrade(deadline=4)
    except migrator.MigratorError as error:
        print("raised", type(error).__name__, int(error.exit_code), *error.result.targets[0].after)
    for _ in range(1000):
        time.sleep(0.0001)  # what was pending would be raised here
    print("went on")


thread = threading.Thread(target=call)
thread.start()
thread.join()
"""


def test_when_the_deadline_passes_the_run_ends_with_14_wherever_it_is(
    project: MakeProject, new_database: Callable[..., Database]
) -> None:
    runs = {}
    for name, body in PLACES.items():
        made, database = project(revisions=stuck_in(body)), new_database()
        runs[name] = (
            database,
            made.start("upgrade", "--deadline", "4s", env={"MIGRATOR_DATABASE_URL": database.url}),
        )
    for database, run in runs.values():
        ended = run.wait(13)
        assert ended.returncode == 14, ended.output
        assert "the deadline of 4 s passed" in ended.stderr
        assert "applied: a1 · rolled back: b2" in ended.stderr
        assert "MIGRATOR_DEADLINE" in ended.stderr
        assert_stopped_cleanly(database)


@pytest.mark.parametrize("place", ["in SQL", "in a loop"])
def test_the_deadline_works_in_a_thread_of_a_program_and_leaves_nothing_behind(
    project: MakeProject, database: Database, place: str
) -> None:
    made = project(revisions=stuck_in(PLACES[place]))
    program = start(
        sys.executable, "-c", CALL_FROM_A_THREAD, env={"MIGRATOR_DATABASE_URL": database.url}, cwd=made.path
    )
    ended = program.wait()
    assert ended.returncode == 0, ended.output
    assert ended.stdout.splitlines() == ["raised DeadlineExceeded 14 a1", "went on"], ended.output
    assert_stopped_cleanly(database)
