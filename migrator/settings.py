"""Every setting, once: its name, its default, what it does."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
)

from migrator import urls
from migrator.configured import (
    SECRET_URLS,
    ConfiguredDatabase,
    configured_database,
    passwords,
    project_variables,
)
from migrator.durations import SHORTEST_SECONDS, UnacceptableValue, format_duration, parse_duration
from migrator.errors import ConfigurationError
from migrator.redaction import MASK, Redactor
from migrator.rotation import Rotation
from migrator.sources import Found, Given, setting_name, variable_name

if TYPE_CHECKING:
    pass

__all__ = [
    "ConfiguredDatabase",
    "SettingLine",
    "Settings",
    "plain",
    "setting_name",
    "variable_name",
]

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _no_zero(seconds: float) -> float:
    if seconds < SHORTEST_SECONDS:
        raise UnacceptableValue("is too short: the database takes 0 for no limit", "give at least 1ms")
    return seconds


def _one_line(text: str) -> str:
    if not text.strip() or "\n" in text:
        raise UnacceptableValue("is not a name", "give one line of text")
    return text.strip()


def _words(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(shlex.split(value))
    except ValueError:
        raise UnacceptableValue(
            "has a quote that is not closed", "separate by spaces, quote as in a shell"
        ) from None


def _variable_names(value: object) -> object:
    names = [name for name in re.split(r"[,\s]+", value) if name] if isinstance(value, str) else value
    for name in names if isinstance(names, (list, tuple)) else ():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise UnacceptableValue(
                "is not a list of variable names", "give names like DEV_DATABASE_URL, separated by commas"
            )
    return names


def _url_text(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


DurationOrZero = Annotated[float, BeforeValidator(parse_duration)]
Duration = Annotated[float, BeforeValidator(parse_duration), AfterValidator(_no_zero)]
Line = Annotated[str, AfterValidator(_one_line)]
Url = Annotated[SecretStr, BeforeValidator(_url_text)]


class SettingLine(NamedTuple):
    """One line of ``migrator config``: a setting's name, its value with secrets masked, and its source."""

    name: str
    value: str
    source: str


