"""All that differs between databases, and nothing else.

A dialect works on *raw* connections: the PEP 249 connection below SQLAlchemy's (for asynchronous drivers,
SQLAlchemy's adapter with the same methods). It never commits or rolls back, but where its docstring says so:
whose transaction it is, the caller knows.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from migrator.errors import ConfigurationError
from migrator.results import Activity, InvalidIndex, LockHolder

RawConnection = Any
"""A PEP 249 connection. Drivers agree on its methods, not on a type."""


class ErrorKind(enum.Enum):
    """What a database error means for a run."""

    LOCK_TIMEOUT = "lock timeout"
    DEADLOCK = "deadlock"
    SERIALIZATION = "serialization failure"
    CATALOG_RACE = "two sessions created the same object at once"
    CONNECTION_LOST = "connection lost"
    NOT_READY = "the database is not ready"
    READ_ONLY = "the server is read-only"
    REFUSED = "authentication refused"
    DENIED = "permission denied"
    DISK_FULL = "disk full"
    CANCELLED = "cancelled"
    ALREADY_EXISTS = "an object exists already"
    OTHER = "other"

    @property
    def may_pass(self) -> bool:
        """Whether connecting again may help."""
        return self in (ErrorKind.CONNECTION_LOST, ErrorKind.NOT_READY, ErrorKind.READ_ONLY)


@dataclass(frozen=True, slots=True)
class ServerError:
    """A database error in the server's words. Row data of constraint errors is left out.

    :ivar message: one line.
    :ivar further: detail and hint, one line each.
    """

    kind: ErrorKind
    message: str
    sqlstate: str = ""
    further: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.sqlstate}: {self.message}" if self.sqlstate else self.message


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the first query on a connection tells.

    :ivar read_only: the server is a standby.
    :ivar read_only_by_setting: it is none, and a setting of role or database makes each transaction read-only.
    """

    version: str
    database: str
    user: str
    read_only: bool
    backend_pid: int
    read_only_by_setting: bool = False


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What is set on the migration's connection; seconds. ``keep_lock_timeout``: leave one that is set already."""

    application_name: str
    lock_timeout: float
    statement_timeout: float | None
    keep_lock_timeout: bool


@dataclass(frozen=True, slots=True)
class Session:
    """The migration's connection, as it was found.

    :ivar protocol_pid: the backend's pid as the wire protocol announced it; differs behind a pooler.
    :ivar previous: the settings that are going to be changed, to be put back.
    """

    backend_pid: int
    protocol_pid: int | None
    database: str
    schema: str
    user: str
    server_version: str
    previous: dict[str, str] = field(default_factory=dict)

    @property
    def pooled(self) -> bool:
        """Something between us and the server hands out its connections."""
        return self.protocol_pid is not None and self.protocol_pid != self.backend_pid


@dataclass(frozen=True, slots=True)
class LockKey:
    """Names the run lock of one version table. Two runs on the same table have the same key."""

    database: str
    schema: str
    version_table: str


class Dialect(Protocol):
    """What a database must offer. ``tests/contract/`` holds every implementation to it."""

    name: ClassVar[str]

    def read_error(self, error: BaseException) -> ServerError | None:
        """The server's words in ``error``; None if it does not come from this database's drivers."""

    def facts(self, raw: RawConnection) -> ServerFacts:
        """The first query on a new connection."""

    def connect_arguments(self, driver: str, timeout_seconds: float) -> dict[str, object]:
        """Keyword arguments for the driver's ``connect`` of our own side connections."""

    def session(self, raw: RawConnection) -> Session:
        """What the connection is. Changes nothing: behind a pooler it may be somebody else's a moment later."""

    def apply_settings(self, raw: RawConnection, session: Session, options: SessionOptions) -> str:
        """Apply the session settings; the lock timeout that now holds, in the server's own notation."""

    def restore_session(self, raw: RawConnection, session: Session) -> None:
        """Put the settings back that ``apply_settings`` changed."""

    def begin_step(self, raw: RawConnection, application_name: str, lock_timeout: str | None) -> str:
        """Tell others what this session is doing now, and set its lock timeout; the one that now holds.

        :param lock_timeout: in the server's own notation; None: leave it as it is.
        """

    def watch_connection(self, raw: RawConnection) -> None:
        """Make this end notice a dead peer, where the driver gives access to its socket."""

    def try_lock(self, raw: RawConnection, key: LockKey) -> bool:
        """Take the run lock if it is free, without waiting. Never leaves a snapshot or cursor open."""

    def still_locked(self, raw: RawConnection, key: LockKey) -> bool:
        """Whether this session still holds the lock that it took; the lock is never free in between."""

    def unlock(self, raw: RawConnection, key: LockKey) -> bool:
        """Give the lock back. False: this session did not hold it."""

    def holder(self, raw: RawConnection, key: LockKey) -> LockHolder | None:
        """Who holds the lock now."""

    def holds(self, raw: RawConnection, key: LockKey, backend_pid: int) -> bool:
        """Asked from another connection: does that backend hold the lock in *this* connection's database?"""

    def cancel(self, raw: RawConnection, backend_pid: int) -> None:
        """Cancel what that backend is running, from another connection."""

    def activity(self, raw: RawConnection, backend_pid: int) -> Activity:
        """What that backend is doing, who blocks it and how far it is."""

    def version_table(self, raw: RawConnection, table: str, schema: str | None) -> tuple[str, str] | None:
        """(schema, table) that the name means on this connection now; None if there is no such table."""

    def version_rows(self, raw: RawConnection, schema: str, table: str) -> tuple[str, ...]:
        """The rows of the version table, sorted."""

    def count_tables(self, raw: RawConnection, schema: str) -> int:
        """How many tables the schema holds."""

    def invalid_indexes(self, raw: RawConnection) -> tuple[InvalidIndex, ...]:
        """Indexes that a failed concurrent build left behind."""

    def is_autocommit(self, raw: RawConnection) -> bool:
        """Whether each statement on this connection commits by itself."""

    def transaction_open(self, raw: RawConnection) -> bool:
        """Whether a transaction is open, as the driver knows it; True where it does not tell."""

    def waits_for_snapshots(self, statement: str) -> bool:
        """Whether this statement, outside a transaction, waits for old ones to end (a concurrent index build)."""

    def lock_timeout(self, raw: RawConnection) -> str:
        """The session's lock timeout, in the server's own notation."""

    def set_lock_timeout(self, raw: RawConnection, value: str | float) -> None:
        """Set it: seconds, or what ``lock_timeout`` returned."""


def rows(raw: RawConnection, sql: str) -> list[Sequence[Any]]:
    """Run one statement without parameters; its rows, or an empty list. The cursor is closed.

    Without parameters on purpose: psycopg 3 with bound parameters keeps ``backend_xmin`` (measured), and
    that holds up every concurrent index build.
    """
    cursor = raw.cursor()
    try:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description is not None else []
    finally:
        cursor.close()


def known() -> tuple[str, ...]:
    """Names of the supported dialects."""
    return ("postgresql",)


def dialect_named(name: str) -> Dialect:
    """The dialect of that SQLAlchemy name; ConfigurationError for one that we do not know."""
    if name == "postgresql":
        from migrator.dialects.postgresql import PostgreSQL

        return PostgreSQL()
    raise ConfigurationError(
        f"{name} is not supported: there is no run lock for it, so nothing would keep two runs apart",
        next_step=f"Supported: {', '.join(known())}. Nothing was changed.",
    )
