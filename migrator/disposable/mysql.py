"""MySQL and MariaDB: a database on a server of the user's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from migrator.dialects import RawConnection, rows
from migrator.dialects.mysql_sql import identifier, text
from migrator.disposable.made import PREFIX, SCRATCH_SETTING, Disposable, Sleep
from migrator.disposable.server import Server, made_beside
from migrator.errors import ConfigurationError
from migrator.events import Reporter

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from migrator.settings import Settings


LOCK_WAIT_SECONDS = 10


@contextlib.contextmanager
def make(url: URL | None, settings: Settings, report: Reporter, sleep: Sleep) -> Iterator[Disposable]:
    """See :func:`migrator.disposable.disposable_database`."""
    if url is None:
        raise ConfigurationError(
            "the project is made for MySQL or MariaDB, and there is no server for a scratch database",
            details=("a server of our own can be started for PostgreSQL alone",),
            next_step=(
                f"Name a server where databases may be made in {SCRATCH_SETTING}: "
                "mysql://USER:PASSWORD@HOST:3306/. Nothing was changed."
            ),
        )
    with made_beside(MysqlServer, url, settings, report, sleep) as made:
        yield made


class MysqlServer(Server):
    """See :class:`Server`. The names' locks are user-level locks, which are the whole server's."""

    grant = f"GRANT ALL ON `{PREFIX.replace('_', chr(92) + '_')}%`.* TO {{user}};"

    def user(self) -> str:
        # The account that the server chose, which need not have the host that the client came from.
        name, _, host = text(self.ask("SELECT CURRENT_USER()")[0][0]).rpartition("@")
        return f"{identifier(name)}@{identifier(host)}"

    def connected(self) -> RawConnection:
        raw = super().connected()
        # DROP DATABASE waits for whoever is in a transaction there; the server's own limit is a day.
        rows(raw, f"SET SESSION lock_wait_timeout = {LOCK_WAIT_SECONDS}")
        return raw

    def take(self, name: str) -> bool:
        return bool(self.ask(f"SELECT GET_LOCK('{name}', 0)")[0][0])

    def give_back(self, name: str) -> None:
        self.ask(f"SELECT RELEASE_LOCK('{name}')")

    def create(self, name: str, _sleep: Sleep) -> None:
        self.ask(f"CREATE DATABASE {name}")

    def candidates(self) -> list[str]:
        found = self.ask(
            f"SELECT schema_name FROM information_schema.schemata WHERE LEFT(schema_name, {len(PREFIX)}) = '{PREFIX}'"
        )
        return [name.decode() if isinstance(name, bytes) else str(name) for (name,) in found]