class Settings(BaseModel):
    """All settings, checked and frozen. Durations are seconds.

    Made by :func:`migrator.loading.load_settings`. Made directly, ``Settings(wait_timeout=5)`` has what it is
    given and the defaults: it reads no variable and no file, and a wrong value is pydantic's
    ``ValidationError``. Its ``repr`` shows no secret.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: Url | None = Field(
        default=None,
        description="URL of the database: postgresql://USER:PASSWORD@HOST:5432/DATABASE. A secret: never on the "
        "command line. Without it NAME_DATABASE_URL (with an environment name), DATABASE_URL, DB_HOST and "
        "the other DB_* parts, libpq's PG* variables; without those, whatever env.py connects to.",
    )
    direct_database_url: Url | None = Field(
        default=None,
        description="Used for migrations instead of the database URL, to go around a connection pooler.",
    )
    scratch_url: Url | None = Field(
        default=None,
        description="A server where --scratch makes its disposable databases, instead of a PostgreSQL from a wheel. "
        "The user needs the right to create databases. A secret.",
    )
    env: Line | None = Field(
        default=None,
        description="Name of the environment, such as test: reads .env.test instead of .env, and TEST_DATABASE_URL.",
    )
    config: Line | None = Field(
        default=None,
        description="Alembic's configuration file. Default: as Alembic's own command "
        "(ALEMBIC_CONFIG, alembic.ini, pyproject.toml).",
    )
    name: Line = Field(default="alembic", description="Section of Alembic's configuration file.")
    x: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        default=(), repr=False, description="Argument for env.py, as Alembic's -x; may be repeated."
    )
    connect_timeout: Duration = Field(
        default=5.0,
        description="Longest time for one attempt to connect, until the first query is answered.",
    )
    wait_timeout: DurationOrZero = Field(
        default=60.0, description="How long to wait until the database answers a query. 0: one attempt."
    )
    auth_grace: DurationOrZero = Field(
        default=0.0,
        description="How long a refused user or password is tried again, for credentials still on their way.",
    )
    run_lock_timeout: DurationOrZero = Field(
        default=600.0,
        description="How long to wait for the run lock while another run holds it. 0: one attempt.",
    )
    lock_timeout: Duration = Field(
        default=1.0,
        description="Longest wait of a statement for a lock on a table (PostgreSQL's lock_timeout, MySQL's "
        "lock_wait_timeout); then the revision is rolled back and tried again. Where it is not set, on PostgreSQL "
        "0.2 s longer than deadlock_timeout, after which the server cancels an autovacuum in the way.",
    )
    lock_retry_timeout: DurationOrZero = Field(
        default=120.0,
        description="How long a revision is tried again after lock timeouts and deadlocks. 0: never.",
    )
    index_lock_timeout: Duration = Field(
        default=600.0,
        description="The lock timeout of concurrent index builds, which wait for every older transaction.",
    )
    statement_timeout: Duration | None = Field(
        default=None, description="Longest time for one statement. Default: no limit."
    )
    deadline: Duration | None = Field(
        default=None,
        description="Longest time for the whole run; then the running statement is cancelled. Default: no limit.",
    )
    allow_ahead: bool = Field(
        default=False,
        description="Accept a database with revisions that are not here (an image that was rolled back).",
    )
    allow_empty: bool = Field(
        default=False,
        description="Accept a project without a single revision, otherwise taken for a packaging mistake.",
    )
    allow_other_targets: bool = Field(
        default=False,
        description="Accept an env.py that goes on to further databases after the configured one.",
    )
    pooler: Literal["refuse", "session"] = Field(
        default="refuse",
        description="What to do about a connection pooler: refuse it, or session: it is known to be in session mode.",
    )
    lock: Literal["auto", "node", "none"] = Field(
        default="auto",
        description="The run lock: auto, the one that is made for the database; node, where several nodes accept "
        "writes (Galera) and every run goes to the same one; or none, for databases that there is none for, where "
        "nothing then keeps two runs apart.",
    )
    export_url_as: Annotated[tuple[str, ...], BeforeValidator(_variable_names)] = Field(
        default=(),
        description="Names of variables, separated by commas, that hold the database URL while env.py runs.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="How the run is told on standard error: text for people, or a JSON object a line.",
    )
    json_output: bool = Field(
        default=False, description="Print the result as one JSON object on standard output."
    )
    verbose: bool = Field(
        default=False, description="Tell more, tracebacks and Alembic's own log lines included."
    )

    _found: Found | None = PrivateAttr(None)
    _disposable_environment: Mapping[str, str | None] | None = PrivateAttr(None)
    _rotation: Rotation = PrivateAttr(default_factory=Rotation)

    @property
    def sources(self) -> Mapping[str, str]:
        """By setting name (``wait-timeout``), where the value was found: ``MIGRATOR_WAIT_TIMEOUT``, ``default``."""
        given = self._given
        return MappingProxyType(
            {
                setting_name(field): given[field].source if field in given else "default"
                for field in type(self).model_fields
            }
        )

    @property
    def database(self) -> ConfiguredDatabase | None:
        """The database that was configured, by URL or in parts; None: it is for ``env.py`` to know.

        Which name wins, see :func:`migrator.configured.configured_database`. A secret file that holds its URL
        is read again each time, for credentials that live only for minutes; nothing else changes.

        :raises ConfigurationError: malformed; the message names the source and shows no secret.
        """
        found = self._database
        return found and self._rotation.now(found)

    @cached_property
    def _database(self) -> ConfiguredDatabase | None:
        found = configured_database(self._given, self.env, self._variables)
        if found is None or self._disposable_environment is None:
            return found
        return dataclasses.replace(found, disposable=True)

    def on_disposable_database(
        self, url: str, source: str, environment: Mapping[str, str | None], x: tuple[str, ...]
    ) -> Settings:
        """These settings for a database that was made for this command, and of no other database a word.

        :param source: how messages call where it comes from.
        :param environment: see :meth:`project_environment`, which then returns this; None: the variable is unset.
        :param x: instead of the ``x`` that was given.
        """
        other = self.model_copy(
            update={
                "database_url": SecretStr(url),
                "direct_database_url": None,
                "x": x,
                "allow_empty": True,  # the first revision of a project is generated, too
                "allow_other_targets": False,
                "lock": "auto",
            }
        )
        other.__dict__.pop("_database", None)
        other._rotation = Rotation()
        given = {name: found for name, found in self._given.items() if name not in SECRET_URLS}
        other._found = Found({**given, "database_url": Given(url, source)}, {}, {})
        other._disposable_environment = environment
        return other

    def project_environment(self) -> Mapping[str, str | None]:
        """Variables to set (None: to unset) while ``env.py`` runs, so that it finds the configured database.

        ``DATABASE_URL`` and the ``DB_*`` parts where the environment has none or a pooler's, each name of
        ``export-url-as`` always. Empty if no database is configured. Secret.
        """
        if self._disposable_environment is not None:
            return self._disposable_environment
        set_variables = self._found.set_variables if self._found else {}
        return project_variables(self.database, set_variables, self.export_url_as)

    def secrets(self) -> tuple[tuple[str, frozenset[str]], ...]:
        """Each password that was found, with the user, database and host that must not be masked with it."""
        return tuple(dict.fromkeys(passwords(self._given, self.env, self._variables)))

    @contextmanager
    def secrets_told_to(self, learn: Callable[..., object]) -> Iterator[None]:
        """``learn(secret, never=…)`` for each of :meth:`secrets`, and while this lasts for those that take over."""
        for secret, never in self.secrets():
            learn(secret, never=never)
        with self._rotation.told_to(learn):
            yield

    @property
    def rotation(self) -> Rotation:
        """What is known of the credentials that a secret file has held one after the other."""
        return self._rotation

    def describe(self) -> list[SettingLine]:
        """Every setting with its value, secrets masked, and its source; first the database that counts.

        :raises ConfigurationError: the database that counts is malformed.
        """
        database = self.database
        first = SettingLine("database", "whatever env.py connects to", "env.py")
        if database is not None:
            first = SettingLine("database", urls.redacted(database.url), database.source)
        redactor = Redactor()
        for secret, never in self.secrets():
            redactor.add(secret, never=never)
        lines = [
            SettingLine(name, redactor.redact(self._shown(field)), self.sources[name])
            for field in type(self).model_fields
            for name in (setting_name(field),)
        ]
        return [first, *lines]

    def _shown(self, field: str) -> str:
        value = getattr(self, field)
        if isinstance(value, SecretStr):
            try:
                return urls.redacted(urls.parse(value.get_secret_value(), ""))
            except ConfigurationError:
                return MASK
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return format_duration(value)
        if isinstance(value, tuple):
            return ", ".join(value) or "none"
        return str(value or {"config": "alembic.ini"}.get(field, "none"))

    @property
    def _given(self) -> Mapping[str, Given]:
        if self._found is not None:
            return self._found.settings
        values = {field: getattr(self, field) for field in self.model_fields_set}
        return {
            field: Given(plain(value), f"{field}=") for field, value in values.items() if value is not None
        }

    @property
    def _variables(self) -> Mapping[str, Given]:
        return self._found.variables if self._found is not None else {}


def plain(value: object) -> object:
    """Text, where a caller from Python gave something that holds it: a secret, a SQLAlchemy URL, a path."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    render = getattr(value, "render_as_string", None)
    return render(hide_password=False) if callable(render) else value
