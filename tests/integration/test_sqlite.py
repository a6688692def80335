"""SQLite: each revision as a whole or not at all, a lock file beside the database, and what can go wrong with files."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest

from tests.harness import (
    ASYNC_ENV,
    SYNC_ENV,
    UNSET,
    Database,
    Project,
    Revision,
    start,
    table_revisions,
    wait_until,
    write_project,
)

THREE = table_revisions("a1", "b2", "c3")
ENVS = {"pysqlite": SYNC_ENV, "aiosqlite": ASYNC_ENV}
MakeProject = Callable[..., Project]


def query(project: Project, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(project.path / "shop.db")) as connection, connection:
        return connection.execute(statement).fetchall()


def tables(project: Project) -> list[object]:
    found = query(project, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
    return [name for (name,) in found if name != "alembic_version"]


def revisions(project: Project) -> list[object]:
    return [row for (row,) in query(project, "SELECT version_num FROM alembic_version")]


@pytest.fixture(params=ENVS)
def driver(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(tmp_path: Path) -> MakeProject:
    """Write a project on the file ``shop.db`` in its folder."""

    def write(
        revisions: Sequence[Revision] = THREE,
        *,
        env: str = SYNC_ENV,
        driver: str = "pysqlite",
        query: str = "",
    ) -> Project:
        path = tmp_path / "shop"
        url = f"sqlite+{driver}:///{path}/shop.db{query}"
        project = write_project(path, None, env=env, revisions=revisions, options={"sqlalchemy.url": url})
        project.variables["MIGRATOR_DATABASE_URL"] = f"sqlite:///{path}/shop.db"
        return project

    return write


@contextlib.contextmanager
def writing(project: Project) -> Iterator[sqlite3.Connection]:
    """An application in the middle of a write."""
    with closing(sqlite3.connect(project.path / "shop.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


# From empty to head


def test_a_project_goes_to_head_once_and_back(make: MakeProject, driver: str) -> None:
    project = make(env=ENVS[driver], driver=driver)
    first = project.migrator("upgrade", check=True)
    assert "· SQLite 3" in first.stderr
    assert f"target    {project.path}/shop.db ·" in first.stderr
    assert (tables(project), revisions(project)) == (["t_a1", "t_b2", "t_c3"], ["c3"])
    assert "nothing to do: at c3" in project.migrator("upgrade", check=True).stderr
    project.migrator("status", "--exit-code", check=True)
    project.migrator("wait", "--for", "head", check=True)
    project.migrator("downgrade", "a1", check=True)
    assert (tables(project), revisions(project)) == (["t_a1"], ["a1"])
    project.migrator("stamp", "head", check=True)
    assert revisions(project) == ["c3"]


def test_the_file_may_be_known_to_env_py_alone(make: MakeProject, driver: str) -> None:
    project = make(env=ENVS[driver], driver=driver)
    done = project.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": UNSET}, check=True)
    assert f"target    {project.path}/shop.db · SQLite" in done.stderr
    assert "from env.py" in done.stderr


def test_five_runs_at_once_apply_each_revision_once(make: MakeProject, driver: str) -> None:
    log = "op.execute(\"INSERT INTO log VALUES ('{}')\")"
    project = make(
        [
            Revision(
                "a1", None, 'op.create_table("log", sa.Column("revision", sa.Text))\n' + log.format("a1")
            ),
            Revision("b2", "a1", log.format("b2")),
            Revision("c3", "b2", log.format("c3")),
        ],
        env=ENVS[driver],
        driver=driver,
    )
    ended = [run.wait(90) for run in [project.start("upgrade") for _ in range(5)]]
    assert [one.output for one in ended if one.returncode != 0] == []
    assert query(project, "SELECT revision FROM log ORDER BY rowid") == [("a1",), ("b2",), ("c3",)]
    assert len([one for one in ended if "nothing to do" in one.stderr]) == 4


# A revision is applied as a whole


def test_a_revision_that_fails_leaves_nothing_of_itself(make: MakeProject, driver: str) -> None:
    broken = """
        op.create_table("half", sa.Column("id", sa.Integer))
        op.execute("INSERT INTO half VALUES (1)")
        op.execute("INSERT INTO nowhere VALUES (1)")
    """
    project = make([*THREE, Revision("d4", "c3", broken)], env=ENVS[driver], driver=driver)
    failed = project.migrator("upgrade")
    assert failed.returncode == 20, failed.output
    assert "SQLITE_ERROR: no such table: nowhere" in failed.stderr
    assert "rolled back: d4" in failed.stderr
    assert (tables(project), revisions(project)) == (["t_a1", "t_b2", "t_c3"], ["c3"])


def test_bare_alembic_leaves_half_of_it(make: MakeProject) -> None:
    """Why the transaction is begun here: the driver does not begin one before DDL."""
    broken = (
        'op.create_table("half", sa.Column("id", sa.Integer))\nop.execute("INSERT INTO nowhere VALUES (1)")'
    )
    project = make([Revision("a1", None, broken)])
    assert project.alembic("upgrade", "head").returncode != 0
    assert "half" in tables(project)


@pytest.mark.parametrize("pragma", ["PRAGMA foreign_keys = OFF", "pragma main.foreign_keys(0)"])
def test_foreign_keys_can_be_switched_off_in_the_middle_of_a_revision(make: MakeProject, pragma: str) -> None:
    """The pragma does nothing inside a transaction: dropping the parent would then empty the child."""
    env = SYNC_ENV.replace(
        "    with connectable.connect() as connection:\n",
        "    with connectable.connect() as connection:\n"
        '        connection.exec_driver_sql("PRAGMA foreign_keys = ON")\n'
        "        connection.commit()\n",
    )
    rebuild = f"""
        op.create_table("audit", sa.Column("id", sa.Integer))
        op.execute("{pragma}")
        with op.batch_alter_table("parent", recreate="always") as batch:
            batch.add_column(sa.Column("name", sa.Text))
        op.execute("PRAGMA foreign_keys = ON")
    """
    first = """
        op.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        op.execute("CREATE TABLE child (id INTEGER, parent REFERENCES parent (id) ON DELETE CASCADE)")
        op.execute("INSERT INTO parent VALUES (1)")
        op.execute("INSERT INTO child VALUES (1, 1)")
    """
    project = make([Revision("a1", None, first), Revision("b2", "a1", rebuild)], env=env)
    project.migrator("upgrade", check=True)
    assert query(project, "SELECT * FROM child") == [(1, 1)]
    assert query(project, "SELECT id, name FROM parent") == [(1, None)]


def test_what_was_committed_before_a_pragma_is_named_when_the_rest_fails(make: MakeProject) -> None:
    body = """
        op.create_table("audit", sa.Column("id", sa.Integer))
        op.execute("PRAGMA foreign_keys = OFF")
        op.execute("INSERT INTO nowhere VALUES (1)")
    """
    failed = make([Revision("a1", None, body)]).migrator("upgrade")
    assert failed.returncode == 20, failed.output
    assert "of a1, committed and not undone:" in failed.stderr
    assert "CREATE TABLE audit" in failed.stderr
    assert "INSERT INTO nowhere" not in failed.stderr.split("left ")[1]


@pytest.mark.parametrize("statement", ["VACUUM", "BEGIN IMMEDIATE"])
def test_statements_that_want_no_transaction_work_after_others(make: MakeProject, statement: str) -> None:
    body = f"""
        op.create_table("one", sa.Column("id", sa.Integer))
        op.execute("{statement}")
        op.execute("CREATE TABLE two (id INTEGER)")
    """
    project = make([Revision("a1", None, body)])
    project.migrator("upgrade", check=True)
    assert tables(project) == ["one", "two"]


def test_a_savepoint_inside_a_revision_undoes_its_own_part_only(make: MakeProject) -> None:
    body = """
        op.create_table("one", sa.Column("id", sa.Integer))
        with op.get_bind().begin_nested() as savepoint:
            op.execute("INSERT INTO one VALUES (1)")
            savepoint.rollback()
        op.execute("INSERT INTO one VALUES (2)")
    """
    project = make([Revision("a1", None, body)])
    project.migrator("upgrade", check=True)
    assert query(project, "SELECT id FROM one") == [(2,)]


def test_a_batch_rebuild_of_a_table_keeps_its_rows(make: MakeProject, driver: str) -> None:
    first = """
        op.create_table("orders", sa.Column("id", sa.Integer), sa.Column("total", sa.Text))
        op.execute("INSERT INTO orders VALUES (1, '5')")
    """
    second = """
        with op.batch_alter_table("orders") as batch:
            batch.alter_column("total", type_=sa.Integer, nullable=False)
    """
    project = make(
        [Revision("a1", None, first), Revision("b2", "a1", second)], env=ENVS[driver], driver=driver
    )
    project.migrator("upgrade", check=True)
    assert query(project, "SELECT * FROM orders") == [(1, 5)]


def test_an_engine_in_autocommit_is_left_as_it_is_and_its_leftovers_named(make: MakeProject) -> None:
    env = SYNC_ENV.replace("poolclass=pool.NullPool", 'poolclass=pool.NullPool, isolation_level="AUTOCOMMIT"')
    body = """
        op.create_table("one", sa.Column("id", sa.Integer))
        op.execute("INSERT INTO nowhere VALUES (1)")
    """
    failed = make([Revision("a1", None, body)], env=env).migrator("upgrade")
    assert failed.returncode == 20, failed.output
    assert "CREATE TABLE one" in failed.stderr.split("left ")[1]


def test_an_engine_that_begins_its_transactions_itself_works(make: MakeProject) -> None:
    """The recipe of SQLAlchemy's manual for transactional DDL: no isolation level, and BEGIN by an event."""
    env = SYNC_ENV.replace(
        "    with connectable.connect() as connection:\n",
        """\
    from sqlalchemy import event

    @event.listens_for(connectable, "connect")
    def no_transactions_of_the_driver(dbapi_connection, record):
        dbapi_connection.isolation_level = None

    @event.listens_for(connectable, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN")

    with connectable.connect() as connection:
""",
    )
    broken = (
        'op.create_table("half", sa.Column("id", sa.Integer))\nop.execute("INSERT INTO nowhere VALUES (1)")'
    )
    project = make([*THREE, Revision("d4", "c3", broken)], env=env)
    failed = project.migrator("upgrade")
    assert failed.returncode == 20, failed.output
    assert "rolled back: d4" in failed.stderr
    assert (tables(project), revisions(project)) == (["t_a1", "t_b2", "t_c3"], ["c3"])


