"""Credentials that live only for minutes: those that the secret file holds now, wherever a connection is made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from migrator import urls

if TYPE_CHECKING:
    from migrator.configured import ConfiguredDatabase


class Rotation:
    """The credentials of one configured database, one after the other. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: ConfiguredDatabase | None = None
        self._earlier: set[tuple[str | None, str | None]] = set()
        self._learners: list[Callable[..., object]] = []

    def __eq__(self, other: object) -> bool:
        """Settings are equal by what was given, and this was not."""
        return isinstance(other, Rotation)

    def __hash__(self) -> int:
        return hash(Rotation)

    def __deepcopy__(self, _memo: object) -> Rotation:
        """The same: whoever masks what is read for the one must learn what is read for the other."""
        return self

    def __reduce__(self) -> tuple[type[Rotation], tuple[()]]:
        """In another process it begins with what the file holds then."""
        return Rotation, ()

    def now(self, first: ConfiguredDatabase) -> ConfiguredDatabase:
        """``first``, with the credentials that its file holds by now."""
        with self._lock:
            before = self._latest or first
            latest = before.with_credentials_of_now()
            if latest is not before:
                self._earlier.add(_login(before))
                for learn in self._learners:
                    _tell(learn, latest)
            self._latest = latest
            return latest

    @contextmanager
    def told_to(self, learn: Callable[..., object]) -> Iterator[None]:
        """While this lasts, each password that takes over is told before it is used."""
        with self._lock:
            self._learners.append(learn)
        try:
            yield
        finally:
            with self._lock:
                self._learners.remove(learn)

    @contextmanager
    def followed_by_engines(self, read: Callable[[], ConfiguredDatabase | None]) -> Iterator[None]:
        """While this lasts, an engine that was made with earlier credentials connects with those of now.

        ``env.py`` makes its engine once, and the verdict is asked on a new connection when the migrations are
        done, which may be long after a token of fifteen minutes has expired. Engines with credentials that
        never came from the file are left alone, and so is another server with the same login. Another database
        of the same server is not: a login is the server's, and an ``env.py`` may go from tenant to tenant.

        :param read: the configured database as it is now.
        """
        database = read()
        if database is None or database.origin is None or database.origin.file is None:
            yield
            return
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        def on_connect(dialect: Any, _record: object, _positional: object, named: dict[str, Any]) -> None:
            now = read()
            if now is None or (named.get("user"), named.get("password")) not in self._earlier:
                return
            usual_port = urls.DEFAULT_PORTS.get(now.url.get_backend_name(), 0)
            expected = dialect.create_connect_args(now.url)[1]
            if _server(named, usual_port) == _server(expected, usual_port):
                named["user"], named["password"] = _login(now)

        event.listen(Engine, "do_connect", on_connect)
        try:
            yield
        finally:
            event.remove(Engine, "do_connect", on_connect)


def _server(arguments: Mapping[str, Any], usual_port: int) -> tuple[str, ...]:
    """Where a driver's ``connect`` leads with these arguments, whichever driver it is."""
    given = {"port": usual_port, **{name: value for name, value in arguments.items() if value}}
    return tuple(str(given.get(name, "")) for name in ("host", "port", "unix_socket", "service"))


def _login(database: ConfiguredDatabase) -> tuple[str | None, str | None]:
    password = database.url.password
    return database.url.username, None if password is None else str(password)


def _tell(learn: Callable[..., object], database: ConfiguredDatabase) -> None:
    from migrator.configured import passwords

    given = {"database_url": database.origin} if database.origin is not None else {}
    for secret, never in passwords(given, None, {}):
        learn(secret, never=never)
