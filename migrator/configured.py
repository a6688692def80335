"""Which database was configured, under which name, and what ``env.py`` hears of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from pydantic import SecretStr

from migrator import urls
from migrator.errors import ConfigurationError
from migrator.sources import DATABASE_PARTS, LIBPQ_PARTS, Given, environment_url_name

if TYPE_CHECKING:
    from sqlalchemy.engine import URL


SECRET_URLS: Final = ("database_url", "direct_database_url", "scratch_url")
"""The settings that are URLs with a password in them, by attribute name."""


@dataclass(frozen=True, slots=True)
class ConfiguredDatabase:
    """The database that migrations are for.

    :ivar url: the same for SQLAlchemy; its ``repr`` hides the password.
    :ivar source: the setting or the variables that named it: ``MIGRATOR_DATABASE_URL``.
    :ivar given: the text as it was given, or was put together from parts. Unlike what SQLAlchemy 2.0.0
        renders from ``url``, it survives a ``%`` in the password.
    :ivar direct: it is ``direct-database-url``, and stands in for what the environment says.
    :ivar origin: what was found, where a URL was; its secret file may hold other credentials later.
    :ivar disposable: it was made for this command alone, and nothing else may be reached.
    """

    url: URL
    source: str
    given: SecretStr
    direct: bool = False
    disposable: bool = False
    origin: Given | None = field(default=None, repr=False, compare=False)

    def with_credentials_of_now(self) -> ConfiguredDatabase:
        """The same with user and password as its secret file holds them now; itself, where nothing is new.

        Only these may change while a command runs: a file that names another host or database by now is not
        followed, for the run has said, and perhaps changed, which one it is about. The driver stays, too.
        """
        origin = self.origin.reread() if self.origin is not None else None
        if origin is None or origin is self.origin:
            return self
        text = str(origin.value).strip()
        try:
            url = urls.parse(text, origin.source)
        except ConfigurationError:
            return self
        if _place(url) != _place(self.url):
            return self
        scheme = self.given.get_secret_value().partition("://")[0]
        return dataclasses.replace(
            self,
            url=url.set(drivername=self.url.drivername),
            given=SecretStr(f"{scheme}://{text.partition('://')[2]}"),
            origin=origin,
        )

    @property
    def for_project(self) -> str:
        """The URL, password included, as ``env.py`` gets it: ``given``, but never ``postgres://``."""
        text = self.given.get_secret_value()
        return re.sub(r"\Apostgres(?=\+|://)", "postgresql", text)


def configured_database(
    settings: Mapping[str, Given], env: str | None, variables: Mapping[str, Given]
) -> ConfiguredDatabase | None:
    """The first of these that names a database; None if none does.

    1. ``database-url``; instead of it ``direct-database-url``, which replaces 2 to 5 as well. Only where
       ``database-url`` was given from nearer by (with the command, while the direct one comes from a
       variable), the direct one belongs to another database and does not count.
    2. with an environment name, ``TEST_DATABASE_URL``
    3. ``DATABASE_URL``
    4. ``DB_HOST``, ``DB_PORT``, ``DB_USER``, ``DB_PASSWORD``, ``DB_NAME``: PostgreSQL, if at least host and
       name are there
    5. libpq's ``PGHOST``, ``PGPORT``, ``PGUSER``, ``PGPASSWORD``, ``PGDATABASE``, if at least the last is
       there (a host alone is often set for the convenience of psql); ``PGSERVICE`` alone, before them, as
       libpq has it. What is not in the URL, libpq adds: its other variables, ``~/.pgpass``.

    :raises ConfigurationError: the one that counts is malformed.
    """
    chosen, direct = settings.get("database_url"), settings.get("direct_database_url")
    around_a_pooler = direct is not None and (chosen is None or direct.rank <= chosen.rank)
    if around_a_pooler:
        chosen = direct
    if chosen is None and env is not None:
        chosen = variables.get(environment_url_name(env))
        if chosen is not None:
            chosen = _with_variable(chosen, environment_url_name(env))
    if chosen is None and "DATABASE_URL" in variables:
        chosen = _with_variable(variables["DATABASE_URL"], "DATABASE_URL")
    if chosen is not None:
        text = str(chosen.value).strip()
        url = urls.parse(text, chosen.source)
        return ConfiguredDatabase(url, chosen.source, SecretStr(text), around_a_pooler, origin=chosen)
    return _from_parts(variables, DATABASE_PARTS, {"DB_HOST", "DB_NAME"}) or _from_libpq(variables)


def _place(url: URL) -> URL:
    """``url`` without who connects to it, and by which driver."""
    backend = url.get_backend_name()
    port = url.port or (urls.DEFAULT_PORTS.get(backend) if url.host else None)
    return url._replace(drivername=backend, username=None, password=None, port=port)


def _with_variable(given: Given, variable: str) -> Given:
    source = variable if given.source == variable else f"{given.source} ({variable})"
    return dataclasses.replace(given, source=source)


def _from_libpq(variables: Mapping[str, Given]) -> ConfiguredDatabase | None:
    if service := variables.get("PGSERVICE"):
        text = f"postgresql://?service={quote(str(service.value), safe='')}"
        source = _with_variable(service, "PGSERVICE").source
        return ConfiguredDatabase(urls.parse(text, source), source, SecretStr(text))
    return _from_parts(variables, LIBPQ_PARTS[:5], {"PGDATABASE"})


