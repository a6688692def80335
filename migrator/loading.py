"""How the settings are read.

The first of these that has a setting wins: what was given with the command · ``MIGRATOR_*`` variables · secret
files (``MIGRATOR_*_FILE``, then the secrets directory) · ``.env.NAME`` with an environment name, else ``.env`` ·
``[tool.migrator]`` in pyproject.toml · the defaults of :class:`migrator.settings.Settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ValidationError

from migrator.configured import SECRET_URLS
from migrator.durations import UnacceptableValue
from migrator.errors import ConfigurationError
from migrator.exported import variables
from migrator.redaction import Redactor
from migrator.settings import Settings, plain
from migrator.sources import Given, Names, find, setting_name

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_SECRET: Final = frozenset(SECRET_URLS)


def load_settings(
    options: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    caller: Literal["command line", "python"] = "command line",
) -> Settings:
    """Read the settings from everywhere.

    :param options: by attribute name, what was given with the command; None counts as not given. URLs may
        be text, ``SecretStr`` or SQLAlchemy's ``URL``. Further names: ``database_url_file`` and
        ``direct_database_url_file``, paths of files that hold the URL.
    :param environ: default: ``os.environ``, without what a run in another thread has set for its ``env.py``.
        ``${NAME}`` inside an ``.env`` file always means ``os.environ``.
    :param directory: where ``.env`` files and pyproject.toml are, and what paths of secret files are relative
        to; default: the working directory.
    :param caller: how options are called in messages: ``--wait-timeout`` or ``wait_timeout=``.
    :raises ConfigurationError: an unknown name, with the nearest one; a wrong value, with what is allowed; a
        secret file that cannot be read; a secret in pyproject.toml; a contradiction: the variable ``X`` and
        ``X_FILE`` in the same place, ``database_url`` and ``database_url_file`` together, two secret files
        that differ. No message holds a secret. Whether the URL is well-formed is told by
        :attr:`Settings.database`.
    """
    names = Names(tuple(Settings.model_fields), _SECRET)
    found = find(
        names,
        {name: plain(value) for name, value in (options or {}).items()},
        variables() if environ is None else environ,
        directory or Path(),
        python=caller == "python",
    )
    wrong: list[ConfigurationError] = []
    try:
        values: dict[str, Any] = {name: given.value for name, given in found.settings.items()}
        settings = Settings(**values)
    except ValidationError as error:
        wrong = [_wrong_value(detail, found.settings) for detail in error.errors(include_url=False)]
    if wrong:  # outside the handler: pydantic's error holds the values
        first, *others = wrong
        raise ConfigurationError(
            first.message, details=[other.message for other in others], next_step=first.next_step
        )
    settings._found = found
    return settings


_ALLOWED: Final[Mapping[str, tuple[str, str]]] = {
    "bool_parsing": ("is neither yes nor no", "give yes or no"),
    "bool_type": ("is neither yes nor no", "give yes or no"),
    "string_type": ("is not text", "give text"),
    "tuple_type": ("is not a list", "give a list of texts"),
}


def _wrong_value(detail: ErrorDetails, settings: Mapping[str, Given]) -> ConfigurationError:
    attribute = str(detail["loc"][0])
    given: Any = settings[attribute]
    context = detail.get("ctx", {})
    error = context.get("error")
    if isinstance(error, UnacceptableValue):
        problem, allowed = error.problem, error.allowed
    elif "expected" in context:
        problem, allowed = "is not one of the choices", f"give {context['expected']}"
    else:
        problem, allowed = _ALLOWED.get(detail["type"], ("is not understood", detail["msg"].lower()))
    value = "the value" if attribute in _SECRET else Redactor().redact(repr(given.value))[:80]
    return ConfigurationError(
        f"{setting_name(attribute)} ({given.source}): {value} {problem}",
        next_step=f"{allowed[0].upper()}{allowed[1:]}.",
    )
