"""The command line: the only module that reads ``argv`` and exits. A subcommand translates, calls, reports."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from migrator import __version__
from migrator.errors import ExitCode
from migrator.options import COMMON, CONNECTING, LOCKING, given, settings_options
from migrator.process import (
    Process,
    close_streams,
    end_process,
    open_closed_streams,
    report_wrong_usage,
    run_command,
)
from migrator.redaction import RedactingStream

if TYPE_CHECKING:
    from migrator.job import Order

# Click 8.2 and later raise it where there is no subcommand.
_SHOWS_HELP: type[click.ClickException] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())

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


def _run(process: Process, order: Order) -> ExitCode:
    from migrator.job import run

    result = run(
        order,
        process.settings,
        process.report,
        live=process.live,
        give_up=process.give_up,
        learn_secret=process.redactor.add,
    )
    process.report.finished(result)
    return ExitCode.OK


def _no_url(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    """Refuse what is no revision. A URL does not belong where each user of the machine can read it."""
    if value == "":
        raise click.BadParameter("it is empty; leave it out for head")
    if value is not None and any("://" in part for part in ([value] if isinstance(value, str) else value)):
        raise click.BadParameter(
            "that is a URL, and not a revision; the database is named by MIGRATOR_DATABASE_URL (migrator config "
            "shows what is set), and a password that was given here is to be changed."
        )
    return value


@command("upgrade", *CONNECTING, *LOCKING, "allow_ahead", "allow_empty")
@click.argument("revision", default="head", callback=_no_url)
@click.option("--sql", is_flag=True, help="Write the SQL to standard output instead; nothing connects.")
def upgrade(process: Process, revision: str, sql: bool) -> ExitCode:
    """Wait for the database, take the lock, run the pending revisions, verify.

    REVISION as for alembic upgrade: an id or the beginning of one, head (the default), heads, +1, label@head.
    """
    from migrator.job import Order

    return _sql(process, revision, "upgrade") if sql else _run(process, Order.upgrade(revision))


def _relative_revision(context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """``-1`` is a revision here, as for Alembic; whatever else begins with a dash is a mistaken option."""
    if value.startswith("-") and not value[1:].isdigit():
        raise click.NoSuchOption(value, ctx=context)
    return str(_no_url(context, _parameter, value))


@command("downgrade", *CONNECTING, *LOCKING, context_settings={"ignore_unknown_options": True})
@click.argument("revision", callback=_relative_revision)
@click.option("--sql", is_flag=True, help="Write the SQL of a range (FROM:TO) to standard output instead.")
def downgrade(process: Process, revision: str, sql: bool) -> ExitCode:
    """Go back to REVISION (an id, base, -1), under the lock and verified."""
    from migrator.job import Order

    return _sql(process, revision, "downgrade") if sql else _run(process, Order.downgrade(revision))


@command("stamp", *CONNECTING, *LOCKING)
@click.argument("revisions", nargs=-1, required=True, callback=_no_url)
@click.option("--purge", is_flag=True, help="Empty the version table first.")
def stamp(process: Process, revisions: tuple[str, ...], purge: bool) -> ExitCode:
    """Record REVISIONS as applied, without running anything, under the lock."""
    from migrator.job import Order

    return _run(process, Order.stamp(revisions, purge=purge))


@command("wait", *CONNECTING, "allow_ahead", "allow_empty", "deadline")
@click.option(
    "--for",
    "goal",
    type=click.Choice(["connection", "head"]),
    default="connection",
    show_default=True,
    help="What to wait for: an answer, or that the database is at this image's head revision.",
)
def wait(process: Process, goal: str) -> ExitCode:
    """Wait until the database answers, or until its migrations have been run by someone else."""
    from migrator import waiting

    if goal == "head":
        process.report.status(waiting.wait_for_head(process.settings, process.report, process.give_up))
    else:
        process.report.waited(waiting.wait_for_connection(process.settings, process.report, process.give_up))
    return ExitCode.OK


@command("status", *CONNECTING, "allow_ahead")
@click.option(
    "--exit-code", is_flag=True, help="Exit 3 unless the database is at head (or ahead, with --allow-ahead)."
)
def status(process: Process, exit_code: bool) -> ExitCode:
    """Say where the database stands: current revision, what is pending, who holds the lock."""
    from migrator import inspection

    found = inspection.status(process.settings, process.report, process.give_up)
    good = found.at_head_or_ahead if process.settings.allow_ahead else found.at_head
    code = ExitCode.CHECK_SAYS_NO if exit_code and not good else ExitCode.OK
    process.report.status(found, code)
    return code


@command("check", *CONNECTING, "deadline")
@click.option("--offline", is_flag=True, help="Do not connect, also where a database is configured.")
@click.option(
    "--models",
    is_flag=True,
    help="Compare the models with what the revisions make of a disposable database, instead of looking at the "
    "configured one.",
)
@click.option(
    "--reversible",
    metavar="REVISION",
    is_flag=False,
    flag_value="newest",
    callback=_no_url,
    help="Undo the newest revision, or all above REVISION (--reversible=base), and apply them again on a disposable "
    "database; the schema has to be as before each time.",
)
def check(process: Process, offline: bool, models: bool, reversible: str | None) -> ExitCode:
    """Look for what would fail: the configuration, the history, every revision file, and the database.

    Exit 3 if something is wrong. Made for image builds (RUN migrator check --offline) and pull requests
    (migrator check --models --reversible).
    """
    from migrator.checking import check as look

    result = look(
        process.settings,
        process.report,
        offline=offline,
        models=models,
        reversible=reversible,
        give_up=process.give_up,
        learn_secret=process.redactor.add,
    )
    process.report.check(result)
    return ExitCode.OK if result.passed else ExitCode.CHECK_SAYS_NO


@command("sql", *CONNECTING, json_output=False)
@click.argument("range_", metavar="[RANGE]", default="head")
def sql(process: Process, range_: str) -> ExitCode:
    """Write the SQL of RANGE (head, FROM:TO) to standard output. Nothing connects."""
    return _sql(process, range_, "upgrade")


def _sql(process: Process, revision: str, direction: str) -> ExitCode:
    from migrator.environment import render_sql

    render_sql(process.settings, revision, direction, process.stdout)
    return process.answered()


@command("config")
def config(process: Process) -> ExitCode:
    """Print every setting, its value (secrets masked) and where it comes from."""
    process.report.config((line.name, line.value, line.source) for line in process.settings.describe())
    return ExitCode.OK


@command("demo", json_output=False)
def demo(process: Process) -> ExitCode:
    """Show the job on a disposable PostgreSQL, with the project in this folder."""
    from migrator.demo import run_demo

    return ExitCode.OK if run_demo(process.stdout) == 0 else ExitCode.MIGRATION_FAILED


@command("explain", json_output=False, settings_needed=False)
@click.argument("topic", default="")
def explain(process: Process, topic: str) -> ExitCode:
    """Print what the documentation says about TOPIC, as a message has named it; without one, list the topics."""
    from migrator.explaining import explanation, sections

    process.stdout.write(f"{explanation(topic) if topic else chr(10).join(sections())}\n")
    return process.answered()


@command("current", *CONNECTING)
@click.option("--check-heads", is_flag=True, help="Exit 3 unless every head is applied.")
def current(process: Process, check_heads: bool) -> ExitCode:
    """Print the revision that the database is at, as alembic current does."""
    from migrator import inspection

    found = inspection.status(process.settings, process.report, process.give_up)
    code = ExitCode.CHECK_SAYS_NO if check_heads and not found.at_head else ExitCode.OK
    if process.settings.json_output:
        process.report.status(found, code)
        return code
    for target in found.targets:
        for revision in (*target.current, *([] if target.current else ["base"])):
            process.stdout.write(f"{revision}{' (head)' if revision in target.heads else ''}\n")
    process.answered()
    return code


@command("history", *CONNECTING, json_output=False)
@click.option("-r", "--rev-range", metavar="FROM:TO", help="Only these.")
@click.option("-i", "--indicate-current", is_flag=True, help="Ask the database which are applied.")
@click.option("--long", is_flag=True, help="All that Alembic knows of each (its own --verbose).")
def history(process: Process, rev_range: str | None, indicate_current: bool, long: bool) -> ExitCode:
    """List the revisions, newest first; with -i, which of them are applied."""
    from migrator import inspection
    from migrator.environment import history_lines

    rows: list[str] | None = None
    if indicate_current or (rev_range and "current" in rev_range):
        found = inspection.status(process.settings, process.report, process.give_up)
        rows = [revision for target in found.targets for revision in target.current]
    for line in history_lines(process.settings, rev_range, rows, long=long or process.settings.verbose):
        process.stdout.write(f"{line}\n")
    return process.answered()


def _alembic(process: Process, arguments: Sequence[str]) -> ExitCode:
    """What Alembic prints is the answer here, and what a revision's SQL holds is not to be masked in it."""
    from migrator.environment import run_alembic

    printed = RedactingStream(process.stdout, process.redactor)
    with contextlib.redirect_stdout(printed):
        try:
            run_alembic(process.settings, arguments, process.stdout)
        finally:
            with contextlib.suppress(OSError):  # it is told by answered()
                printed.finish()
    return process.answered()


