"""What every dialect owes to the run lock, with each of its drivers, on a real server.

A further driver is one line in ``SUBJECTS``; a further database is a class like ``PostgreSQLSubject`` and its lines.
"""

from __future__ import annotations

import fcntl
import functools
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from migrator.dialects import Dialect, LockKey, RawConnection, dialect_named, rows
from migrator.dialects.mysql import lock_name
from migrator.dialects.postgresql import KEY_SPACE, object_id
from migrator.dialects.sqlite import database_file
from migrator.errors import ExitCode, LockLost, RunLockTimeout
from migrator.events import Event, LockWaiting, silent
from migrator.lock import RunLock
from tests.harness import Database, Server, create_database, drop_database, wait_until
from tests.servers.mariadb import MariaDBDatabase, MariaDBServer, mariadb


class Subject(Protocol):
    """A dialect with one of its drivers, and what the tests must do to its server behind the dialect's back."""

    driver: str
    databases: str
    """The fixture that makes two databases."""

    @property
    def dialect(self) -> Dialect: ...

    def connect(self, database: Database, autocommit: bool) -> RawConnection:
        """A raw connection as an ``env.py`` would have it: made by SQLAlchemy, with a transaction begun by itself."""

    def key(self, database: Database, version_table: str) -> LockKey:
        """The key of that version table, in the usual schema."""

    def bound_waits(self, raw: RawConnection) -> None:
        """Let no statement of the session wait for a lock for long."""

    def backend_pid(self, raw: RawConnection) -> int:
        """The server's number for the connection."""

    def kill(self, raw: RawConnection, backend_pid: int) -> None:
        """From another connection, end that one."""

    def drop_all_locks(self, raw: RawConnection) -> None:
        """What a careless migration does: give back every lock of its own session."""

    def take_locks_of_a_project(self, raw: RawConnection, key: LockKey) -> None:
        """Locks that a project might take itself, as near to ours as it can get without copying the key space."""

    def open_snapshot(self, raw: RawConnection, backend_pid: int) -> tuple[object, ...]:
        """From another connection: what that one keeps open; all None when it is nothing."""


@dataclass(frozen=True)
class PostgreSQLSubject:
    driver: str
    databases: str = "postgresql_databases"

    @property
    def dialect(self) -> Dialect:
        return dialect_named("postgresql")

    def connect(self, database: Database, autocommit: bool) -> RawConnection:
        raw = connected(database, self.driver)
        raw.autocommit = autocommit
        return raw

    def key(self, database: Database, version_table: str) -> LockKey:
        return LockKey(database.name, "public", version_table)

    def bound_waits(self, raw: RawConnection) -> None:
        rows(raw, "SET lock_timeout = '5s'")

    def backend_pid(self, raw: RawConnection) -> int:
        ((pid,),) = rows(raw, "SELECT pg_backend_pid()")
        raw.commit()
        return int(pid)

    def kill(self, raw: RawConnection, backend_pid: int) -> None:
        assert rows(raw, f"SELECT pg_terminate_backend({backend_pid})") == [(True,)]
        raw.commit()

    def drop_all_locks(self, raw: RawConnection) -> None:
        rows(raw, "SELECT pg_advisory_unlock_all()")

    def take_locks_of_a_project(self, raw: RawConnection, key: LockKey) -> None:
        number, unsigned = object_id(key), object_id(key) & 0xFFFFFFFF
        rows(raw, f"SELECT pg_advisory_lock({number}), pg_advisory_lock({KEY_SPACE})")
        rows(raw, f"SELECT pg_advisory_lock({KEY_SPACE << 32 | unsigned})")  # the same 64 bits, as one number
        rows(raw, f"SELECT pg_advisory_lock({number}, {KEY_SPACE}), pg_advisory_lock(0, {number})")
        rows(raw, f"SELECT pg_advisory_lock({KEY_SPACE}, {number ^ 1})")
        raw.commit()

    def open_snapshot(self, raw: RawConnection, backend_pid: int) -> tuple[object, ...]:
        [row] = rows(
            raw,
            "SELECT backend_xmin, backend_xid, xact_start, nullif(state, 'idle') "
            f"FROM pg_stat_activity WHERE pid = {backend_pid}",
        )
        raw.commit()
        return tuple(row)


