"""S3: SQLModel, commands from a folder below the project, and a history that two people add to at once."""

from __future__ import annotations

import re
import shlex
import shutil
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.harness import Database, transaction, wait_until
from tests.scenarios.shapes import TOOLS, Copy, Tool

FOLDER = "s3_sqlmodel_branches"
VERSIONS = "database/migrations/versions"
FIRST = "1b6f3a0d72ce"
ALEMBIC, MIGRATOR = TOOLS["alembic"], TOOLS["migrator"]
both_tools = pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
TITLE = "    title: str\n"


def heroku(database: Database) -> str:
    """The URL as the platform hands it out."""
    return database.url.replace("postgresql://", "postgres://", 1)


@pytest.fixture
def clone(database: Database, tmp_path: Path) -> Callable[[str], Copy]:
    """A clone of the repository for somebody who works on it."""

    def make(name: str) -> Copy:
        return Copy(FOLDER, tmp_path / name, {"DATABASE_URL": heroku(database)}, run_in="database")

    return make


@pytest.fixture
def copy(clone: Callable[[str], Copy]) -> Copy:
    return clone("tickets")


def newest(copy: Copy) -> Path:
    return copy.revisions(VERSIONS)[-1]


def id_of(file: Path) -> str:
    return file.name.split("_")[0]


@both_tools
def test_it_runs_from_the_folder_of_its_ini_file_with_the_platforms_url(
    tool: Tool, copy: Copy, database: Database
) -> None:
    copy.run(tool, "upgrade", "head")
    assert (database.revisions, database.tables) == ([FIRST], ["person", "ticket"])
    copy.run(tool, "downgrade", "base")
    copy.run(tool, "upgrade", "head")
    copy.run(ALEMBIC, "check")


def test_the_platforms_url_may_also_be_that_of_the_run(copy: Copy, database: Database) -> None:
    copy.variables = {"MIGRATOR_DATABASE_URL": heroku(database)}
    copy.run(MIGRATOR, "upgrade")
    copy.run(MIGRATOR, "status", "--exit-code")
    assert database.tables == ["person", "ticket"]


def test_a_project_that_takes_the_platforms_url_as_it_is_works_where_bare_alembic_does_not(
    copy: Copy, database: Database
) -> None:
    copy.replace("tickets/settings.py", '.replace("postgres://", "postgresql://", 1)', "")
    assert "NoSuchModuleError" in copy.run(ALEMBIC, "upgrade", "head", check=False).stderr
    copy.run(MIGRATOR, "upgrade")
    assert database.tables == ["person", "ticket"]


@both_tools
def test_revisions_with_sqlmodels_own_types_are_generated_and_run(
    tool: Tool, copy: Copy, database: Database
) -> None:
    copy.run(tool, "upgrade", "head")
    copy.replace("tickets/models.py", TITLE, f"{TITLE}    note: Optional[str] = Field(default=None)\n")
    copy.run(tool, "revision", "--autogenerate", "-m", "notes")
    assert "sqlmodel.sql.sqltypes.AutoString()" in newest(copy).read_text()
    copy.run(tool, "upgrade", "head")
    assert database.revisions == [id_of(newest(copy))]
    copy.run(ALEMBIC, "check")


# Two people


def work_in_parallel(clone: Callable[[str], Copy], tool: Tool) -> tuple[Copy, list[Path]]:
    """Two people add a column and a revision each, in clones of their own, and git merges both without a word."""
    mine, theirs = clone("mine"), clone("theirs")
    mine.run(tool, "upgrade", "head")
    due = "    due_on: Optional[date] = Field(default=None)\n"
    mine.replace("tickets/models.py", TITLE, TITLE + due)
    mine.run(tool, "revision", "--autogenerate", "-m", "tickets are due")
    phone = "    phone: Optional[str] = Field(default=None)\n"
    theirs.replace("tickets/models.py", "    email:", f"{phone}    email:")
    theirs.run(tool, "revision", "--autogenerate", "-m", "people have phones")
    mine.replace("tickets/models.py", "    email:", f"{phone}    email:")
    shutil.copy(newest(theirs), mine.path / VERSIONS)
    return mine, [file for file in mine.revisions(VERSIONS) if id_of(file) != FIRST]