def _write_with_alembic(process: Process, arguments: Sequence[str], options: Mapping[str, Any]) -> ExitCode:
    """Alembic writes a revision file, and its path is the answer."""
    from migrator.environment import revisions_in, run_alembic
    from migrator.preflight import check_new_revision
    from migrator.results import GeneratedRevision

    check_new_revision(process.settings, options)
    quiet = () if process.settings.verbose else ("--quiet",)
    scripts = run_alembic(process.settings, [*quiet, *arguments], process.stderr)
    process.report.generated(GeneratedRevision(written=revisions_in(scripts), compared=False))
    return ExitCode.OK


@command("heads", json_output=False)
@click.option("--resolve-dependencies", is_flag=True, help="Treat dependency versions as down revisions.")
def heads(process: Process, resolve_dependencies: bool) -> ExitCode:
    """List the newest revision of each branch."""
    return _alembic(process, ["heads", *(["--resolve-dependencies"] if resolve_dependencies else [])])


@command("revision", *CONNECTING, "deadline")
@click.option("-m", "--message", help="What the revision is for.")
@click.option("--autogenerate", is_flag=True, help="Fill it with what differs between models and database.")
@click.option(
    "--scratch",
    is_flag=True,
    help="With --autogenerate: compare with a disposable database that the revisions have brought to head, not with "
    "the configured one. Where nothing differs, nothing is written.",
)
@click.option(
    "--fail-on-suspected-rename",
    is_flag=True,
    help="With --autogenerate: exit 3 and write nothing where a dropped and an added thing look like a renamed one.",
)
@click.option("--sql", is_flag=True, help="Write SQL to standard output (needs revision_environment).")
@click.option("--head", help="The revision to build on, or label@head.")
@click.option("--splice", is_flag=True, help="Allow a revision that is not a head to be built on.")
@click.option("--branch-label", help="A branch label for the new revision.")
@click.option("--version-path", help="The folder for the file, where there are several.")
@click.option("--rev-id", help="This id instead of a generated one.")
@click.option("--depends-on", multiple=True, help="Revisions that this one depends on.")
def revision(process: Process, scratch: bool, fail_on_suspected_rename: bool, **options: Any) -> ExitCode:
    """Write a new revision file, with Alembic's own options.

    With --autogenerate its path is all that is on standard output; what was found is told on standard error,
    and so is every column or table that looks renamed: as it is, the revision would delete its data.
    """
    from migrator.generating import Generation, generate
    from migrator.preflight import check_new_revision

    arguments = ["revision", *_arguments(options)]
    order = Generation(tuple(arguments), scratch, fail_on_suspected_rename)
    order.refuse_contradictions(options, json_output=process.settings.json_output)
    if options["sql"]:
        return _alembic(process, arguments)
    if not options["autogenerate"]:
        return _write_with_alembic(process, arguments, options)
    check_new_revision(process.settings, options)
    result = generate(order, process.settings, process.report, process.give_up, process.redactor.add)
    process.report.generated(result)
    return ExitCode.CHECK_SAYS_NO if result.refused else ExitCode.OK


@command("merge", *CONNECTING, json_output=False)
@click.argument("revisions", nargs=-1, required=True)
@click.option("-m", "--message", help="What the revision is for.")
@click.option("--branch-label", help="A branch label for the new revision.")
@click.option("--rev-id", help="This id instead of a generated one.")
def merge(process: Process, revisions: tuple[str, ...], **options: Any) -> ExitCode:
    """Write a revision that joins REVISIONS (heads: all of them); its path is on standard output."""
    return _write_with_alembic(process, ["merge", *_arguments(options), "--", *revisions], options)


@command(
    "alembic",
    *CONNECTING,
    json_output=False,
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def alembic(process: Process, arguments: tuple[str, ...]) -> ExitCode:
    """Run anything else of Alembic's own command line, with the same settings and WITHOUT the lock."""
    return _alembic(process, arguments)


def _arguments(options: dict[str, Any]) -> list[str]:
    """Click's values as Alembic's command line wants them."""
    arguments: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(flag)
        elif isinstance(value, tuple):
            arguments += [f"{flag}={each}" for each in value]
        elif value:
            arguments.append(f"{flag}={value}")
    return arguments


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
