"""Databases that are made for one command and gone after it: on a server of our own, or on one of the user's.

Each kind of database has one module here that makes one; nothing else knows how.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING

from migrator import redirected, urls
from migrator.disposable.made import SCRATCH_SETTING, Disposable, Sleep, source_of
from migrator.errors import ConfigurationError
from migrator.events import Reporter

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from migrator.settings import Settings

__all__ = ["Disposable", "disposable_database"]

_MAKERS: Mapping[str, str] = MappingProxyType(
    {"postgresql": "postgresql", "mysql": "mysql", "sqlite": "sqlite"}
)
"""Kind of database, as :func:`migrator.redirected.family` names it → module here."""


def disposable_database(
    backend: str, settings: Settings, report: Reporter, sleep: Sleep
) -> AbstractContextManager[Disposable]:
    """Make a database of that kind; it is dropped at the end, whatever happened.

    Do not interrupt what it does before its block begins and after it has ended: :class:`Stopping.disarm`.

    :param backend: a kind of database, as :func:`migrator.redirected.family` names it.
    :raises ConfigurationError: there is no way to make one, and which there would be.
    :raises DatabaseUnreachable: the server that ``scratch-url`` names does not answer.
    :raises AccessRefused: it refuses us, or the right to create databases.
    """
    url = _scratch_url(settings)
    if backend not in _MAKERS:
        raise ConfigurationError(
            f"the project is made for {backend}: no scratch database can be made for it",
            details=(f"they are made for: {', '.join(_MAKERS)}",),
            next_step=(
                "Use migrator revision --autogenerate without --scratch: it compares with the configured database, "
                "which has to be at head. Nothing was changed."
            ),
        )
    if url is not None and redirected.family(url.drivername) != backend:
        raise ConfigurationError(
            f"the project is made for {backend}, and scratch-url names a {url.get_backend_name()} server",
            details=(f"{urls.describe(url)}, from {source_of(settings)}",),
            next_step=f"Name a {backend} server in {SCRATCH_SETTING}. Nothing was changed.",
        )
    maker = importlib.import_module(f"migrator.disposable.{_MAKERS[backend]}")
    made: AbstractContextManager[Disposable] = maker.make(url, settings, report, sleep)
    return made


def _scratch_url(settings: Settings) -> URL | None:
    if settings.scratch_url is None:
        return None
    source = source_of(settings)
    url = urls.parse(settings.scratch_url.get_secret_value(), source)
    configured = settings.database
    if configured is not None and _place(url) == _place(configured.url):
        raise ConfigurationError(
            "scratch-url names the configured database itself",
            details=(f"{urls.describe(url)}: both {source} and {configured.source}",),
            next_step=(
                f"Name another database of a server for tests in {SCRATCH_SETTING} (its database postgres, "
                "for example): the scratch database is made beside it. Nothing was changed."
            ),
        )
    return url


def _place(url: URL) -> tuple[str, str | None]:
    return urls.address(url), url.database