def test_bare_alembic_names_neither_file_nor_the_command_that_helps(clone: Callable[[str], Copy]) -> None:
    merged, files = work_in_parallel(clone, ALEMBIC)
    failed = merged.run(ALEMBIC, "upgrade", "head", check=False)
    assert failed.returncode != 0
    assert "Multiple head revisions" in failed.stderr + failed.stdout
    assert not any(file.name in failed.output for file in files)
    assert "merge" not in failed.output


def test_two_heads_are_named_with_their_files_and_the_command_that_joins_them(
    clone: Callable[[str], Copy], database: Database
) -> None:
    merged, files = work_in_parallel(clone, MIGRATOR)
    refused = merged.run(MIGRATOR, "upgrade", check=False)
    assert refused.returncode == 23, refused.output
    for file in files:
        assert f"{id_of(file)} (migrations/versions/{file.name})" in refused.stderr
    assert f"both after {FIRST}" in refused.stderr
    assert (database.revisions, database.tables) == ([FIRST], ["person", "ticket"])
    given = re.search(r"migrator (merge .*?), commit the file", refused.stderr)
    assert given, refused.stderr
    merged.run(MIGRATOR, *shlex.split(given[1]))
    applied_by(merged, database)


def test_a_merge_of_all_heads_runs(clone: Callable[[str], Copy], database: Database) -> None:
    merged, _ = work_in_parallel(clone, MIGRATOR)
    merged.run(MIGRATOR, "merge", "heads", "-m", "merge due dates and phones")
    applied_by(merged, database)


def applied_by(merged: Copy, database: Database) -> None:
    """With the revision that joins them, both are applied, and the models agree with the database."""
    merge = newest(merged)
    assert "merge" in merge.name
    merged.run(MIGRATOR, "upgrade")
    assert database.revisions == [id_of(merge)]
    merged.run(ALEMBIC, "check")
    merged.run(MIGRATOR, "status", "--exit-code")


def test_who_is_at_one_of_the_branches_already_gets_the_other_by_the_merge(
    clone: Callable[[str], Copy], database: Database
) -> None:
    merged, files = work_in_parallel(clone, MIGRATOR)
    merged.run(MIGRATOR, "upgrade", id_of(files[0]))
    merged.run(MIGRATOR, "merge", "heads", "-m", "merge")
    applied_by(merged, database)


# A million rows

ROWS = 1_000_000
MILLION = f"INSERT INTO ticket (title, opened_on) SELECT 'ticket ' || n, now() FROM generate_series(1, {ROWS}) AS s (n)"
HEADER = '''\
"""{message}"""
import sqlalchemy as sa
from alembic import op

revision = "{id}"
down_revision = "{down}"
branch_labels = None
depends_on = None


def upgrade() -> None:
'''
ONE_REVISION = """\
    op.add_column("ticket", sa.Column("priority", sa.Integer(), nullable=True))
    op.execute("UPDATE ticket SET priority = 3")
    op.alter_column("ticket", "priority", nullable=False)
"""
ADD = """\
    op.add_column("ticket", sa.Column("priority", sa.Integer(), nullable=True))
"""
FILL = """\
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        last = connection.scalar(sa.text("SELECT max(id) FROM ticket"))
        for first in range(1, last + 1, 20_000):
            connection.execute(
                sa.text("UPDATE ticket SET priority = 3 WHERE id BETWEEN :first AND :last AND priority IS NULL"),
                {"first": first, "last": first + 19_999},
            )
"""
PROMISE = """\
    op.create_check_constraint("priority_set", "ticket", "priority IS NOT NULL", postgresql_not_valid=True)
"""
SET = """\
    op.execute("ALTER TABLE ticket VALIDATE CONSTRAINT priority_set")
    op.alter_column("ticket", "priority", nullable=False)
    op.drop_constraint("priority_set", "ticket")
"""
PATIENCE = "5s"
"""As long as the application waits for a lock; then its requests fail. The server keeps the time."""


