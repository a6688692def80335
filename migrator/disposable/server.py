"""A server of the user's, where databases are made beside those that are there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from migrator import urls
from migrator.database import connect, connection_error
from migrator.dialects import Dialect, ErrorKind, RawConnection, rows
from migrator.disposable.made import Disposable, Sleep, new_name, source_of
from migrator.errors import AccessRefused, MigratorError
from migrator.events import Notice, Reporter
from migrator.readiness import wait_until_ready
from migrator.results import PRODUCTS

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from migrator.settings import Settings


class Server:
    """One connection to the server, which lives as long as the scratch database.

    It holds a lock on the database's name: who finds such a database, and that lock free, knows that its run is
    dead. What differs between databases is in subclasses.
    """

    grant = ""
    """What lets a user create databases, ``{user}`` being the user."""

    def __init__(self, url: URL, source: str, dialect: Dialect, timeout_seconds: float) -> None:
        self.url, self._source, self.dialect = url, source, dialect
        self._timeout_seconds = timeout_seconds
        self.raw: RawConnection = self.connected()

    def connected(self) -> RawConnection:
        """A new connection on which statements commit by themselves."""
        return connect(self.url, self.dialect, self._timeout_seconds)

    def take(self, name: str) -> bool:
        """Take the lock on that name, if it is free."""
        raise NotImplementedError

    def give_back(self, name: str) -> None:
        """Give that lock back."""
        raise NotImplementedError

    def create(self, name: str, sleep: Sleep) -> None:
        """Create the database; the lock is held.

        :raises MigratorError: it cannot be made.
        """
        raise NotImplementedError

    def user(self) -> str:
        """Whom rights are to be granted to, as the server knows this connection's user."""
        return self.url.username or ""

    def drop_statement(self, name: str) -> str:
        """Drops the database if it is there, with whoever is connected to it."""
        return f"DROP DATABASE IF EXISTS {name}"

    def candidates(self) -> list[str]:
        """The scratch databases that are there, made by whomever."""
        raise NotImplementedError

    def ask(self, statement: str) -> list[Any]:
        """The rows of a statement.

        :raises MigratorError: what the server answered.
        """
        try:
            return rows(self.raw, statement)
        except Exception as error:
            raise self.refusal(error) from error

    def leftovers(self) -> list[str]:
        """Drop what runs that were killed left behind; their names."""
        dropped = []
        for name in self.candidates():
            with contextlib.suppress(Exception):  # somebody else's, or somebody else was faster
                if self.take(name):
                    try:
                        rows(self.raw, self.drop_statement(name))
                        dropped.append(name)
                    finally:
                        self.give_back(name)
        return dropped

    def close(self) -> None:
        """End the connection, and with it the lock on the name. Never raises."""
        with contextlib.suppress(Exception):
            self.raw.close()

    def drop(self, name: str, report: Reporter) -> None:
        """Drop the database. Never raises: one that could not be dropped is told."""
        statement = self.drop_statement(name)
        try:
            try:
                rows(self.raw, statement)
            except Exception:
                self.raw = self.connected()
                rows(self.raw, statement)
        except Exception as error:
            found = self.dialect.read_error(error)
            why = str(found) if found is not None else type(error).__name__
            report(Notice("scratch", f"{name} could not be dropped ({why}): DROP DATABASE {name};"))

    def refusal(self, error: Exception) -> MigratorError:
        """The error for what the server answered."""
        found = self.dialect.read_error(error)
        if found is None:
            raise error
        where = urls.describe(self.url)
        if found.kind is not ErrorKind.DENIED:
            return connection_error(found, where, self._source)
        return AccessRefused(
            "no scratch database can be made: the user may not create databases",
            details=(f"{where}: {found}", f"from {self._source}"),
            sqlstate=found.sqlstate,
            next_step=f"{self.grant.format(user=self.user())} Nothing was changed.",
        )


@contextlib.contextmanager
def made_beside(
    kind: type[Server], url: URL, settings: Settings, report: Reporter, sleep: Sleep
) -> Iterator[Disposable]:
    """A database on the server of ``url``; dropped at the end.

    :raises MigratorError: the server does not answer, or does not let us.
    """
    source = source_of(settings)
    assert settings.scratch_url is not None
    there = settings.on_disposable_database(settings.scratch_url.get_secret_value(), source, {}, ())
    ready = wait_until_ready(there, lambda _event: None, sleep)
    server = kind(url, source, ready.dialect, settings.connect_timeout)
    name = new_name()
    with contextlib.closing(server), contextlib.ExitStack() as at_end:
        for left in server.leftovers():
            report(Notice("scratch", f"dropped {left}, which a run that was killed had left there"))
        server.take(name)
        at_end.callback(server.drop, name, report)
        try:
            server.create(name, sleep)
        except AccessRefused:
            at_end.pop_all()  # nothing was made: a second refusal, of the drop, would only hide the first
            raise
        place = f"{urls.address(url)} ({PRODUCTS[server.dialect.name]} {ready.facts.version}, from {source})"
        report(Notice("scratch", f"{name} at {place}, dropped at the end"))
        yield Disposable(url.set(database=name), source, own_server=False)
