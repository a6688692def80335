"""Database URLs: read strictly, and shown without their password.

SQLAlchemy takes nearly anything for a URL (``@[bad/x`` is a host named ``[bad``) and puts the URL, password
included, into its own errors. So none of those errors passes here, and hosts and ports are checked.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

from migrator.drivers import DRIVERS, Driver, require_driver, sync_url, teach_sqlalchemy_bare_scheme
from migrator.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

__all__ = [
    "DEFAULT_PORTS",
    "DRIVERS",
    "Driver",
    "address",
    "describe",
    "named_hosts",
    "parse",
    "redacted",
    "require_driver",
    "sync_url",
    "teach_sqlalchemy_bare_scheme",
]

DEFAULT_PORTS: Mapping[str, int] = MappingProxyType({"postgresql": 5432, "mysql": 3306, "mariadb": 3306})

_SCHEME = re.compile(r"\w[\w+]*", re.ASCII)
_HOST_NAME = re.compile(r"\w(?:[\w.-]*\w)?\.?")
# What precedes the hosts ends at the same @ as for SQLAlchemy.
_PARTS = re.compile(
    r"(?P<before>\w[\w+]*://(?:[^:/]*(?::[^@]*)?@)?)(?P<hosts>[^/?]*)(?P<path>[^?]*)(?P<query>.*)", re.DOTALL
)
_HOW_TO_WRITE = "Write it as postgresql://USER:PASSWORD@HOST:5432/DATABASE."
_HOW_TO_ENCODE = (
    "Percent-encode the special characters of user and password: @ as %40, / as %2F, : as %3A, # as %23, "
    "? as %3F, % as %25."
)


def parse(url: str, source: str) -> URL:
    """Read a database URL.

    ``postgres://`` becomes ``postgresql://``; libpq's ``host1:5432,host2:5433`` becomes the ``host`` and
    ``port`` queries that SQLAlchemy hands to the driver. Host and port are checked for the databases that
    are known; other schemes only have to be what SQLAlchemy can read. ``/``, ``:``, ``#`` and ``?`` in a
    password are taken as SQLAlchemy takes them: up to the first ``@``; a second ``@`` is an error.

    :param source: the setting that it comes from, for the error message.
    :raises ConfigurationError: malformed. Neither the message nor the cause holds any part of the URL
        but its scheme, for in a malformed URL any part may be the password.
    """
    text = url.strip()
    if not text:
        raise ConfigurationError(f"{source} is empty: a database URL was expected", next_step=_HOW_TO_WRITE)
    if text[0] in "\"'" or text[-1] in "\"'":
        raise ConfigurationError(
            f"the database URL from {source} stands in quotes",
            next_step="Remove the quotes: what reads this source does not.",
        )
    scheme, separator, _ = text.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        hint = "Leave out jdbc: in front. " if text.startswith("jdbc:") else ""
        raise ConfigurationError(f"{source} is not a database URL", next_step=f"{hint}{_HOW_TO_WRITE}")
    backend, plus, driver = scheme.partition("+")
    if backend == "postgres":
        backend = "postgresql"
        text = f"{backend}{plus}{driver}{text[len(scheme) :]}"
    if any(character in text for character in "\r\n\t\0"):
        raise _malformed(source, scheme, "contains a line break, a tab or a NUL", _HOW_TO_WRITE)
    if ":***@" in text:
        raise _malformed(
            source,
            scheme,
            "holds *** for a password: it was masked before it came here",
            "Where it comes from SQLAlchemy, use url.render_as_string(hide_password=False) instead of str(url).",
        )
    if backend == "sqlite":
        return _parse_sqlite(text, source, scheme)
    if backend in DEFAULT_PORTS:
        return _parse_server(text, source, scheme)
    return _read(text, source, scheme)


def _parse_sqlite(text: str, source: str, scheme: str) -> URL:
    url = _read(text, source, scheme)
    if url.host or url.username or url.password or url.port:
        raise _malformed(
            source,
            scheme,
            "names a host, and SQLite has none",
            f"A file takes three slashes, {scheme}:///relative/path.db, or four, {scheme}:////absolute/path.db.",
        )
    return url


def _parse_server(text: str, source: str, scheme: str) -> URL:
    parts = _PARTS.fullmatch(text)
    # From the second one on, part of the password would be taken for the host or the database.
    if parts is None or "@" in parts["hosts"] + parts["path"]:
        raise _malformed(source, scheme, "has an @ where none belongs", _HOW_TO_ENCODE)
    if "," in parts["hosts"] and ":" in parts["hosts"]:
        url = _read(parts["before"] + parts["path"] + parts["query"], source, scheme)
        hosts, ports = _split_hosts(parts["hosts"].split(","), DEFAULT_PORTS[url.get_backend_name()])
        url = url.update_query_dict({"host": ",".join(hosts), "port": ",".join(ports)})
    else:
        url = _read(text, source, scheme)
    hosts, ports = _hosts_and_ports(url)
    for host in hosts:
        _check_host(host, source, scheme)
    for port in ports:
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            raise _malformed(source, scheme, "has a port that is no number from 1 to 65535", _HOW_TO_WRITE)
    return url


def _read(text: str, source: str, scheme: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(text)
    except (ArgumentError, ValueError, TypeError):
        pass
    # Outside the handler: SQLAlchemy's error quotes the URL and must not even be this one's context.
    raise _malformed(
        source, scheme, "has no number where its port belongs", f"{_HOW_TO_WRITE} {_HOW_TO_ENCODE}"
    )


def _malformed(source: str, scheme: str, problem: str, next_step: str) -> ConfigurationError:
    return ConfigurationError(
        f"the database URL from {source} {problem}", details=(f"{scheme}://***",), next_step=next_step
    )


def _check_host(host: str, source: str, scheme: str) -> None:
    if host.startswith(("/", "@")):
        return  # the directory of a socket, or an abstract socket
    if host.lower().startswith("%2f"):
        raise _malformed(
            source, scheme, "names a socket where the host belongs", "Write it as ?host=/socket/directory."
        )
    if not (_is_ipv6(host) if ":" in host else _HOST_NAME.fullmatch(host)):
        raise _malformed(
            source,
            scheme,
            "names a host that cannot exist",
            f"A host is a name, an address, or an IPv6 address in brackets. {_HOW_TO_ENCODE}",
        )


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _split_hosts(tokens: Iterable[str], default_port: int) -> tuple[list[str], list[str]]:
    hosts, ports = [], []
    for token in tokens:
        if token.startswith("["):
            host, _, port = token[1:].partition("]")
            port = port.removeprefix(":")
        else:
            host, _, port = token.partition(":")
        hosts.append(host)
        ports.append(port or str(default_port))
    return hosts, ports


def _hosts_and_ports(url: URL) -> tuple[list[str], list[str]]:
    """Every host and every port that the URL names, in whichever of the ways that SQLAlchemy accepts."""
    hosts = url.host.split(",") if url.host else []
    ports = [str(url.port)] if url.port is not None else []
    for value in _several(url.query.get("host")):
        if "/" in value or value.count(":") != 1:
            hosts.append(value)
        else:
            host, _, port = value.partition(":")
            hosts.append(host)
            ports.append(port)
    ports += [port for port in _several(url.query.get("port")) if port]
    return hosts, ports


def named_hosts(url: URL) -> list[str]:
    """The hosts that the URL names, in whichever way; a directory of a socket is one of them."""
    return _hosts_and_ports(url)[0]


def _several(value: str | tuple[str, ...] | None) -> list[str]:
    values = (value,) if isinstance(value, str) else value or ()
    return [part for text in values for part in text.split(",")]


def address(url: URL) -> str:
    """``host:port`` (several with commas), a socket directory, a service, or the path of a file."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return url.database or ":memory:"
    hosts, ports = _hosts_and_ports(url)
    if not hosts and backend not in DEFAULT_PORTS:
        return url.database or backend
    if not hosts:
        service, socket = url.query.get("service"), url.query.get("unix_socket")
        return f"service {service}" if service else str(socket or "local socket")
    if hosts[0].startswith(("/", "@")):
        return hosts[0]
    if len(ports) != len(hosts):
        ports = (ports or [str(DEFAULT_PORTS.get(backend, ""))]) * len(hosts)
    shown = (f"[{host}]" if ":" in host else host for host in hosts)
    return ",".join(f"{host}:{port}" if port else host for host, port in zip(shown, ports, strict=False))


def describe(url: URL) -> str:
    """``db.internal:5432/shop as shop_owner``; never a password."""
    where = address(url)
    if url.database and url.database != where:
        where += f"/{url.database}"
    return f"{where} as {url.username}" if url.username else where


def redacted(url: URL) -> str:
    """The URL for people: without passwords, those among its query parameters included."""
    secret = [key for key in url.query if "password" in key.lower()]
    shown = url.update_query_dict(dict.fromkeys(secret, "***")) if secret else url
    return shown.render_as_string(hide_password=True).replace(quote("***"), "***")
