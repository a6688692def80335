"""Alembic's own configuration, read as its command line reads it, with the database that was configured put in."""

from __future__ import annotations

import configparser
import functools
import os
import re
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alembic
from alembic.config import CommandLine, Config
from alembic.util import CommandError

from migrator import urls
from migrator.configured import with_driver_of
from migrator.errors import ConfigurationError

if TYPE_CHECKING:
    from migrator.settings import Settings

_REFERENCE = re.compile(r"%%|%\(([^)]+)\)s")


class TolerantInterpolation(configparser.BasicInterpolation):
    """Replaces ``%%`` and the ``%(name)s`` that are known, and leaves every other ``%`` alone.

    ConfigParser refuses a value with a bare ``%``, and with it every project that puts a URL with a
    percent-encoded password into ``sqlalchemy.url``.
    """

    def before_get(
        self,
        parser: Any,
        section: str,
        option: str,
        value: str,
        defaults: Mapping[str, str],
    ) -> str:
        return self._replaced(parser, option, section, value, defaults, configparser.MAX_INTERPOLATION_DEPTH)

    def _replaced(
        self, parser: Any, option: str, section: str, value: str, defaults: Mapping[str, str], depth: int
    ) -> str:
        if "%" not in value:
            return value

        def replace(found: re.Match[str]) -> str:
            name = found.group(1)
            if name is None:
                return "%"
            known = defaults.get(parser.optionxform(name))
            if known is None:
                return found.group(0)
            if depth <= 1:
                raise configparser.InterpolationDepthError(option, section, value)
            return self._replaced(parser, option, section, str(known), defaults, depth - 1)

        return _REFERENCE.sub(replace, value)

    def before_set(self, parser: Any, section: str, option: str, value: str) -> str:
        return value


class LazyAttributes(dict[str, Any]):
    """``config.attributes`` for an ``env.py`` that demands ``attributes["connection"]``.

    ``.get()`` and ``in`` still find nothing, so that an ``env.py`` that can connect by itself does.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        super().__init__()
        self._connect = connect

    def __missing__(self, key: str) -> Any:
        if key != "connection":
            raise KeyError(key)
        self["connection"] = self._connect()
        return self["connection"]


def alembic_config(settings: Settings, command: Sequence[str], **streams: Any) -> Config:
    """The Config for ``alembic COMMAND…``, with everything that Alembic's command line would have set.

    :raises ConfigurationError: there is no configuration file, or it cannot be read.
    """
    options = _options(settings, command)
    toml, ini = _files(_command_line(), options)
    if toml is not None:
        streams["toml_file"] = toml
    config = Config(file_=ini, ini_section=options.name, cmd_opts=options, **streams)
    _require_a_file(settings, toml, ini)
    parser = _read(config, ini)
    parser._interpolation = TolerantInterpolation()  # type: ignore[attr-defined]
    if Path(ini).exists() and not parser.has_section(options.name) and toml is None:
        raise ConfigurationError(
            f"{ini} has no section [{options.name}]",
            details=(f"sections: {', '.join(parser.sections()) or 'none'}",),
            next_step="Name the section with -n, or as MIGRATOR_NAME. Nothing was changed.",
        )
    _find_scripts_beside(config, ini)
    _offer_connection(config, settings)
    if settings.database is not None:
        config.set_main_option("sqlalchemy.url", _url_for_project(config, settings))
    return config


@dataclass(frozen=True, slots=True)
class ScriptLocations:
    """Where the scripts are. ``chosen_by_environment``: ``env.py`` may look for revisions elsewhere."""

    environment: Path
    versions: tuple[Path, ...]
    recursive: bool
    sourceless: bool
    chosen_by_environment: bool


def script_locations(config: Config) -> ScriptLocations:
    """Where Alembic will look, without reading any revision.

    :raises ConfigurationError: ``script_location`` is missing or leads nowhere.
    """
    from alembic.script import ScriptDirectory

    where = config.config_file_name or "alembic.ini"
    try:
        script = ScriptDirectory.from_config(config)
    except (CommandError, ImportError, configparser.Error, ValueError) as error:
        raise ConfigurationError(
            f"the migration scripts cannot be found: {_plain(error)}",
            details=(f"script_location in {where}",),
            next_step="Correct script_location, or run in the folder that it is relative to. Nothing was changed.",
        ) from error
    folder = Path(script.dir)
    environment = folder / "env.py"
    if not environment.exists():
        raise ConfigurationError(
            f"there is no env.py in {_relative(folder)}",
            details=(f"script_location in {where}",),
            next_step="Correct script_location, or copy the folder into the image. Nothing was changed.",
        )
    text = environment.read_bytes()
    chooses = b"version_locations" in text or b"script_location" in text
    return ScriptLocations(
        environment,
        tuple(Path(location) for location in script._version_locations),
        bool(script.recursive_version_locations),
        bool(script.sourceless),
        chooses,
    )


def _options(settings: Settings, command: Sequence[str]) -> Namespace:
    arguments = []
    if settings.config:
        arguments += ["-c", settings.config]
    arguments += ["-n", settings.name]
    for value in settings.x:
        arguments.append(f"-x{value}")  # in one word: a value may begin with a dash
    return _command_line().parser.parse_args([*arguments, *command])


@functools.cache
def _command_line() -> CommandLine:
    """Alembic's own parser; making one takes 6 ms."""
    return CommandLine(prog="alembic")


