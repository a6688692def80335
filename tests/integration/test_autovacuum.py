"""A VACUUM of the server's own that is in the way of a migration is cancelled by the server, as without us."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator import embedded
from tests.harness import (
    Database,
    Revision,
    Server,
    create_database,
    table_revision,
    wait_until,
    write_project,
)

CRAWLING = (
    "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 10"
)
RUNS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND query LIKE '%public.t_a1'"


@pytest.fixture
def vacuumed() -> Iterator[Database]:
    """A database on a server that vacuums all the time."""
    with embedded.postgres(options={"autovacuum_naptime": "1s"}) as started:
        yield create_database(Server(started.url()), "shop")


def test_an_autovacuum_in_the_way_is_cancelled_by_the_server(vacuumed: Database, tmp_path: Path) -> None:
    """It does so after ``deadlock_timeout``: a statement that gives up before waits in vain each time."""
    alter = Revision("b2", "a1", 'op.add_column("t_a1", sa.Column("note", sa.Text))')
    project = write_project(tmp_path / "shop", vacuumed, revisions=[table_revision("a1", None), alter])
    project.migrator("upgrade", "a1", check=True)
    vacuumed.query(f"ALTER TABLE t_a1 SET ({CRAWLING})")
    vacuumed.query("INSERT INTO t_a1 SELECT generate_series(1, 300000)")
    vacuumed.query("UPDATE t_a1 SET id = id + 1000000")
    wait_until(lambda: vacuumed.query(RUNS) != [(0,)], "autovacuum is at the table", timeout=60)
    project.migrator("upgrade", "--lock-retry-timeout", "10s", check=True)
    assert vacuumed.revisions == ["b2"]