def add(copy: Copy, *bodies: str) -> None:
    """Revisions that were written by hand, one after the other."""
    ids = [FIRST, *(f"{number:012x}" for number in range(1, len(bodies) + 1))]
    for body, down, one in zip(bodies, ids, ids[1:], strict=False):
        head = HEADER.format(message=f"priority, {one[-1]}", id=one, down=down)
        (copy.path / VERSIONS / f"{one}_priority.py").write_text(head + body)


class Traffic(threading.Thread):
    """An application that changes tickets all the time, each change in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._enough = threading.Event()
        self.patience = PATIENCE
        self.changes = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with closing(psycopg2.connect(self._database.url, application_name="tickets-web")) as connection:
                cursor = connection.cursor()
                while not self._enough.is_set():
                    cursor.execute(f"SET LOCAL lock_timeout = '{self.patience}'")
                    number = self.changes * 7919 % ROWS + 1
                    cursor.execute("UPDATE ticket SET title = title || '!' WHERE id = %s", [number])
                    connection.commit()
                    self.changes += 1
        except Exception as error:
            self.error = error

    def goes_on(self) -> bool:
        """Changes are made from now on; an application that has failed makes none."""
        before = self.changes
        wait_until(lambda: self.changes > before + 1 or self.error, "the application goes on")
        return self.error is None

    def __enter__(self) -> Traffic:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.join(120)


@pytest.fixture
def million(copy: Copy, database: Database) -> Copy:
    """The project with a million tickets."""
    copy.run(MIGRATOR, "upgrade")
    database.query(MILLION)
    database.query("ANALYZE ticket")
    return copy


def everything_is_there(database: Database, traffic: Traffic) -> None:
    assert traffic.error is None
    counted = "SELECT count(*), count(priority), sum(length(title) - length(rtrim(title, '!'))) FROM ticket"
    assert database.query(counted) == [(ROWS, ROWS, traffic.changes)], "no change of the application is lost"
    nullable = (
        "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'ticket'::regclass AND attname = 'priority'"
    )
    assert database.query(nullable) == [(True,)]


def test_under_bare_alembic_the_application_fails_behind_an_alter_that_waits(
    million: Copy, database: Database
) -> None:
    add(million, ONE_REVISION)
    with transaction(database.url, "SELECT count(*) FROM ticket") as report, Traffic(database) as traffic:
        assert traffic.goes_on()
        bare = threading.Thread(target=million.run, args=(ALEMBIC, "upgrade", "head"), daemon=True)
        bare.start()
        wait_until(lambda: traffic.error, "the application's patience is at its end")
        report.rollback()
        bare.join(60)
    assert isinstance(traffic.error, psycopg2.errors.LockNotAvailable)


def test_a_column_is_filled_and_made_not_null_in_one_revision_while_the_application_writes(
    million: Copy, database: Database
) -> None:
    """While something is in the way of the ALTER, nobody waits for it longer than the lock timeout allows."""
    add(million, ONE_REVISION)
    with Traffic(database) as traffic:
        with transaction(database.url, "SELECT count(*) FROM ticket"):
            run = million.start("upgrade")
            run.wait_for_line(r"blocked .* on ticket by pid \d+ .*; try 3, next in")
            assert traffic.goes_on()
            # The revision holds the table from its ALTER to its COMMIT, over the UPDATE: as long as that takes.
            traffic.patience = "0"
            assert traffic.goes_on()
        ended = run.wait(120)
        assert traffic.goes_on()
    assert ended.returncode == 0, ended.output
    assert re.search(r"1/1 +0+1 .*\(\d+ tries\)", ended.stderr), ended.stderr
    everything_is_there(database, traffic)


def test_in_the_revisions_of_the_recipe_nobody_waits_longer_than_the_lock_timeout_allows(
    million: Copy, database: Database
) -> None:
    add(million, ADD, FILL, PROMISE, SET)
    with Traffic(database) as traffic:
        with transaction(database.url, "SELECT count(*) FROM ticket"):
            run = million.start("upgrade")
            run.wait_for_line(r"blocked .* on ticket by pid \d+ .*; try 2, next in")
            assert traffic.goes_on()
        ended = run.wait(180)
        assert traffic.goes_on()
    assert ended.returncode == 0, ended.output
    everything_is_there(database, traffic)
