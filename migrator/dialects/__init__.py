"""All that differs between databases, and nothing else.

A dialect works on *raw* connections: the PEP 249 connection below SQLAlchemy's (for asynchronous drivers,
SQLAlchemy's adapter with the same methods). It never commits or rolls back, but where its docstring says so:
whose transaction it is, the caller knows.
"""

from __future__ import annotations

import enum
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from migrator.errors import ConfigurationError
from migrator.results import Activity, InvalidIndex, LockHolder

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

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
    TOO_MANY_CONNECTIONS = "no connection is free"
    READ_ONLY = "the server is read-only"
    POOLER = "a connection pooler that takes no transactions"
    REFUSED = "authentication refused"
    TLS_FILE = "a file for TLS cannot be used"
    TLS_HOST = "the certificate is for another host"
    TLS_UNTRUSTED = "the certificate is not trusted"
    TLS_MISSING = "there is no TLS"
    DENIED = "permission denied"
    DISK_FULL = "disk full"
    CANCELLED = "cancelled"
    ALREADY_EXISTS = "an object exists already"
    NULL_VALUE = "a null where none may be"
    DUPLICATE_KEY = "a duplicate value"
    FOREIGN_KEY = "a foreign key is violated"
    CHECK_VIOLATED = "a check is violated"
    NO_TABLE = "no such table"
    NO_COLUMN = "no such column"
    SYNTAX = "syntax error"
    SEVERAL_STATEMENTS = "several statements where the driver takes one"
    CACHED_PLAN = "a cached plan of the driver does not fit any more"
    NEEDS_NO_TRANSACTION = "a statement that cannot run in a transaction"
    TRANSACTION_ABORTED = "the transaction failed earlier"
    TOO_MANY_LOCKS = "out of locks"
    STATEMENT_TIMEOUT = "statement timeout"
    OTHER = "other"

    @property
    def may_pass(self) -> bool:
        """Whether connecting again may help."""
        return self in _PASSING

    @property
    def about_tls(self) -> bool:
        """The two sides did not agree on TLS; connecting again does not help."""
        return self in _ABOUT_TLS


_ABOUT_TLS = (ErrorKind.TLS_FILE, ErrorKind.TLS_HOST, ErrorKind.TLS_UNTRUSTED, ErrorKind.TLS_MISSING)

_PASSING = (
    ErrorKind.CONNECTION_LOST,
    ErrorKind.NOT_READY,
    ErrorKind.TOO_MANY_CONNECTIONS,
    ErrorKind.READ_ONLY,
)


@dataclass(frozen=True, slots=True)
class ServerError:
    """A database error in the server's words. Row data of constraint errors is left out.

    :ivar message: one line.
    :ivar number: the server's own number, where people know its errors by that.
    :ivar further: detail and hint, one line each.
    """

    kind: ErrorKind
    message: str
    sqlstate: str = ""
    further: tuple[str, ...] = ()
    number: int = 0

    def __str__(self) -> str:
        code = self.number or self.sqlstate
        return f"{code}: {self.message}" if code else self.message


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
    :ivar cluster: of several nodes that all accept writes, what they are; the lock holds on this one alone.
    :ivar previous: the settings that are going to be changed, to be put back.
    """

    backend_pid: int
    protocol_pid: int | None
    database: str
    schema: str
    user: str
    server_version: str
    cluster: str = ""
    previous: dict[str, str] = field(default_factory=dict)

    @property
    def pooled(self) -> bool:
        """Something between us and the server hands out its connections."""
        return self.protocol_pid is not None and self.protocol_pid != self.backend_pid


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A table of the name that was looked for, in a schema where that name does not lead.

    :ivar expected: the name would lead there, if only the user were allowed into the schema.
    :ivar readable: the user may read it.
    """

    schema: str
    expected: bool
    readable: bool


@dataclass(frozen=True, slots=True)
class LockKey:
    """Names the run lock of one version table. Two runs on the same table have the same key."""

    database: str
    schema: str
    version_table: str


class Boundary(enum.Enum):
    """What becomes of a statement when the transaction around it is rolled back."""

    INSIDE = "it is undone"
    OUTSIDE = "it stays: there is no transaction, or what was in it has just been committed"
    COMMITS = "it stays, and commits by itself what stands before it in the transaction"
    MAY_COMMIT = (
        "nobody can tell from outside: it runs what may commit, a procedure or a script, even if it fails"
    )