def _from_parts(
    variables: Mapping[str, Given], names: Sequence[str], needed: set[str]
) -> ConfiguredDatabase | None:
    if not needed <= variables.keys():
        return None
    used = {name: variables[name] for name in names if name in variables}
    places = {given.source for name, given in used.items() if given.source != name}
    source = ", ".join(used) + (f" (partly from {', '.join(places)})" if places else "")
    if len(places) == 1 and all(given.source in places for given in used.values()):
        source = f"{places.pop()} ({', '.join(used)})"
    host, port, user, password, name = (str(used[part].value) if part in used else "" for part in names)
    if name.startswith("/") or "://" in host:
        raise ConfigurationError(
            f"{source}: {'a URL' if '://' in host else 'a path'} stands where a {'host' if '://' in host else 'name'} "
            "belongs",
            next_step="Give a whole URL as MIGRATOR_DATABASE_URL instead.",
        )
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    # Several hosts and the directory of a socket only fit into the query.
    apart = host.startswith("/") or "," in host
    place = "" if apart else (f"[{host}]" if host.count(":") > 1 else host) + (f":{port}" if port else "")
    query = {"host": host, "port": port} if apart else {}
    text = f"postgresql://{f'{login}@' if login else ''}{place}/{quote(name, safe=' +')}"
    if pairs := [f"{key}={quote(value, safe='')}" for key, value in query.items() if value]:
        text += f"?{'&'.join(pairs)}"
    # SQLAlchemy 2.0 does not decode the name of the database, 2.1 does.
    return ConfiguredDatabase(urls.parse(text, source).set(database=name), source, SecretStr(text))


def project_variables(
    database: ConfiguredDatabase | None, set_variables: Mapping[str, str], export_url_as: Sequence[str]
) -> dict[str, str]:
    """The variables to set while ``env.py`` runs, so that it finds the configured database.

    ``DATABASE_URL`` if that is not set; the missing ones of ``DB_*``, unless one that is set says otherwise
    (half of one database and half of another would be a third that nobody named); each name of
    ``export_url_as``, always. A direct URL around a pooler is there in the place of those that lead to the
    pooler, so it replaces all of them.

    :param set_variables: what of ``DATABASE_URL`` and ``DB_*`` is set.
    """
    if database is None:
        return {}
    text = database.for_project
    if database.direct:
        pooled = set_variables.get("DATABASE_URL", "")
        return {
            "DATABASE_URL": with_driver_of(pooled, text),
            **_parts(database.url),
            **dict.fromkeys(export_url_as, text),
        }
    variables = {} if "DATABASE_URL" in set_variables else {"DATABASE_URL": text}
    parts = _parts(database.url)
    if all(set_variables.get(name, value) == value for name, value in parts.items()):
        variables |= {name: value for name, value in parts.items() if name not in set_variables}
    return variables | dict.fromkeys(export_url_as, text)


def with_driver_of(theirs: str, url: str) -> str:
    """``url`` with the driver of ``theirs`` where it names none: a project's engine may be an asynchronous one."""
    scheme, separator, rest = url.partition("://")
    own_scheme = theirs.split("://", 1)[0]
    return f"{own_scheme if own_scheme.startswith(f'{scheme}+') else scheme}{separator}{rest}"


def _parts(url: URL) -> dict[str, str]:
    host = url.host or url.query.get("host")
    port = url.port or url.query.get("port") or urls.DEFAULT_PORTS.get(url.get_backend_name())
    if not isinstance(host, str) or port is None or url.database is None:
        return {}
    user = {} if url.username is None else {"DB_USER": url.username, "DB_PASSWORD": url.password or ""}
    return {"DB_HOST": host, "DB_PORT": str(port), "DB_NAME": url.database, **user}


def passwords(
    settings: Mapping[str, Given], env: str | None, variables: Mapping[str, Given]
) -> Iterator[tuple[str, frozenset[str]]]:
    """Every password that was found, also of databases that do not count, with what it must not equal.

    Malformed URLs raise nothing here: whatever may be their password is taken for it.
    """
    given = [settings[name] for name in SECRET_URLS if name in settings]
    given += [found for name, found in variables.items() if name.endswith("DATABASE_URL")]
    for found in given:
        yield from _passwords_in(str(found.value).strip())
    for names in (DATABASE_PARTS, LIBPQ_PARTS[:5]):
        host, _, user, password, name = (
            str(variables[part].value) if part in variables else "" for part in names
        )
        if password:
            yield password, frozenset({host, user, name} - {""})


def _passwords_in(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    try:
        url = urls.parse(text, "")
    except ConfigurationError:
        if userinfo := re.search(r"://[^:/]*:(.*)@", text, re.DOTALL):
            yield userinfo[1], frozenset()
            yield unquote(userinfo[1]), frozenset()
        return
    never = frozenset(filter(None, (url.username, url.database, url.host)))
    if url.password:
        yield url.password, never
        raw = text.partition("://")[2].partition("@")[0].rpartition(":")[2]
        if raw != url.password and unquote(raw) == url.password:
            yield raw, never
    for key, value in url.query.items():
        if "password" in key.lower() and isinstance(value, str):
            yield value, never
