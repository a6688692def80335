"""Where the MariaDB and MySQL cells run: a server, and databases with an empty journal. DDL commits by itself."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pymysql

from migrator.dialects import LockKey
from migrator.dialects.mysql import lock_name
from tests.faults.history import MARIADB
from tests.faults.wire import Address, MySQLReader
from tests.servers.mariadb import MariaDBServer, mariadb
from tests.servers.mysql import mysql

JOURNAL = "CREATE TABLE journal (revision varchar(32), pid int, run varchar(32)) ENGINE = InnoDB"


class MariaDBDatabase:
    """A database of one trial; see :class:`tests.faults.postgres.PostgresDatabase`."""

    def __init__(self, name: str, place: MariaDB) -> None:
        self.name, self._place = name, place

    def query(self, statement: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        return self._place.query(f"USE {self.name}") + self._place.query(statement, parameters)

    @property
    def versions(self) -> list[str]:
        if not self.query("SHOW TABLES LIKE 'alembic\\_version'"):
            return []
        return [row[0] for row in self.query("SELECT version_num FROM alembic_version ORDER BY 1")]

    @property
    def journal(self) -> list[str]:
        return [row[0] for row in self.query("SELECT revision FROM journal ORDER BY 1")]

    @property
    def holders(self) -> list[int]:
        name = lock_name(LockKey(self.name, self.name, "alembic_version"))
        return [pid for (pid,) in self._place.query("SELECT IS_USED_LOCK(%s)", [name]) if pid is not None]

    @property
    def sleeping(self) -> bool:
        """Whether somebody runs the statement in which revisions stay."""
        return any("BENCHMARK" in (info or "") for _, info in self._sessions())

    def terminate_sessions(self) -> int:
        sessions = self._sessions()
        for pid, _ in sessions:
            with contextlib.suppress(pymysql.Error):  # It may have ended by itself.
                self._place.query(f"KILL {int(pid)}")
        return len(sessions)

    @contextlib.contextmanager
    def transaction(self, *statements: str) -> Iterator[Any]:
        with contextlib.closing(self._place.server.connect(self.name, autocommit=False)) as connection:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
            yield connection
            connection.rollback()

    def _sessions(self) -> list[tuple[Any, ...]]:
        return self._place.query(
            "SELECT id, info FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()",
            [self.name],
        )


class MariaDB:
    """A running server; see :class:`tests.faults.postgres.Postgres`."""

    history = ordinary = MARIADB
    reader = MySQLReader
    env = ""
    takes_lock = "GET_LOCK("
    commits = ("COMMIT", "CREATE TABLE", "ALTER TABLE")
    watches_clients = False
    names_blockers = False
    tries_again = "^again "
    shortest_lock_timeout = "1s"

    def __init__(self, server: MariaDBServer) -> None:
        self.server = server
        self._connection: Any = None

    @property
    def version(self) -> str:
        return str(self.query("SELECT VERSION()")[0][0]).partition("-")[0]

    @property
    def address(self) -> Address:
        return (self.server.host, self.server.port)

    def query(self, statement: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement as root on a connection that is kept; made anew when the server was away."""
        if self._connection is not None:
            try:
                self._connection.ping(reconnect=False)
            except pymysql.Error:
                self._connection = None
        if self._connection is None:
            self._connection = self.server.connect()
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())

    def new_database(self) -> MariaDBDatabase:
        database = self.at(f"fault_{secrets.token_hex(4)}")
        self.query(f"CREATE DATABASE {database.name}")
        database.query(JOURNAL)
        return database

    def at(self, name: str) -> MariaDBDatabase:
        return MariaDBDatabase(name, self)

    def drop_database(self, database: MariaDBDatabase) -> None:
        self.server.drop_database(database.name)

    def url(self, driver: str, name: str, address: Address | None = None) -> str:
        host, port = self.address
        told, (other, another) = self.server.url(name, driver=driver), address or self.address
        return told.replace(f"@{host}:{port}/", f"@{other}:{another}/")

    def restart(self, mode: Literal["fast", "immediate"]) -> None:
        """``immediate`` is SIGKILL."""
        (self.server.stop if mode == "fast" else self.server.kill)()
        self.server.start()


@contextlib.contextmanager
def started(kind: str) -> Iterator[MariaDB]:
    """A server: ``mariadb`` of the version that the machine has, or ``mysql``."""
    # The relay reads what clients send.
    with mysql({"tls_version": ""}) if kind == "mysql" else mariadb() as server:
        yield MariaDB(server)
