"""S4: one history for dev, test and prod, from ``alembic/alembic.ini`` and a ``.env`` file for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Completed, Database
from tests.integration.proving import contents
from tests.scenarios.catalogs import schema
from tests.scenarios.shapes import HERE, TOOLS, Copy, Tool

FOLDER = "s4_three_environments"
INI = ("-c", "alembic/alembic.ini")
ROOMS, BOOKINGS, FIRST_ROOMS, HEAD = "5d1c7e90ab34", "c8f20b6e4d17", "e39a5f08c1b6", "f4b1d26a9e05"
ALEMBIC, MIGRATOR = TOOLS["alembic"], TOOLS["migrator"]
CONFIGURATION = (HERE / "start_up" / "pyproject.toml").read_text()
"""All that its developer adds to the project."""


@pytest.fixture
def copy(database: Database, tmp_path: Path) -> Copy:
    return Copy(FOLDER, tmp_path / "rooms", {"DEV_DATABASE_URL": database.url})


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_the_ini_file_beside_env_py_is_found_from_the_projects_folder(
    tool: Tool, copy: Copy, database: Database
) -> None:
    copy.run(tool, *INI, "upgrade", BOOKINGS)
    assert database.revisions == [BOOKINGS]
    copy.run(tool, *INI, "upgrade", "head")
    assert (database.revisions, database.tables) == ([HEAD], ["bookings", "rooms"])
    copy.run(tool, *INI, "downgrade", "base")
    assert (database.revisions, database.tables) == ([], [])
    copy.run(tool, *INI, "upgrade", "head")
    copy.run(ALEMBIC, *INI, "check")


# Three environments


class Environments:
    """The project with a database and a ``.env`` file for each of dev, test and prod."""

    def __init__(self, path: Path, new_database: Callable[..., Database]) -> None:
        self.copy = Copy(FOLDER, path, {})
        self.databases = {name: new_database() for name in ("dev", "test", "prod")}
        for name, database in self.databases.items():
            line = f"{name.upper()}_DATABASE_URL={database.url}\n"
            (path / f".env.{name}").write_text(line)
            if name == "dev":
                (path / ".env").write_text(line)  # what python-decouple reads
        self.configure(CONFIGURATION)

    def configure(self, text: str) -> None:
        (self.copy.path / "pyproject.toml").write_text(text)

    def run(self, name: str, *command: str, check: bool = True) -> Completed:
        return self.copy.run(MIGRATOR, "--env", name, *command, check=check)


@pytest.fixture
def environments(tmp_path: Path, new_database: Callable[..., Database]) -> Environments:
    return Environments(tmp_path / "rooms", new_database)


def test_the_same_files_go_to_three_databases_by_configuration_alone(
    environments: Environments, new_database: Callable[..., Database]
) -> None:
    before = {file: file.read_bytes() for file in environments.copy.path.rglob("*.py")}
    for done, (name, database) in enumerate(environments.databases.items(), 1):
        told = environments.run(name, "upgrade").stderr
        assert f"/{database.name} as " in told
        reached = [one.revisions for one in environments.databases.values()]
        assert reached == [[HEAD]] * done + [[]] * (3 - done), "no other database was touched"
        environments.run(name, "status", "--exit-code")
    reference = new_database()
    environments.copy.variables["DEV_DATABASE_URL"] = reference.url
    environments.copy.run(ALEMBIC, *INI, "upgrade", "head")
    expected = schema(reference)
    assert len(expected["columns"]) > 8
    for name, database in environments.databases.items():
        assert schema(database) == expected, name
    assert {file: file.read_bytes() for file in environments.copy.path.rglob("*.py")} == before


def test_a_database_that_differs_is_seen_in_the_comparison_of_the_last_test(
    environments: Environments,
) -> None:
    for name in ("dev", "test"):
        environments.run(name, "upgrade")
    dev, test = environments.databases["dev"], environments.databases["test"]
    for change in (
        "ALTER TABLE rooms ALTER seats DROP NOT NULL",
        "DROP INDEX ix_bookings_room_id",
        "ALTER TABLE bookings DROP CONSTRAINT bookings_room_id_fkey",
    ):
        before = schema(test)
        test.query(change)
        assert schema(test) not in (before, schema(dev)), change


def test_without_the_name_that_the_project_reads_nothing_is_changed_and_the_setting_is_named(
    environments: Environments,
) -> None:
    environments.configure('[tool.migrator]\nconfig = "alembic/alembic.ini"\n')
    refused = environments.run("test", "upgrade", check=False)
    assert refused.returncode == 2, refused.output
    dev, test = environments.databases["dev"], environments.databases["test"]
    assert dev.name in refused.stderr
    assert test.name in refused.stderr
    assert "MIGRATOR_EXPORT_URL_AS" in refused.stderr
    assert (dev.tables, dev.revisions, test.tables, test.revisions) == ([], [], [], [])


def test_an_environment_without_its_file_is_an_error_and_not_another_environment(
    environments: Environments,
) -> None:
    """``env.py`` would go on with what python-decouple finds: the database of dev."""
    (environments.copy.path / ".env.prod").unlink()
    for command in (["upgrade"], ["stamp", "head"], ["status"], ["wait"], ["wait", "--for", "head"]):
        refused = environments.run("prod", *command, check=False)
        assert refused.returncode == 2, refused.output
        assert "PROD_DATABASE_URL" in refused.stderr
        assert ".env.prod" in refused.stderr
    assert all(database.revisions == [] for database in environments.databases.values())


# Offline SQL is in test_s4_offline.py, start-up from Python in test_from_python.py.


def test_every_environment_ends_with_the_same_rows(environments: Environments) -> None:
    for name in environments.databases:
        environments.run(name, "upgrade")
    dev, test, prod = map(contents, environments.databases.values())
    assert dev == test == prod
    assert len(dev["public.rooms"]) == 3
