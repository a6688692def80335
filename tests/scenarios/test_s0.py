"""S0: five ``DB_*`` variables, interpolated into the URL of the ini file by ``env.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Database, Role
from tests.scenarios.shapes import TOOLS, Copy, Tool, variables

FOLDER = "s0_interpolated_ini"
NAMES = ("DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME")
VERSIONS = "migrations/versions"
UGLY_PASSWORD = "p%40@/:w%s%%"


def columns(database: Database, table: str) -> list[str]:
    rows = database.query(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position",
        [table],
    )
    return [name for (name,) in rows]


def develop_and_apply(copy: Copy, tool: Tool, database: Database) -> None:
    """What its developer did: two revisions from the models, each applied."""
    copy.run(tool, "revision", "--autogenerate", "-m", "first")
    copy.run(tool, "upgrade", "head")
    assert database.tables == ["authors", "books"]
    title = 'Column("title", String(200), nullable=False),'
    copy.replace("models/models.py", title, f'{title}\n    Column("isbn", String(17)),')
    copy.run(tool, "revision", "--autogenerate", "-m", "add isbn")
    first, second = copy.revisions(VERSIONS)
    assert "op.create_table" in first.read_text()
    assert "op.add_column" in second.read_text()
    assert "isbn" not in columns(database, "books")
    copy.run(tool, "upgrade", "head")
    assert columns(database, "books") == ["id", "title", "author_id", "isbn"]
    assert [second.name.split("_")[0]] == database.revisions


@pytest.fixture
def ugly(new_role: Callable[..., Role], new_database: Callable[..., Database]) -> tuple[Database, Role]:
    """A database that is owned by a role with every character in its password that URLs and ini files trip over."""
    role = new_role(UGLY_PASSWORD)
    return new_database(owner=role.name), role


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_revisions_are_generated_and_applied(tool: Tool, database: Database, tmp_path: Path) -> None:
    copy = Copy(FOLDER, tmp_path / "library", variables(NAMES, database))
    develop_and_apply(copy, tool, database)


def test_what_alembic_began_is_carried_on_and_the_other_way_round(database: Database, tmp_path: Path) -> None:
    copy = Copy(FOLDER, tmp_path / "library", variables(NAMES, database))
    copy.run(TOOLS["alembic"], "revision", "--autogenerate", "-m", "first")
    copy.run(TOOLS["migrator"], "upgrade")
    copy.run(TOOLS["alembic"], "check")
    copy.run(TOOLS["alembic"], "downgrade", "base")
    assert copy.run(TOOLS["migrator"], "status", "--exit-code", check=False).returncode == 3
    copy.run(TOOLS["migrator"], "upgrade")
    copy.run(TOOLS["migrator"], "status", "--exit-code")


def test_bare_alembic_stumbles_over_the_password_that_the_next_tests_use(
    ugly: tuple[Database, Role], tmp_path: Path
) -> None:
    copy = Copy(FOLDER, tmp_path / "library", variables(NAMES, *ugly))
    failed = copy.run(TOOLS["alembic"], "upgrade", "head", check=False)
    assert "invalid interpolation syntax" in failed.stderr


def test_a_password_may_have_any_character_in_the_projects_own_variables(
    ugly: tuple[Database, Role], tmp_path: Path
) -> None:
    database, role = ugly
    copy = Copy(FOLDER, tmp_path / "library", variables(NAMES, database, role))
    develop_and_apply(copy, TOOLS["migrator"], database)


def test_a_password_may_have_any_character_in_a_url_and_never_appears(
    ugly: tuple[Database, Role], tmp_path: Path
) -> None:
    database, role = ugly
    url = database.server.url_of(database.name, user=role.name, password=role.password)
    copy = Copy(FOLDER, tmp_path / "library", {"MIGRATOR_DATABASE_URL": url})
    develop_and_apply(copy, TOOLS["migrator"], database)
    for command in ("upgrade", "status", "config"):
        written = copy.run(TOOLS["migrator"], command)
        for secret in (role.password, url, url.split("@")[0].rsplit(":", 1)[1]):
            assert secret not in written.stdout + written.stderr


def test_the_database_of_the_run_wins_over_the_one_that_the_project_would_take(
    database: Database, new_database: Callable[..., Database], tmp_path: Path
) -> None:
    other = new_database()
    copy = Copy(FOLDER, tmp_path / "library", variables(NAMES, database))
    copy.run(TOOLS["alembic"], "revision", "--autogenerate", "-m", "first")
    copy.variables["MIGRATOR_DATABASE_URL"] = other.url
    copy.run(TOOLS["migrator"], "upgrade")
    assert (other.tables, database.tables) == (["authors", "books"], [])
