"""Any database that SQLAlchemy has a dialect for, without a run lock: ``lock = none``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from migrator.dialects import (
    Boundary,
    Elsewhere,
    ErrorKind,
    LockKey,
    RawConnection,
    ServerError,
    ServerFacts,
    Session,
    SessionOptions,
    dialect_named,
    first_word,
    known,
    rows,
)
from migrator.results import Activity, InvalidIndex, LockHolder

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Dialect

_LOST = ("OperationalError", "InterfaceError")
"""What drivers raise, by PEP 249, when it is about the connection and not about the statement."""


_DDL = ("CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE", "COMMENT", "GRANT", "REVOKE")


class Unlocked:
    """See :class:`migrator.dialects.Dialect`: what can be done for a database of which nothing is known.

    Migrations run and are verified. Of a database that is known, or that speaks like one (CockroachDB), at least
    errors and transactions are understood. There is no lock, no limit for waiting on other sessions, and no way to
    cancel a statement; and nothing proves that ``env.py`` connects to the configured database.
    """

    in_a_file: ClassVar[bool] = False
    gives_lock_back: ClassVar[str] = ""
    after_a_part: ClassVar[str] = (
        "It ran outside a transaction, so what it had done before is still there: remove what was left behind, "
        "then run again."
    )
    name: ClassVar[str] = "unlocked"

    def __init__(self, sqlalchemy_name: str) -> None:
        self.name = sqlalchemy_name  # type: ignore[misc]
        self._known = dialect_named(sqlalchemy_name) if sqlalchemy_name in known() else None

    def refuse_url(self, url: URL, source: str) -> None:
        return

    def read_error(self, error: BaseException) -> ServerError | None:
        if self._known is not None:
            return self._known.read_error(error)
        import sqlalchemy.exc

        if isinstance(error, sqlalchemy.exc.DBAPIError):
            message = " ".join(str(error.orig).split())
            lost = error.connection_invalidated
            return ServerError(ErrorKind.CONNECTION_LOST if lost else ErrorKind.OTHER, message)
        # Bare, it comes from a connection of our own, which does no more than to connect and to read.
        if any(base.__name__ in _LOST for base in type(error).__mro__):
            return ServerError(ErrorKind.NOT_READY, " ".join(str(error).split()))
        return None

    def facts(self, raw: RawConnection) -> ServerFacts:
        from sqlalchemy import select

        # Not do_ping: the connection's driver need not be the one that SQLAlchemy takes by default.
        rows(raw, str(select(1).compile(dialect=self._sqlalchemy())))
        return ServerFacts("", "", "", read_only=False, backend_pid=0)

    def connect_arguments(self, driver: str, timeout_seconds: float) -> dict[str, object]:
        return {}

    def place(self, raw: RawConnection) -> str:
        return ""

    def keeps_snapshot(self, isolation_level: str) -> bool:
        return False  # without a lock there is nothing that a snapshot could be older than

    def session(self, raw: RawConnection) -> Session:
        return Session(0, None, "", "", "", "")

    def apply_settings(self, raw: RawConnection, session: Session, options: SessionOptions) -> str:
        return ""

    def restore_session(self, raw: RawConnection, session: Session) -> None:
        return

    def begin_step(self, raw: RawConnection, application_name: str, lock_timeout: str | None) -> str:
        return ""

    def watch_connection(self, raw: RawConnection) -> None:
        return

    def try_lock(self, raw: RawConnection, key: LockKey) -> bool:
        return True

    def still_locked(self, raw: RawConnection, key: LockKey) -> bool:
        return True

    def unlock(self, raw: RawConnection, key: LockKey) -> bool:
        return True

    def holder(self, raw: RawConnection, key: LockKey) -> LockHolder | None:
        return None

    def ending(self, holder: LockHolder) -> str:
        return ""

    def holds(self, raw: RawConnection, key: LockKey, backend_pid: int) -> bool:
        return True

    def interrupt(self, raw: RawConnection) -> bool:
        return True  # There is no way that all drivers share; the stop is noticed after the statement.

    def cancel(self, raw: RawConnection, backend_pid: int) -> None:
        return

    def activity(self, raw: RawConnection, backend_pid: int) -> Activity:
        return Activity()

    def version_table(self, raw: RawConnection, table: str, schema: str | None) -> tuple[str, str] | None:
        try:
            rows(raw, f"SELECT version_num FROM {self._named(schema, table)} WHERE 1 = 0")
        except Exception:
            self._sqlalchemy().do_rollback(raw)  # nothing was written yet where there is no version table
            return None
        return schema or "", table

    def version_rows(self, raw: RawConnection, schema: str, table: str) -> tuple[str, ...]:
        return tuple(
            sorted(str(row[0]) for row in rows(raw, f"SELECT version_num FROM {self._named(schema, table)}"))
        )

    def tables_elsewhere(self, raw: RawConnection, table: str, schema: str) -> tuple[Elsewhere, ...]:
        return ()

    def grants_to_read(self, raw: RawConnection, schema: str, table: str) -> str:
        return ""

    def limit_waiting(self, raw: RawConnection, seconds: float) -> None:
        return

    def count_tables(self, raw: RawConnection, schema: str) -> int:
        return 0

    def invalid_indexes(self, raw: RawConnection) -> tuple[InvalidIndex, ...]:
        return ()

    def is_autocommit(self, raw: RawConnection) -> bool:
        if self._known is not None:
            return self._known.is_autocommit(raw)
        return bool(getattr(raw, "autocommit", False))

    def before_statement(self, raw: RawConnection, statement: str) -> Boundary:
        if self._known is not None:
            return self._known.before_statement(raw, statement)
        if self.is_autocommit(raw):
            return Boundary.OUTSIDE
        return Boundary.COMMITS if first_word(statement) in _DDL else Boundary.INSIDE

    def committed(self, raw: RawConnection, statement: str) -> bool:
        if self._known is not None:
            return self._known.committed(raw, statement)
        # Oracle commits DDL by itself, and DuckDB does not: what may be left is told rather than denied.
        return first_word(statement) in (*_DDL, "COMMIT")

    def ended_transaction(self, raw: RawConnection) -> bool:
        return self._known is not None and self._known.ended_transaction(raw)

    def outlives_rollback(self, raw: RawConnection) -> bool:
        return False

    def database_in_use(self, raw: RawConnection) -> str:
        return self._known.database_in_use(raw) if self._known is not None else ""

    def use_database(self, raw: RawConnection, database: str) -> None:
        if self._known is not None:
            self._known.use_database(raw, database)

    def waits_for_snapshots(self, statement: str) -> bool:
        return False

    def lock_timeout(self, raw: RawConnection) -> str:
        return ""

    def set_lock_timeout(self, raw: RawConnection, value: str | float) -> None:
        return

    def _sqlalchemy(self) -> Dialect:
        from sqlalchemy.dialects import registry

        dialect: Dialect = registry.load(self.name)()
        return dialect

    def _named(self, schema: str | None, table: str) -> str:
        from sqlalchemy import MetaData, Table

        found: Any = self._sqlalchemy().identifier_preparer
        return str(found.format_table(Table(table, MetaData(), schema=schema or None)))
