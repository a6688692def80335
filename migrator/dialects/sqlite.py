"""SQLite, with the driver of Python's library or aiosqlite. The lock is a file beside the database."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from migrator.dialects import (
    Boundary,
    Elsewhere,
    LockKey,
    RawConnection,
    ServerError,
    ServerFacts,
    Session,
    SessionOptions,
    first_word,
    first_word_at,
    rows,
    sqlite_unseen,
)
from migrator.dialects import sqlite_lock as sidecar
from migrator.dialects.one_database import OneDatabase
from migrator.dialects.sqlite_errors import read_error
from migrator.dialects.standard_sql import identifier, literal
from migrator.dialects.unwrapped import driver_connection
from migrator.errors import AccessRefused, ConfigurationError
from migrator.results import Activity, InvalidIndex, LockHolder

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_WITHOUT_TRANSACTION = ("VACUUM", "ATTACH", "DETACH", "BEGIN")
"""Statements that fail inside a transaction."""

_NO_EFFECT_INSIDE = re.compile(
    r"PRAGMA\s+(?:[\w\"`\[\]]+\s*\.\s*)?"
    r"(?:(?:foreign_keys|journal_mode|synchronous|temp_store)\s*[=(]|wal_checkpoint\b)",
    re.IGNORECASE | re.DOTALL,
)
"""Pragmas that do nothing, or fail, inside a transaction (https://www.sqlite.org/pragma.html)."""

_DRIVERS_BUSY_TIMEOUT = "5000"
"""What Python's driver sets where a project says nothing; milliseconds."""

_READING = ("SELECT", "PRAGMA", "EXPLAIN", "VALUES")
_ENDING = ("COMMIT", "END", "ROLLBACK")


class SQLite(OneDatabase):
    """See :class:`migrator.dialects.Dialect`.

    SQLite can undo DDL, but Python's driver begins a transaction only before INSERT, UPDATE and DELETE. So one
    is begun here, ``BEGIN IMMEDIATE``: a revision is applied as a whole or not at all, and never fails in the
    middle because another connection began to write.
    """

    name: ClassVar[str] = "sqlite"
    in_a_file: ClassVar[bool] = True
    gives_lock_back: ClassVar[str] = "the lock file beside the database was removed or replaced"
    after_a_part: ClassVar[str] = (
        "Part of it was committed by a statement that cannot run in a transaction: remove what is listed as left, "
        "then run again."
    )

    def __init__(self) -> None:
        self._interrupted = False
        self._unseen = sqlite_unseen.Unseen()

    def refuse_url(self, url: URL, source: str) -> None:
        name = url.database or ""
        if name in ("", ":memory:") or "mode=memory" in name or url.query.get("mode") == "memory":
            raise _no_file(source)
        if name.startswith("file:"):
            return
        path = Path(name)
        if not path.parent.is_dir():
            raise ConfigurationError(
                f"the folder of the database file does not exist: {path.parent}",
                details=(f"{name}, from {source}",),
                next_step="Mount the volume, create the folder, or correct the path. Nothing was changed.",
            )
        if path.exists() and not os.access(path, os.R_OK):
            raise AccessRefused(
                f"the database file cannot be read: {name}",
                details=(f"from {source}",),
                next_step="Run as a user who may read and write it. Nothing was changed.",
            )

    def read_error(self, error: BaseException) -> ServerError | None:
        return read_error(error)

    def facts(self, raw: RawConnection) -> ServerFacts:
        ((version,),) = rows(raw, "SELECT sqlite_version()")
        rows(raw, "PRAGMA schema_version")  # reads the file: a query that is answered
        return ServerFacts(str(version), database_file(raw), "", read_only=False, backend_pid=os.getpid())

    def connect_arguments(self, driver: str, timeout_seconds: float) -> dict[str, object]:
        return {"timeout": timeout_seconds}

    def place(self, raw: RawConnection) -> str:
        path = database_file(raw)
        found = os.stat(path)
        return f"{found.st_dev}:{found.st_ino}"

    def keeps_snapshot(self, isolation_level: str) -> bool:
        # Who wrote in it holds the only write lock; who only read is refused when it wants to write.
        return False

    def session(self, raw: RawConnection) -> Session:
        ((version, milliseconds),) = rows(raw, "SELECT sqlite_version(), timeout FROM pragma_busy_timeout")
        return Session(
            backend_pid=os.getpid(),
            protocol_pid=None,
            database=database_file(raw),
            schema="main",
            user="",
            server_version=str(version),
            previous={"busy_timeout": str(milliseconds)},
        )

    def apply_settings(self, raw: RawConnection, session: Session, options: SessionOptions) -> str:
        if not options.keep_lock_timeout or session.previous["busy_timeout"] == _DRIVERS_BUSY_TIMEOUT:
            self.set_lock_timeout(raw, options.lock_timeout)
        return self.lock_timeout(raw)

    def restore_session(self, raw: RawConnection, session: Session) -> None:
        self._unseen.leave(raw)
        self.set_lock_timeout(raw, session.previous["busy_timeout"])

    def begin_step(self, raw: RawConnection, application_name: str, lock_timeout: str | None) -> str:
        sidecar.describe(raw, application_name)
        self._unseen.watch(raw)
        if lock_timeout is not None:
            self.set_lock_timeout(raw, lock_timeout)
        return self.lock_timeout(raw)

    def watch_connection(self, raw: RawConnection) -> None:
        return  # There is nobody at the other end.

    def try_lock(self, raw: RawConnection, key: LockKey) -> bool:
        return sidecar.take(raw, database_file(raw), key)

    def still_locked(self, raw: RawConnection, key: LockKey) -> bool:
        rows(raw, "SELECT 1")  # a connection that was closed holds nothing
        return sidecar.holds(raw, database_file(raw), key)

    def unlock(self, raw: RawConnection, key: LockKey) -> bool:
        return sidecar.give_back(raw, key)

    def holder(self, raw: RawConnection, key: LockKey) -> LockHolder | None:
        return sidecar.holder(database_file(raw), key)

    def ending(self, holder: LockHolder) -> str:
        return f"kill {holder.pid} on its machine"

    def holds(self, raw: RawConnection, key: LockKey, backend_pid: int) -> bool:
        found = sidecar.holder(database_file(raw), key)
        return found is not None and found.pid == backend_pid

    def interrupt(self, raw: RawConnection) -> bool:
        driver = driver_connection(raw)
        # aiosqlite's own interrupt() is a coroutine, and waits its turn behind what it is to end.
        getattr(driver, "_conn", driver).interrupt()
        return True

    def cancel(self, raw: RawConnection, backend_pid: int) -> None:
        raise AssertionError("a statement of SQLite is interrupted on its own connection")

    def activity(self, raw: RawConnection, backend_pid: int) -> Activity:
        return Activity()

    def version_table(self, raw: RawConnection, table: str, schema: str | None) -> tuple[str, str] | None:
        where = schema or "main"
        found = rows(
            raw,
            f"SELECT name FROM {identifier(where)}.sqlite_master "
            f"WHERE type = 'table' AND name = {literal(table)} COLLATE NOCASE",
        )
        return (where, str(found[0][0])) if found else None

    def version_rows(self, raw: RawConnection, schema: str, table: str) -> tuple[str, ...]:
        found = rows(raw, f"SELECT version_num FROM {identifier(schema)}.{identifier(table)}")
        return tuple(sorted(str(row[0]) for row in found))

    def tables_elsewhere(self, raw: RawConnection, table: str, schema: str) -> tuple[Elsewhere, ...]:
        return ()

    def grants_to_read(self, raw: RawConnection, schema: str, table: str) -> str:
        return ""  # whoever may read the file may read the table

    def limit_waiting(self, raw: RawConnection, seconds: float) -> None:
        self.set_lock_timeout(raw, seconds)

    def count_tables(self, raw: RawConnection, schema: str) -> int:
        ((count,),) = rows(
            raw,
            f"SELECT count(*) FROM {identifier(schema or 'main')}.sqlite_master "
            "WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        )
        return int(count)

    def invalid_indexes(self, raw: RawConnection) -> tuple[InvalidIndex, ...]:
        return ()

    def is_autocommit(self, raw: RawConnection) -> bool:
        return _begins_nothing(raw) and not self._interrupted and not _in_transaction(raw)

    def before_statement(self, raw: RawConnection, statement: str) -> Boundary:
        if self.is_autocommit(raw):
            return Boundary.OUTSIDE
        word, index = first_word_at(statement)
        switched = self._unseen.switch_of_foreign_keys()
        if switched:
            raw.commit()
            rows(raw, f"PRAGMA foreign_keys = {switched}")
        inside = _in_transaction(raw)
        if word in _WITHOUT_TRANSACTION or _NO_EFFECT_INSIDE.match(statement, index):
            if not inside:
                return Boundary.INSIDE  # there is nothing yet that would have to be undone
            # Where the driver alone decides, DDL opens no transaction, and the statement works.
            raw.commit()
            # A project that begins its transactions itself (SQLAlchemy's recipe) gets one for the rest as well.
            self._interrupted = word != "BEGIN" and _begins_nothing(raw)
            return Boundary.OUTSIDE
        if not inside and word not in (*_READING, *_ENDING):
            rows(raw, "BEGIN IMMEDIATE")
            self._interrupted = False
        return Boundary.MAY_COMMIT if switched else Boundary.INSIDE

    def committed(self, raw: RawConnection, statement: str) -> bool:
        return first_word(statement) in ("COMMIT", "END") and not _in_transaction(raw)

    def ended_transaction(self, raw: RawConnection) -> bool:
        return self._unseen.committed(raw)

    def outlives_rollback(self, raw: RawConnection) -> bool:
        return False

    def waits_for_snapshots(self, statement: str) -> bool:
        return False

    def lock_timeout(self, raw: RawConnection) -> str:
        ((milliseconds,),) = rows(raw, "PRAGMA busy_timeout")
        return str(milliseconds)

    def set_lock_timeout(self, raw: RawConnection, value: str | float) -> None:
        milliseconds = int(value) if isinstance(value, str) else max(1, round(value * 1000))
        rows(raw, f"PRAGMA busy_timeout = {milliseconds}")


def database_file(raw: RawConnection) -> str:
    """Absolute path of the file behind the connection.

    :raises ConfigurationError: there is none: the database is in memory.
    """
    for _, name, path in rows(raw, "PRAGMA database_list"):
        if name == "main" and path:
            return str(path)
    raise _no_file("env.py")


def _no_file(source: str) -> ConfigurationError:
    return ConfigurationError(
        "the database is in memory: it ends with the connection, and nobody else could see that it was migrated",
        details=(f"from {source}",),
        next_step="Name a file: sqlite:///relative/path.db or sqlite:////absolute/path.db. Nothing was changed.",
    )


def _begins_nothing(raw: RawConnection) -> bool:
    """The driver leaves transactions to whoever uses it: ``isolation_level=None``, ``autocommit=True`` (3.12)."""
    driver = driver_connection(raw)
    return raw.isolation_level is None or getattr(driver, "autocommit", None) is True


def _in_transaction(raw: RawConnection) -> bool:
    driver = driver_connection(raw)
    return bool(driver.in_transaction)
