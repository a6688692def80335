"""Secret files: those that variables name, and those of a secrets directory, as Kubernetes and Docker mount them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from migrator.errors import ConfigurationError
from migrator.sources.names import (
    Names,
    contradiction,
    setting_name,
    variable_name,
)

SECRETS_DIRECTORY: Final = Path("/run/secrets")
SECRETS_DIRECTORY_VARIABLE: Final = "MIGRATOR_SECRETS_DIR"


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


def from_secrets_directory(
    names: Names, environ: Mapping[str, str], directory: Path, files: dict[str, Given]
) -> dict[str, Given]:
    """``files`` and those of the secrets directory.

    There, ``migrator_wait_timeout`` and ``MIGRATOR_WAIT_TIMEOUT`` hold a setting; so do ``database-url`` and
    ``database_url``, last, for the application may mean something else by them.

    :raises ConfigurationError: the directory that was named, or a file in it, cannot be read; two values for one
        setting.
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
            secret = from_file(attribute, path, path, directory, 2)
            other = found.setdefault(attribute, secret)
            if other.value != secret.value:
                raise contradiction(setting_name(attribute), other.source, path)
        if attribute in names.secret and attribute not in found:
            plain = next((name for name in (setting_name(attribute), attribute) if name in present), None)
            if plain is not None and not os.path.isdir(folder / plain):
                path = str(folder / plain)
                found[attribute] = from_file(attribute, path, path, directory, 2)
    return found


def from_file(attribute: str, path: str, source: str, directory: Path, rank: int) -> Given:
    """What a secret file holds.

    :raises ConfigurationError: it cannot be read, or holds no line or several; no message holds any of it.
    """
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
