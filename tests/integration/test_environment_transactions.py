"""SQL, transactions and locks of ``env.py``'s own: before ``configure``, inside ``begin_transaction()``, around it."""

from __future__ import annotations

import pytest

from tests.harness import Project, Revision, transaction
from tests.integration.proving import (
    ENGINE,
    RUN,
    SHORTEST_ENV,
    THREE,
    THREE_TABLES,
    Proving,
    Shape,
    nobody_holds_the_lock,
    recording_revisions,
    tables,
)

IN_TENANT = ["tenant.alembic_version", *(f"tenant.{name}" for name in THREE_TABLES)]


def make_tenant(project: Project) -> None:
    assert project.database is not None
    project.database.query("CREATE SCHEMA tenant")


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_sql_before_configure_that_nobody_commits_is_no_success(proving: Proving, driver: str) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    connection.execute(text("SELECT 1"))
    context.configure(connection=connection)
{RUN}"""
    shape = Shape(env, driver=driver)
    alone, ours = proving.project(shape), proving.project(shape)
    assert alone.database is not None
    assert ours.database is not None
    for _ in range(2):
        alone.alembic("upgrade", "head", check=True)
        assert tables(alone.database) == []
        failed = ours.migrator("upgrade")
        assert failed.returncode == 21, failed.output
        assert "began a transaction that nobody commits" in failed.stderr
        assert tables(ours.database) == []
    assert nobody_holds_the_lock(ours.database)


def test_sql_before_configure_that_env_py_commits_itself_afterwards(proving: Proving) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    connection.execute(text("SELECT 1"))
    context.configure(connection=connection)
{RUN}    connection.commit()
"""
    assert proving.prove(Shape(env), contenders=3).database.tables == THREE_TABLES


def test_settings_that_env_py_commits_before_configure(proving: Proving) -> None:
    """Its own lock timeout and search path stay what they are; ours is only the default."""
    env = f"""{ENGINE}
with engine.connect() as connection:
    connection.execute(text("SET lock_timeout = '15s'"))
    connection.execute(text("SET search_path TO tenant"))
    connection.commit()
    context.configure(connection=connection)
{RUN}"""
    noting = recording_revisions("a1", "b2", expression="current_setting('lock_timeout')")
    proof = proving.prove(Shape(env, noting, prepare=make_tenant), contenders=3)
    assert tables(proof.database) == ["tenant.alembic_version", "tenant.noted"]
    assert proof.database.query("SELECT value FROM tenant.noted") == [("15s",), ("15s",)]


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_sql_inside_begin_transaction_holds_for_every_revision(proving: Proving, driver: str) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.execute("SET LOCAL search_path TO tenant")
        context.run_migrations()
"""
    proof = proving.prove(Shape(env, driver=driver, prepare=make_tenant), contenders=3)
    assert tables(proof.database) == IN_TENANT


def test_a_failure_inside_such_a_block_takes_back_all_of_it(proving: Proving) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        connection.execute(text("SET LOCAL search_path TO tenant"))
        context.run_migrations()
"""
    shape = Shape(env, [*THREE, Revision("d4", "c3", 'op.execute("SELECT 1 / 0")')], prepare=make_tenant)
    project = proving.project(shape)
    assert project.database is not None
    failed = project.migrator("upgrade", "--json")
    assert failed.returncode == 20, failed.output
    assert tables(project.database) == []
    outcomes = [step["outcome"] for step in failed.json["targets"][0]["steps"]]
    assert outcomes == ["rolled back"] * 4


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_an_outer_transaction_of_the_engine(proving: Proving, driver: str) -> None:
    env = f"""{ENGINE}
with engine.begin() as connection:
    context.configure(connection=connection)
{RUN}"""
    proof = proving.prove(Shape(env, driver=driver), contenders=3)
    assert proof.database.tables == THREE_TABLES


def test_run_migrations_without_begin_transaction(proving: Proving) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    context.configure(connection=connection)
    context.run_migrations()
    connection.commit()
"""
    assert proving.prove(Shape(env)).database.tables == THREE_TABLES


def test_run_migrations_without_any_commit_succeeds_where_each_revision_has_its_own(proving: Proving) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    context.run_migrations()
"""
    assert proving.prove(Shape(env)).database.tables == THREE_TABLES


def test_one_transaction_for_all_stays_the_projects_choice(proving: Proving) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration=False)
{RUN}"""
    noting = recording_revisions("a1", "b2", "c3", expression="txid_current()")
    project = proving.project(Shape(env, noting))
    assert project.database is not None
    project.migrator("upgrade", check=True)
    assert project.database.query("SELECT count(DISTINCT value) FROM noted") == [(1,)]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_snapshot_from_before_configure(proving: Proving, level: str) -> None:
    """A contender whose snapshot is older than the lock would not see what the one before it applied."""
    env = f"""{ENGINE}
with engine.connect() as connection:
    connection = connection.execution_options(isolation_level="{level}")
    connection.execute(text("SELECT count(*) FROM pg_class"))
    context.configure(connection=connection)
{RUN}    connection.commit()
"""
    assert proving.prove(Shape(env), contenders=3).database.tables == THREE_TABLES


def test_a_lock_of_the_projects_own_and_its_own_patience(proving: Proving) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        connection.execute(text("SET LOCAL lock_timeout = '9s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(7)"))
        context.run_migrations()
"""
    noting = recording_revisions("a1", "b2", expression="current_setting('lock_timeout')")
    proof = proving.prove(Shape(env, noting), contenders=3)
    assert proof.database.query("SELECT value FROM noted") == [("9s",), ("9s",)]


