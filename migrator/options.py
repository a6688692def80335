"""The command-line options that are settings, made from the settings' own descriptions and defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from migrator.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

_SHORT = {"config": "-c", "name": "-n", "x": "-x", "verbose": "-v"}
_FLAGS = {"allow_ahead", "allow_empty", "allow_other_targets", "json_output", "verbose"}
_CHOICES = {"log_format": "[text|json]", "pooler": "[refuse|session]", "lock": "[auto|node|none]"}
_LONG = {"json_output": "--json", "x": None}

COMMON = ("config", "name", "x", "env", "database_url_file", "log_format", "json_output", "verbose")
"""Accepted before the subcommand as well, as Alembic does."""

CONNECTING = ("connect_timeout", "wait_timeout", "auth_grace", "export_url_as", "lock")
"""For every command that connects."""

LOCKING = (
    "run_lock_timeout",
    "lock_timeout",
    "lock_retry_timeout",
    "index_lock_timeout",
    "statement_timeout",
    "deadline",
    "pooler",
    "allow_other_targets",
)
"""For every command that changes something."""


def settings_options(*names: str) -> Callable[[Command], Command]:
    """Decorator: an option for each of the settings called ``names``, None where it was not given."""

    def decorate(function: Command) -> Command:
        for name in reversed(names):
            function = _option(name)(function)
        return function

    return decorate


def _option(name: str) -> Callable[[Command], Command]:
    long = _LONG.get(name, "--" + name.replace("_", "-"))
    declarations = [declaration for declaration in (_SHORT.get(name), long) if declaration]
    if name == "database_url_file":
        return click.option(
            *declarations, name, metavar="PATH", help="File that holds the database URL (a mounted secret)."
        )
    field = Settings.model_fields[name]
    text = field.description or ""
    if name in _FLAGS:
        return click.option(*declarations, name, is_flag=True, default=None, help=text)
    if name == "x":
        return click.option(*declarations, name, multiple=True, metavar="ARG", help=text)
    metavar = _CHOICES.get(name, "TEXT")
    if name.endswith(("timeout", "grace", "deadline")):
        metavar = "DURATION"
    return click.option(*declarations, name, metavar=metavar, help=text)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given: neither None nor an empty tuple."""
    return {name: value for name, value in options.items() if value is not None and value != ()}
