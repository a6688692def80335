"""PostgreSQL 14 and later, with psycopg2, psycopg 3 or SQLAlchemy's adapters of asynchronous drivers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
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
    rows,
    sockets,
)
from migrator.dialects.one_database import OneDatabase
from migrator.dialects.postgresql_activity import activity_of, holder_where
from migrator.dialects.postgresql_errors import read_error
from migrator.dialects.standard_sql import identifier, literal
from migrator.dialects.unwrapped import driver_connection
from migrator.errors import LockUnusable
from migrator.results import Activity, InvalidIndex, LockHolder

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

KEY_SPACE = 0x6D696772
"""First half of every advisory lock key of ours. The two-integer form never meets a one-bigint key of a project."""

AUTOVACUUM_MILLISECONDS = 200
"""How much longer than the server's ``deadlock_timeout`` a statement waits for a lock, by default."""

LONGEST_DEADLOCK_MILLISECONDS = 2000
"""Where ``deadlock_timeout`` is longer (its default is 1 s), waiting for it would stop the traffic for too long."""

CLIENT_CHECK_MILLISECONDS = 500
"""``client_connection_check_interval``: after SIGKILL a statement and its lock ended within 0.9 s (measured)."""

_CHANGED = (
    "lock_timeout",
    "application_name",
    "idle_in_transaction_session_timeout",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_keepalives_count",
    "tcp_user_timeout",
    "client_connection_check_interval",
    "statement_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
"""The session settings that are changed for a run, as far as the server has them: the last is of PostgreSQL 17."""

_CONCURRENTLY = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)

_COMMIT_IN_SCRIPT = re.compile(r"(?:\A|;)\s*COMMIT\b", re.IGNORECASE)

_IDENTIFIER_LIMIT = 63


def milliseconds(seconds: float) -> str:
    """A duration as PostgreSQL's settings take it; 0 only for 0, because 0 means "no limit" there."""
    return "0" if seconds <= 0 else f"{max(1, round(seconds * 1000))}ms"


def _set_all(settings: Mapping[str, str]) -> str:
    return ", ".join(
        f"set_config({literal(name)}, {literal(value)}, false)" for name, value in settings.items()
    )


def object_id(key: LockKey) -> int:
    """Second half of the advisory lock key, a signed 32-bit integer.

    The database is not part of it: PostgreSQL's advisory locks are per database already.
    """
    name = "\0".join((key.schema, key.version_table))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big", signed=True)


def _lock_row(key: LockKey) -> str:
    """The condition that finds the granted lock in ``pg_locks``, in the database of the asking connection."""
    return (
        f"l.locktype = 'advisory' AND l.classid = {KEY_SPACE} AND l.objid = {object_id(key) & 0xFFFFFFFF} "
        "AND l.objsubid = 2 AND l.granted "
        "AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())"
    )