@dataclass(frozen=True)
class MySQLSubject:
    driver: str
    databases: str = "mariadb_databases"

    @property
    def dialect(self) -> Dialect:
        return dialect_named("mysql")

    def connect(self, database: Database, autocommit: bool) -> RawConnection:
        raw = connected(database, self.driver)
        raw.autocommit(autocommit)
        return raw

    def key(self, database: Database, version_table: str) -> LockKey:
        return LockKey(database.name, database.name, version_table)

    def bound_waits(self, raw: RawConnection) -> None:
        rows(raw, "SET SESSION lock_wait_timeout = 5")

    def backend_pid(self, raw: RawConnection) -> int:
        ((pid,),) = rows(raw, "SELECT CONNECTION_ID()")
        return int(pid)

    def kill(self, raw: RawConnection, backend_pid: int) -> None:
        rows(raw, f"KILL {backend_pid}")

    def drop_all_locks(self, raw: RawConnection) -> None:
        rows(raw, "SELECT RELEASE_ALL_LOCKS()")

    def take_locks_of_a_project(self, raw: RawConnection, key: LockKey) -> None:
        ours = lock_name(key)
        for name in ("migrator", f"migrator:{key.schema}.{key.version_table}", f"{ours}0", ours[:-1]):
            rows(raw, f"SELECT GET_LOCK('{name[-64:]}', 5)")

    def open_snapshot(self, raw: RawConnection, backend_pid: int) -> tuple[object, ...]:
        found = rows(
            raw, f"SELECT trx_id FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = {backend_pid}"
        )
        return tuple(found[0]) if found else (None,)


@dataclass(frozen=True)
class SQLiteFile:
    """A database of SQLite."""

    path: Path

    def sqlalchemy_url(self, driver: str) -> str:
        return f"sqlite+{driver}:///{self.path}"


@dataclass(frozen=True)
class SQLiteSubject:
    """All its sessions are in this process, and have its number."""

    driver: str
    databases: str = "sqlite_databases"

    @property
    def dialect(self) -> Dialect:
        return dialect_named("sqlite")

    def connect(self, database: SQLiteFile, autocommit: bool) -> RawConnection:
        raw = connected(database, self.driver)
        raw.isolation_level = None if autocommit else ""
        return raw

    def key(self, database: SQLiteFile, version_table: str) -> LockKey:
        return LockKey(str(database.path), "main", version_table)

    def bound_waits(self, raw: RawConnection) -> None:
        rows(raw, "PRAGMA busy_timeout = 5000")

    def backend_pid(self, raw: RawConnection) -> int:
        return os.getpid()

    def kill(self, raw: RawConnection, backend_pid: int) -> None:
        raise AssertionError("it would be this process")

    def drop_all_locks(self, raw: RawConnection) -> None:
        for file in Path(database_file(raw)).parent.glob("*-migrator*"):
            file.unlink()

    def take_locks_of_a_project(self, raw: RawConnection, key: LockKey) -> None:
        for name in (".lock", "-lock", "-migrato"):
            descriptor = os.open(f"{key.database}{name}", os.O_RDWR | os.O_CREAT)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.close(descriptor)
        rows(raw, "BEGIN EXCLUSIVE")
        raw.commit()

    def open_snapshot(self, raw: RawConnection, backend_pid: int) -> tuple[object, ...]:
        # Nobody else's transaction is open, or this could not be begun.
        rows(raw, "BEGIN EXCLUSIVE")
        raw.commit()
        return (None,)


def connected(database: Database | SQLiteFile, driver: str) -> RawConnection:
    engine = create_engine(database.sqlalchemy_url(driver), poolclass=NullPool)
    fairy = engine.raw_connection()
    fairy.detach()
    return fairy.dbapi_connection


