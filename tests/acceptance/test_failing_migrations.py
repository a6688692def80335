"""What the server refuses during a run: told with the statement, the server's words and what helps."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import refused
from tests.harness import Database, Project, Revision, Role, Server, query, table_revision, table_revisions

MakeProject = Callable[..., Project]

FILLED = table_revision("a1", None, "orders")
FILL = "INSERT INTO orders DEFAULT VALUES; INSERT INTO orders DEFAULT VALUES"


@pytest.fixture
def ordinary(new_role: Callable[..., Role]) -> Role:
    """A role that owns nothing and may nothing."""
    return new_role()


def as_role(database: Database, role: Role) -> dict[str, str]:
    url = database.server.url_of(database.name, user=role.name, password=role.password)
    return {"MIGRATOR_DATABASE_URL": url}


def test_not_null_on_filled_rows_is_told_with_the_way_around(
    project: MakeProject, database: Database
) -> None:
    shop = project(revisions=[FILLED])
    shop.migrator("upgrade", check=True)
    database.query(FILL)
    body = """
        op.execute("SELECT 1")
        op.add_column("orders", sa.Column("placed_at", sa.DateTime, nullable=False))
    """
    shop.add_revision("9a0c12", "a1", body, message="add orders.placed_at")
    shop.add(table_revision("b7730e", "9a0c12"))
    told = refused(
        shop,
        "upgrade",
        code=ExitCode.MIGRATION_FAILED,
        says=[
            "9a0c12  add orders.placed_at",
            "migrations/versions/9a0c12_add_orders_placed_at.py:13",
            "ALTER TABLE orders ADD COLUMN placed_at TIMESTAMP WITHOUT TIME ZONE NOT NULL",
            '23502: column "placed_at" of relation "orders" contains null values',
            "at a1, read on a new connection · rolled back: 9a0c12 · not tried: b7730e",
        ],
        then=[
            "The same image will fail again",
            "nullable, fill it, then set NOT NULL",
            "migrator explain not-null",
        ],
        harmless=False,
    )
    assert database.revisions == ["a1"]
    assert (told.error["line"], told.error["sqlstate"], told.error["revision"]) == (13, "23502", "9a0c12")


def test_what_was_applied_before_the_failure_stays_and_is_told(
    project: MakeProject, database: Database
) -> None:
    shop = project(revisions=table_revisions("a1", "b2"))
    shop.add_revision("c3", "b2", 'op.execute("SELECT 1 / 0")', message="divide")
    refused(
        shop,
        "upgrade",
        code=ExitCode.MIGRATION_FAILED,
        says=[
            "c3  divide",
            "SELECT 1 / 0",
            "22012: division by zero",
            "at b2",
            "applied: a1, b2",
            "rolled back: c3",
        ],
        then=["Correct the revision"],
        harmless=False,
    )
    assert (database.revisions, database.tables) == (["b2"], ["t_a1", "t_b2"])


def test_the_rows_of_somebody_are_not_quoted(project: MakeProject, database: Database) -> None:
    shop = project(revisions=[FILLED])
    shop.migrator("upgrade", check=True)
    database.query("ALTER TABLE orders ADD COLUMN note text, ADD COLUMN total int")
    database.query("INSERT INTO orders (note) VALUES ('call Ms Miller')")
    shop.add_revision("b2", "a1", 'op.execute("UPDATE orders SET id = NULL")')
    told = refused(
        shop,
        "upgrade",
        code=ExitCode.MIGRATION_FAILED,
        says=["23502", "UPDATE orders SET id = NULL"],
        then=["migrator explain not-null"],
        harmless=False,
    )
    assert "Miller" not in told.completed.output


def test_a_pending_revision_with_a_syntax_error_is_told_before_anything_runs(project: MakeProject) -> None:
    shop = project(revisions=table_revisions("a1", "b2"))
    broken = shop.add_revision("c3", "b2", message="break")
    broken.write_text(broken.read_text().replace("def upgrade():", "def upgrade(:"))
    told = refused(
        shop,
        "upgrade",
        code=ExitCode.MIGRATION_FAILED,
        says=["migrations/versions/c3_break.py:11", "SyntaxError"],
        then=["Correct the file, build again"],
    )
    assert told.error["line"] == 11


def test_a_pending_revision_that_cannot_be_imported_is_told_before_anything_runs(
    project: MakeProject,
) -> None:
    shop = project(revisions=table_revisions("a1"))
    shop.add_revision("b2", "a1", header="import shop.models", message="use models")
    told = refused(
        shop,
        "upgrade",
        code=ExitCode.MIGRATION_FAILED,
        says=["migrations/versions/b2_use_models.py:4", "ModuleNotFoundError: No module named 'shop'"],
        then=["Correct the file, build again"],
    )
    assert told.error["line"] == 4


def test_python_code_that_fails_is_told_with_its_line(project: MakeProject) -> None:
    shop = project()
    shop.add_revision("a1", None, "rates = {}\nrates['EUR']\n", message="convert")
    refused(
        shop,
        "upgrade",
        code=ExitCode.MIGRATION_FAILED,
        says=["a1  convert", "migrations/versions/a1_convert.py:13", "KeyError: 'EUR'", "rolled back: a1"],
        then=["Correct the revision"],
        harmless=False,
    )


def test_a_statement_that_takes_too_long_is_ended_and_told_with_the_setting(project: MakeProject) -> None:
    shop = project()
    shop.add_revision("a1", None, 'op.execute("SELECT pg_sleep(30)")')
    refused(
        shop,
        "upgrade",
        "--statement-timeout",
        "200ms",
        code=ExitCode.MIGRATION_FAILED,
        says=[
            "SELECT pg_sleep(30)",
            "57014: canceling statement due to statement timeout",
            "rolled back: a1",
        ],
        then=["MIGRATOR_STATEMENT_TIMEOUT"],
        harmless=False,
    )


def test_a_version_table_that_may_not_be_read_is_a_matter_of_rights(
    project: MakeProject, database: Database, ordinary: Role
) -> None:
    shop = project(revisions=table_revisions("a1", "b2"))
    shop.migrator("upgrade", "a1", check=True)
    for command in ("upgrade", "status"):
        told = refused(
            shop,
            command,
            env=as_role(database, ordinary),
            code=ExitCode.REFUSED,
            says=["permission denied for table alembic_version", "42501"],
            then=[f"Grant {ordinary.name}"],
            secrets=[ordinary.password],
        )
        # It is at a1, and nobody could see that.
        assert "was at base" not in told.completed.stderr


def test_a_schema_in_which_nothing_may_be_made_is_a_matter_of_rights(
    project: MakeProject, database: Database, ordinary: Role
) -> None:
    database.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    shop = project(revisions=table_revisions("a1"))
    refused(
        shop,
        "upgrade",
        env=as_role(database, ordinary),
        code=ExitCode.REFUSED,
        says=["permission denied for schema public", "42501"],
        then=[f"Grant {ordinary.name}"],
        secrets=[ordinary.password],
    )


def test_a_table_that_belongs_to_somebody_else_is_a_matter_of_rights(
    project: MakeProject, database: Database, ordinary: Role
) -> None:
    database.query("CREATE TABLE orders (id int)")
    database.query(f'GRANT CREATE ON SCHEMA public TO "{ordinary.name}"')
    shop = project()
    shop.add_revision("a1", None, 'op.add_column("orders", sa.Column("note", sa.Text))', message="add note")
    refused(
        shop,
        "upgrade",
        env=as_role(database, ordinary),
        code=ExitCode.REFUSED,
        says=["a1  add note", "must be owner of table orders", "ALTER TABLE orders ADD COLUMN note TEXT"],
        then=[f"Grant {ordinary.name}"],
        harmless=False,
    )
    assert database.revisions == []


@contextmanager
def small_disk(server: Server) -> Iterator[str | None]:
    """The name of a tablespace on a disk of one megabyte; None where the server or our rights allow none."""
    ((data_directory,),) = query(server.url, "SHOW data_directory")
    if os.geteuid() != 0 or not Path(data_directory).exists():
        yield None
        return
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    options = f"size=1m,uid={Path(data_directory).stat().st_uid},mode=700"
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=False).returncode == 0
    )
    name = folder.name
    try:
        if mounted:
            query(server.url, f"CREATE TABLESPACE \"{name}\" LOCATION '{folder}'")
        yield name if mounted else None
    finally:
        if mounted:
            query(server.url, f'DROP TABLESPACE IF EXISTS "{name}"')
            subprocess.run(["umount", folder], check=True)
        shutil.rmtree(folder)


ANNOUNCED = "op.execute(\"DO $$ BEGIN RAISE disk_full USING MESSAGE = 'No space left on device'; END $$\")"
REAL = """
op.execute('CREATE TABLE big (t text) TABLESPACE "{tablespace}"')
op.execute("INSERT INTO big SELECT repeat(md5(i::text), 50) FROM generate_series(1, 20000) i")
"""


def test_a_full_disk_is_nothing_that_another_image_corrects(
    project: MakeProject, server: Server, database: Database
) -> None:
    shop = project(revisions=table_revisions("a1"))
    with small_disk(server) as tablespace:
        shop.add_revision("b2", "a1", REAL.format(tablespace=tablespace) if tablespace else ANNOUNCED)
        told = refused(
            shop,
            "upgrade",
            code=ExitCode.MIGRATION_FAILED,
            says=["53100", "No space left on device", "applied: a1", "rolled back: b2"],
            then=["free or add space, then run the same command again"],
            harmless=False,
        )
    assert told.error["sqlstate"] == "53100"
    assert (database.revisions, database.tables) == (["a1"], ["t_a1"])


CHANGED_UNSEEN = """
bind = op.get_bind()
op.execute("CREATE TABLE items (id int)")
bind.exec_driver_sql("SELECT * FROM items")
op.execute("DO $$ BEGIN ALTER TABLE items ADD COLUMN n int; END $$")
bind.exec_driver_sql("SELECT * FROM items")
"""


@pytest.mark.parametrize(
    ("body", "says", "then"),
    [
        (
            'op.execute("CREATE TABLE a (id int); CREATE TABLE b (id int)")',
            "42601: cannot insert multiple commands",
            "asyncpg takes one statement at a time",
        ),
        (CHANGED_UNSEEN, "cached statement plan is invalid", "prepared_statement_cache_size=0"),
    ],
    ids=["several statements", "a cached plan"],
)
def test_what_asyncpg_alone_does_not_take_is_told_with_the_way_around(
    project: MakeProject, body: str, says: str, then: str
) -> None:
    shop = project("async", revisions=[Revision("a1", None, body)])
    refused(
        shop,
        "upgrade",
        code=ExitCode.MIGRATION_FAILED,
        says=[says, "rolled back: a1"],
        then=[then, "migrator explain asyncpg"],
        harmless=False,
    )
    assert "asyncpg" in shop.migrator("explain", "asyncpg", check=True).stdout


def test_without_cached_plans_asyncpg_reads_a_table_that_was_changed_unseen(
    project: MakeProject, database: Database
) -> None:
    shop = project("async", revisions=[Revision("a1", None, CHANGED_UNSEEN)])
    url = f"{database.sqlalchemy_url('asyncpg')}?prepared_statement_cache_size=0"
    shop.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": url}, check=True)
    assert database.tables == ["items"]
