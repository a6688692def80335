"""Commands of migrator's own: the job, and what looks at or prepares it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from migrator.cli.group import command
from migrator.errors import ExitCode
from migrator.options import CONNECTING, LOCKING
from migrator.process import Process

if TYPE_CHECKING:
    from migrator.job import Order


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


def _relative_revision(context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """``-1`` is a revision here, as for Alembic; whatever else begins with a dash is a mistaken option."""
    if value.startswith("-") and not value[1:].isdigit():
        raise click.NoSuchOption(value, ctx=context)
    return str(_no_url(context, _parameter, value))


@command("upgrade", *CONNECTING, *LOCKING, "allow_ahead", "allow_empty")
@click.argument("revision", default="head", callback=_no_url)
@click.option("--sql", is_flag=True, help="Write the SQL to standard output instead; nothing connects.")
def upgrade(process: Process, revision: str, sql: bool) -> ExitCode:
    """Wait for the database, take the lock, run the pending revisions, verify.

    REVISION as for alembic upgrade: an id or the beginning of one, head (the default), heads, +1, label@head.
    """
    from migrator.job import Order

    return _sql(process, revision, "upgrade") if sql else _run(process, Order.upgrade(revision))


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


def _sql(process: Process, revision: str, direction: str) -> ExitCode:
    from migrator.environment import render_sql

    render_sql(process.settings, revision, direction, process.stdout)
    return process.answered()
