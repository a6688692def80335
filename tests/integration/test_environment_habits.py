"""What some ``env.py`` and revisions do, and what must not become of it: too much undone, or told as undone."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from migrator.errors import ExitCode
from tests.harness import SYNC_ENV, UNSET, Database, Project, Revision, table_revisions, transaction

MakeProject = Callable[..., Project]

FAILS_ONCE = """
import pathlib
once = pathlib.Path(__file__).with_suffix(".once")
if not once.exists():
    once.touch()
    op.execute("DO $$ BEGIN RAISE 'concurrent update' USING ERRCODE = '40001'; END $$")
"""
CREATE_B2 = 'op.execute("CREATE TABLE t_b2 ()")\n'
RAISE = 'op.execute("SELECT 1 / 0")\n'
DRY_RUN = """
        with context.begin_transaction() as transaction:
            context.run_migrations()
            if context.get_x_argument():
                transaction.rollback()
"""
TENANTS = """
from alembic import context
from sqlalchemy import create_engine, pool, text

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    for tenant in ("blue", "green"):
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {tenant}"))
        connection.execute(text(f"SET search_path TO {tenant}"))
        LEAVE
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
        END
"""


def ending(env: str, *lines: str) -> str:
    return env + "\n".join(lines) + "\n"


def test_a_relative_downgrade_that_is_tried_again_goes_no_further(
    project: MakeProject, database: Database
) -> None:
    env = SYNC_ENV.replace(
        "poolclass=pool.NullPool", "poolclass=pool.NullPool, isolation_level='REPEATABLE READ'"
    )
    shop = project(env=env, revisions=table_revisions("a1", "b2", "d4"))
    shop.migrator("upgrade", "b2", check=True)
    (shop.versions / "d4_create_t_d4.py").unlink()
    shop.add_revision("c3", "b2", 'op.execute("CREATE TABLE t_c3 ()")', 'op.execute("DROP TABLE t_c3")')
    shop.migrator("upgrade", check=True)
    file = shop.versions / "b2_create_t_b2.py"
    body = "\n".join(f"    {line}" for line in FAILS_ONCE.strip().splitlines())
    file.write_text(file.read_text().replace("def downgrade():\n", f"def downgrade():\n{body}\n"))
    done = shop.migrator("downgrade", "-2")
    assert done.returncode == 0, done.output
    assert "concurrent update" in done.stderr
    assert (database.revisions, database.tables) == (["a1"], ["t_a1"])


def test_a_dry_run_of_env_pys_own_leaves_nothing(project: MakeProject, database: Database) -> None:
    plain = "        with context.begin_transaction():\n            context.run_migrations()\n"
    before, _, after = SYNC_ENV.rpartition(plain)
    shop = project(env=before + DRY_RUN.lstrip("\n") + after, revisions=table_revisions("a1", "b2"))
    dry = shop.migrator("upgrade", "-x", "dry-run")
    assert dry.returncode == ExitCode.NOT_VERIFIED, dry.output
    assert database.tables == []
    shop.migrator("upgrade", check=True)
    assert (database.revisions, database.tables) == (["b2"], ["t_a1", "t_b2"])


def test_tenants_on_one_connection_are_verified_each(project: MakeProject, database: Database) -> None:
    env = TENANTS.replace("LEAVE", "connection.commit()").replace("END", "connection.commit()")
    shop = project(env=env, revisions=table_revisions("a1"))
    done = shop.migrator("upgrade", "--json", env={"MIGRATOR_DATABASE_URL": UNSET})
    assert done.returncode == 0, done.output
    assert [(t["version_table"], t["at"]) for t in done.json["targets"]] == [
        ("blue.alembic_version", ["a1"]),
        ("green.alembic_version", ["a1"]),
    ]
    database.query("DELETE FROM blue.alembic_version")
    behind = shop.migrator("status", "--exit-code")
    assert behind.returncode == ExitCode.CHECK_SAYS_NO, behind.output


def test_a_tenant_whose_migrations_were_rolled_back_is_no_success_of_the_others(
    project: MakeProject, database: Database
) -> None:
    env = TENANTS.replace("LEAVE", 'tenant == "green" and connection.commit()')
    env = env.replace("END", 'connection.commit() if tenant == "green" else connection.rollback()')
    shop = project(env=env, revisions=table_revisions("a1"))
    failed = shop.migrator("upgrade")
    assert failed.returncode == ExitCode.NOT_VERIFIED, failed.output
    assert database.query("SELECT to_regclass('blue.t_a1') IS NULL, to_regclass('green.t_a1') IS NULL") == [
        (True, False)
    ]


@pytest.mark.parametrize(
    "leaves",
    [
        'op.execute("COMMIT")\n',
        "raw = op.get_bind().connection.dbapi_connection\nraw.commit()\nraw.autocommit = True\n",
    ],
    ids=["COMMIT", "autocommit"],
)
def test_a_revision_that_leaves_its_transaction_is_not_tried_again_and_not_called_undone(
    project: MakeProject, database: Database, leaves: str
) -> None:
    shop = project(revisions=table_revisions("a1"))
    shop.migrator("upgrade", check=True)
    inside = CREATE_B2 + leaves if "COMMIT" in leaves else leaves + CREATE_B2
    shop.add_revision("b2", "a1", inside + 'op.add_column("t_a1", sa.Column("note", sa.Text))')
    with transaction(database.url, "SELECT * FROM t_a1"):
        failed = shop.migrator("upgrade", "--lock-timeout", "200ms")
    assert failed.returncode == ExitCode.LOCK_TIMEOUT, failed.output
    assert "of b2, committed and not undone:" in failed.stderr
    assert "CREATE TABLE t_b2 ()" in failed.stderr.split("left ")[1].split("next ")[0]
    assert "rolled back: b2" not in failed.stderr
    assert "try 1" not in failed.stderr
    assert (database.revisions, database.tables) == (["a1"], ["t_a1", "t_b2"])


def test_a_working_directory_that_env_py_changes_does_not_mislead_the_next_try(
    project: MakeProject, database: Database
) -> None:
    env = SYNC_ENV.replace("target_metadata = None", "import os\nos.chdir('/')").replace(
        ".connect() as connection", ".begin() as connection"
    )
    shop = project(env=env.replace("target_metadata=target_metadata", "target_metadata=None"))
    shop.add_revision("a1", None, FAILS_ONCE)
    (shop.path / "alembic.ini").write_text(
        (shop.path / "alembic.ini").read_text().replace("= migrations", "= %(here)s/migrations")
    )
    shop.migrator("upgrade", check=True)
    assert database.revisions == ["a1"]


def test_sys_exit_0_at_the_end_of_env_py_is_no_failure(project: MakeProject, database: Database) -> None:
    shop = project(env=ending(SYNC_ENV, "import sys", "sys.exit(0)"), revisions=table_revisions("a1"))
    done = shop.migrator("upgrade")
    assert done.returncode == 0, done.output
    assert "verified  at a1" in done.stderr


@pytest.mark.parametrize(
    "raised", ["asyncio.CancelledError", "KeyboardInterrupt", "GeneratorExit", "SystemExit"]
)
def test_whatever_a_revision_raises_is_told_and_masked(
    project: MakeProject, database: Database, raised: str
) -> None:
    shop = project(revisions=table_revisions("a1"))
    body = f'import asyncio\nraise {raised}("postgresql://shop:hunter2-secret@db/shop")'
    shop.add_revision("b2", "a1", CREATE_B2 + body)
    failed = shop.migrator("upgrade", "--json")
    assert failed.returncode == ExitCode.MIGRATION_FAILED, failed.output
    assert "state     at a1, read on a new connection · applied: a1 · rolled back: b2" in failed.stderr
    assert "hunter2-secret" not in failed.output
    assert failed.json["error"]["revision"] == "b2"


def test_an_env_py_that_tries_again_by_itself_and_succeeds_has_succeeded(
    project: MakeProject, database: Database
) -> None:
    env = SYNC_ENV.replace(
        "            context.run_migrations()\n\n\nif",
        "            try:\n"
        "                context.run_migrations()\n"
        "            except Exception:\n"
        "                connection.rollback()\n"
        "                context.run_migrations()\n\n\nif",
    )
    assert "connection.rollback()" in env
    shop = project(env=env, revisions=table_revisions("a1"))
    shop.add(Revision("b2", "a1", FAILS_ONCE.replace("40001", "22012")))
    done = shop.migrator("upgrade")
    assert done.returncode == 0, done.output
    assert database.revisions == ["b2"]


def test_a_statement_of_env_pys_that_is_refused_is_told_as_that(
    project: MakeProject, database: Database
) -> None:
    after = 'connection.execute(sa.text("SET ROLE pg_monitor"))\n'
    env = SYNC_ENV.replace("from alembic import", "import sqlalchemy as sa\nfrom alembic import")
    text = ending(
        env,
        "with create() as connection:",
        f"    {after}",
        '    connection.execute(sa.text("CREATE SCHEMA zz"))',
    )
    text = text.replace("create()", "sa.create_engine(config.get_main_option('sqlalchemy.url')).connect()")
    shop = project(env=text, revisions=table_revisions("a1"))
    failed = shop.migrator("upgrade")
    assert failed.returncode == ExitCode.REFUSED, failed.output
    assert "a statement of env.py's was refused" in failed.stderr
    assert "migrations/env.py:" in failed.stderr
    assert "Nothing was changed" not in failed.stderr
    assert database.revisions == ["a1"]


def test_the_time_for_retries_begins_with_the_first_lock_timeout(
    project: MakeProject, database: Database
) -> None:
    shop = project(revisions=table_revisions("a1"))
    shop.migrator("upgrade", check=True)
    body = 'op.execute("SELECT pg_sleep(2)")\nop.add_column("t_a1", sa.Column("note", sa.Text))'
    shop.add_revision("b2", "a1", body)
    with transaction(database.url, "SELECT * FROM t_a1"):
        failed = shop.migrator("upgrade", "--lock-timeout", "100ms", "--lock-retry-timeout", "2s")
    assert failed.returncode == ExitCode.LOCK_TIMEOUT, failed.output
    assert "2 tries" in failed.stderr


def test_a_revision_file_that_cannot_be_read_is_no_bug_of_ours(project: MakeProject) -> None:
    shop = project(revisions=table_revisions("a1"))
    (shop.versions / "b2.py").write_bytes(
        '"""añadir"""\nrevision = "b2"\ndown_revision = "a1"\n'.encode("latin-1")
    )
    failed = shop.migrator("upgrade")
    assert failed.returncode in (ExitCode.MIGRATION_FAILED, ExitCode.HISTORY), failed.output
    assert "migrations/versions/b2.py" in failed.stderr
    assert "Nothing was changed" in failed.stderr


def test_a_failing_insert_of_a_password_does_not_show_it(project: MakeProject) -> None:
    shop = project()
    shop.add_revision(
        "a1",
        None,
        "op.execute(\"INSERT INTO users (name, password) VALUES ('bob', 'correct-horse-9')\")",
    )
    failed = shop.migrator("upgrade", "--json")
    assert failed.returncode == ExitCode.MIGRATION_FAILED, failed.output
    assert "INSERT INTO users" in failed.stderr
    assert "correct-horse-9" not in failed.output


def test_a_url_in_the_place_of_a_revision_is_refused_and_not_repeated(project: MakeProject) -> None:
    shop = project(revisions=table_revisions("a1"))
    failed = shop.migrator("upgrade", "postgresql://shop:top-secret-1@db.internal/shop")
    assert failed.returncode == ExitCode.USAGE, failed.output
    assert "MIGRATOR_DATABASE_URL" in failed.stderr
    assert "top-secret-1" not in failed.output


def test_a_lock_timeout_that_a_revision_takes_away_is_back_for_the_next(
    project: MakeProject, database: Database
) -> None:
    shop = project(revisions=table_revisions("a1"))
    shop.migrator("upgrade", check=True)
    shop.add_revision("b2", "a1", 'op.execute("SET lock_timeout = 0")')
    shop.add_revision("c3", "b2", 'op.add_column("t_a1", sa.Column("note", sa.Text))')
    with transaction(database.url, "SELECT * FROM t_a1"):
        failed = shop.migrator("upgrade", "--lock-timeout", "100ms", "--lock-retry-timeout", "0")
    assert failed.returncode == ExitCode.LOCK_TIMEOUT, failed.output
    assert database.revisions == ["b2"]


def test_a_relative_script_location_survives_a_change_of_directory(
    project: MakeProject, database: Database
) -> None:
    env = SYNC_ENV.replace("target_metadata = None", "import os\nos.chdir('/')\ntarget_metadata = None")
    shop = project(env=env, revisions=table_revisions("a1", "b2"))
    shop.migrator("upgrade", check=True)
    assert database.revisions == ["b2"]


BLOCKED = """
from alembic import context
from sqlalchemy import create_engine, pool, text

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    connection.execute(text("SELECT pg_advisory_lock(77)"))
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.parametrize("command", ["upgrade", "status"])
def test_an_env_py_that_waits_before_configure_is_told_of_and_can_be_stopped(
    project: MakeProject, database: Database, command: str
) -> None:
    shop = project(env=BLOCKED, revisions=table_revisions("a1"))
    with transaction(database.url, "SELECT pg_advisory_lock(77)"):
        run = shop.start(command)
        run.wait_for_line(r"env.py +running for 5.*has not called context.configure\(\) yet")
        run.send_signal(signal.SIGTERM)
        ended = run.wait(9)  # the grace would be 10 s
        assert ended.returncode == ExitCode.TERMINATED, ended.output
        assert "stopped by SIGTERM" in ended.stderr
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        assert database.query(others) == [(0,)], "nobody waits for the lock any more"
