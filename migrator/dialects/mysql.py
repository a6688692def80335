"""MySQL 8.0 and MariaDB 10.6 and later, with PyMySQL, mysqlclient or SQLAlchemy's adapters of asynchronous drivers.

Where the two differ, the server is asked what it has; nothing is concluded from a version number.
"""

from __future__ import annotations

import hashlib
import re
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
from migrator.dialects import mysql_settings as settings
from migrator.dialects.mysql_activity import activity_of, holder_of
from migrator.dialects.mysql_errors import read_error
from migrator.dialects.mysql_sql import identifier, literal, records, text, variables, version_number
from migrator.dialects.mysql_statements import (
    commits_implicitly,
    has_committed,
    outlives_rollback,
    runs_a_program,
)
from migrator.dialects.unwrapped import driver_connection
from migrator.results import Activity, InvalidIndex, LockHolder

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

NAME_LIMIT = 64
"""Longest name of a user-level lock (MySQL 8.4, 14.14 "Locking Functions"); MariaDB allows more."""

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


class MySQL:
    """See :class:`migrator.dialects.Dialect`.

    ``name`` becomes that of the server when it has been asked: a URL may call a MariaDB ``mysql``.
    """

    name: str = "mysql"
    in_a_file: ClassVar[bool] = False
    gives_lock_back: ClassVar[str] = "RELEASE_ALL_LOCKS(), RELEASE_LOCK(), or a proxy"
    after_a_part: ClassVar[str] = (
        "MySQL and MariaDB commit each DDL statement by itself, so what is listed as committed is in the "
        "database. Undo that by hand, or complete the revision by hand and record it with migrator stamp; "
        "then run again (migrator explain after-a-failure)."
    )

    def refuse_url(self, url: URL, source: str) -> None:
        return

    def read_error(self, error: BaseException) -> ServerError | None:
        return read_error(error)

    def facts(self, raw: RawConnection) -> ServerFacts:
        ((version, database, user, pid),) = rows(
            raw, f"SELECT VERSION(), {_DATABASE}, USER(), CONNECTION_ID()"
        )
        return ServerFacts(
            version=self._version(version),
            database=text(database),
            user=_user(user),
            read_only=settings.reads_only(raw),
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
            cluster=settings.cluster(raw),
            previous=variables(raw, settings.CHANGED),
        )

    def apply_settings(self, raw: RawConnection, session: Session, options: SessionOptions) -> str:
        chosen = settings.wanted(raw, session.previous, options)
        settings.assign(raw, chosen | settings.named(options.application_name))
        return settings.joined(chosen)

    def restore_session(self, raw: RawConnection, session: Session) -> None:
        settings.assign(raw, session.previous | settings.named(None))

    def begin_step(self, raw: RawConnection, application_name: str, lock_timeout: str | None) -> str:
        changed = settings.apart(lock_timeout) if lock_timeout is not None else {}
        settings.assign(raw, changed | settings.named(application_name))
        return lock_timeout or self.lock_timeout(raw)

    def watch_connection(self, raw: RawConnection) -> None:
        driver = driver_connection(raw)
        try:
            if hasattr(driver, "fileno"):  # mysqlclient
                sockets.watch(driver.fileno())
            else:
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

    def tables_elsewhere(self, raw: RawConnection, table: str, schema: str) -> tuple[Elsewhere, ...]:
        return ()  # a schema is a database here

    def grants_to_read(self, raw: RawConnection, schema: str, table: str) -> str:
        ((user,),) = rows(raw, "SELECT CURRENT_USER()")
        name, _, host = text(user).rpartition("@")
        return f"GRANT SELECT ON {identifier(schema)}.{identifier(table)} TO '{name}'@'{host}';"

    def limit_waiting(self, raw: RawConnection, seconds: float) -> None:
        self.set_lock_timeout(raw, seconds)

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
        known = getattr(driver_connection(raw), "get_autocommit", None)
        return bool(known() if callable(known) else getattr(raw, "autocommit", False) is True)

    def before_statement(self, raw: RawConnection, statement: str) -> Boundary:
        if self.is_autocommit(raw):
            return Boundary.OUTSIDE
        if runs_a_program(statement):
            return Boundary.MAY_COMMIT
        return Boundary.COMMITS if commits_implicitly(statement) else Boundary.INSIDE

    def committed(self, raw: RawConnection, statement: str) -> bool:
        return has_committed(raw, statement)

    def ended_transaction(self, raw: RawConnection) -> bool:
        return False

    def outlives_rollback(self, raw: RawConnection) -> bool:
        return outlives_rollback(raw)

    def database_in_use(self, raw: RawConnection) -> str:
        ((database,),) = rows(raw, f"SELECT {_DATABASE}")
        return text(database)

    def use_database(self, raw: RawConnection, database: str) -> None:
        rows(raw, f"USE {identifier(database)}")

    def waits_for_snapshots(self, statement: str) -> bool:
        return False

    def lock_timeout(self, raw: RawConnection) -> str:
        return settings.joined(variables(raw, settings.LOCK_TIMEOUTS))

    def set_lock_timeout(self, raw: RawConnection, value: str | float) -> None:
        if not isinstance(value, str):
            value = settings.joined(dict.fromkeys(settings.LOCK_TIMEOUTS, str(settings.whole_seconds(value))))
        settings.assign(raw, settings.apart(value))

    def _version(self, version: object) -> str:
        self.name = "mariadb" if "mariadb" in text(version).lower() else "mysql"
        return version_number(text(version))


def protocol_pid(raw: RawConnection, backend_pid: int) -> int | None:
    """The connection's number as the server announced it in the handshake; None if the driver hides it.

    The handshake has room for 32 bits of it, a server that has been up for long may use more.
    """
    driver = driver_connection(raw)
    known = getattr(driver, "thread_id", None) or getattr(driver, "connection_id", None)
    announced = known() if callable(known) else known
    if not isinstance(announced, int):
        return None
    return backend_pid if announced == backend_pid & 0xFFFFFFFF else announced


def _user(value: object) -> str:
    """``shop_owner`` of ``shop_owner@10.0.0.7``."""
    return text(value).rpartition("@")[0]