class PostgreSQL(OneDatabase):
    """See :class:`migrator.dialects.Dialect`."""

    name: ClassVar[str] = "postgresql"
    in_a_file: ClassVar[bool] = False
    gives_lock_back: ClassVar[str] = "pg_advisory_unlock_all(), DISCARD ALL, or a pooler"
    after_a_part: ClassVar[str] = (
        "It ran outside a transaction, so what it had done before is still there: look at the state above, "
        "remove what was left behind (an INVALID index: DROP INDEX CONCURRENTLY), then run again."
    )

    def refuse_url(self, url: URL, source: str) -> None:
        return

    def read_error(self, error: BaseException) -> ServerError | None:
        return read_error(error)

    def facts(self, raw: RawConnection) -> ServerFacts:
        ((version, database, user, standby, read_only, pid),) = rows(
            raw,
            "SELECT current_setting('server_version'), current_database(), session_user, pg_is_in_recovery(), "
            "current_setting('transaction_read_only') = 'on', pg_backend_pid()",
        )
        return ServerFacts(
            version=str(version).split()[0],
            database=str(database),
            user=str(user),
            read_only=bool(standby),
            backend_pid=int(pid),
            read_only_by_setting=bool(read_only) and not standby,
        )

    def connect_arguments(self, driver: str, timeout_seconds: float) -> dict[str, object]:
        # libpq's limit is in whole seconds and at least 2 (34.1.2); the caller's own limit is the exact one.
        return {
            "connect_timeout": max(2, round(timeout_seconds)),
            "application_name": "migrator",
            "keepalives_idle": sockets.KEEPALIVE_SECONDS,
            "keepalives_interval": sockets.KEEPALIVE_SECONDS,
            "keepalives_count": sockets.KEEPALIVE_PROBES,
        }

    def place(self, raw: RawConnection) -> str:
        return ""  # host names, ports and sockets prove nothing

    def keeps_snapshot(self, isolation_level: str) -> bool:
        return isolation_level in ("REPEATABLE READ", "SERIALIZABLE")

    def session(self, raw: RawConnection) -> Session:
        before = ", ".join(f"current_setting({literal(name)}, true)" for name in _CHANGED)
        ((cockroach, pid, database, schema, user, version, *values),) = rows(
            raw,
            "SELECT current_setting('crdb_version', true), pg_backend_pid(), current_database(), "
            f"current_schema(), session_user, current_setting('server_version'), {before}",
        )
        if cockroach:
            raise LockUnusable(
                "the lock cannot work here: this is CockroachDB, whose advisory locks do nothing",
                details=(str(cockroach),),
                next_step=(
                    "Where you see to it yourself that only one run is at work at a time, set "
                    "MIGRATOR_LOCK=none. Nothing was changed."
                ),
            )
        return Session(
            backend_pid=int(pid),
            protocol_pid=protocol_pid(raw),
            database=str(database),
            schema=str(schema or ""),
            user=str(user),
            server_version=str(version).split()[0],
            previous={
                name: str(value) for name, value in zip(_CHANGED, values, strict=True) if value is not None
            },
        )

    def apply_settings(self, raw: RawConnection, session: Session, options: SessionOptions) -> str:
        chosen = milliseconds(options.lock_timeout)
        if options.keep_lock_timeout and session.previous["lock_timeout"] != "0":
            chosen = session.previous["lock_timeout"]
        elif options.keep_lock_timeout:
            # It is after this time that a waiting statement has the server cancel an autovacuum in its way; one that
            # gives up before, or at the same moment, would never get past it.
            ((least,),) = rows(
                raw,
                "SELECT ceil(extract(epoch FROM current_setting('deadlock_timeout')::interval) * 1000)::int",
            )
            if least <= LONGEST_DEADLOCK_MILLISECONDS:
                chosen = milliseconds(max(options.lock_timeout, (least + AUTOVACUUM_MILLISECONDS) / 1000))
        wanted = {
            "lock_timeout": chosen,
            "application_name": options.application_name,
            # A server default of 2 s took the connection, and the lock with it, away mid-run.
            "idle_in_transaction_session_timeout": "0",
            "idle_session_timeout": "0",
            # It is meant for an application's transactions, and ends the connection.
            "transaction_timeout": "0",
            "tcp_keepalives_idle": str(sockets.KEEPALIVE_SECONDS),
            "tcp_keepalives_interval": str(sockets.KEEPALIVE_SECONDS),
            "tcp_keepalives_count": str(sockets.KEEPALIVE_PROBES),
            "tcp_user_timeout": f"{sockets.UNANSWERED_MILLISECONDS}ms",
            "client_connection_check_interval": f"{CLIENT_CHECK_MILLISECONDS}ms",
        }
        if options.statement_timeout is not None:
            wanted["statement_timeout"] = milliseconds(options.statement_timeout)
        known = {name: value for name, value in wanted.items() if name in session.previous}
        ((lock_timeout, *_),) = rows(raw, f"SELECT {_set_all(known)}")
        return str(lock_timeout)

    def restore_session(self, raw: RawConnection, session: Session) -> None:
        rows(raw, f"SELECT {_set_all(session.previous)}")

    def begin_step(self, raw: RawConnection, application_name: str, lock_timeout: str | None) -> str:
        shortened = application_name.encode()[:_IDENTIFIER_LIMIT].decode(errors="ignore")
        wanted = {"application_name": shortened}
        if lock_timeout is not None:
            wanted["lock_timeout"] = lock_timeout
        ((*_, now),) = rows(raw, f"SELECT {_set_all(wanted)}, current_setting('lock_timeout')")
        return lock_timeout or str(now)

    def watch_connection(self, raw: RawConnection) -> None:
        number = _socket_number(raw)
        if number is not None:
            sockets.watch(number)

    def try_lock(self, raw: RawConnection, key: LockKey) -> bool:
        # Taken twice, so that `still_locked` can give one back and take it again: the count never reaches 0.
        number = object_id(key)
        ((taken,),) = rows(
            raw,
            f"SELECT CASE WHEN pg_try_advisory_lock({KEY_SPACE}, {number}) "
            f"THEN pg_try_advisory_lock({KEY_SPACE}, {number}) ELSE false END",
        )
        return bool(taken)

    def still_locked(self, raw: RawConnection, key: LockKey) -> bool:
        number = object_id(key)
        ((held,),) = rows(
            raw,
            f"SELECT CASE WHEN pg_advisory_unlock({KEY_SPACE}, {number}) "
            f"THEN pg_try_advisory_lock({KEY_SPACE}, {number}) ELSE false END",
        )
        return bool(held)

    def unlock(self, raw: RawConnection, key: LockKey) -> bool:
        number = object_id(key)
        ((first, second),) = rows(
            raw,
            f"SELECT pg_advisory_unlock({KEY_SPACE}, {number}), pg_advisory_unlock({KEY_SPACE}, {number})",
        )
        return bool(first) and bool(second)

    def holder(self, raw: RawConnection, key: LockKey) -> LockHolder | None:
        return holder_where(raw, _lock_row(key))

    def ending(self, holder: LockHolder) -> str:
        return f"SELECT pg_terminate_backend({holder.pid})"

    def holds(self, raw: RawConnection, key: LockKey, backend_pid: int) -> bool:
        return bool(
            rows(
                raw,
                f"SELECT 1 FROM pg_catalog.pg_locks l WHERE {_lock_row(key)} AND l.pid = {int(backend_pid)}",
            )
        )

    def interrupt(self, raw: RawConnection) -> bool:
        return False

    def cancel(self, raw: RawConnection, backend_pid: int) -> None:
        rows(raw, f"SELECT pg_cancel_backend({int(backend_pid)})")

    def activity(self, raw: RawConnection, backend_pid: int) -> Activity:
        return activity_of(raw, int(backend_pid))

    def version_table(self, raw: RawConnection, table: str, schema: str | None) -> tuple[str, str] | None:
        name = identifier(table) if schema is None else f"{identifier(schema)}.{identifier(table)}"
        found = rows(
            raw,
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c "
            "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE c.oid = to_regclass({literal(name)})",
        )
        return (str(found[0][0]), str(found[0][1])) if found else None

    def version_rows(self, raw: RawConnection, schema: str, table: str) -> tuple[str, ...]:
        found = rows(raw, f"SELECT version_num FROM {identifier(schema)}.{identifier(table)}")
        return tuple(sorted(str(row[0]) for row in found))

    def tables_elsewhere(self, raw: RawConnection, table: str, schema: str) -> tuple[Elsewhere, ...]:
        # Without USAGE on a schema of the search_path, names do not lead into it; nothing says so but this.
        found = rows(
            raw,
            "SELECT n.nspname, n.nspname = ANY (SELECT replace(trim(BOTH ' \"' FROM named), '$user', current_user) "
            "FROM unnest(string_to_array(current_setting('search_path'), ',')) AS named), "
            "has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') "
            "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE c.relkind IN ('r', 'p', 'v') AND c.relname = {literal(table)} "
            f"AND n.nspname <> {literal(schema)} ORDER BY 1",
        )
        return tuple(
            Elsewhere(str(name), bool(expected), bool(readable)) for name, expected, readable in found
        )

    def grants_to_read(self, raw: RawConnection, schema: str, table: str) -> str:
        found = rows(
            raw,
            "SELECT session_user, has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'SELECT') "
            "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE n.nspname = {literal(schema)} AND c.relname = {literal(table)}",
        )
        grants = []
        for user, enters, reads in found:
            if not enters:
                grants.append(f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {identifier(user)};")
            if not reads:
                grants.append(
                    f"GRANT SELECT ON {identifier(schema)}.{identifier(table)} TO {identifier(user)};"
                )
        return " ".join(grants)

    def limit_waiting(self, raw: RawConnection, seconds: float) -> None:
        # Of the transaction, not of the session: behind a pooler that would be somebody else's next.
        rows(raw, f"SELECT set_config('lock_timeout', {literal(milliseconds(seconds))}, true)")

    def count_tables(self, raw: RawConnection, schema: str) -> int:
        ((count,),) = rows(
            raw,
            "SELECT count(*) FROM pg_catalog.pg_class c "
            "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE c.relkind IN ('r', 'p') AND n.nspname = {literal(schema)}",
        )
        return int(count)

    def invalid_indexes(self, raw: RawConnection) -> tuple[InvalidIndex, ...]:
        # An index that some session is building right now is invalid, too, and no finding.
        return tuple(
            InvalidIndex(str(name), str(table))
            for name, table in rows(
                raw,
                "SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text "
                "FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
                "WHERE NOT i.indisvalid AND c.relkind = 'i' AND NOT EXISTS ("
                "SELECT 1 FROM pg_catalog.pg_stat_progress_create_index p "
                "WHERE p.index_relid = i.indexrelid) ORDER BY 1",
            )
        )

    def is_autocommit(self, raw: RawConnection) -> bool:
        return bool(getattr(raw, "autocommit", False))

    def before_statement(self, raw: RawConnection, statement: str) -> Boundary:
        if self.is_autocommit(raw):
            return Boundary.OUTSIDE
        # Words, not a parse: a script of several statements may fail, or time out, behind a COMMIT of its own.
        return Boundary.MAY_COMMIT if _COMMIT_IN_SCRIPT.search(statement) else Boundary.INSIDE

    def committed(self, raw: RawConnection, statement: str) -> bool:
        # op.execute("COMMIT"). Drivers know it from the protocol: 0 is libpq's PQTRANS_IDLE (34.2).
        driver = driver_connection(raw)
        if hasattr(driver, "is_in_transaction"):  # asyncpg
            return not driver.is_closed() and not driver.is_in_transaction()
        return getattr(getattr(driver, "info", None), "transaction_status", None) == 0

    def ended_transaction(self, raw: RawConnection) -> bool:
        return not self.is_autocommit(raw) and self.committed(raw, "")

    def outlives_rollback(self, raw: RawConnection) -> bool:
        return False

    def waits_for_snapshots(self, statement: str) -> bool:
        # A word, not a parse: outside a transaction a false alarm only lengthens one statement's lock timeout.
        return _CONCURRENTLY.search(statement) is not None

    def lock_timeout(self, raw: RawConnection) -> str:
        ((value,),) = rows(raw, "SELECT current_setting('lock_timeout')")
        return str(value)

    def set_lock_timeout(self, raw: RawConnection, value: str | float) -> None:
        text = value if isinstance(value, str) else milliseconds(value)
        rows(raw, f"SELECT set_config('lock_timeout', {literal(text)}, false)")


def protocol_pid(raw: RawConnection) -> int | None:
    """The backend's pid as the server announced it at the start of the connection; None if the driver hides it."""
    driver = driver_connection(raw)
    if hasattr(driver, "get_server_pid"):  # asyncpg
        return int(driver.get_server_pid())
    if hasattr(driver, "get_backend_pid"):  # psycopg2
        return int(driver.get_backend_pid())
    if hasattr(driver, "info") and hasattr(driver.info, "backend_pid"):  # psycopg 3
        return int(driver.info.backend_pid)
    return None


def _socket_number(raw: RawConnection) -> int | None:
    driver = driver_connection(raw)
    try:
        if hasattr(driver, "fileno"):  # both psycopgs
            return int(driver.fileno())
        return int(driver._transport.get_extra_info("socket").fileno())  # asyncpg, whose public API has none
    except Exception:
        return None
