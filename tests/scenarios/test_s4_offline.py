"""S4: the SQL of the history, written without a database, fed to the databases' own clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.harness import Database
from tests.scenarios import clients
from tests.scenarios.catalogs import reflected, schema
from tests.scenarios.shapes import TOOLS, Copy
from tests.scenarios.test_s4 import BOOKINGS, CONFIGURATION, FIRST_ROOMS, FOLDER, HEAD, INI

ALEMBIC, MIGRATOR = TOOLS["alembic"], TOOLS["migrator"]
NOBODY = "nobody:told-to-nobody-7@127.0.0.1:1/nowhere"
"""Wrong in each part: whoever connects fails."""

RANGES: Sequence[Sequence[str]] = (
    ("head",),
    ("base:head",),
    (f"base:{BOOKINGS}", f"{BOOKINGS}:{FIRST_ROOMS}", f"{FIRST_ROOMS}:head"),
)
"""The files of each case follow one another."""

BEFORE = (
    "CREATE TABLE legacy (id INTEGER PRIMARY KEY, note VARCHAR(40))",
    "INSERT INTO legacy VALUES (1, 'was here before')",
)
ranges = pytest.mark.parametrize("parts", RANGES, ids=[" ".join(parts) for parts in RANGES])


class Writer:
    """The project with credentials that are wrong, and files of SQL written from it."""

    def __init__(self, path: Path, scheme: str) -> None:
        url = f"{scheme}://{NOBODY}"
        self.copy = Copy(FOLDER, path, {"DEV_DATABASE_URL": url, "MIGRATOR_DATABASE_URL": url})
        (path / "pyproject.toml").write_text(CONFIGURATION)

    def write(self, *parts: str) -> list[Path]:
        """A file for each range; bare Alembic writes the same."""
        files = []
        for part in parts:
            written = self.copy.run(MIGRATOR, "upgrade", "--sql", part)
            assert written.stdout == self.copy.run(ALEMBIC, *INI, "upgrade", "--sql", part).stdout
            assert "told-to-nobody-7" not in written.stdout + written.stderr
            assert "DROP " not in written.stdout
            files.append(self.copy.path / f"{len(files)}.sql")
            files[-1].write_text(written.stdout)
        return files

    def status(self, url: str) -> None:
        """Fails unless the database is at head."""
        self.copy.variables["MIGRATOR_DATABASE_URL"] = url
        told = self.copy.run(MIGRATOR, "status", "--exit-code").stdout
        assert "up to date" in told


# PostgreSQL


@ranges
def test_psql_applies_what_was_written_without_a_database(
    parts: Sequence[str], database: Database, new_database: Callable[..., Database], tmp_path: Path
) -> None:
    writer = Writer(tmp_path / "rooms", "postgresql")
    for statement in BEFORE:
        database.query(statement)
    for file in writer.write(*parts):
        clients.psql(file, database.url)
    assert database.revisions == [HEAD]
    writer.status(database.url)
    assert database.query("SELECT * FROM legacy") == [(1, "was here before")]
    database.query("DROP TABLE legacy")
    reference = new_database()
    writer.copy.variables["MIGRATOR_DATABASE_URL"] = reference.url
    writer.copy.run(MIGRATOR, "upgrade")
    assert schema(database) == schema(reference)
    rooms = "SELECT name, seats FROM rooms ORDER BY name"
    assert database.query(rooms) == reference.query(rooms)


def test_psql_stops_at_the_first_error_and_what_was_committed_before_is_the_truth(
    database: Database, tmp_path: Path
) -> None:
    writer = Writer(tmp_path / "rooms", "postgresql")
    database.query("CREATE TABLE bookings (id int)")
    [file] = writer.write("head")
    with pytest.raises(AssertionError, match="already exists"):
        clients.psql(file, database.url)
    assert (database.revisions, database.tables) == ([], ["bookings"])


def test_the_way_back_is_written_and_applied_as_well(database: Database, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "rooms", "postgresql")
    for file in writer.write("head"):
        clients.psql(file, database.url)
    written = writer.copy.run(MIGRATOR, "downgrade", "--sql", f"{HEAD}:{BOOKINGS}").stdout
    (tmp_path / "back.sql").write_text(written)
    clients.psql(tmp_path / "back.sql", database.url)
    assert database.revisions == [BOOKINGS]
    assert database.query("SELECT count(*) FROM rooms") == [(0,)]


# SQLite


@ranges
def test_sqlite3_applies_what_was_written_without_a_database(parts: Sequence[str], tmp_path: Path) -> None:
    writer = Writer(tmp_path / "rooms", "sqlite")
    nowhere = f"sqlite:///{tmp_path}/no/such/directory/file.db"
    writer.copy.variables |= {"DEV_DATABASE_URL": nowhere, "MIGRATOR_DATABASE_URL": nowhere}
    (tmp_path / "before.sql").write_text(";\n".join([*BEFORE, ""]))
    applied = tmp_path / "applied.db"
    for file in [tmp_path / "before.sql", *writer.write(*parts)]:
        clients.sqlite3(file, applied)
    assert not (tmp_path / "no").exists()
    writer.status(f"sqlite:///{applied}")
    reference = f"sqlite:///{tmp_path}/reference.db"
    writer.copy.variables["DEV_DATABASE_URL"] = reference
    writer.copy.run(ALEMBIC, *INI, "upgrade", "head")
    made = reflected(f"sqlite:///{applied}")
    assert made.pop("legacy")["rows"] == ["(1, 'was here before')"]
    assert made == reflected(reference)
    assert made["alembic_version"]["rows"] == [f"('{HEAD}',)"]