# Others at work on the file


def test_a_writer_is_waited_for_and_the_revision_tried_again(make: MakeProject, driver: str) -> None:
    project = make(env=ENVS[driver], driver=driver)
    project.migrator("upgrade", "a1", check=True)
    with writing(project) as application:
        run = project.start("upgrade", "--lock-timeout", "200ms")
        run.wait_for_line("database is locked")
        application.execute("ROLLBACK")
        ended = run.wait()
    assert ended.returncode == 0, ended.output
    assert revisions(project) == ["c3"]


def test_a_writer_that_does_not_end_is_reported_when_the_budget_is_spent(make: MakeProject) -> None:
    project = make()
    project.migrator("upgrade", "a1", check=True)
    with writing(project):
        ended = project.migrator("upgrade", "--lock-timeout", "100ms", "--lock-retry-timeout", "500ms")
    assert ended.returncode == 12, ended.output
    assert "SQLITE_BUSY: database is locked" in ended.stderr
    assert revisions(project) == ["a1"]


def test_an_env_py_that_takes_the_whole_file_does_not_block_the_runner_itself(make: MakeProject) -> None:
    env = SYNC_ENV.replace(
        "        context.configure(connection=connection, target_metadata=target_metadata)\n",
        '        connection.exec_driver_sql("BEGIN EXCLUSIVE")\n'
        "        context.configure(connection=connection, target_metadata=target_metadata)\n",
    ).replace(
        "            context.run_migrations()\n\n\nif",
        "            context.run_migrations()\n        connection.commit()\n\n\nif",
    )
    assert env.count("connection.commit()") == 1
    project = make(env=env)
    project.migrator("upgrade", check=True)
    assert revisions(project) == ["c3"]


