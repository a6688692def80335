"""S1: an asynchronous shop, its settings in ``app/backend/.env``, its ``env.py`` with ``asyncio.run``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Database
from tests.scenarios import serving
from tests.scenarios.catalogs import schema
from tests.scenarios.shapes import HERE, TOOLS, Copy, Tool

FOLDER = "s1_async_shop"
VERSIONS = "app/migrations/versions"
ALEMBIC, MIGRATOR = TOOLS["alembic"], TOOLS["migrator"]
both_tools = pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
DISCOUNT = """
    op.add_column("products", sa.Column("discount", sa.Integer(), server_default="0", nullable=False))
    op.create_check_constraint("products_discount", "products", "discount BETWEEN 0 AND 90")
"""
NO_DISCOUNT = '\n    op.drop_column("products", "discount")\n'


@pytest.fixture
def copy(database: Database, tmp_path: Path) -> Copy:
    made = Copy(FOLDER, tmp_path / "shop", {})
    (made.path / "app/backend/.env").write_text(f"DATABASE_URL={database.sqlalchemy_url('asyncpg')}\n")
    return made


def id_of(file: Path) -> str:
    return file.name.split("_")[0]


def develop(copy: Copy, tool: Tool) -> list[str]:
    """The revisions of its developers: generated from the models, written by hand, generated again; their ids."""
    copy.run(tool, "revision", "--autogenerate", "-m", "initial migration")
    copy.run(tool, "upgrade", "head")
    copy.run(tool, "revision", "-m", "discounts")
    second = copy.revisions(VERSIONS)[-1]
    name = second.relative_to(copy.path).as_posix()
    assert second.read_text().count("    pass\n") == 2, "an empty revision"
    upgrade, downgrade = second.read_text().split("def downgrade")
    second.write_text(
        upgrade.replace("\n    pass\n", DISCOUNT)
        + "def downgrade"
        + downgrade.replace("\n    pass\n", NO_DISCOUNT)
    )
    assert "discount BETWEEN" in (copy.path / name).read_text()
    copy.run(tool, "upgrade", "+1")
    copy.replace(
        "app/models/products.py",
        "    stock:",
        "    discount: Mapped[int] = mapped_column(server_default='0')\n    stock:",
    )
    copy.replace("app/models/products.py", "String(120)", "String(200)")
    copy.run(tool, "revision", "--autogenerate", "-m", "longer names")
    third = copy.revisions(VERSIONS)[-1]
    assert "op.alter_column('products', 'name'" in third.read_text(), "compare_type is on"
    assert "discount" not in third.read_text()
    copy.run(tool, "upgrade", "head")
    return [id_of(file) for file in copy.revisions(VERSIONS)]


@both_tools
def test_revisions_are_generated_written_and_applied_in_every_direction(
    tool: Tool, copy: Copy, database: Database
) -> None:
    first, second, third = develop(copy, tool)
    assert (database.revisions, database.tables) == ([third], ["categories", "products"])
    whole = schema(database)
    everything = ["categories", "products"]
    steps = [
        ("downgrade", "base", [], []),
        ("upgrade", "+2", [second], everything),
        ("downgrade", "-1", [first], everything),
        ("upgrade", third, [third], everything),
        ("downgrade", first, [first], everything),
        ("upgrade", second[:6], [second], everything),
        ("downgrade", "base", [], []),
        ("upgrade", "head", [third], everything),
    ]
    for command, revision, revisions, tables in steps:
        copy.run(tool, command, revision)
        assert (database.revisions, database.tables) == (revisions, tables), (command, revision)
    # A column that was dropped keeps its number.
    assert [row[2:] for row in schema(database)["columns"]] == [row[2:] for row in whole["columns"]]
    assert schema(database)["constraints"] == whole["constraints"]
    copy.run(ALEMBIC, "check")


def test_the_models_became_a_self_reference_a_unique_slug_and_a_foreign_key(
    copy: Copy, database: Database
) -> None:
    copy.run(MIGRATOR, "revision", "--autogenerate", "-m", "initial migration")
    copy.run(MIGRATOR, "upgrade")
    keys = (
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint "
        "WHERE contype = 'f' ORDER BY 1"
    )
    assert database.query(keys) == [("categories", "categories"), ("products", "categories")]
    unique = (
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indisunique AND NOT indisprimary "
        "AND indrelid IN ('categories'::regclass, 'products'::regclass) ORDER BY 1"
    )
    assert database.query(unique) == [("ix_categories_slug",), ("ix_products_slug",)]


def test_the_history_is_told_as_alembic_tells_it(copy: Copy) -> None:
    develop(copy, MIGRATOR)
    for command in (["history"], ["history", "--verbose"], ["history", "-r", "base:head"], ["heads"]):
        told = copy.run(MIGRATOR, *command).stdout
        assert told == copy.run(ALEMBIC, *command).stdout, command
    [first, *_] = copy.run(MIGRATOR, "history", "--verbose").stdout.split("\n\n")
    assert "(head)" in first
    assert "app/migrations/versions/" in first


def test_the_database_of_the_run_wins_over_the_one_in_the_projects_own_file(
    copy: Copy, database: Database, new_database: Callable[..., Database]
) -> None:
    other = new_database()
    copy.run(MIGRATOR, "revision", "--autogenerate", "-m", "initial migration")
    copy.variables["MIGRATOR_DATABASE_URL"] = other.sqlalchemy_url("asyncpg")
    copy.run(MIGRATOR, "upgrade")
    assert (other.tables, database.tables) == (["categories", "products"], [])
    copy.run(MIGRATOR, "status", "--exit-code")


# Inside a running event loop

BARE = """\
from alembic import command
from alembic.config import Config
from app.main import app


@app.on_event("startup")
async def migrate():
    command.upgrade(Config("alembic.ini"), "head")
"""


def add(copy: Copy, file: str) -> None:
    """One of the files of the documentation, in the names of this project."""
    text = (HERE / "start_up" / file).read_text()
    text = text.replace("app.routes", "app.routers.catalogue").replace('config="alembic/alembic.ini", ', "")
    (copy.path / "app" / file).write_text(text)


@pytest.mark.parametrize("module", ["lifespan", "on_event"])
def test_an_application_migrates_inside_its_running_event_loop_and_serves(
    module: str, copy: Copy, database: Database
) -> None:
    copy.run(MIGRATOR, "revision", "--autogenerate", "-m", "initial migration")
    add(copy, f"{module}.py")
    with serving.uvicorn(copy, f"app.{module}:app") as served:
        served.running.wait_for_line(serving.COMPLETE)
        assert served.get("/categories") == []
        database.query("INSERT INTO categories (name, slug, is_active) VALUES ('Tea', 'tea', true)")
        assert served.get("/categories") == [{"name": "Tea", "slug": "tea"}]
        assert database.revisions == [id_of(copy.revisions(VERSIONS)[0])]


def test_bare_alembic_cannot_do_that(copy: Copy, database: Database) -> None:
    copy.run(MIGRATOR, "revision", "--autogenerate", "-m", "initial migration")
    (copy.path / "app/bare.py").write_text(BARE)
    with serving.uvicorn(copy, "app.bare:app") as served:
        ended = served.running.wait()
    assert ended.returncode == 3, ended.output
    assert "coroutine 'run_migrations_online.<locals>.run' was never awaited" in ended.stderr
    assert "startup failed" not in ended.stderr, "its fileConfig() has silenced the server's own log as well"
    assert database.tables == []
