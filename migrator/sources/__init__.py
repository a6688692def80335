"""Where settings come from: the five places that are looked in, each value with the place it was found in.

Nothing here knows what a setting means. Values are as they were found: text from variables and files, TOML
values from pyproject.toml, whatever was given from Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from migrator.errors import ConfigurationError
from migrator.sources.names import (
    DATABASE_PARTS,
    ENV_VARIABLE,
    LIBPQ_PARTS,
    PREFIX,
    Names,
    contradiction,
    environment_url_name,
    setting_name,
    unknown,
    variable_name,
)
from migrator.sources.project_files import from_pyproject, read_dotenv
from migrator.sources.secret_files import (
    SECRETS_DIRECTORY,
    SECRETS_DIRECTORY_VARIABLE,
    Given,
    from_file,
    from_secrets_directory,
)

__all__ = [
    "DATABASE_PARTS",
    "LIBPQ_PARTS",
    "SECRETS_DIRECTORY",
    "Found",
    "Given",
    "Names",
    "environment_url_name",
    "find",
    "setting_name",
    "variable_name",
]

_ENV_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


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
    files = from_secrets_directory(names, environ, directory, files)
    project = from_pyproject(names, directory)
    env = next((level["env"] for level in (given, variables, files, project) if "env" in level), None)
    env_name = _env_name(env) if env is not None else None
    dotenv_file, dotenv = read_dotenv(directory, env_name)
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
            raise unknown(option, known, "is not a setting")
        if value is None:
            continue
        python_only = python or option in names.secret
        label = f"{option}=" if python_only else "-x" if option == "x" else f"--{setting_name(option)}"
        attribute = file_options.get(option)
        if attribute is None:
            found[option] = Given(value, label, 1)
        elif options.get(attribute) is not None:
            raise contradiction(setting_name(attribute), f"{attribute}=", label)
        else:
            found[attribute] = from_file(attribute, str(value), label, directory, 1)
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
                raise contradiction(setting_name(attribute), variable_name(attribute), where)
            if value:
                files[attribute] = from_file(attribute, value, where, directory, rank)
        elif not _is_service_link(variable, links):
            raise unknown(variable, known, f"is not a setting{f' (in {file})' if file else ''}")
    return values, files


def _is_service_link(variable: str, links: tuple[str, ...]) -> bool:
    """Kubernetes announces a service ``migrator-x`` to each pod as ``MIGRATOR_X_SERVICE_HOST``, ``…_PORT`` …"""
    return any(variable.startswith((f"{link}SERVICE_", f"{link}PORT")) for link in links)


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