def test_readers_go_on_while_a_revision_writes(make: MakeProject, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    body = f"""
        import os, sys, time
        op.execute("INSERT INTO t_a1 VALUES (1)")
        print("at the gate", file=sys.stderr, flush=True)
        while not os.path.exists({str(gate)!r}):
            time.sleep(0.02)
    """
    first = Revision("a1", None, 'op.create_table("t_a1", sa.Column("id", sa.Integer))')
    project = make([first, Revision("b2", "a1", body)])
    project.migrator("upgrade", "a1", check=True)
    run = project.start("upgrade")
    run.wait_for_line("at the gate")
    assert query(project, "SELECT count(*) FROM t_a1") == [(0,)]
    status = project.migrator("status")
    assert "held by pid" in status.stdout + status.stderr, status.output
    gate.touch()
    assert run.wait().returncode == 0
    assert query(project, "SELECT count(*) FROM t_a1") == [(1,)]


# The lock file


def sleeping(make: MakeProject) -> Project:
    return make([Revision("a1", None, "import time\nprint('begun', flush=True)\ntime.sleep(60)")])


def test_the_lock_names_its_holder_and_is_free_after_sigkill(make: MakeProject) -> None:
    project = sleeping(make)
    run = project.start("upgrade")
    run.wait_for_line("begun")
    locked_out = project.migrator("upgrade", "--run-lock-timeout", "300ms")
    assert locked_out.returncode == 11, locked_out.output
    assert f"pid {run.pid} (migrator " in locked_out.stderr
    assert f"kill {run.pid}" in locked_out.stderr
    run.kill()
    run.wait()
    assert "nobody holds the lock" in project.migrator("status", check=True).stdout


def test_a_lock_file_that_is_removed_under_a_run_ends_it_before_it_commits(
    make: MakeProject, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    body = f"""
        import os, time
        op.create_table("one", sa.Column("id", sa.Integer))
        print("begun", flush=True)
        while not os.path.exists({str(gate)!r}):
            time.sleep(0.02)
    """
    project = make([Revision("a1", None, body)])
    run = project.start("upgrade")
    run.wait_for_line("begun")
    os.unlink(project.path / "shop.db-migrator")
    gate.touch()
    ended = run.wait()
    assert ended.returncode == 22, ended.output
    assert "the lock file beside the database was removed or replaced" in ended.stderr
    assert tables(project) == []


def test_sigterm_ends_a_long_statement_and_rolls_back(make: MakeProject, driver: str) -> None:
    endless = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000000000) "
        "INSERT INTO one SELECT max(i) FROM n"
    )
    body = f'op.create_table("one", sa.Column("id", sa.Integer))\nprint("begun", flush=True)\nop.execute("{endless}")'
    project = make([Revision("a1", None, body)], env=ENVS[driver], driver=driver)
    run = project.start("upgrade")
    run.wait_for_line("begun")
    run.send_signal(signal.SIGTERM)
    ended = run.wait(20)
    assert ended.returncode == 143, ended.output
    assert tables(project) == []


