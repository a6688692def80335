"""The command line explains itself: every command, and where options may stand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from migrator.cli import cli
from migrator.errors import ExitCode
from tests.harness import Project, run_migrator, table_revisions

MakeProject = Callable[..., Project]
CONNECTING = ["--wait-timeout DURATION", "--connect-timeout DURATION", "--auth-grace DURATION"]
LOCKING = [
    "--run-lock-timeout",
    "--lock-timeout",
    "--lock-retry-timeout",
    "--deadline",
    "--pooler",
    "--statement-timeout",
]
ESSENTIALS = {
    "upgrade": [
        "[REVISION]",
        "head (the default), heads, +1, label@head",
        "--allow-ahead",
        "--sql",
        *CONNECTING,
        *LOCKING,
    ],
    "downgrade": ["REVISION", "base, -1", "under the lock", *CONNECTING, *LOCKING],
    "stamp": ["REVISIONS", "without running anything", "--purge", *CONNECTING, *LOCKING],
    "wait": ["--for [connection|head]", "default: connection", "--allow-ahead", "--deadline", *CONNECTING],
    "status": ["--exit-code", "Exit 3", "who holds the lock", *CONNECTING],
    "check": ["--offline", "--models", "disposable database", "Exit 3", "every revision file", *CONNECTING],
    "sql": ["[RANGE]", "FROM:TO", "Nothing connects"],
    "config": ["secrets masked", "where it comes from"],
    "demo": ["disposable PostgreSQL"],
    "explain": ["[TOPIC]", "as a message has named it", "list the topics"],
    "current": ["--check-heads", *CONNECTING],
    "history": ["--rev-range FROM:TO", "--indicate-current", "newest first"],
    "heads": ["--resolve-dependencies", "each branch"],
    "revision": [
        "--autogenerate",
        "--scratch",
        "Where nothing differs, nothing is written",
        "--fail-on-suspected-rename",
        "exit 3",
        "--deadline",
        "--message",
        "--rev-id",
        "--depends-on",
        "--branch-label",
        "--splice",
        "--head",
    ],
    "merge": ["REVISIONS", "heads: all of them", "--message", "--rev-id"],
}
COMMON = [
    "--config",
    "-c",
    "-n, --name",
    "-x ARG",
    "--env",
    "--database-url-file",
    "--log-format",
    "--verbose",
    "--help",
]


@cache
def help_of(*command: str) -> str:
    shown = run_migrator(*command, "--help", cwd=Path.cwd(), env={"COLUMNS": "100"})
    assert shown.returncode == 0, shown.output
    assert shown.stderr == "", shown.output
    return " ".join(shown.stdout.split())


def test_the_first_help_names_every_command_the_database_and_every_exit_code() -> None:
    text = help_of()
    for name, command in cli.commands.items():
        assert f" {name} {command.short_help}" in text
    assert "MIGRATOR_DATABASE_URL" in text
    for code in ExitCode:
        assert f"{code:d} {code.meaning}" in text


def test_every_command_is_looked_at_here() -> None:
    assert {*ESSENTIALS, "alembic"} == set(cli.commands)


@pytest.mark.parametrize("name", ESSENTIALS)
def test_the_help_of_a_command_says_what_it_does_and_what_it_takes(name: str) -> None:
    text = help_of(name)
    assert text.startswith(f"Usage: migrator {name} [OPTIONS]")
    missing = [words for words in (*ESSENTIALS[name], *COMMON) if words not in text]
    assert missing == [], text


def test_the_help_of_what_is_passed_through_is_alembics_own() -> None:
    shown = run_migrator("alembic", "--help", cwd=Path.cwd())
    assert shown.returncode == 0, shown.output
    assert "usage: alembic" in shown.stdout
    assert "list_templates" in shown.stdout


def test_the_version_is_told() -> None:
    from migrator import __version__

    shown = run_migrator("--version", cwd=Path.cwd())
    assert (shown.returncode, shown.stdout.split()[-1]) == (0, __version__)


def test_a_command_that_does_not_exist_is_told_with_the_nearest() -> None:
    shown = run_migrator("upgarde", cwd=Path.cwd())
    assert shown.returncode == ExitCode.USAGE
    assert "upgarde" in shown.stderr
    assert "migrator --help" in shown.stderr


X_ENV = """\
from alembic import context
from sqlalchemy import create_engine

config = context.config
options = context.get_x_argument(as_dictionary=True)
with create_engine(config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(connection=connection, version_table=options.get("table", "alembic_version"))
    with context.begin_transaction():
        context.run_migrations()
print("section", config.config_ini_section, "x", sorted(options.items()))
"""


@pytest.mark.parametrize("place", ["before", "after", "both", "variables"])
def test_options_may_stand_before_and_after_the_subcommand(project: MakeProject, place: str) -> None:
    shop = project(env=X_ENV, revisions=table_revisions("a1"))
    (shop.path / "deploy").mkdir()
    ini = (shop.path / "alembic.ini").read_text().replace("[alembic]", "[tenants]")
    (shop.path / "deploy" / "here.ini").write_text(ini)
    where, extra = ["-c", "deploy/here.ini", "-n", "tenants"], ["-x", "table=revisions", "-x", "tenant=a b"]
    arguments, variables = {
        "before": ([*where, *extra, "upgrade"], {}),
        "after": (["upgrade", *where, *extra], {}),
        "both": ([*where, "upgrade", *extra], {}),
        "variables": (
            ["upgrade"],
            {
                "MIGRATOR_CONFIG": "deploy/here.ini",
                "MIGRATOR_NAME": "tenants",
                "MIGRATOR_X": "table=revisions 'tenant=a b'",
            },
        ),
    }[place]
    done = shop.migrator(*arguments, env=variables, check=True)
    assert "section tenants x [('table', 'revisions'), ('tenant', 'a b')]" in done.stderr
    assert shop.database is not None
    assert shop.database.query("SELECT version_num FROM revisions") == [("a1",)]


def test_the_option_that_is_nearest_to_the_command_wins(project: MakeProject) -> None:
    shop = project(revisions=table_revisions("a1"))
    told = shop.migrator("-c", "nowhere.ini", "upgrade", "-c", "alembic.ini", check=True)
    assert "verified" in told.stderr
