"""MySQL 8.0 and MariaDB 10.6 and later, with PyMySQL, mysqlclient or SQLAlchemy's adapters of asynchronous drivers.

Where the two differ, the server is asked what it has; nothing is concluded from a version number.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from migrator.dialects import (
    Boundary,
    LockKey,
    RawConnection,
    ServerError,
    ServerFacts,
    Session,
    SessionOptions,
    rows,
    sockets,
)
from migrator.dialects.mysql_activity import APPLICATION, activity_of, holder_of
from migrator.dialects.mysql_errors import read_error
from migrator.dialects.mysql_sql import identifier, literal, records, text, variables, version_number
from migrator.dialects.mysql_statements import commits_implicitly, has_committed
from migrator.results import Activity, InvalidIndex, LockHolder

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

NAME_LIMIT = 64
"""Longest name of a user-level lock (MySQL 8.4, 14.14 "Locking Functions"); MariaDB allows more."""

IDLE_SECONDS = 8 * 3600
"""Least ``wait_timeout`` of a run, the manual's default: a server that takes idle connections away after a
minute would take the lock with it while a revision computes. No longer: it also ends the session of a client
whose host is gone."""

NETWORK_SECONDS = 600
"""Least ``net_read_timeout`` and ``net_write_timeout`` of a run."""

_LOCK_TIMEOUTS = ("lock_wait_timeout", "innodb_lock_wait_timeout")
"""For metadata locks (of DDL) and for the row locks of InnoDB; whole seconds, at least 1."""

_AT_LEAST = {
    "wait_timeout": IDLE_SECONDS,
    "net_read_timeout": NETWORK_SECONDS,
    "net_write_timeout": NETWORK_SECONDS,
}

_OFF = ("idle_transaction_timeout", "idle_readonly_transaction_timeout", "idle_write_transaction_timeout")
"""MariaDB's: they end the connection of a transaction that is idle."""

_STATEMENT_TIMEOUTS = {"max_statement_time": 1.0, "max_execution_time": 1000.0}
"""MariaDB's, in seconds, and MySQL's, in milliseconds and for SELECT alone."""

_CHANGED = (*_LOCK_TIMEOUTS, *_AT_LEAST, *_OFF, *_STATEMENT_TIMEOUTS)

_READ_ONLY = ("read_only", "super_read_only", "innodb_read_only")

_DATABASE = "IF(@@lower_case_table_names = 0, DATABASE(), LOWER(DATABASE()))"

_UNREADABLE = re.compile(r"[^a-z0-9_.-]+")


def lock_name(key: LockKey) -> str:
    """The name of the user-level lock: the same for all runs on one version table of one server.

    What MySQL calls a schema is a database; locks are the whole server's. In small letters, because MySQL
    compares such names without regard to case and MariaDB with it (measured).
    """
    database = key.schema or key.database
    digest = hashlib.sha256("\0".join((database, key.version_table)).encode()).hexdigest()[:20]
    readable = _UNREADABLE.sub("_", f"{database}.{key.version_table}".lower())
    room = NAME_LIMIT - len(f"migrator::{digest}")
    return f"migrator:{readable[:room]}:{digest}"


def whole_seconds(seconds: float) -> int:
    """A lock timeout as the server takes it: rounded up, for 0 means "at once" there; 0 here is "no limit"."""
    return max(1, math.ceil(seconds)) if seconds > 0 else 31_536_000


