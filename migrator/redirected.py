"""A project's variables, led to another database: whatever names one, by whichever name the project reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from migrator import urls
from migrator.drivers import DRIVERS

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_FAMILY: Final[Mapping[str, str]] = MappingProxyType({"postgres": "postgresql", "mariadb": "mysql"})
"""Names of one kind of database."""

_PART: Final = re.compile(
    r"(?:\w*_)?(?:DB|DATABASE|POSTGRES|POSTGRESQL|PG|PGSQL|SQL|MYSQL|MARIADB|RDS)_?"
    r"(?P<part>HOST|HOSTNAME|HOST_NAME|SERVER|ADDR|ADDRESS|PORT|USER|USERNAME|USER_NAME|PASSWORD|PASSWD|PASS|PWD"
    r"|NAME|DB|DBNAME|DATABASE)",
    re.IGNORECASE,
)
_OF_ANOTHER_KIND: Final = re.compile(r"REDIS|MONGO|CACHE|ELASTIC|SMTP|MAIL", re.IGNORECASE)
_URL_FILE: Final = re.compile(r"\w*(?:DATABASE|DB)_UR[LI]_FILE", re.IGNORECASE)

ALWAYS: Final = ("DATABASE_URL", "DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME")
"""Set even where the project's environment has none of them."""

LIBPQ: Final = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE")
LIBPQ_PLACES: Final = (
    "PGHOSTADDR",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
)
"""What else leads libpq somewhere; ``PGHOSTADDR`` even where a URL names another host."""

LIBPQ_SECURITY: Final = (
    "PGSSLMODE",
    "PGREQUIRESSL",
    "PGSSLNEGOTIATION",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLMINPROTOCOLVERSION",
    "PGGSSENCMODE",
    "PGCHANNELBINDING",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
)
"""What the configured server asks for, and one of our own on this machine does not have."""


def family(scheme: str) -> str:
    """``postgresql`` of ``postgres+asyncpg``, ``mysql`` of ``mariadb``."""
    backend = scheme.partition("+")[0].lower()
    return _FAMILY.get(backend, backend)


def redirected(
    variables: Mapping[str, str], url: URL, names: Iterable[str], *, own_server: bool
) -> dict[str, str | None]:
    """What to set (None: to unset) so that a project that has ``variables`` finds the database of ``url``.

    Every variable whose value is a URL of the same kind of database, with the driver that it names; every one
    that by its name is a part of an address (``POSTGRES_HOST``, ``APP_DB_PASSWORD``, ``PGDATABASE``);
    ``DATABASE_URL``, ``DB_*``, ``PG*`` and ``names`` in any case. Variables that lead to a file with a URL are
    unset, and so is what leads libpq past the host that a URL names.

    :param own_server: it runs on this machine, for us alone: without TLS.
    """
    parts = _parts(url)
    changed: dict[str, str | None] = {}
    for name, value in variables.items():
        if _URL_FILE.fullmatch(name):
            changed[name] = None
        elif (moved := moved_url(value, url)) is not None:
            changed[name] = moved
        elif (part := _PART.fullmatch(name)) and not _OF_ANOTHER_KIND.search(name) and parts:
            changed[name] = parts[_part(part["part"])]
    changed.update(dict.fromkeys((*LIBPQ_PLACES, *(LIBPQ_SECURITY if own_server else ()))))
    if parts:
        wanted = ("host", "port", "user", "password", "name")
        changed.update({name: parts[part] for name, part in zip(ALWAYS[1:], wanted, strict=True)})
        changed.update({name: parts[part] or None for name, part in zip(LIBPQ, wanted, strict=True)})
    scheme = url.drivername
    changed.update({name: changed.get(name) or with_scheme(url, scheme) for name in (*names, "DATABASE_URL")})
    return changed


def moved_url(value: str, url: URL) -> str | None:
    """``url`` with the driver of ``value``, where that is a URL of the same kind of database; else None."""
    scheme, separator, _ = value.strip().partition("://")
    backend = scheme.partition("+")[0]
    if not separator or (backend != "postgres" and backend not in DRIVERS):
        return None
    return with_scheme(url, scheme) if family(scheme) == family(url.drivername) else None


def moved_argument(argument: str, url: URL) -> str:
    """An argument of ``-x``, a URL in it replaced: ``url=postgresql://…``."""
    key, separator, value = argument.partition("=")
    if (moved := moved_url(value, url) if separator else moved_url(argument, url)) is None:
        return argument
    return f"{key}={moved}" if separator else moved


def with_scheme(url: URL, scheme: str) -> str:
    """``url``, password included, as text with another scheme.

    SQLAlchemy's own rendering would spell the driver anew, and 2.0.0 loses a ``%`` in the password.
    """
    if family(url.drivername) == "sqlite":
        return f"{scheme}:///{url.database or ''}"
    login = quote(url.username or "", safe="")
    if url.password:
        login += f":{quote(str(url.password), safe='')}"
    host = url.host or ""
    place = f"[{host}]" if ":" in host else host
    port = f":{url.port}" if url.port else ""
    query = "&".join(
        f"{key}={quote(value, safe='')}" for key, value in url.query.items() if isinstance(value, str)
    )
    text = f"{scheme}://{f'{login}@' if login else ''}{place}{port}/{quote(url.database or '', safe='')}"
    return f"{text}?{query}" if query else text


def _part(word: str) -> str:
    word = word.upper().replace("_", "")
    if word in ("HOST", "HOSTNAME", "SERVER", "ADDR", "ADDRESS"):
        return "host"
    if word == "PORT":
        return "port"
    if word in ("USER", "USERNAME"):
        return "user"
    return "password" if word.startswith(("PASS", "PW")) else "name"


def _parts(url: URL) -> dict[str, str]:
    """Empty for a file."""
    if family(url.drivername) == "sqlite":
        return {}
    host = url.host or url.query.get("host")
    port = url.port or url.query.get("port") or urls.DEFAULT_PORTS.get(url.get_backend_name(), "")
    return {
        "host": host if isinstance(host, str) else "",
        "port": str(port),
        "user": url.username or "",
        "password": str(url.password or ""),
        "name": url.database or "",
    }
