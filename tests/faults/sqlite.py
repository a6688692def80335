"""Where the SQLite cells run: a directory of files. There is no server to stop, and no wire to listen on."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from migrator.dialects import LockKey
from migrator.dialects.sqlite_lock import holder
from tests.faults.history import ENV_THAT_KILLS_ITSELF, SQLITE
from tests.faults.wire import Address

KEY = LockKey("", "main", "alembic_version")


class SQLiteDatabase:
    """A file of one trial; see :class:`tests.faults.postgres.PostgresDatabase`."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    @property
    def versions(self) -> list[str]:
        if not self.query("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"):
            return []
        return [row[0] for row in self.query("SELECT version_num FROM alembic_version ORDER BY 1")]

    @property
    def journal(self) -> list[str]:
        return [row[0] for row in self.query("SELECT revision FROM journal ORDER BY 1")]

    @property
    def holders(self) -> list[int]:
        found = holder(self.name, KEY)
        return [found.pid] if found else []

    @property
    def sleeping(self) -> bool:
        """Nobody can see a statement of SQLite's; what the run says before it has to do."""
        return True

    @contextlib.contextmanager
    def transaction(self, *statements: str) -> Iterator[Any]:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement)
            yield connection
            connection.execute("ROLLBACK")


class SQLite:
    """A directory; see :class:`tests.faults.postgres.Postgres`."""

    history = ordinary = SQLITE
    reader = None
    env = ENV_THAT_KILLS_ITSELF
    commits = ("COMMIT",)
    watches_clients = True
    names_blockers = False
    tries_again = "^again "
    shortest_lock_timeout = "300ms"
    address: Address = ("", 0)

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def version(self) -> str:
        return sqlite3.sqlite_version

    def new_database(self) -> SQLiteDatabase:
        database = SQLiteDatabase(self._directory / f"{secrets.token_hex(4)}.db")
        database.query("CREATE TABLE journal (revision text, pid int, run text)")
        return database

    def drop_database(self, database: SQLiteDatabase) -> None:
        for file in self._directory.glob(f"{database.path.name}*"):
            file.unlink()

    def url(self, driver: str, name: str, address: Address | None = None) -> str:
        return f"sqlite+{driver}:///{name}"


@contextlib.contextmanager
def started() -> Iterator[SQLite]:
    """A directory for the files."""
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        yield SQLite(Path(directory))