def test_two_version_tables_in_one_file_have_a_lock_each(make: MakeProject) -> None:
    project = sleeping(make)
    env = (project.path / "migrations" / "env.py").read_text()
    run = project.start("upgrade")
    run.wait_for_line("begun")
    other = write_project(
        project.path / "billing",
        None,
        env=env.replace("connection=connection,", 'connection=connection, version_table="billing_version",'),
        revisions=table_revisions("x1"),
        ini=(project.path / "alembic.ini").read_text(),
    )
    limits = ("--lock-timeout", "100ms", "--lock-retry-timeout", "300ms")
    ended = other.migrator("upgrade", *limits, env=project.variables)
    assert "lock      held" in ended.stderr, ended.output
    assert ended.returncode == 12, "SQLite itself lets one write at a time"


# Files that cannot work


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_in_memory_is_refused_with_the_reason(make: MakeProject, url: str) -> None:
    project = make()
    refused = project.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": url})
    assert refused.returncode == 2, refused.output
    assert "in memory" in refused.stderr
    assert "MIGRATOR_DATABASE_URL" in refused.stderr


def test_a_database_in_memory_is_refused_when_only_env_py_knows_it(make: MakeProject) -> None:
    project = make()
    ini = (project.path / "alembic.ini").read_text()
    (project.path / "alembic.ini").write_text(ini.replace(f"{project.path}/shop.db", ""))
    refused = project.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": UNSET})
    assert refused.returncode == 2, refused.output
    assert "in memory" in refused.stderr


