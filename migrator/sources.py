"""Where settings come from: the five places that are looked in, each value with the place it was found in.

Nothing here knows what a setting means. Values are as they were found: text from variables and files, TOML
values from pyproject.toml, whatever was given from Python.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from migrator.errors import ConfigurationError
from migrator.redaction import Redactor

PREFIX: Final = "MIGRATOR_"
SECRETS_DIRECTORY: Final = Path("/run/secrets")
SECRETS_DIRECTORY_VARIABLE: Final = "MIGRATOR_SECRETS_DIR"
ENV_VARIABLE: Final = "MIGRATOR_ENV"
DATABASE_PARTS: Final = ("DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME")
LIBPQ_PARTS: Final = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE")

_ENV_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Given:
    """A value and where it was found.

    :ivar source: for people: ``--wait-timeout``, ``MIGRATOR_WAIT_TIMEOUT``, ``.env.test``.
    :ivar file: the secret file that holds it, absolute; None: it comes from elsewhere.
    :ivar rank: 1 was given with the command, 2 comes from the environment or a secret file, 4 from an
        ``.env`` file, 5 from pyproject.toml; the lowest wins.
    """

    value: object = field(repr=False)
    source: str
    rank: int = 1
    file: Path | None = None

    def reread(self) -> Given:
        """As its secret file holds it now; unchanged where there is none, or none that can be read at this moment."""
        if self.file is None:
            return self
        try:
            text = _secret_text(self.file)
        except (OSError, ValueError):
            return self  # It is being replaced, and the next attempt reads it again.
        return self if text == self.value else dataclasses.replace(self, value=text)


@dataclass(frozen=True, slots=True)
class Found:
    """All that was found.

    :ivar settings: by attribute name, of each the value that wins.
    :ivar variables: the other variables that can name a database, the environment before the ``.env`` file.
    :ivar set_variables: what of ``DATABASE_URL`` and ``DB_*`` the environment itself has.
    """

    settings: Mapping[str, Given]
    variables: Mapping[str, Given]
    set_variables: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Names:
    """The settings that there are, by attribute name; ``secret``: those that no command line may hold."""

    attributes: tuple[str, ...]
    secret: frozenset[str]

    @property
    def by_variable(self) -> dict[str, str]:
        """``MIGRATOR_WAIT_TIMEOUT`` → ``wait_timeout``."""
        return {variable_name(attribute): attribute for attribute in self.attributes}


def setting_name(attribute: str) -> str:
    """``wait_timeout`` → ``wait-timeout``: the name that people see, and the key in pyproject.toml."""
    return "json" if attribute == "json_output" else attribute.replace("_", "-")


def variable_name(attribute: str) -> str:
    """``wait_timeout`` → ``MIGRATOR_WAIT_TIMEOUT``."""
    return PREFIX + setting_name(attribute).replace("-", "_").upper()


def environment_url_name(env: str) -> str:
    """``test`` → ``TEST_DATABASE_URL``, ``pre-prod`` → ``PRE_PROD_DATABASE_URL``."""
    return re.sub(r"\W", "_", env).upper() + "_DATABASE_URL"


def find(
    names: Names, options: Mapping[str, object], environ: Mapping[str, str], directory: Path, *, python: bool
) -> Found:
    """Look in every place.

    Contradictory, and refused: the variable ``X`` and ``X_FILE`` in the same place, ``database_url`` and
    ``database_url_file`` given together, two secret files with different values for one setting.

    :raises ConfigurationError: unknown names, contradictions, files that cannot be read.
    """
    given = _from_options(names, options, directory, python=python)
    variables, files = _from_variables(names, environ, directory, "", 2)
    files = _from_secrets_directory(names, environ, directory, files)
    project = _from_pyproject(names, directory)
    env = next((level["env"] for level in (given, variables, files, project) if "env" in level), None)
    env_name = _env_name(env) if env is not None else None
    dotenv_file, dotenv = _read_dotenv(directory, env_name)
    for name in (ENV_VARIABLE, SECRETS_DIRECTORY_VARIABLE):
        if dotenv.get(name) == environ.get(name):  # the file was the source of the environment, too
            dotenv.pop(name, None)
    from_dotenv, files_of_dotenv = _from_variables(names, dotenv, directory, dotenv_file, 4)
    settings = project | files_of_dotenv | from_dotenv | files | variables | given
    _refuse_blank(settings, environ, env_name)
    databases = ["DATABASE_URL", *DATABASE_PARTS, *LIBPQ_PARTS]
    if env_name is not None:
        databases.append(environment_url_name(env_name))
    by_name = {
        name: Given(dotenv[name], dotenv_file, 4) for name in databases if dotenv.get(name, "").strip()
    }
    by_name |= {name: Given(environ[name], name, 2) for name in databases if environ.get(name, "").strip()}
    set_variables = {
        name: environ[name] for name in ("DATABASE_URL", *DATABASE_PARTS) if environ.get(name, "").strip()
    }
    return Found(settings, by_name, set_variables)


def _env_name(env: Given) -> str:
    name = str(env.value)
    if not _ENV_NAME.fullmatch(name):
        raise ConfigurationError(
            f"env ({env.source}): not the name of an environment",
            next_step="Give a name like dev, test or prod; the file .env.NAME and NAME_DATABASE_URL go with it.",
        )
    return name


def _from_options(
    names: Names, options: Mapping[str, object], directory: Path, *, python: bool
) -> dict[str, Given]:
    found: dict[str, Given] = {}
    file_options = {f"{attribute}_file": attribute for attribute in names.secret}
    known = [*names.attributes, *file_options]
    for option, value in options.items():
        if option not in known:
            raise _unknown(option, known, "is not a setting")
        if value is None:
            continue
        python_only = python or option in names.secret
        label = f"{option}=" if python_only else "-x" if option == "x" else f"--{setting_name(option)}"
        attribute = file_options.get(option)
        if attribute is None:
            found[option] = Given(value, label, 1)
        elif options.get(attribute) is not None:
            raise _contradiction(setting_name(attribute), f"{attribute}=", label)
        else:
            found[attribute] = _from_file(attribute, str(value), label, directory, 1)
    return found


def _from_variables(
    names: Names, mapping: Mapping[str, str], directory: Path, file: str, rank: int
) -> tuple[dict[str, Given], dict[str, Given]]:
    """(values, values of secret files) from variables: of the environment, or of the ``.env`` file ``file``.

    A variable that is empty counts as one that is not there.
    """
    attributes = names.by_variable
    values: dict[str, Given] = {}
    files: dict[str, Given] = {}
    known = [*attributes, *(f"{variable_name(attribute)}_FILE" for attribute in names.secret)]
    links = tuple(name.removesuffix("SERVICE_HOST") for name in mapping if name.endswith("_SERVICE_HOST"))
    for variable in sorted(name for name in mapping if name.upper().startswith(PREFIX)):
        value = mapping[variable].strip()
        where = f"{file} ({variable})" if file else variable
        if variable == SECRETS_DIRECTORY_VARIABLE or (file and variable == ENV_VARIABLE):
            if file and value:
                raise ConfigurationError(
                    f"{variable} cannot stand in {file}",
                    next_step="Set it as a variable of the environment: it decides which files are read.",
                )
        elif variable in attributes:
            if value:
                values[attributes[variable]] = Given(mapping[variable], file or variable, rank)
        elif attribute := attributes.get(variable.removesuffix("_FILE")):
            if value and attribute in values:
                raise _contradiction(setting_name(attribute), variable_name(attribute), where)
            if value:
                files[attribute] = _from_file(attribute, value, where, directory, rank)
        elif not _is_service_link(variable, links):
            raise _unknown(variable, known, f"is not a setting{f' (in {file})' if file else ''}")
    return values, files


def _is_service_link(variable: str, links: tuple[str, ...]) -> bool:
    """Kubernetes announces a service ``migrator-x`` to each pod as ``MIGRATOR_X_SERVICE_HOST``, ``…_PORT`` …"""
    return any(variable.startswith((f"{link}SERVICE_", f"{link}PORT")) for link in links)


def _from_secrets_directory(
    names: Names, environ: Mapping[str, str], directory: Path, files: dict[str, Given]
) -> dict[str, Given]:
    """``files`` and those of the secrets directory.

    There, ``migrator_wait_timeout`` and ``MIGRATOR_WAIT_TIMEOUT`` hold a setting; so do ``database-url`` and
    ``database_url``, last, for the application may mean something else by them.
    """
    explicit = environ.get(SECRETS_DIRECTORY_VARIABLE, "").strip()
    folder = directory / explicit if explicit else SECRETS_DIRECTORY
    try:
        present = set(os.listdir(folder))
    except OSError as error:
        if explicit:
            raise ConfigurationError(
                f"the secrets directory {folder} cannot be read: {error.strerror}",
                details=(f"from {SECRETS_DIRECTORY_VARIABLE}, as user {os.geteuid()}",),
                next_step=f"Mount it, readable for that user, or unset {SECRETS_DIRECTORY_VARIABLE}.",
            ) from error
        return files
    found = dict(files)
    for attribute in names.attributes:
        variable = variable_name(attribute)
        for name in (variable.lower(), variable):
            if name not in present or os.path.isdir(folder / name):
                continue
            path = str(folder / name)
            secret = _from_file(attribute, path, path, directory, 2)
            other = found.setdefault(attribute, secret)
            if other.value != secret.value:
                raise _contradiction(setting_name(attribute), other.source, path)
        if attribute in names.secret and attribute not in found:
            plain = next((name for name in (setting_name(attribute), attribute) if name in present), None)
            if plain is not None and not os.path.isdir(folder / plain):
                path = str(folder / plain)
                found[attribute] = _from_file(attribute, path, path, directory, 2)
    return found


def _from_file(attribute: str, path: str, source: str, directory: Path, rank: int) -> Given:
    """What a secret file holds."""
    setting = setting_name(attribute)
    if "://" in path:
        raise ConfigurationError(
            f"{setting}: {source} holds a URL, and the path of a file was expected",
            next_step=f"Give the URL itself as {variable_name(attribute)}.",
        )
    where = "" if path == source else f" ({source})"
    try:
        file = (directory / path).absolute()
        return Given(_secret_text(file), f"{path}{where}", rank, file)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        problem = "it is not UTF-8 text"
    except ValueError as error:
        problem = str(error)
    raise ConfigurationError(
        f"{setting}: the secret file {path}{where} cannot be used: {problem}",
        next_step=f"Check that the secret is mounted, and readable for the user that runs migrator ({os.geteuid()}).",
    )


def _secret_text(file: Path) -> str:
    """The one line of a secret file.

    :raises OSError: it cannot be read.
    :raises ValueError: it holds no line, or more than one; no message holds any of it.
    """
    text = file.read_bytes().decode("utf-8-sig").rstrip("\r\n")
    if not text.strip():
        raise ValueError("it is empty")
    if "\n" in text:
        raise ValueError("it holds more than one line")
    return text


def _read_dotenv(directory: Path, env: str | None) -> tuple[str, dict[str, str]]:
    """(name of the file, what it holds); of a plain ``.env``, under ``--env test``, ``TEST_DATABASE_URL`` alone."""
    file = f".env.{env}" if env else ".env"
    if found := _parse_dotenv(directory, file):
        return file, found
    if env and not (directory / file).exists():
        name = environment_url_name(env)
        plain = _parse_dotenv(directory, ".env")
        return ".env", {name: plain[name]} if name in plain else {}
    return file, {}


def _parse_dotenv(directory: Path, file: str) -> dict[str, str]:
    path = directory / file
    if not path.is_file():
        return {}
    from io import StringIO

    from dotenv import dotenv_values

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"{file} cannot be read: {problem}",
            details=(f"in {directory}",),
            next_step="Correct or remove it.",
        ) from None
    return {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value is not None}


def _from_pyproject(names: Names, directory: Path) -> dict[str, Given]:
    path = directory / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        content = path.read_bytes()
        if b"migrator" not in content:
            return {}
        import tomllib

        tools = tomllib.loads(content.decode()).get("tool")
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(
            f"pyproject.toml cannot be read: {problem}",
            details=(f"in {directory}",),
            next_step="Correct the file.",
        ) from None
    table = tools.get("migrator", {}) if isinstance(tools, dict) else {}
    source = "pyproject.toml [tool.migrator]"
    if not isinstance(table, dict):
        raise ConfigurationError(
            f"{source} is not a table", next_step="Write [tool.migrator] on a line of its own."
        )
    keys = {setting_name(attribute): attribute for attribute in names.attributes}
    found = {}
    for key, value in table.items():
        attribute = keys.get(key)
        secret = variable_name(
            attribute if attribute is not None and attribute in names.secret else "database_url"
        )
        if attribute in names.secret or any(_holds_password(text) for text in _texts(value)):
            raise ConfigurationError(
                f"{key} holds a secret and cannot stand in {source}",
                next_step="Take it out (and change the password if it was committed); "
                f"set {secret} or {secret}_FILE instead.",
            )
        if attribute is None:
            raise _unknown(key, keys, f"is not a setting (in {source})")
        found[attribute] = Given(value, source, 5)
    return found


def _holds_password(text: str) -> bool:
    return Redactor().redact(text) != text


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _refuse_blank(settings: Mapping[str, Given], environ: Mapping[str, str], env: str | None) -> None:
    """An empty URL is a secret that did not arrive; another database must not be taken in its place."""
    if "database_url" in settings:
        return
    variables = [f"{PREFIX}DATABASE_URL", f"{PREFIX}DATABASE_URL_FILE"]
    if env is not None:
        variables.append(environment_url_name(env))
    for variable in variables:
        if variable in environ and not environ[variable].strip():
            raise ConfigurationError(
                f"database-url: {variable} is set, and empty",
                next_step="Check that the secret exists where this runs, or unset the variable.",
            )


def _contradiction(setting: str, one: str, other: str) -> ConfigurationError:
    return ConfigurationError(
        f"{setting} is given twice: by {one} and by {other}", next_step="Remove one of them."
    )


def _unknown(name: str, known: Iterable[str], problem: str) -> ConfigurationError:
    # Compared without what all have in common, or everything would be near.
    candidates = {candidate.lower().removeprefix(PREFIX.lower()): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower().removeprefix(PREFIX.lower()), candidates, n=1, cutoff=0.6)
    return ConfigurationError(
        f"{name} {problem}",
        next_step=f"Did you mean {candidates[near[0]]}?"
        if near
        else f"There are: {', '.join(sorted(candidates.values()))}.",
    )