class MySQL:
    """See :class:`migrator.dialects.Dialect`.

    ``name`` becomes that of the server when it has been asked: a URL may call a MariaDB ``mysql``.
    """

    name: str = "mysql"
    gives_lock_back: ClassVar[str] = "RELEASE_ALL_LOCKS(), RELEASE_LOCK(), or a proxy"
    after_a_part: ClassVar[str] = (
        "MySQL and MariaDB commit each DDL statement by itself, so what is listed as committed is in the "
        "database. Undo that by hand, or complete the revision by hand and record it with migrator stamp; "
        "then run again (docs/mysql.md#after-a-failure)."
    )

    def refuse_url(self, url: URL, source: str) -> None:
        return

    def read_error(self, error: BaseException) -> ServerError | None:
        return read_error(error)

    def facts(self, raw: RawConnection) -> ServerFacts:
        ((version, database, user, pid),) = rows(
            raw, f"SELECT VERSION(), {_DATABASE}, USER(), CONNECTION_ID()"
        )
        read_only = variables(raw, _READ_ONLY, "GLOBAL")
        return ServerFacts(
            version=self._version(version),
            database=text(database),
            user=_user(user),
            # Also for a user who may write all the same: what is changed on a replica is lost or breaks it.
            read_only=any(value not in ("OFF", "0") for value in read_only.values()),
            backend_pid=int(pid),
        )

    def connect_arguments(self, driver: str, timeout_seconds: float) -> dict[str, object]:
        seconds = max(1, round(timeout_seconds))
        if driver == "mysqlconnector":
            return {"connection_timeout": seconds}
        return {"connect_timeout": seconds, **({"program_name": "migrator"} if driver == "pymysql" else {})}

    def place(self, raw: RawConnection) -> str:
        return ""  # host names and ports prove nothing

    def keeps_snapshot(self, isolation_level: str) -> bool:
        return isolation_level in ("REPEATABLE READ", "SERIALIZABLE")

    def session(self, raw: RawConnection) -> Session:
        ((pid, database, user, version),) = rows(
            raw, f"SELECT CONNECTION_ID(), {_DATABASE}, USER(), VERSION()"
        )
        return Session(
            backend_pid=int(pid),
            protocol_pid=protocol_pid(raw, int(pid)),
            database=text(database),
            schema=text(database),
            user=_user(user),
            server_version=self._version(version),
            previous=variables(raw, _CHANGED),
        )

    def apply_settings(self, raw: RawConnection, session: Session, options: SessionOptions) -> str:
        previous = session.previous
        wanted = {name: str(whole_seconds(options.lock_timeout)) for name in _LOCK_TIMEOUTS}
        if options.keep_lock_timeout:
            default = variables(raw, _LOCK_TIMEOUTS, "GLOBAL")
            wanted |= {name: previous[name] for name in _LOCK_TIMEOUTS if previous[name] != default[name]}
        wanted |= {name: str(max(least, int(previous[name]))) for name, least in _AT_LEAST.items()}
        wanted |= {name: "0" for name in _OFF if name in previous}
        if options.statement_timeout is not None:
            for name, units in _STATEMENT_TIMEOUTS.items():
                if name in previous:
                    wanted[name] = f"{max(1, round(options.statement_timeout * 1000)) * units / 1000:.15g}"
        _set(raw, wanted | _named(options.application_name))
        return _joined(wanted)

    def restore_session(self, raw: RawConnection, session: Session) -> None:
        _set(raw, session.previous | _named(None))

    def begin_step(self, raw: RawConnection, application_name: str, lock_timeout: str | None) -> str:
        _set(raw, (_apart(lock_timeout) if lock_timeout is not None else {}) | _named(application_name))
        return lock_timeout or self.lock_timeout(raw)

    def watch_connection(self, raw: RawConnection) -> None:
        driver: Any = getattr(raw, "driver_connection", raw)
        try:
            peer = getattr(driver, "_sock", None) or driver._writer.get_extra_info("socket")
            sockets.watch(peer.fileno())
        except Exception:
            return  # A driver that hides its socket loses this precaution, nothing else.

    def try_lock(self, raw: RawConnection, key: LockKey) -> bool:
        ((taken,),) = rows(raw, f"SELECT GET_LOCK('{lock_name(key)}', 0)")
        return bool(taken == 1)

    def still_locked(self, raw: RawConnection, key: LockKey) -> bool:
        ((ours,),) = rows(raw, f"SELECT IS_USED_LOCK('{lock_name(key)}') = CONNECTION_ID()")
        return bool(ours == 1)

    def unlock(self, raw: RawConnection, key: LockKey) -> bool:
        ((released,),) = rows(raw, f"SELECT RELEASE_LOCK('{lock_name(key)}')")
        return bool(released == 1)

    def holder(self, raw: RawConnection, key: LockKey) -> LockHolder | None:
        ((pid,),) = rows(raw, f"SELECT IS_USED_LOCK('{lock_name(key)}')")
        return holder_of(raw, int(pid)) if pid is not None else None

    def ending(self, holder: LockHolder) -> str:
        return f"KILL {holder.pid}"

    def holds(self, raw: RawConnection, key: LockKey, backend_pid: int) -> bool:
        ((pid, database),) = rows(raw, f"SELECT IS_USED_LOCK('{lock_name(key)}'), {_DATABASE}")
        return pid == backend_pid and text(database) == key.database

    def interrupt(self, raw: RawConnection) -> bool:
        return False

    def cancel(self, raw: RawConnection, backend_pid: int) -> None:
        rows(raw, f"KILL QUERY {int(backend_pid)}")

    def activity(self, raw: RawConnection, backend_pid: int) -> Activity:
        return activity_of(raw, backend_pid)

    def version_table(self, raw: RawConnection, table: str, schema: str | None) -> tuple[str, str] | None:
        found = records(
            raw,
            "SELECT table_schema AS found_schema, table_name AS found_name FROM information_schema.tables "
            f"WHERE table_schema = {'DATABASE()' if schema is None else literal(schema)} "
            f"AND table_name = {literal(table)}",
        )
        return (text(found[0]["found_schema"]), text(found[0]["found_name"])) if found else None

    def version_rows(self, raw: RawConnection, schema: str, table: str) -> tuple[str, ...]:
        found = rows(raw, f"SELECT version_num FROM {identifier(schema)}.{identifier(table)}")
        return tuple(sorted(text(row[0]) for row in found))

    def count_tables(self, raw: RawConnection, schema: str) -> int:
        ((count,),) = rows(
            raw,
            "SELECT COUNT(*) FROM information_schema.tables "
            f"WHERE table_type = 'BASE TABLE' AND table_schema = {literal(schema) if schema else 'DATABASE()'}",
        )
        return int(count)

    def invalid_indexes(self, raw: RawConnection) -> tuple[InvalidIndex, ...]:
        return ()

    def is_autocommit(self, raw: RawConnection) -> bool:
        known = getattr(getattr(raw, "driver_connection", raw), "get_autocommit", None)
        return bool(known() if callable(known) else getattr(raw, "autocommit", False) is True)

    def before_statement(self, raw: RawConnection, statement: str) -> Boundary:
        if self.is_autocommit(raw):
            return Boundary.OUTSIDE
        return Boundary.COMMITS if commits_implicitly(statement) else Boundary.INSIDE

    def committed(self, raw: RawConnection, statement: str) -> bool:
        return has_committed(raw, statement)

    def waits_for_snapshots(self, statement: str) -> bool:
        return False

    def lock_timeout(self, raw: RawConnection) -> str:
        return _joined(variables(raw, _LOCK_TIMEOUTS))

    def set_lock_timeout(self, raw: RawConnection, value: str | float) -> None:
        if not isinstance(value, str):
            value = _joined(dict.fromkeys(_LOCK_TIMEOUTS, str(whole_seconds(value))))
        _set(raw, _apart(value))

    def _version(self, version: object) -> str:
        self.name = "mariadb" if "mariadb" in text(version).lower() else "mysql"
        return version_number(text(version))