def _files(line: CommandLine, options: Namespace) -> tuple[str | None, str]:
    if hasattr(line, "_inis_from_config"):  # Alembic 1.16 and later know pyproject.toml.
        toml: str
        ini: str
        toml, ini = line._inis_from_config(options)
        return (toml if Path(toml).exists() else None), ini
    given = options.config
    if isinstance(given, list):
        given = given[-1] if given else None
    return None, given or os.environ.get("ALEMBIC_CONFIG", "alembic.ini")


def _require_a_file(settings: Settings, toml: str | None, ini: str) -> None:
    if Path(ini).exists() or (toml is not None and _has_alembic_table(toml)):
        return
    if settings.config:
        raise ConfigurationError(
            f"there is no {ini}",
            details=(f"looked for in {Path.cwd()} (from {settings.sources['config']})",),
            next_step="Correct it; the path is relative to the folder that the command is run in. Nothing was changed.",
        )
    nor = "nor is there a [tool.alembic] in pyproject.toml"
    if not hasattr(_command_line(), "_inis_from_config"):
        nor = (
            f"[tool.alembic] in pyproject.toml needs Alembic 1.16 or newer, and this is {alembic.__version__}"
        )
    below = sorted(map(str, Path().glob("*/alembic.ini")))[:3]
    raise ConfigurationError(
        f"there is no {ini}",
        details=(f"looked for in {Path.cwd()} (the default)", nor, *(f"there is {file}" for file in below)),
        next_step="Run in the folder that holds it, or name it with "
        f"-c{f' {below[0]}' if below else ''} (MIGRATOR_CONFIG). Nothing was changed.",
    )


def _has_alembic_table(toml: str) -> bool:
    import tomllib

    try:
        table = tomllib.loads(Path(toml).read_text(encoding="utf-8")).get("tool", {})
        return "alembic" in table
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{toml} cannot be read: {error}", next_step="Correct the file. Nothing was changed."
        ) from error


def _read(config: Config, ini: str) -> configparser.ConfigParser:
    try:
        parser = config.file_config
        if not parser.has_section(config.config_ini_section) and not Path(ini).exists():
            parser.add_section(config.config_ini_section)
        return parser
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(
            f"{ini} cannot be read: {_unparsed(error)}",
            file=ini,
            line=_unparsed_line(error),
            next_step="Correct the file. Nothing was changed.",
        ) from None


def _unparsed_line(error: Exception) -> int | None:
    if isinstance(error, configparser.ParsingError) and error.errors:
        return error.errors[0][0]
    return getattr(error, "lineno", None)


def _unparsed(error: Exception) -> str:
    """Without the line itself, which may hold a password."""
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno} stands before any [section]"
    if isinstance(error, configparser.ParsingError):
        lines = ", ".join(str(number) for number, _ in error.errors)
        return f"line {lines} is neither a [section] nor NAME = VALUE"
    return _plain(error)


def _find_scripts_beside(config: Config, ini: str) -> None:
    """Flask-Migrate keeps ``alembic.ini`` beside ``env.py`` and names no ``script_location`` in it."""
    said = getattr(config, "get_alembic_option", config.get_main_option)("script_location")
    if said is None and Path(ini).exists() and Path(ini).with_name("env.py").exists():
        config.set_main_option("script_location", str(Path(ini).parent))


def _offer_connection(config: Config, settings: Settings) -> None:
    def connect() -> Any:
        import sqlalchemy
        from sqlalchemy.pool import NullPool

        text = config.get_main_option("sqlalchemy.url")
        if settings.database is not None:
            url = settings.database.url
        elif text:
            url = urls.parse(text, f"sqlalchemy.url in {config.config_file_name}")
        else:
            raise ConfigurationError(
                'env.py wants config.attributes["connection"], and no database is configured',
                next_step="Set MIGRATOR_DATABASE_URL. Nothing was changed.",
            )
        return sqlalchemy.create_engine(urls.sync_url(url), poolclass=NullPool).connect()

    config.__dict__["attributes"] = LazyAttributes(connect)


def _url_for_project(config: Config, settings: Settings) -> str:
    """The configured URL, with the driver of the project's own where ours names none.

    A project whose ini says ``postgresql+asyncpg://`` makes an asynchronous engine and needs that driver.
    """
    database = settings.database
    assert database is not None
    own = config.file_config.get(config.config_ini_section, "sqlalchemy.url", fallback="", raw=True)
    return with_driver_of(own, database.for_project)


def project_scheme(config: Config) -> str | None:
    """The beginning of the project's own URL in its configuration file, ``postgresql+asyncpg``; None: none there.

    Where a database was configured, the driver is the project's own all the same.
    """
    own = config.file_config.get(config.config_ini_section, "sqlalchemy.url", fallback="", raw=True)
    scheme, separator, _ = own.partition("://")
    return scheme if separator and scheme != "driver" else None


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _relative(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
