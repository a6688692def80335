"""``migrator demo``: what a newcomer sees first is real, and touches nothing but its own server."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest

from tests.harness import REPOSITORY, Database, Project, run_migrator, table_revisions

HEAD = "f2d75e1c093b"


def test_the_example_shows_one_runner_applying_and_one_waiting() -> None:
    shown = run_migrator("demo", cwd=REPOSITORY, check=True).stdout
    for line in (
        r"^\$ migrator upgrade & migrator upgrade & wait$",
        r"^first  \| lock +held \(pid \d+\)",
        r"^first  \| .*blocked .* on orders by pid \d+ \(shop backend",
        r"^second \| lock +held by pid \d+ \(",
        rf"^first  \| verified +at {HEAD}",
        r"^first  \| done +4 revisions",
        r"^second \| plan +nothing to do",
        r"^\$ migrator status$",
        rf"at {HEAD} · up to date",
    ):
        assert re.search(line, shown, re.MULTILINE), f"no line like {line!r} in\n{shown}"
    [address] = set(re.findall(r"127\.0\.0\.1:\d+", shown))
    with pytest.raises(psycopg2.OperationalError, match="Connection refused"):
        psycopg2.connect(f"postgresql://postgres@{address}/postgres")


def test_any_other_project_is_migrated_by_two_runners_as_well(project: Callable[..., Project]) -> None:
    made = project(revisions=table_revisions("a1", "b2"))
    shown = run_migrator("demo", cwd=made.path, check=True).stdout
    assert len(re.findall(r"^(?:first|second) +\| verified +at b2", shown, re.MULTILINE)) == 2
    assert "at b2 · up to date" in shown


def test_no_database_that_is_configured_anywhere_is_touched(
    project: Callable[..., Project], database: Database, tmp_path: Path
) -> None:
    made = project(revisions=table_revisions("a1"))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "MIGRATOR_DIRECT_DATABASE_URL").write_text(database.url)
    made.write(".env", f"MIGRATOR_DIRECT_DATABASE_URL={database.url}\nDATABASE_URL={database.url}\n")
    variables = {
        "DATABASE_URL": database.url,
        "MIGRATOR_SECRETS_DIR": str(secrets),
        "PGDATABASE": database.name,
    }
    shown = run_migrator("demo", env=variables, cwd=made.path, check=True).stdout
    assert "verified  at a1" in shown
    assert (database.revisions, database.tables) == ([], [])


def test_a_migration_that_fails_makes_the_demo_fail(project: Callable[..., Project]) -> None:
    made = project()
    made.add_revision("a1", None, 'op.execute("SELECT 1/0")')
    failed = run_migrator("demo", cwd=made.path)
    assert failed.returncode == 20
    assert "division by zero" in failed.stdout


def test_outside_a_project_it_says_where_to_go(tmp_path: Path) -> None:
    failed = run_migrator("demo", cwd=tmp_path)
    assert failed.returncode == 2
    assert f"no alembic.ini in {tmp_path}" in failed.stderr
    assert "next" in failed.stderr
