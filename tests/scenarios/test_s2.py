"""S2: pydantic settings that ``env.py`` puts into ``set_main_option`` when it is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.harness import Database, Role, checked, start
from tests.scenarios.shapes import TOOLS, Copy, Tool, variables

FOLDER = "s2_settings_main_option"
NAMES = ("DATABASE_HOSTNAME", "DATABASE_PORT", "DATABASE_USERNAME", "DATABASE_PASSWORD", "DATABASE_NAME")
POSTS, CONTENT, USERS, HEAD = "6b0f2c9d1e57", "91d4e7a03bc8", "a27c5f8e6d40", "d83b10f4c29e"
ALEMBIC, MIGRATOR = TOOLS["alembic"], TOOLS["migrator"]
both_tools = pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)


@pytest.fixture
def copy(database: Database, tmp_path: Path) -> Copy:
    return Copy(FOLDER, tmp_path / "blog", variables(NAMES, database))


@both_tools
def test_partial_upgrades_and_downgrades_stop_where_they_are_told(
    tool: Tool, copy: Copy, database: Database
) -> None:
    steps = [
        (("upgrade", POSTS), [POSTS], ["posts"]),
        (("upgrade", "+1"), [CONTENT], ["posts"]),
        (("upgrade", USERS), [USERS], ["posts", "users"]),
        (("upgrade", "head"), [HEAD], ["posts", "users"]),
        (("downgrade", "-1"), [USERS], ["posts", "users"]),
        (("downgrade", POSTS), [POSTS], ["posts"]),
        (("upgrade", "+2"), [USERS], ["posts", "users"]),
        (("downgrade", "base"), [], []),
        (("upgrade", "head"), [HEAD], ["posts", "users"]),
    ]
    for command, revisions, tables in steps:
        copy.run(tool, *command)
        assert (database.revisions, database.tables) == (revisions, tables), command


@both_tools
def test_current_heads_and_history_say_what_alembic_says(tool: Tool, copy: Copy) -> None:
    copy.run(tool, "upgrade", CONTENT)
    assert copy.run(tool, "current").stdout.split() == [CONTENT]
    assert copy.run(tool, "heads").stdout.splitlines() == [f"{HEAD} (head)"]
    lines = copy.run(tool, "history").stdout.splitlines()
    assert [line.split(" -> ")[1].split()[0].strip(",") for line in lines] == [HEAD, USERS, CONTENT, POSTS]
    assert lines[-1].startswith("<base> -> ")
    copy.run(tool, "upgrade", "head")
    assert copy.run(tool, "current").stdout.split() == [HEAD, "(head)"]


@both_tools
def test_a_foreign_key_is_generated_from_the_models(tool: Tool, copy: Copy, database: Database) -> None:
    copy.run(tool, "upgrade", "head")
    owner = 'owner_id = Column(Integer, ForeignKey("users.id", ondelete="CASCADE"), nullable=False)'
    copy.replace("app/models.py", "Column, Integer", "Column, ForeignKey, Integer")
    copy.replace("app/models.py", "    title = Column", f"    {owner}\n    title = Column")
    copy.run(tool, "revision", "--autogenerate", "-m", "add owner to posts")
    newest = copy.revisions("alembic/versions")[-1]
    assert "op.create_foreign_key(" in newest.read_text()
    copy.run(tool, "upgrade", "head")
    assert database.query("SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f'") == [
        ("posts",)
    ]
    assert database.revisions == [newest.name.split("_")[0]]


def tables_without_history(copy: Copy) -> None:
    """The application, as it used to start: ``create_all()``."""
    checked(start(sys.executable, "-c", "import app.main", env=copy.variables, cwd=copy.path).wait())


def test_tables_from_create_all_are_no_empty_database(copy: Copy, database: Database) -> None:
    tables_without_history(copy)
    refused = copy.run(MIGRATOR, "upgrade", check=False)
    assert refused.returncode == 23, refused.output
    assert "migrator stamp" in refused.stderr
    assert "migrator sql" in refused.stderr, "how to see what the tables correspond to"
    assert (database.revisions, database.tables) == ([], ["posts", "users"])


def test_after_the_stamp_that_it_names_the_run_goes_on(copy: Copy, database: Database) -> None:
    tables_without_history(copy)
    copy.run(MIGRATOR, "stamp", "head")
    assert database.revisions == [HEAD]
    copy.run(MIGRATOR, "status", "--exit-code")
    copy.run(MIGRATOR, "upgrade")
    copy.run(ALEMBIC, "check")


def test_an_encoded_password_is_healed_where_bare_alembic_dies_of_it(
    new_role: Callable[..., Role], new_database: Callable[..., Database], tmp_path: Path
) -> None:
    role = new_role("p@ss/w:rd%")
    database = new_database(owner=role.name)
    encoded = Role(role.name, quote(role.password, safe=""))
    copy = Copy(FOLDER, tmp_path / "blog", variables(NAMES, database, encoded))
    failed = copy.run(ALEMBIC, "upgrade", "head", check=False)
    assert "invalid interpolation syntax" in failed.stderr
    finished = copy.run(MIGRATOR, "upgrade")
    assert database.revisions == [HEAD]
    assert role.password not in finished.stderr
    assert encoded.password not in finished.stderr


def test_the_settings_may_be_in_a_dotenv_file_that_only_the_project_reads(
    database: Database, tmp_path: Path
) -> None:
    lines = [f"{name}={value}" for name, value in variables(NAMES, database).items()]
    copy = Copy(FOLDER, tmp_path / "blog", {})
    (copy.path / ".env").write_text("\n".join(lines) + "\n")
    copy.run(MIGRATOR, "upgrade")
    assert database.revisions == [HEAD]
