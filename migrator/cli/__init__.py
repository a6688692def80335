"""The command line: the only package that reads ``argv`` and exits. A subcommand translates, calls, reports."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from migrator.cli import alembic_commands, commands  # noqa: F401  (each adds its own to the group)
from migrator.cli.group import cli
from migrator.errors import ExitCode
from migrator.process import close_streams, end_process, open_closed_streams, report_wrong_usage

__all__ = ["cli", "main"]

# Click 8.2 and later raise it where there is no subcommand.
_SHOWS_HELP: type[click.ClickException] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    open_closed_streams()
    try:
        code = cli.main(args=arguments, prog_name="migrator", standalone_mode=False)
    except _SHOWS_HELP as error:
        click.echo(error.format_message(), err=True)
        code = int(ExitCode.USAGE)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "migrator"
        asked_for_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
        report_wrong_usage(path, error.format_message(), json_output=asked_for_json)
        code = int(ExitCode.USAGE)
    except click.exceptions.Abort:
        code = int(ExitCode.INTERRUPTED)
    close_streams()
    end_process(code if isinstance(code, int) else 0)
