"""Where the PostgreSQL cells run: a server of one version, its pooler, and databases with an empty journal."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from migrator import embedded
from migrator.dialects.postgresql import KEY_SPACE
from tests.faults.history import ORDINARY, POSTGRESQL
from tests.faults.wire import Address, PostgresReader
from tests.harness import query

TEMPLATE = "faults_template"
SETTINGS = {
    "max_connections": "250",
    "max_prepared_transactions": "0",
    "log_min_messages": "fatal",
}
JOURNAL = "CREATE TABLE journal (revision text, pid int, run text, at timestamptz DEFAULT clock_timestamp())"


@dataclass(frozen=True)
class PostgresDatabase:
    """A database of one trial, looked at past every relay and pooler."""

    name: str
    admin_url: str
    place: Postgres

    def query(self, statement: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement as superuser; its rows."""
        return query(self.admin_url, statement, parameters)

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
        rows = query(
            self.place.admin_url,
            "SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
            "WHERE l.locktype = 'advisory' AND l.classid = %s AND l.granted AND d.datname = %s",
            [KEY_SPACE, self.name],
        )
        return [pid for (pid,) in rows]

    @property
    def sessions(self) -> int:
        """How many clients' sessions there are in the database."""
        rows = query(
            self.place.admin_url,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'",
            [self.name],
        )
        return int(rows[0][0])

    @property
    def sleeping(self) -> bool:
        """Whether somebody runs ``pg_sleep`` in it."""
        return bool(
            query(
                self.place.admin_url,
                "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event = 'PgSleep'",
                [self.name],
            )
        )

    def terminate_sessions(self) -> int:
        """End every session in the database; how many there were."""
        rows = query(
            self.place.admin_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = %s AND backend_type = 'client backend'",
            [self.name],
        )
        return len(rows)

    def transaction(self, *statements: str) -> contextlib.AbstractContextManager[Any]:
        """A session of an application that has run the statements and keeps its transaction open."""
        from tests.harness import transaction

        return transaction(self.admin_url, *statements)


class Postgres:
    """A running server of one version with everything that a fault of PostgreSQL needs; see :func:`postgres`."""

    dialect = "postgresql"
    history = POSTGRESQL
    ordinary = ORDINARY
    reader = PostgresReader
    takes_lock = "pg_try_advisory_lock("

    def __init__(self, server: Any) -> None:
        self.server = server

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

    def prepare(self) -> None:
        """Make the template that trials' databases are copied from."""
        query(self.admin_url, f"CREATE DATABASE {TEMPLATE}")
        query(self.server.url(TEMPLATE), JOURNAL)

    def new_database(self, *, tablespace: str = "") -> PostgresDatabase:
        """A database with an empty journal."""
        name = f"fault_{secrets.token_hex(4)}"
        where = f" TABLESPACE {tablespace}" if tablespace else ""
        # Copied as files, which is the only way before version 15: quicker without fsync.
        how = " STRATEGY file_copy" if int(self.version.split(".")[0]) >= 15 else ""
        query(self.admin_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}{how}{where}")
        return self.at(name)

    def at(self, name: str) -> PostgresDatabase:
        """The database of that name on this server."""
        return PostgresDatabase(name, str(self.server.url(name)), self)

    def drop_database(self, database: PostgresDatabase) -> None:
        """Drop it with whoever is connected."""
        query(self.admin_url, f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")

    def url(self, driver: str, name: str, address: Address | None = None) -> str:
        """What a run is told: the database by that driver, at the server's or another address."""
        parts = urlsplit(self.server.url(name))
        login = parts.netloc.rpartition("@")[0]
        host, port = address or self.address
        return urlunsplit((f"postgresql+{driver}", f"{login}@{host}:{port}", parts.path, "", ""))


@contextlib.contextmanager
def started(major: int, **options: str) -> Iterator[Postgres]:
    """A server of that version, with the template in it."""
    with embedded.postgres(
        bin_directory=programs(major), options={**SETTINGS, **options}
    ) as server:
        place = Postgres(server)
        place.prepare()
        yield place


def programs(major: int) -> Path:
    """The directory with the programs of that version."""
    return embedded.bundled_bin_directories()[major]