def test_a_lock_of_the_projects_own_that_it_takes_before_configure(proving: Proving) -> None:
    """A run that waits for ours holds theirs, and the other way round: nobody may wait for ever."""
    env = f"""{ENGINE}
with engine.begin() as connection:
    connection.execute(text("SELECT pg_advisory_xact_lock(7)"))
    context.configure(connection=connection)
{RUN}"""
    assert proving.prove(Shape(env), contenders=3).database.tables == THREE_TABLES


def test_a_schema_that_three_runs_create_at_once(proving: Proving) -> None:
    """Without the lock they race in the catalog: a duplicate key on ``pg_namespace_nspname_index``."""
    env = f"""{ENGINE}
import time, os
with engine.connect() as connection:
    exists = connection.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant'"))
    if not exists:
        time.sleep(0.3)
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS tenant"))
        time.sleep(0.3)
    connection.commit()
    connection.execute(text("SET search_path TO tenant"))
    connection.commit()
    context.configure(connection=connection)
{RUN}"""
    proof = proving.prove(Shape(env), contenders=3)
    assert tables(proof.database) == IN_TENANT


def test_the_first_revision_creates_the_schema_that_the_search_path_names_first(proving: Proving) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    connection.execute(text("SET search_path TO tenant, public"))
    connection.commit()
    context.configure(connection=connection)
{RUN}"""
    create = Revision("a0", None, 'op.execute("CREATE SCHEMA tenant")')
    others = [Revision("a1", "a0", 'op.execute("CREATE TABLE t_a1 (id int)")')]
    proof = proving.prove(Shape(env, [create, *others]), contenders=3)
    assert tables(proof.database) == ["public.alembic_version", "tenant.t_a1"]


def test_env_py_that_reads_the_version_with_a_context_of_its_own_first(proving: Proving) -> None:
    env = f"""{ENGINE}
from alembic.migration import MigrationContext
with engine.connect() as connection:
    before = MigrationContext.configure(connection).get_current_heads()
    connection.rollback()
    print("it was at", before)
    context.configure(connection=connection)
{RUN}"""
    proof = proving.prove(Shape(env))
    assert proof.database.tables == THREE_TABLES
    assert "it was at ('c3',)" in proof.runs[-1].stderr


def test_a_concurrent_index_build_under_an_outer_transaction_is_explained(proving: Proving) -> None:
    env = f"""{ENGINE}
with engine.begin() as connection:
    context.configure(connection=connection)
{RUN}"""
    build = """\
        with op.get_context().autocommit_block():
            op.create_index("ix", "t_a1", ["id"], postgresql_concurrently=True)
        """
    shape = Shape(env, [THREE[0], Revision("b2", "a1", build)])
    alone, ours = proving.project(shape), proving.project(shape)
    assert "AssertionError" in alone.alembic("upgrade", "head").stderr
    failed = ours.migrator("upgrade")
    assert failed.returncode == 20, failed.output
    assert "autocommit_block() cannot work" in failed.stderr
    assert "engine.connect()" in failed.stderr
    assert ours.database is not None
    assert tables(ours.database) == []


def test_a_concurrent_index_build_commits_what_came_before_it(proving: Proving) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    context.configure(connection=connection)
{RUN}"""
    build = """\
        op.add_column("t_a1", sa.Column("name", sa.Text))
        with op.get_context().autocommit_block():
            op.create_index("ix", "t_a1", ["name"], postgresql_concurrently=True)
        op.add_column("t_a1", sa.Column("more", sa.Text))
        """
    proof = proving.prove(Shape(env, [THREE[0], Revision("b2", "a1", build)]), contenders=3)
    assert proof.database.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix'::regclass") == [
        (True,)
    ]


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
@pytest.mark.parametrize(
    "commits",
    [
        'op.execute("CREATE TABLE half (id int)"); op.get_bind().commit()',
        'op.execute("CREATE TABLE half (id int)"); op.get_bind().connection.commit()',
        'op.execute("CREATE TABLE half (id int); COMMIT; SELECT 1/0")',
        'op.execute("CREATE TABLE half (id int); COMMIT; BEGIN; SELECT 1/0")',
    ],
)
def test_what_a_revision_commits_by_itself_is_not_said_to_be_undone(
    proving: Proving, commits: str, driver: str
) -> None:
    revision = Revision("a1", None, f'{commits}\nraise RuntimeError("no")')
    project = proving.project(Shape(SHORTEST_ENV, [revision], driver=driver))
    assert project.database is not None
    failed = project.migrator("upgrade")
    assert failed.returncode == 20, failed.output
    assert "half" in project.database.tables
    assert "rolled back" not in failed.stderr
    assert "left  " in failed.stderr


def test_a_script_that_commits_is_not_run_twice_after_a_lock_timeout(proving: Proving) -> None:
    script = "INSERT INTO noted VALUES (1); COMMIT; BEGIN; ALTER TABLE busy ADD COLUMN note text"
    project = proving.project(Shape(SHORTEST_ENV, [Revision("a1", None, f"op.execute({script!r})")]))
    assert project.database is not None
    project.database.query("CREATE TABLE noted (id int)")
    project.database.query("CREATE TABLE busy (id int)")
    with transaction(project.database.url, "LOCK TABLE busy"):
        failed = project.migrator("upgrade")
    assert failed.returncode == 12, failed.output
    assert project.database.query("SELECT count(*) FROM noted") == [(1,)]