class Dialect(Protocol):
    """What a database must offer. ``tests/contract/`` holds every implementation to it.

    :cvar in_a_file: a database is a file, and has no further name.
    :cvar gives_lock_back: what in a session makes it lose the run lock, for the message.
    :cvar after_a_part: what to do when part of a failed revision was committed.
    """

    in_a_file: ClassVar[bool]
    gives_lock_back: ClassVar[str]
    after_a_part: ClassVar[str]

    @property
    def name(self) -> str:
        """SQLAlchemy's name for the database; where one name stands for two, the server's own once it was asked."""

    def refuse_url(self, url: URL, source: str) -> None:
        """Raise the MigratorError for a URL that can be seen not to work before anything connects."""

    def read_error(self, error: BaseException) -> ServerError | None:
        """The server's words in ``error``; None if it does not come from this database's drivers."""

    def facts(self, raw: RawConnection) -> ServerFacts:
        """The first query on a new connection."""

    def connect_arguments(self, driver: str, timeout_seconds: float) -> dict[str, object]:
        """Keyword arguments for the driver's ``connect`` of our own side connections."""

    def place(self, raw: RawConnection) -> str:
        """What identifies the database beyond doubt; empty where only the lock can prove it."""

    def keeps_snapshot(self, isolation_level: str) -> bool:
        """Whether a transaction of that isolation level, once begun, does not see later commits."""

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

    def ending(self, holder: LockHolder) -> str:
        """The statement or command that ends the holder."""

    def holds(self, raw: RawConnection, key: LockKey, backend_pid: int) -> bool:
        """Asked from another connection: does that backend hold the lock in *this* connection's database?"""

    def interrupt(self, raw: RawConnection) -> bool:
        """Cancel what ``raw`` itself is running, from another thread. False: it takes another connection."""

    def cancel(self, raw: RawConnection, backend_pid: int) -> None:
        """Cancel what that backend is running, from another connection."""

    def activity(self, raw: RawConnection, backend_pid: int) -> Activity:
        """What that backend is doing, who blocks it and how far it is."""

    def version_table(self, raw: RawConnection, table: str, schema: str | None) -> tuple[str, str] | None:
        """(schema, table) that the name means on this connection now; None if there is no such table."""

    def version_rows(self, raw: RawConnection, schema: str, table: str) -> tuple[str, ...]:
        """The rows of the version table, sorted."""

    def tables_elsewhere(self, raw: RawConnection, table: str, schema: str) -> tuple[Elsewhere, ...]:
        """Tables of that name in the database's other schemas than ``schema``, where it has schemas."""

    def grants_to_read(self, raw: RawConnection, schema: str, table: str) -> str:
        """What somebody with the right to do so has to run so that this user may read the table; empty: nothing."""

    def limit_waiting(self, raw: RawConnection, seconds: float) -> None:
        """For what follows on this connection, of which the current transaction is all: wait for no lock longer."""

    def count_tables(self, raw: RawConnection, schema: str) -> int:
        """How many tables the schema holds."""

    def invalid_indexes(self, raw: RawConnection) -> tuple[InvalidIndex, ...]:
        """Indexes that a failed concurrent build left behind."""

    def is_autocommit(self, raw: RawConnection) -> bool:
        """Whether each statement on this connection commits by itself."""

    def before_statement(self, raw: RawConnection, statement: str) -> Boundary:
        """Called before each statement of a run; begins a transaction where the driver would not."""

    def committed(self, raw: RawConnection, statement: str) -> bool:
        """After ``statement`` succeeded in a transaction: was that transaction committed by it?"""

    def ended_transaction(self, raw: RawConnection) -> bool:
        """After a step failed: has something ended its transaction meanwhile that no statement of ours told of?

        A script of several statements, or the driver's own methods. Asks nothing of the server.
        """

    def outlives_rollback(self, raw: RawConnection) -> bool:
        """Before a ROLLBACK: has the transaction changed something that it does not undo? Changes nothing."""

    def database_in_use(self, raw: RawConnection) -> str:
        """The database that names lead to now, where a statement can choose another; else an empty string."""

    def use_database(self, raw: RawConnection, database: str) -> None:
        """Let names lead to ``database``, as ``database_in_use`` called it."""

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


def first_word(statement: str) -> str:
    """The first word of a statement, in capitals: what kind it is, without parsing it. Comments are skipped."""
    return first_word_at(statement)[0]


def first_word_at(statement: str) -> tuple[str, int]:
    """:func:`first_word`, and the index at which it begins; of a statement without any, its end."""
    found = _FIRST_WORD.match(statement)
    return (found.group(1).upper(), found.start(1)) if found else ("", len(statement))


_FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*(?:\n|\Z)|#[^\n]*(?:\n|\Z)|/\*.*?\*/|\()*+(\w+)", re.DOTALL)


_CLASSES = {
    "postgresql": ("postgresql", "PostgreSQL"),
    "mysql": ("mysql", "MySQL"),
    "mariadb": ("mysql", "MySQL"),
    "sqlite": ("sqlite", "SQLite"),
}
"""(module, class) by SQLAlchemy's name."""


def known() -> tuple[str, ...]:
    """Names of the supported dialects."""
    return tuple(_CLASSES)


def dialect_named(name: str, *, without_lock: bool = False) -> Dialect:
    """The dialect of that SQLAlchemy name.

    :param without_lock: what SQLAlchemy knows is enough; there is no run lock then.
    :raises ConfigurationError: one that we do not know.
    """
    if without_lock:
        from migrator.dialects.unlocked import Unlocked

        return Unlocked(name)
    if name in _CLASSES:
        module, its_class = _CLASSES[name]
        dialect: Dialect = getattr(importlib.import_module(f"migrator.dialects.{module}"), its_class)()
        return dialect
    raise ConfigurationError(
        f"{name} is not supported: there is no run lock for it, so nothing would keep two runs apart",
        details=(f"supported: {', '.join(known())}",),
        next_step=(
            "Where you see to it yourself that only one run is at work at a time, set MIGRATOR_LOCK=none: "
            "the migrations then run and are verified, without a lock, lock timeouts and cancelling. "
            "Nothing was changed."
        ),
    )


if TYPE_CHECKING:
    from migrator.dialects.mysql import MySQL
    from migrator.dialects.postgresql import PostgreSQL
    from migrator.dialects.sqlite import SQLite
    from migrator.dialects.unlocked import Unlocked

    # They are looked up by name, so nothing else holds them to the protocol.
    _HELD_TO_IT: tuple[Dialect, ...] = (PostgreSQL(), MySQL(), SQLite(), Unlocked(""))
