"""Where the PostgreSQL cells run: servers of one version, poolers, and databases with an empty journal."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from migrator.dialects.postgresql import KEY_SPACE
from migrator.embedded import StopMode
from tests import harness
from tests.faults.history import FILLING, ORDINARY, POSTGRESQL
from tests.faults.wire import Address, PostgresReader
from tests.harness import query, transaction
from tests.servers import postgres as servers
from tests.servers.pgbouncer import pgbouncer

TEMPLATE = "faults_template"
SETTINGS = {"max_connections": "250", "log_min_messages": "fatal"}
POOLER_SETTINGS = {
    # Fifty contenders at once, each with up to three connections.
    "default_pool_size": "200",
    "max_client_conn": "1000",
    # Otherwise nobody gets in for 15 s after the server was away.
    "server_login_retry": "1",
}
JOURNAL = "CREATE TABLE journal (revision text, pid int, run text, at timestamptz DEFAULT clock_timestamp())"


class Session:
    """A superuser's connection in autocommit that is kept: a new one for each look would take most of the time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None

    def query(self, statement: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement; its rows, if it returns any. A connection that was lost meanwhile is made anew."""
        if self._connection is not None:
            try:
                return self._run(statement, parameters)
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                if not self._connection.closed:
                    raise
        self._connection = psycopg2.connect(self._url)
        self._connection.autocommit = True
        return self._run(statement, parameters)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()

    def _run(self, statement: str, parameters: Sequence[object] | None) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []


class PostgresDatabase:
    """A database of one trial, looked at past every relay and pooler."""

    def __init__(self, name: str, url: str, place: Postgres) -> None:
        self.name, self._url, self._place = name, url, place
        self._session = Session(url)

    def query(self, statement: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement as superuser; its rows."""
        return self._session.query(statement, parameters)

    def close(self) -> None:
        """No more looking."""
        self._session.close()

    @property
    def versions(self) -> list[str]:
        """The rows of the version table; empty where there is none."""
        if self.query("SELECT to_regclass('alembic_version')") == [(None,)]:
            return []
        return [row[0] for row in self.query("SELECT version_num FROM alembic_version ORDER BY 1")]

    @property
    def journal(self) -> list[str]:
        """The revisions that were applied, as often as they were, sorted."""
        return [row[0] for row in self.query("SELECT revision FROM journal ORDER BY 1")]

    @property
    def holders(self) -> list[int]:
        """The process ids of those who hold a run lock in this database."""
        rows = self._place.query(
            "SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
            "WHERE l.locktype = 'advisory' AND l.classid = %s AND l.granted AND d.datname = %s",
            [KEY_SPACE, self.name],
        )
        return [pid for (pid,) in rows]

    @property
    def sessions(self) -> int:
        """How many clients' sessions there are in the database."""
        rows = self._place.query(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'",
            [self.name],
        )
        return int(rows[0][0])

    @property
    def sleeping(self) -> bool:
        """Whether somebody runs ``pg_sleep`` in it."""
        return bool(
            self._place.query(
                "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event = 'PgSleep'",
                [self.name],
            )
        )

    @property
    def building_index(self) -> bool:
        """Whether an index is being built in it."""
        return bool(
            self.query("SELECT 1 FROM pg_stat_progress_create_index WHERE datname = current_database()")
        )

    def terminate_sessions(self) -> int:
        """End every session in the database; how many there were."""
        rows = self._place.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = %s AND backend_type = 'client backend'",
            [self.name],
        )
        return len(rows)

    def transaction(self, *statements: str) -> contextlib.AbstractContextManager[Any]:
        """A session of an application that has run the statements and keeps its transaction open."""
        return transaction(self._url, *statements)


