"""The command line itself, without a command yet, and how one is added to it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from migrator import __version__
from migrator.errors import ExitCode
from migrator.options import COMMON, given, settings_options
from migrator.process import run_command

_EXIT_CODES = "\n".join(f"  {int(code):>3}  {code.meaning}" for code in ExitCode)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"\b\nExit codes (1x: trying again may help, 2x: a person must look):\n{_EXIT_CODES}",
)
@click.version_option(__version__, prog_name="migrator")
@settings_options(*COMMON)
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Run any Alembic project's migrations exactly once, under a lock, and prove that they were applied.

    Every option is also an environment variable: --wait-timeout is MIGRATOR_WAIT_TIMEOUT. The database is
    named by MIGRATOR_DATABASE_URL (or DATABASE_URL, DB_HOST …, PGHOST …), never on the command line.
    """
    context.obj = given(options)


def command(
    name: str, *settings: str, json_output: bool = True, settings_needed: bool = True, **attributes: Any
) -> Callable[[Callable[..., ExitCode]], click.Command]:
    """Register a subcommand: a function of a Process and its own arguments that returns an exit code.

    :param settings: the settings that are options of it, beside those that are common to all.
    :param json_output: it answers with a JSON document where one is asked for.
    :param settings_needed: it cannot work where a setting is wrong.
    """

    def decorate(function: Callable[..., ExitCode]) -> click.Command:
        common = COMMON if json_output else tuple(name for name in COMMON if name != "json_output")
        names = tuple(dict.fromkeys((*common, *settings)))

        @functools.wraps(function)
        def run(**options: Any) -> int:
            own = {key: options.pop(key) for key in list(options) if key not in names}
            chosen = {**click.get_current_context().obj, **given(options)}
            work = functools.partial(function, **own)
            return int(run_command(name, chosen, work, settings_needed=settings_needed))

        summary = (function.__doc__ or "").strip().splitlines()[0]
        return cli.command(name, short_help=summary, **attributes)(settings_options(*names)(run))

    return decorate