def test_a_folder_that_is_missing_is_named(make: MakeProject, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/volume/shop.db"
    refused = make().migrator("upgrade", env={"MIGRATOR_DATABASE_URL": url})
    assert refused.returncode == 2, refused.output
    assert f"does not exist: {tmp_path}/volume" in refused.stderr


def test_an_env_py_that_opens_another_file_is_stopped_before_it_changes_anything(
    make: MakeProject, tmp_path: Path
) -> None:
    env = SYNC_ENV.replace(
        'config.get_section(config.config_ini_section, {}), prefix="sqlalchemy."',
        f'{{"url": "sqlite:///{tmp_path}/other.db"}}, prefix=""',
    )
    project = make(env=env)
    refused = project.migrator("upgrade")
    assert refused.returncode == 2, refused.output
    assert f"{tmp_path}/other.db" in refused.stderr
    assert f"{project.path}/shop.db" in refused.stderr
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_the_same_file_by_another_path_is_the_same_database(make: MakeProject, tmp_path: Path) -> None:
    project = make()
    (tmp_path / "link").symlink_to(project.path)
    project.migrator(
        "upgrade", env={"MIGRATOR_DATABASE_URL": f"sqlite:///{tmp_path}/link/shop.db"}, check=True
    )
    assert revisions(project) == ["c3"]


def test_a_file_that_is_no_database_is_said_to_be_none(make: MakeProject) -> None:
    project = make()
    (project.path / "shop.db").write_text("this is a text file and no database at all" * 30)
    ended = project.migrator("upgrade")
    assert ended.returncode == 2, ended.output
    assert "file is not a database" in ended.stderr


READ_ONLY = """\
set -e
mount -t tmpfs tmpfs {volume}
cp {database} {volume}/shop.db
mount -o remount,ro {volume}
export MIGRATOR_DATABASE_URL=sqlite:///{volume}/shop.db
{python} -m migrator {command}
"""


@pytest.mark.parametrize(("command", "code"), [("upgrade", 24), ("status", 0)])
def test_a_file_on_a_volume_that_is_read_only_can_be_looked_at_and_not_migrated(
    make: MakeProject, tmp_path: Path, command: str, code: int
) -> None:
    """The volume is real: a tmpfs in a mount namespace of the process's own."""
    import sys

    project = make()
    project.migrator("upgrade", "a1", check=True)
    volume = tmp_path / "volume"
    volume.mkdir()
    ini = project.path / "alembic.ini"
    ini.write_text(ini.read_text().replace(f"{project.path}/shop.db", f"{volume}/shop.db"))
    script = READ_ONLY.format(
        volume=volume, database=project.path / "shop.db", python=sys.executable, command=command
    )
    inside = ["unshare", "--mount", "--map-root-user"] if os.geteuid() else ["unshare", "--mount"]
    ended = start(*inside, "bash", "-c", script, cwd=project.path).wait()
    assert ended.returncode == code, ended.output
    if code:
        assert "Read-only file system" in ended.stderr
        assert "Mount the volume writable" in ended.stderr
    else:
        assert "at a1 · 2 pending" in ended.stdout


def test_a_full_disk_rolls_the_revision_back_and_says_so(make: MakeProject) -> None:
    """``max_page_count`` is SQLite's own way of running out of room."""
    env = SYNC_ENV.replace(
        "        context.configure(connection=connection, target_metadata=target_metadata)\n",
        '        connection.exec_driver_sql("PRAGMA max_page_count = 60")\n'
        "        context.configure(connection=connection, target_metadata=target_metadata)\n",
    )
    body = """
        op.execute("CREATE TABLE big (data BLOB)")
        op.execute("INSERT INTO big VALUES (zeroblob(1000000))")
    """
    project = make([Revision("a1", None, body)], env=env)
    ended = project.migrator("upgrade")
    assert ended.returncode == 20, ended.output
    assert "disk is full" in ended.stderr
    assert tables(project) == []


def test_a_process_that_a_revision_leaves_behind_does_not_keep_the_lock(make: MakeProject) -> None:
    body = """
        import os, time
        if os.fork() == 0:
            for number in (0, 1, 2):
                os.close(number)
            time.sleep(30)
            os._exit(0)
    """
    project = make([Revision("a1", None, body)])
    project.migrator("upgrade", check=True)
    wait_until(
        lambda: "nobody holds the lock" in project.migrator("status", check=True).stdout,
        "the lock is free",
        5,
    )


def test_a_backfill_in_batches_is_one_line_of_what_is_left(make: MakeProject) -> None:
    body = """
        op.create_table("one", sa.Column("id", sa.Integer))
        with op.get_context().autocommit_block():
            for number in range(40):
                op.get_bind().execute(sa.text("INSERT INTO one VALUES (:id)"), {"id": number})
        op.execute("INSERT INTO nowhere VALUES (1)")
    """
    failed = make([Revision("a1", None, body)]).migrator("upgrade")
    assert failed.returncode == 20, failed.output
    left = failed.stderr.split("left ")[1].split("next ")[0]
    assert "CREATE TABLE one" in left
    assert left.count("INSERT INTO one") == 1
    assert "40 × INSERT INTO one VALUES" in left


@pytest.mark.parametrize(
    "switch",
    [
        'op.execute("-- no checks\\nPRAGMA foreign_keys=OFF")',
        'op.execute("/* no checks */ PRAGMA foreign_keys=OFF")',
        'op.get_bind().connection.execute("PRAGMA foreign_keys=OFF")',
        'op.get_bind().connection.cursor().execute("pragma foreign_keys(0)")',
    ],
)
def test_foreign_keys_are_switched_off_however_it_is_written(make: MakeProject, switch: str) -> None:
    """Else the rebuilt table's rows go, and by ON DELETE CASCADE those of the other one with them."""
    before = """
        op.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY, n INTEGER)")
        op.execute("CREATE TABLE child (parent_id INTEGER REFERENCES parent (id) ON DELETE CASCADE)")
        op.execute("INSERT INTO parent VALUES (1, 1)")
        op.execute("INSERT INTO child VALUES (1)")
    """
    rebuild = f"""
        op.execute("CREATE TABLE other (id INTEGER)")
        {switch}
        with op.batch_alter_table("parent") as batch:
            batch.alter_column("n", nullable=False)
    """
    env = SYNC_ENV.replace(
        "with connectable.connect() as connection:",
        "with connectable.connect() as connection:\n"
        '        connection.exec_driver_sql("PRAGMA foreign_keys=ON")\n'
        "        connection.commit()",
    )
    project = make([Revision("a1", None, dedent(before)), Revision("b2", "a1", dedent(rebuild))], env=env)
    project.migrator("upgrade", check=True)
    assert query(project, "SELECT * FROM child") == [(1,)]


@pytest.mark.parametrize(
    "pragma", ["PRAGMA wal_checkpoint", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA temp_store = MEMORY"]
)
def test_pragmas_that_fail_in_a_transaction_work_after_ddl(make: MakeProject, pragma: str) -> None:
    body = f"""
        op.execute("CREATE TABLE half (id INTEGER)")
        op.execute("{pragma}")
    """
    project = make(
        [Revision("a1", None, 'op.execute("PRAGMA journal_mode = WAL")'), Revision("b2", "a1", dedent(body))]
    )
    project.migrator("upgrade", check=True)
    assert tables(project) == ["half"]


@pytest.mark.parametrize(
    "past_us",
    [
        'op.get_bind().connection.executescript("CREATE TABLE half (id INTEGER)")',
        'op.get_bind().connection.executescript("INSERT INTO t_a1 (id) VALUES (1)")',
        'op.get_bind().connection.cursor().execute("CREATE TABLE half (id INTEGER)")',
        'op.execute("CREATE TABLE half (id INTEGER)"); op.get_bind().connection.commit()',
        'op.execute("CREATE TABLE half (id INTEGER)"); op.get_bind().commit()',
    ],
)
def test_what_a_revision_commits_past_alembic_is_not_said_to_be_undone(
    make: MakeProject, past_us: str
) -> None:
    project = make([THREE[0], Revision("b2", "a1", f'{past_us}\nraise RuntimeError("no")')])
    failed = project.migrator("upgrade")
    assert failed.returncode == 20, failed.output
    assert tables(project) == ["half", "t_a1"] or query(project, "SELECT id FROM t_a1") == [(1,)]
    assert "rolled back" not in failed.stderr
    assert "left  " in failed.stderr


def test_rows_of_a_cursor_of_the_drivers_own_are_said_to_be_undone(make: MakeProject) -> None:
    body = 'op.get_bind().connection.cursor().execute("INSERT INTO t_a1 (id) VALUES (1)")\nraise RuntimeError("no")'
    project = make([THREE[0], Revision("b2", "a1", body)])
    failed = project.migrator("upgrade")
    assert failed.returncode == 20, failed.output
    assert query(project, "SELECT id FROM t_a1") == []
    assert "rolled back: b2" in failed.stderr


OWN_TRANSACTIONS = """
from sqlalchemy import event as _event
from sqlalchemy.engine import Engine as _Engine


@_event.listens_for(_Engine, "connect")
def _leave_it(raw, _record):
    raw.isolation_level = None


@_event.listens_for(_Engine, "begin")
def _begin(connection):
    connection.exec_driver_sql("BEGIN")


"""


@pytest.mark.parametrize("ends", ["COMMIT", "PRAGMA foreign_keys=OFF"])
def test_a_project_that_begins_its_transactions_itself_keeps_them_after(make: MakeProject, ends: str) -> None:
    body = f"""
        op.execute("CREATE TABLE half (id INTEGER)")
        op.execute("{ends}")
        op.execute("CREATE TABLE other (id INTEGER)")
        raise RuntimeError("no")
    """
    project = make([Revision("a1", None, dedent(body))], env=OWN_TRANSACTIONS + SYNC_ENV)
    failed = project.migrator("upgrade")
    assert failed.returncode == 20, failed.output
    left = failed.stderr.split("left  ")[1]
    assert "CREATE TABLE half" in left
    # After a COMMIT of its own, it is the project that would have to begin again.
    assert ("CREATE TABLE other" in left) == (ends == "COMMIT")
    assert tables(project) == (["half", "other"] if ends == "COMMIT" else ["half"])


if sys.version_info >= (3, 12):  # sqlite3 has the attribute since then

    @pytest.mark.parametrize("autocommit", [True, False])
    def test_the_drivers_autocommit_attribute_is_the_projects_choice(
        make: MakeProject, autocommit: bool
    ) -> None:
        env = SYNC_ENV.replace("poolclass=", f'connect_args={{"autocommit": {autocommit}}}, poolclass=')
        assert env != SYNC_ENV
        project = make(env=env)
        project.migrator("upgrade", check=True)
        assert revisions(project) == ["c3"]


def test_a_revision_that_commits_by_itself_is_named_as_the_cause_when_its_record_is_lost(
    make: MakeProject,
) -> None:
    """Alembic's transaction is over then: what comes after, the version row included, is nobody's to commit."""
    body = 'op.create_table("one", sa.Column("id", sa.Integer))\nop.get_bind().commit()'
    ended = make([Revision("a1", None, body)]).migrator("upgrade")
    assert ended.returncode == 21, ended.output
    assert "a revision committed by itself" in ended.stderr
    assert "CREATE TABLE one" in ended.stderr.split("left ")[1]


def test_a_project_that_falls_back_to_a_file_is_told_which_database_was_meant(
    make: MakeProject, database: Database, tmp_path: Path
) -> None:
    """As many applications do where their own variable is not set."""
    env = SYNC_ENV.replace(
        'config.get_section(config.config_ini_section, {}), prefix="sqlalchemy."',
        f'{{"url": "sqlite:///{tmp_path}/shop/shop.db"}}, prefix=""',
    )
    project = make(env=env)
    refused = project.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": database.url})
    assert refused.returncode == 2, refused.output
    assert "env.py connects to another database than the one that was configured" in refused.stderr
    assert f"{project.path}/shop.db" in refused.stderr
    assert "MIGRATOR_EXPORT_URL_AS" in refused.stderr
    assert not (project.path / "shop.db-migrator").exists()


def test_a_project_that_goes_to_a_server_instead_of_the_file_is_told_as_well(
    make: MakeProject, database: Database
) -> None:
    env = SYNC_ENV.replace(
        'config.get_section(config.config_ini_section, {}), prefix="sqlalchemy."',
        f'{{"url": "{database.sqlalchemy_url()}"}}, prefix=""',
    )
    refused = make(env=env).migrator("upgrade")
    assert refused.returncode == 2, refused.output
    assert f"env.py connects to {database.name} as " in refused.stderr
    assert database.tables == []


def test_a_batch_operation_cannot_be_written_as_sql_and_says_what_to_do(make: MakeProject) -> None:
    batch = 'with op.batch_alter_table("t_a1") as batch:\n    batch.add_column(sa.Column("note", sa.Text))\n'
    batch += '    batch.alter_column("id", nullable=False)'
    project = make([*table_revisions("a1"), Revision("b2", "a1", batch)])
    refused = project.migrator("upgrade", "--sql")
    assert refused.returncode == 20, refused.output
    assert "migrations/versions/b2" in refused.stderr
    assert "copy_from" in refused.stderr


def test_an_asynchronous_engine_with_a_url_without_a_driver_is_told_how_to_write_it(
    make: MakeProject,
) -> None:
    project = make(env=ASYNC_ENV)
    refused = project.migrator("upgrade")
    assert refused.returncode == 2, refused.output
    assert "sqlite+aiosqlite://" in refused.stderr