class Postgres:
    """A running server with everything that a fault needs; see :func:`started`.

    :cvar history, ordinary, filling: what runs apply: usually, for faults about a transaction, and to fill a disk.
    :cvar reader: reads what clients send.
    :cvar env: the text of ``env.py``; empty: the usual one.
    :cvar takes_lock: in the statement that asks for the run lock.
    :cvar commits: in statements after which something stays.
    :cvar watches_clients: the server ends the statement of a client that is gone.
    :cvar names_blockers: who is in the way is named without further privileges and instruments.
    :cvar tries_again: what a run says when it gave up a statement that waited for a lock, and will come back.
    """

    dialect = "postgresql"
    history = POSTGRESQL
    ordinary = ORDINARY
    reader = PostgresReader
    filling = FILLING
    takes_lock = "pg_try_advisory_lock("
    env = ""
    commits = ("COMMIT", "CONCURRENTLY")
    watches_clients = True
    names_blockers = True
    tries_again = r"\btry \d+, next in"
    shortest_lock_timeout = "1s"

    def __init__(self, server: Any) -> None:
        self.server = server
        self._session = Session(self.admin_url)

    def query(self, statement: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement as superuser in the database ``postgres``; its rows."""
        return self._session.query(statement, parameters)

    @property
    def version(self) -> str:
        """``18.4``."""
        return str(self.server.version)

    @property
    def admin_url(self) -> str:
        """Of the superuser, in the database ``postgres``."""
        return str(self.server.url())

    @property
    def address(self) -> Address:
        """Where the server listens."""
        return (self.server.host, self.server.port)

    @property
    def major(self) -> int:
        """18."""
        return int(self.version.split(".")[0])

    def prepare(self) -> None:
        """Make the template that trials' databases are copied from."""
        self.query(f"CREATE DATABASE {TEMPLATE}")
        query(self.server.url(TEMPLATE), JOURNAL)

    def new_database(self, *, tablespace: str = "") -> PostgresDatabase:
        """A database with an empty journal."""
        name = f"fault_{secrets.token_hex(4)}"
        where = f" TABLESPACE {tablespace}" if tablespace else ""
        # Copied as files, which is the only way before version 15: quicker without fsync.
        how = " STRATEGY file_copy" if self.major >= 15 else ""
        self.query(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}{how}{where}")
        return self.at(name)

    def at(self, name: str) -> PostgresDatabase:
        """The database of that name on this server."""
        return PostgresDatabase(name, str(self.server.url(name)), self)

    def drop_database(self, database: PostgresDatabase) -> None:
        """Drop it with whoever is connected."""
        database.close()
        self.query(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")

    def url(self, driver: str, name: str, address: Address | None = None) -> str:
        """What a run is told: the database by that driver, at the server's or another address."""
        parts = urlsplit(self.server.url(name))
        login = parts.netloc.rpartition("@")[0]
        host, port = address or self.address
        return urlunsplit((f"postgresql+{driver}", f"{login}@{host}:{port}", parts.path, "", ""))

    def make_tablespace(self, name: str, directory: Path) -> None:
        """A tablespace in an existing directory."""
        self.query(f"CREATE TABLESPACE {name} LOCATION '{directory}'")

    def drop_tablespace(self, name: str) -> None:
        """Drop an empty one."""
        self.query(f"DROP TABLESPACE {name}")

    def restart(self, mode: StopMode) -> None:
        """``immediate`` is a crash."""
        self.server.restart(mode)

    # Servers beside the cell's own, for faults that end with a server or need a special one

    def another(self, **options: str) -> contextlib.AbstractContextManager[Postgres]:
        """One more server of the same version."""
        return started(self.major, **options)

    @contextlib.contextmanager
    def standby(self) -> Iterator[Postgres]:
        """A read-only standby that streams from this server."""
        with servers.standby(self.server, SETTINGS) as server:
            harness.wait_until(lambda: server.caught_up_with(self.server), "the standby has caught up")
            yield Postgres(server)

    @contextlib.contextmanager
    def pooler(self, address: Address | None = None, **settings: str) -> Iterator[Address]:
        """A PgBouncer in session mode before this server, or before another address of it."""
        parts = urlsplit(self.admin_url)
        host, port = address or self.address
        login = parts.netloc.rpartition("@")[0]
        origin = urlunsplit(parts._replace(netloc=f"{login}@{host}:{port}"))
        with pgbouncer(origin, "session", {**POOLER_SETTINGS, **settings}) as pooler:
            yield ("127.0.0.1", pooler.port)


@contextlib.contextmanager
def started(major: int, **options: str) -> Iterator[Postgres]:
    """A server of that version, with the template in it."""
    with servers.postgres(major, {**SETTINGS, **options}) as server:
        place = Postgres(server)
        place.prepare()
        yield place


def pooler_version() -> str:
    """``1.18.0``."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    written = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    return written.split()[1]