SERVERS = [
    PostgreSQLSubject("psycopg2"),
    PostgreSQLSubject("psycopg"),
    MySQLSubject("pymysql"),
    MySQLSubject("pymysql", "mysql_databases"),
]
"""Those with a server that knows its sessions apart."""

SUBJECTS = [*SERVERS, SQLiteSubject("pysqlite")]


def subject_name(subject: Subject) -> str:
    """Product and driver; one dialect may serve several products."""
    return f"{subject.databases.partition('_')[0]}-{subject.driver}"


on_servers = pytest.mark.parametrize("subject", SERVERS, indirect=True, ids=subject_name)

Connect = Callable[..., RawConnection]


@pytest.fixture(params=SUBJECTS, ids=subject_name)
def subject(request: pytest.FixtureRequest) -> Subject:
    return request.param


@pytest.fixture(params=[False, True], ids=["transactions", "autocommit"])
def autocommit(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def databases(subject: Subject, request: pytest.FixtureRequest) -> tuple[Database, Database]:
    """Two for the whole module: the tests write nothing, and each has a key of its own."""
    return request.getfixturevalue(subject.databases)


@pytest.fixture(scope="module")
def mariadb_databases() -> Iterator[tuple[MariaDBDatabase, MariaDBDatabase]]:
    # Without it a session's name, which is a user variable, cannot be seen from another.
    with mariadb({"performance_schema": "ON"}) as server:
        yield server.create_database("lock_1"), server.create_database("lock_2")


@pytest.fixture(scope="module")
def mysql_databases(mysql_server: MariaDBServer) -> Iterator[tuple[MariaDBDatabase, MariaDBDatabase]]:
    made = mysql_server.create_database("lock_1"), mysql_server.create_database("lock_2")
    yield made
    for database in made:
        mysql_server.drop_database(database.name)


@pytest.fixture(scope="module")
def sqlite_databases(tmp_path_factory: pytest.TempPathFactory) -> tuple[SQLiteFile, SQLiteFile]:
    folder = tmp_path_factory.mktemp("files")
    return SQLiteFile(folder / "one.db"), SQLiteFile(folder / "two.db")


@pytest.fixture(scope="module")
def postgresql_databases(server: Server) -> Iterator[tuple[Database, Database]]:
    prefix = f"lock_{secrets.token_hex(4)}"
    made = create_database(server, f"{prefix}_1"), create_database(server, f"{prefix}_2")
    yield made
    for database in made:
        drop_database(server, database.name)


@pytest.fixture
def elsewhere(databases: tuple[Database, Database]) -> Database:
    return databases[1]


@pytest.fixture
def connect(subject: Subject, databases: tuple[Database, Database], autocommit: bool) -> Iterator[Connect]:
    """Connect to the tests' database, or to another; closed at the end."""
    made = []

    def open_one(to: Database = databases[0]) -> RawConnection:
        raw = subject.connect(to, autocommit)
        made.append(raw)
        return raw

    yield open_one
    for raw in made:
        with suppress(Exception):
            raw.close()


@pytest.fixture
def key(subject: Subject, databases: tuple[Database, Database]) -> LockKey:
    return subject.key(databases[0], f"version_{secrets.token_hex(4)}")


@pytest.fixture
def lock(subject: Subject, connect: Connect, key: LockKey) -> Callable[..., RunLock]:
    """The run lock as a new connection sees it: ``lock()``, ``lock(database=other)``, ``lock(key=other)``."""

    def make(**changes: Any) -> RunLock:
        if "database" in changes:
            there = subject.key(changes["database"], key.version_table)
            return RunLock(subject.dialect, there, connect(changes["database"]))
        return RunLock(subject.dialect, changes.get("key", key), connect())

    return make


def try_to_take(lock: RunLock) -> bool:
    """One poll, as a waiter does it."""
    taken = lock.try_take()
    lock.raw.commit()
    return taken


def held(lock: RunLock) -> RunLock:
    assert try_to_take(lock)
    return lock


def wait_until_free(lock: RunLock) -> None:
    wait_until(lambda: try_to_take(lock), "the lock becomes free")


# One winner


def test_of_many_contenders_exactly_one_wins_each_time(lock: Callable[..., RunLock]) -> None:
    contenders = [lock() for _ in range(6)]
    barrier = threading.Barrier(len(contenders))
    winners: list[list[RunLock]] = [[] for _ in range(10)]

    def contend(mine: RunLock) -> None:
        for round_winners in winners:
            barrier.wait(30)
            if try_to_take(mine):
                round_winners.append(mine)
            barrier.wait(30)
            if mine.held:
                assert mine.release()
                mine.raw.commit()

    in_threads(*[functools.partial(contend, contender) for contender in contenders])
    assert [len(round_winners) for round_winners in winners] == [1] * len(winners)


def test_checking_it_leaves_no_gap_for_another(lock: Callable[..., RunLock]) -> None:
    holder, contender = held(lock()), lock()
    entered = []

    def check() -> None:
        while len(entered) < 200:
            holder.check()
            holder.raw.commit()

    def contend() -> None:
        while len(entered) < 200:
            entered.append(try_to_take(contender))

    in_threads(check, contend)
    assert not any(entered)


def test_a_released_lock_is_free_for_another(lock: Callable[..., RunLock]) -> None:
    first, second = held(lock()), lock()
    first.check()
    assert not try_to_take(second)
    assert first.release()
    first.raw.commit()
    held(second)
    assert first.release(), "what is not held needs no release"


def test_checks_do_not_pile_up(lock: Callable[..., RunLock]) -> None:
    first, second = held(lock()), lock()
    for _ in range(5):
        first.check()
    assert first.release()
    first.raw.commit()
    held(second)


# Kept


def test_the_end_of_a_transaction_does_not_give_it_back(lock: Callable[..., RunLock]) -> None:
    first, second = lock(), lock()
    assert first.try_take()
    for end_transaction in (first.raw.rollback, first.raw.commit):
        end_transaction()
        assert not try_to_take(second)
        first.check()


def test_unlocking_from_elsewhere_is_refused_and_changes_nothing(
    subject: Subject, lock: Callable[..., RunLock]
) -> None:
    holder, stranger = held(lock()), lock()
    assert not subject.dialect.unlock(stranger.raw, stranger.key)
    assert not subject.dialect.still_locked(stranger.raw, stranger.key)
    stranger.raw.commit()
    holder.check()
    assert not try_to_take(stranger)


def test_a_connection_that_never_took_it_does_not_hold_it(lock: Callable[..., RunLock]) -> None:
    with pytest.raises(LockLost):
        lock().check()


def test_two_keys_are_independent(key: LockKey, lock: Callable[..., RunLock]) -> None:
    others = [
        LockKey(key.database, "tenant_a", key.version_table),
        LockKey(key.database, key.schema, "alembic_version_billing"),
        LockKey(key.database, "public\0alembic", "version"),
    ]
    locks = [held(lock(key=each)) for each in (key, *others)]
    assert locks[0].release()
    for other in locks[1:]:
        other.check()


def test_one_connection_may_hold_two_keys(key: LockKey, lock: Callable[..., RunLock]) -> None:
    first = held(lock())
    second = held(RunLock(first.dialect, LockKey(key.database, "other", key.version_table), first.raw))
    assert first.release()
    second.check()
    with pytest.raises(LockLost):
        first.check()


def test_the_same_key_in_two_databases_is_two_locks(
    elsewhere: Database, lock: Callable[..., RunLock]
) -> None:
    for one in (held(lock()), held(lock(database=elsewhere))):
        one.check()


def test_a_project_may_take_locks_of_its_own(
    subject: Subject, connect: Connect, key: LockKey, lock: Callable[..., RunLock]
) -> None:
    project = connect()
    subject.take_locks_of_a_project(project, key)
    run = held(lock())
    holder = subject.dialect.holder(project, key)
    assert holder is not None
    assert holder.pid == subject.backend_pid(run.raw)
    run.check()


def test_a_project_that_took_its_locks_late_is_not_blocked_by_ours(
    subject: Subject, connect: Connect, key: LockKey, lock: Callable[..., RunLock]
) -> None:
    run, project = held(lock()), connect()
    subject.bound_waits(project)
    subject.take_locks_of_a_project(project, key)
    run.check()


# Freed


def test_a_closed_connection_frees_it(lock: Callable[..., RunLock]) -> None:
    first, second = held(lock()), lock()
    first.raw.close()
    wait_until_free(second)


@on_servers
def test_a_killed_backend_frees_it_and_its_client_hears_of_it(
    subject: Subject, lock: Callable[..., RunLock]
) -> None:
    first, second = held(lock()), lock()
    subject.kill(second.raw, subject.backend_pid(first.raw))
    wait_until_free(second)
    with pytest.raises(Exception) as caught:  # noqa: PT011 (each driver has its own)
        first.check()
    found = subject.dialect.read_error(caught.value)
    assert found is not None
    assert found.kind.may_pass, found


# Lost


def test_a_lock_that_the_session_gave_back_is_missed_at_the_next_check(
    subject: Subject, lock: Callable[..., RunLock]
) -> None:
    run = held(lock())
    subject.drop_all_locks(run.raw)
    run.raw.commit()
    with pytest.raises(LockLost) as caught:
        run.check()
    assert caught.value.exit_code is ExitCode.LOCK_LOST
    assert caught.value.next_step
    assert not run.held


def test_a_lock_that_went_to_another_is_not_taken_back(
    subject: Subject, lock: Callable[..., RunLock]
) -> None:
    first, second = held(lock()), lock()
    subject.drop_all_locks(first.raw)
    first.raw.commit()
    held(second)
    with pytest.raises(LockLost):
        first.check()
    first.raw.commit()
    second.check()


def test_releasing_a_lost_lock_says_that_it_was_lost(subject: Subject, lock: Callable[..., RunLock]) -> None:
    run = held(lock())
    subject.drop_all_locks(run.raw)
    assert not run.release()


# Who holds it


def test_the_holder_is_named_with_pid_and_application(subject: Subject, lock: Callable[..., RunLock]) -> None:
    application = f"job-{secrets.token_hex(4)}: 9a0c12"
    run, observer = held(lock()), lock()
    subject.dialect.begin_step(run.raw, application, None)
    run.raw.commit()
    found = subject.dialect.holder(observer.raw, observer.key)
    assert found is not None
    assert (found.pid, found.application) == (subject.backend_pid(run.raw), application)
    assert found.user
    assert found.since_seconds >= 0
    run.release()
    run.raw.commit()
    observer.raw.commit()
    assert subject.dialect.holder(observer.raw, observer.key) is None


def test_a_long_application_name_is_cut_and_not_refused(
    subject: Subject, lock: Callable[..., RunLock]
) -> None:
    run = held(lock())
    subject.dialect.begin_step(run.raw, "pod-ä" * 40, None)
    run.raw.commit()
    found = subject.dialect.holder(run.raw, run.key)
    assert found is not None
    assert found.application.startswith("pod-")


def test_holding_it_is_seen_from_the_same_database_only(
    subject: Subject,
    connect: Connect,
    key: LockKey,
    lock: Callable[..., RunLock],
    elsewhere: Database,
) -> None:
    run = held(lock())
    pid = subject.backend_pid(run.raw)
    beside, outside = connect(), connect(elsewhere)
    assert subject.dialect.holds(beside, key, pid)
    assert not subject.dialect.holds(outside, key, pid)
    assert subject.dialect.holder(outside, subject.key(elsewhere, key.version_table)) is None
    assert not subject.dialect.holds(beside, key, pid + 1)
    assert not subject.dialect.holds(beside, LockKey(key.database, "other", "table"), pid)


# Waiting


def test_a_waiter_enters_as_soon_as_the_lock_is_free(lock: Callable[..., RunLock]) -> None:
    holder, waiter = held(lock()), lock()
    polls = []

    def sleep(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 3:
            assert holder.release()
            holder.raw.commit()

    waited = waiter.wait(60, end_transaction=waiter.raw.commit, report=silent, sleep=sleep)
    assert waiter.held
    assert len(polls) == 3
    assert 0 <= waited < 60
    waiter.check()


def test_a_free_lock_is_taken_without_a_pause_or_a_word(lock: Callable[..., RunLock]) -> None:
    told: list[Event] = []
    waiter = lock()
    waiter.wait(0, end_transaction=waiter.raw.commit, report=told.append, sleep=never)
    assert waiter.held
    assert not told


def test_waiting_leaves_no_transaction_and_no_snapshot_open(
    subject: Subject, connect: Connect, lock: Callable[..., RunLock]
) -> None:
    holder, waiter, observer = held(lock()), lock(), connect()
    pid = subject.backend_pid(waiter.raw)
    seen = []

    def sleep(_seconds: float) -> None:
        seen.append(subject.open_snapshot(observer, pid))
        if len(seen) == 5:
            assert holder.release()
            holder.raw.commit()

    waiter.wait(60, end_transaction=waiter.raw.commit, report=silent, sleep=sleep)
    assert seen == [(None,) * len(seen[0])] * 5
    assert subject.open_snapshot(observer, pid) == (None,) * len(seen[0])


def test_who_waits_too_long_learns_who_holds_it(
    subject: Subject, key: LockKey, lock: Callable[..., RunLock]
) -> None:
    application = f"job-{secrets.token_hex(4)}"
    holder, waiter = held(lock()), lock()
    subject.dialect.begin_step(holder.raw, application, None)
    holder.raw.commit()
    pid = subject.backend_pid(holder.raw)
    told: list[Event] = []
    with pytest.raises(RunLockTimeout) as caught:
        waiter.wait(0.2, end_transaction=waiter.raw.commit, report=told.append, sleep=time.sleep)
    assert caught.value.exit_code is ExitCode.LOCKED_OUT
    assert f"pid {pid} ({application})" in caught.value.message
    assert not waiter.held
    [waiting] = told
    assert isinstance(waiting, LockWaiting)
    assert waiting.holder is not None
    assert f"{subject.dialect.ending(waiting.holder)} ends it" in caught.value.next_step
    assert (waiting.holder.pid, waiting.at_most_seconds) == (pid, 0.2)
    holder.check()


@on_servers
def test_a_waiter_speaks_again_when_the_holder_changes(
    subject: Subject, lock: Callable[..., RunLock]
) -> None:
    first, second, waiter = held(lock()), lock(), lock()
    told: list[LockWaiting] = []

    def sleep(_seconds: float) -> None:
        if first.held:
            assert first.release()
            first.raw.commit()
            held(second)
        elif len(told) == 2:
            second.release()
            second.raw.commit()
        time.sleep(0.05)

    waiter.wait(60, end_transaction=waiter.raw.commit, report=told.append, sleep=sleep)
    pids = [event.holder.pid for event in told if event.holder]
    assert pids == [subject.backend_pid(first.raw), subject.backend_pid(second.raw)]


def test_a_wait_that_is_broken_off_holds_nothing(lock: Callable[..., RunLock]) -> None:
    holder, waiter, third = held(lock()), lock(), lock()

    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        waiter.wait(60, end_transaction=waiter.raw.commit, report=silent, sleep=stop)
    assert not waiter.held
    holder.release()
    holder.raw.commit()
    held(third)


def never(_seconds: float) -> None:
    raise AssertionError("nothing to wait for")


def in_threads(*works: Callable[[], None]) -> None:
    """Run each in a thread of its own, to its end; the first exception is raised here."""
    failed: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if failed:
        raise failed[0]
    assert not any(thread.is_alive() for thread in threads)
