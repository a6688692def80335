"""The project's own files: ``.env``, and ``[tool.migrator]`` of pyproject.toml, which holds no secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from migrator.errors import ConfigurationError
from migrator.redaction import Redactor
from migrator.sources.names import Names, environment_url_name, setting_name, unknown, variable_name
from migrator.sources.secret_files import Given


def read_dotenv(directory: Path, env: str | None) -> tuple[str, dict[str, str]]:
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
        raise _unreadable(file, directory, error, "Correct or remove it.") from None
    return {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value is not None}


def from_pyproject(names: Names, directory: Path) -> dict[str, Given]:
    """What ``[tool.migrator]`` holds, by attribute name.

    :raises ConfigurationError: a file that cannot be read, an unknown key, a secret.
    """
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
        raise _unreadable(path.name, directory, error, "Correct the file.") from None
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
            raise unknown(key, keys, f"is not a setting (in {source})")
        found[attribute] = Given(value, source, 5)
    return found


def _unreadable(file: str, directory: Path, error: OSError | ValueError, then: str) -> ConfigurationError:
    problem = error.strerror if isinstance(error, OSError) else str(error)
    if isinstance(error, UnicodeDecodeError):
        problem = "it is not UTF-8 text"
    return ConfigurationError(
        f"{file} cannot be read: {problem}", details=(f"in {directory}",), next_step=then
    )


def _holds_password(text: str) -> bool:
    return Redactor().redact(text) != text


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
