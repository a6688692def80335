"""What libpq takes from a URL and asyncpg does not: ``?sslmode=`` and the like end in a TypeError there."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING

from migrator.errors import ConfigurationError

if TYPE_CHECKING:
    from migrator.settings import Settings

_UNEXPECTED = re.compile(r"connect\(\) got an unexpected keyword argument '(\w+)'")
_VARIABLES = {
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
}
"""What asyncpg reads where libpq does, but takes from no URL."""


def refused_parameter(error: BaseException, settings: Settings) -> ConfigurationError | None:
    """What to write instead of a parameter that asyncpg does not know; None: that is not what happened."""
    found = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
    if found is None or not _within_asyncpg(error):
        return None
    database = settings.database
    query = database.url.query if database is not None else {}
    given = {found[1]: "MODE"}
    source = "the URL that env.py uses"
    if database is not None and found[1] in query:
        source = database.source
        known = ("sslmode", *_VARIABLES)
        given |= {name: str(value) for name, value in query.items() if name in (found[1], *known)}
    instead = ". ".join(_instead(name, value) for name, value in given.items())
    return ConfigurationError(
        f"asyncpg does not take {' and '.join(given)} from a URL",
        details=(f"in {source}", f"TypeError: {found[0]}"),
        next_step=f"{instead}. Nothing was changed.",
    )


def _instead(name: str, value: str) -> str:
    if name == "sslmode":
        return f"Write ssl={value} instead of sslmode={value}, which is libpq's"
    if name in _VARIABLES:
        return f"Take {name} out and set {_VARIABLES[name]} to its value"
    return f"Take {name} out, or let env.py hand it on in connect_args"


def _within_asyncpg(error: BaseException) -> bool:
    modules = [frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return "sqlalchemy.dialects.postgresql.asyncpg" in modules