def protocol_pid(raw: RawConnection, backend_pid: int) -> int | None:
    """The connection's number as the server announced it in the handshake; None if the driver hides it.

    The handshake has room for 32 bits of it, a server that has been up for long may use more.
    """
    driver: Any = getattr(raw, "driver_connection", raw)
    known = getattr(driver, "thread_id", None) or getattr(driver, "connection_id", None)
    announced = known() if callable(known) else known
    if not isinstance(announced, int):
        return None
    return backend_pid if announced == backend_pid & 0xFFFFFFFF else announced


def _user(value: object) -> str:
    """``shop_owner`` of ``shop_owner@10.0.0.7``."""
    return text(value).rpartition("@")[0]


def _named(application_name: str | None) -> dict[str, str]:
    return {f"@{APPLICATION}": literal(application_name) if application_name else "NULL"}


def _set(raw: RawConnection, settings: Mapping[str, str]) -> None:
    """Set session and user variables, all or none."""
    assignments = (
        f"{name if name.startswith('@') else f'SESSION {name}'} = {value}" for name, value in settings.items()
    )
    rows(raw, f"SET {', '.join(assignments)}")


def _joined(settings: dict[str, str]) -> str:
    """Both lock timeouts as one text, in the order of their names."""
    return " ".join(settings[name] for name in _LOCK_TIMEOUTS)


def _apart(lock_timeout: str) -> dict[str, str]:
    return dict(zip(_LOCK_TIMEOUTS, lock_timeout.split(), strict=True))
