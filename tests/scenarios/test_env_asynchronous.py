"""What goes wrong in asynchronous drivers and event loops: stopped, blocked, cut off, and outside a transaction."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.harness import Database, checked, transaction, wait_until
from tests.integration.proving import nobody_holds_the_lock
from tests.scenarios.shapes import TOOLS, Copy
from tests.scenarios.variants import ALL, FIRST, SECOND

MIGRATOR = TOOLS["migrator"]
DRIVERS = {
    "async_asyncpg": "asyncpg",
    "async_psycopg": "psycopg",
    "async_uvloop": "asyncpg",
    "async_anyio": "asyncpg",
}
VERSIONS = "migrations/versions"
SECOND_FILE = f"{VERSIONS}/{SECOND}_add_orders_total_cents.py"
THIRD_FILE = f"{VERSIONS}/{ALL[2]}_index_orders_by_customer.py"
each_folder = pytest.mark.parametrize("folder", DRIVERS)


@pytest.fixture
def install(tmp_path: Path, database: Database) -> Callable[[str], Copy]:
    """Copy an asynchronous variant that runs on ``database``."""

    def make(folder: str) -> Copy:
        url = database.sqlalchemy_url(DRIVERS[folder])
        return Copy(f"env_variants/{folder}", tmp_path / folder, {"DATABASE_URL": url})

    return make


def sleeping(database: Database) -> list[tuple[int]]:
    """The backends that run ``pg_sleep``."""
    return database.query(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' "
        "AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
    )


def with_a_long_statement(copy: Copy) -> None:
    copy.replace(SECOND_FILE, "def upgrade():\n", 'def upgrade():\n    op.execute("SELECT pg_sleep(60)")\n')


@each_folder
def test_a_signal_ends_the_statement_and_the_run(
    folder: str, install: Callable[[str], Copy], database: Database
) -> None:
    copy = install(folder)
    with_a_long_statement(copy)
    run = copy.start("upgrade")
    wait_until(lambda: sleeping(database), "the statement runs")
    run.send_signal(signal.SIGTERM)
    ended = run.wait(9)  # the grace would be 10 s
    assert ended.returncode == ExitCode.TERMINATED, ended.output
    assert f"applied: {FIRST} · rolled back: {SECOND}" in ended.stderr
    wait_until(lambda: not sleeping(database), "the statement was cancelled")
    assert nobody_holds_the_lock(database)


@each_folder
def test_a_connection_that_is_cut_is_told_as_that(
    folder: str, install: Callable[[str], Copy], database: Database
) -> None:
    copy = install(folder)
    with_a_long_statement(copy)
    run = copy.start("upgrade")
    wait_until(lambda: sleeping(database), "the statement runs")
    database.query("SELECT pg_terminate_backend(%s)", sleeping(database)[0])
    ended = run.wait()
    assert ended.returncode == ExitCode.CONNECTION_LOST, ended.output
    assert f"applied: {FIRST} · rolled back: {SECOND}" in ended.stderr


@each_folder
def test_a_blocked_revision_is_tried_again_until_traffic_lets_it_through(
    folder: str, install: Callable[[str], Copy], database: Database
) -> None:
    copy = install(folder)
    copy.run(MIGRATOR, "upgrade", FIRST)
    with transaction(database.url, "SELECT * FROM orders") as reader:
        run = copy.start("upgrade", "--lock-timeout", "200ms")
        run.wait_for_line(rf"{SECOND} +blocked .* on orders by pid \d+ \(test,")
        reader.rollback()
        ended = checked(run.wait())
    assert "tries)" in ended.stderr
    assert database.query("SELECT revision FROM migration_log ORDER BY 1") == [(one,) for one in ALL]


@each_folder
def test_an_index_that_is_built_concurrently_does_not_wait_for_other_runs(
    folder: str, install: Callable[[str], Copy], database: Database
) -> None:
    copy = install(folder)
    plain = '    op.create_index("ix_orders_customer", "orders", ["customer"])\n'
    concurrently = plain.replace("])", "], postgresql_concurrently=True)")
    copy.replace(THIRD_FILE, plain, f"    with op.get_context().autocommit_block():\n    {concurrently}")
    for ended in [run.wait() for run in [copy.start("upgrade") for _ in range(3)]]:
        checked(ended)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_orders_customer'::regclass"
    assert database.query(valid) == [(True,)]
    assert database.query("SELECT revision FROM migration_log ORDER BY 1") == [(one,) for one in ALL]
