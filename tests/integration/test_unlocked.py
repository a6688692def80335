"""A database that there is no run lock for: refused, and run where that was asked for in so many words.

DuckDB stands for all of them (CockroachDB, Oracle, SQL Server …): a real one, and in a wheel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from tests.harness import SYNC_ENV, UNSET, Database, Project, Revision, table_revisions, write_project

# As DuckDB's users have it: Alembic wants to be told of a dialect that it does not know.
ENV = f"""\
from alembic.ddl.impl import DefaultImpl


class DuckDBImpl(DefaultImpl):
    __dialect__ = "duckdb"


{SYNC_ENV}"""
THREE = [
    Revision("a1", None, 'op.execute("CREATE TABLE t_a1 (id INTEGER)")', 'op.execute("DROP TABLE t_a1")'),
    Revision("b2", "a1", 'op.execute("CREATE TABLE t_b2 (id INTEGER)")', 'op.execute("DROP TABLE t_b2")'),
]
MakeProject = Callable[..., Project]


def query(project: Project, statement: str) -> list[tuple[object, ...]]:
    with closing(duckdb.connect(str(project.path / "shop.duckdb"))) as connection:
        return connection.execute(statement).fetchall()


def state(project: Project) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    tables = query(project, "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 't_%' ORDER BY 1")
    return tables, query(project, "SELECT version_num FROM alembic_version")


@pytest.fixture
def make(tmp_path: Path) -> MakeProject:
    def write(revisions: Sequence[Revision] = THREE) -> Project:
        path = tmp_path / "shop"
        url = f"duckdb:///{path}/shop.duckdb"
        project = write_project(path, None, env=ENV, revisions=revisions, options={"sqlalchemy.url": url})
        project.variables["MIGRATOR_DATABASE_URL"] = url
        return project

    return write


def test_bare_alembic_migrates_it(make: MakeProject) -> None:
    project = make()
    assert project.alembic("upgrade", "head").returncode == 0
    assert state(project) == ([("t_a1",), ("t_b2",)], [("b2",)])


@pytest.mark.parametrize("url", ["configured", "known to env.py alone"])
def test_it_is_refused_with_what_is_missing_and_what_to_set(make: MakeProject, url: str) -> None:
    project = make()
    refused = project.migrator("upgrade", env={} if url == "configured" else {"MIGRATOR_DATABASE_URL": UNSET})
    assert refused.returncode == 2, refused.output
    assert "duckdb is not supported: there is no run lock for it" in refused.stderr
    assert "MIGRATOR_LOCK=none" in refused.stderr


@pytest.mark.parametrize("url", ["configured", "known to env.py alone"])
def test_without_the_lock_it_is_migrated_verified_and_said_to_be_unguarded(
    make: MakeProject, url: str
) -> None:
    project = make()
    project.variables |= {} if url == "configured" else {"MIGRATOR_DATABASE_URL": UNSET}
    done = project.migrator("upgrade", "--lock", "none", check=True)
    assert f"target    {project.path}/shop.duckdb · from " in done.stderr
    assert "lock      none" in done.stderr
    assert "nothing keeps two runs apart" in done.stderr
    assert "verified  at b2" in done.stderr
    assert state(project) == ([("t_a1",), ("t_b2",)], [("b2",)])
    assert "nothing to do" in project.migrator("upgrade", "--lock", "none", check=True).stderr
    project.migrator("status", "--exit-code", "--lock", "none", check=True)
    project.migrator("downgrade", "base", env={"MIGRATOR_LOCK": "none"}, check=True)
    assert state(project) == ([], [])


def test_status_of_an_empty_one_says_what_is_pending(make: MakeProject) -> None:
    project = make()
    looked = project.migrator("status", "--exit-code", "--lock", "none")
    assert looked.returncode == 3, looked.output
    assert "at base, no version table yet · 2 pending: a1, b2" in looked.stdout


def test_a_failed_revision_does_not_claim_that_all_of_it_was_undone(make: MakeProject) -> None:
    """Whether the database undoes DDL is not known: what may be left is named."""
    body = 'op.execute("CREATE TABLE half (id INTEGER)")\nop.execute("INSERT INTO nowhere VALUES (1)")'
    failed = make([Revision("a1", None, body)]).migrator("upgrade", "--lock", "none")
    assert failed.returncode == 20, failed.output
    assert "nowhere" in failed.stderr
    assert "CREATE TABLE half" in failed.stderr.split("left ")[1]


def test_a_run_without_a_lock_is_told_apart_in_its_json(make: MakeProject) -> None:
    done = make().migrator("upgrade", "--lock", "none", "--log-format", "json", check=True)
    assert '"lock"' in done.stderr
    assert "nothing keeps two runs apart" in done.stderr


def test_a_wrong_value_of_lock_is_refused(make: MakeProject) -> None:
    refused = make(table_revisions("a1")).migrator("upgrade", env={"MIGRATOR_LOCK": "off"})
    assert refused.returncode == 2, refused.output
    assert "'auto', 'node' or 'none'" in refused.stderr


LIKE_COCKROACHDB = """
CREATE SCHEMA fake;
CREATE FUNCTION fake.current_setting(name text, missing_ok boolean) RETURNS text LANGUAGE sql AS $$
  SELECT CASE name WHEN 'crdb_version' THEN 'CockroachDB CCL v24.1'
  ELSE pg_catalog.current_setting(name, missing_ok) END
$$
"""


def test_a_server_that_speaks_postgresql_and_has_no_advisory_locks_is_noticed(
    database: Database, tmp_path: Path
) -> None:
    """CockroachDB answers ``pg_try_advisory_lock`` with true, always. What it tells of itself is imitated here."""
    database.query(LIKE_COCKROACHDB)
    database.query(f'ALTER DATABASE "{database.name}" SET search_path = fake, pg_catalog, public')
    project = write_project(tmp_path / "shop", database, revisions=table_revisions("a1"))
    refused = project.migrator("upgrade")
    assert refused.returncode == 22, refused.output
    assert "this is CockroachDB" in refused.stderr
    assert "MIGRATOR_LOCK=none" in refused.stderr
    assert database.query("SELECT tablename FROM pg_tables WHERE tablename = 't_a1'") == []


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_a_known_database_runs_without_the_lock_as_well(
    tmp_path: Path, database: Database, driver: str
) -> None:
    """Whatever driver SQLAlchemy would take by itself."""
    project = write_project(tmp_path / "shop", database, revisions=table_revisions("a1", "b2"), driver=driver)
    done = project.migrator("upgrade", "--lock", "none", check=True)
    assert "nothing keeps two runs apart" in done.stderr
    assert database.revisions == ["b2"]


def test_what_postgresql_undoes_is_said_to_be_undone_without_the_lock_as_well(
    tmp_path: Path, database: Database
) -> None:
    body = 'op.execute("CREATE TABLE half (id int)")\nop.execute("SELECT 1 / 0")'
    project = write_project(tmp_path / "shop", database, revisions=[Revision("a1", None, body)])
    failed = project.migrator("upgrade", "--lock", "none")
    assert failed.returncode == 20, failed.output
    assert "22012: division by zero" in failed.stderr
    assert "rolled back: a1" in failed.stderr
    assert "left  " not in failed.stderr
    assert database.tables == []
