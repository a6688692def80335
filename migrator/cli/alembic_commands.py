"""Commands that Alembic has as well, with its names and its options; it does most of the work."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from migrator.cli.group import command
from migrator.errors import ExitCode
from migrator.options import CONNECTING
from migrator.process import Process
from migrator.redaction import RedactingStream


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
