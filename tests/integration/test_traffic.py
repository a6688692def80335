"""Migrations while others use the tables: short waits, whole revisions tried again, blockers named."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from tests.harness import Completed, Database, Project, Revision, transaction, wait_until, write_project

MakeProject = Callable[..., Project]

CREATE_HOT = """
op.execute("CREATE TABLE hot (id int PRIMARY KEY, hits int NOT NULL DEFAULT 0)")
op.execute("INSERT INTO hot SELECT generate_series(1, 100)")
"""
ALTER_HOT = """
op.execute("INSERT INTO tried VALUES (nextval('tries'))")
op.add_column("hot", sa.Column("note", sa.Text))
"""
INDEX_HOT = """
with op.get_context().autocommit_block():
    op.create_index("ix_hot_hits", "hot", ["hits"], postgresql_concurrently=True)
"""
CRAWL = """
op.execute(
    "CREATE FUNCTION slowly(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql "
    "AS 'BEGIN PERFORM pg_sleep(0.01); RETURN n; END'"
)
op.execute("CREATE TABLE crawl AS SELECT n FROM generate_series(1, 6000) AS s (n)")
op.execute("CREATE INDEX ix_crawl ON crawl (slowly(n))")
"""
READER, READ = "nightly-report-7", "SELECT count(*) FROM hot"


@pytest.fixture
def hot(project: MakeProject, database: Database) -> Project:
    """A project whose hot table is there already; ``tried`` keeps a row of each try that was committed."""
    made: Project = project()
    made.add_revision("a1", None, CREATE_HOT)
    made.migrator("upgrade", check=True)
    database.query("CREATE SEQUENCE tries")
    database.query("CREATE TABLE tried (number int)")
    return made


@contextmanager
def reader(database: Database, statement: str = READ) -> Iterator[int]:
    """A transaction that has read the hot table and stays open; its backend's pid."""
    with transaction(database.url, f"SET application_name = '{READER}'", statement) as connection:
        yield connection.info.backend_pid


class Application(threading.Thread):
    """Reads and writes the hot table all the time, and remembers its longest wait."""

    def __init__(self, database: Database) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._enough = threading.Event()
        self.queries = 0
        self.longest_seconds = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with closing(psycopg2.connect(self._database.url, application_name="shop-web")) as connection:
                connection.autocommit = True
                cursor = connection.cursor()
                while not self._enough.is_set():
                    begun = time.monotonic()
                    cursor.execute("UPDATE hot SET hits = hits + 1 WHERE id = %s", [self.queries % 100 + 1])
                    cursor.execute("SELECT sum(hits) FROM hot")
                    self.longest_seconds = max(self.longest_seconds, time.monotonic() - begun)
                    self.queries += 1
        except Exception as error:
            self.error = error

    def __enter__(self) -> Application:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.join(30)


def blocked_by(pid: int) -> str:
    """The words for a statement that the reader blocks."""
    return rf"on hot by pid {pid} \({READER}, \w+, idle in transaction"


def column_is_there(database: Database) -> bool:
    return bool(
        database.query("SELECT 1 FROM pg_attribute WHERE attrelid = 'hot'::regclass AND attname = 'note'")
    )


def tries(database: Database) -> int:
    [(count,)] = database.query("SELECT last_value FROM tries")
    return int(count)


def test_an_alter_table_behind_a_long_reader_is_tried_again_while_the_application_goes_on(
    hot: Project, database: Database
) -> None:
    hot.add_revision("b2", "a1", ALTER_HOT)
    with Application(database) as application:
        with reader(database) as pid:
            run = hot.start("upgrade")
            run.wait_for_line(rf"1/1 +b2 +blocked .* {blocked_by(pid)}.*; try 1, next in .* left")
            run.wait_for_line(r"; try 2, next in")
            before = application.queries
            wait_until(lambda: application.queries > before, "the application goes on")
            assert not column_is_there(database)
        ended = run.wait()
        before = application.queries
        wait_until(lambda: application.queries > before, "the application goes on")
    print(
        f"\nthe application's longest wait in {application.queries} turns: {application.longest_seconds:.2f} s"
    )
    assert application.error is None
    assert ended.returncode == 0, ended.output
    assert column_is_there(database)
    assert tries(database) >= 3
    assert database.query("SELECT count(*) FROM tried") == [(1,)], "what the failed tries did was undone"
    assert re.search(r"1/1 +b2 .*\(\d+ tries\)", ended.stderr)


def test_a_revision_that_blocks_late_names_who_blocks_it_too(hot: Project, database: Database) -> None:
    hot.add_revision("b2", "a1", 'op.execute("SELECT pg_sleep(1.5)")' + ALTER_HOT)
    with reader(database) as pid:
        run = hot.start("upgrade", env={"MIGRATOR_LOCK_TIMEOUT": "1s"})
        run.wait_for_line(rf"1/1 +b2 +blocked .* {blocked_by(pid)}.*; try 1")
    assert run.wait().returncode == 0, run.output


def test_when_the_time_for_retries_is_spent_the_run_leaves_with_12_and_names_the_blocker(
    hot: Project, database: Database
) -> None:
    hot.add_revision("b2", "a1", ALTER_HOT)
    with reader(database) as pid:
        failed = hot.migrator("upgrade", "--lock-timeout", "700ms", "--lock-retry-timeout", "2s", "--json")
    assert failed.returncode == 12, failed.output
    assert "ALTER TABLE hot ADD COLUMN note" in failed.stderr
    assert "55P03" in failed.stderr
    assert re.search(rf"by pid {pid} \({READER}, .* on hot", failed.stderr)
    assert "MIGRATOR_LOCK_RETRY_TIMEOUT" in failed.stderr
    assert re.search(r"state +at a1, read on a new connection · rolled back: b2", failed.stderr)
    assert failed.json["exit_code"] == 12
    assert (database.revisions, column_is_there(database)) == (["a1"], False)
    assert database.query("SELECT count(*) FROM tried") == [(0,)]
    assert hot.migrator("upgrade").returncode == 0
    assert column_is_there(database)


def test_the_victim_of_a_deadlock_is_tried_again(hot: Project, database: Database) -> None:
    """The other session locks ``cold``, then waits for ``hot``; the revision comes the other way round."""
    database.query("CREATE TABLE cold ()")
    database.query(f"ALTER DATABASE {database.name} SET deadlock_timeout = '50ms'")
    wait_for_the_other = (
        "waits = sa.text(\"SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'hot'::regclass\")\n"
        "first = op.get_bind().scalar(sa.text(\"SELECT nextval('tries')\")) == 1\n"
        "while first and not op.get_bind().scalar(waits):\n    pass\n"
    )
    hot.add_revision(
        "b2",
        "a1",
        'op.execute("LOCK TABLE hot")\n' + wait_for_the_other + 'op.execute("LOCK TABLE cold")\n' + ALTER_HOT,
    )
    # Only the side whose deadlock_timeout is short looks for deadlocks, so that one is the victim.
    with transaction(
        database.url, f"SET application_name = '{READER}'", "SET deadlock_timeout = '1min'", "LOCK TABLE cold"
    ) as other:
        run = hot.start("upgrade", env={"MIGRATOR_LOCK_TIMEOUT": "30s"})
        wait_until(lambda: holds_hot(database), "the revision has locked the first table")
        other.cursor().execute("LOCK TABLE hot")
        run.wait_for_line(r"1/1 +b2 +(deadlock|blocked) .*; try 1, next in")
    ended = run.wait()
    assert ended.returncode == 0, ended.output
    assert tries(database) == 3  # counted on the way in, twice, and in the part that was committed
    assert column_is_there(database)
    assert database.query("SELECT count(*) FROM tried") == [(1,)]


def holds_hot(database: Database) -> bool:
    return bool(
        database.query(
            "SELECT 1 FROM pg_locks WHERE relation = 'hot'::regclass AND mode = 'AccessExclusiveLock' AND granted"
        )
    )


def fails_to_index(hot: Project, database: Database) -> Completed:
    """A concurrent index build that must wait for an old writer for longer than it may."""
    hot.add_revision("b2", "a1", INDEX_HOT)
    with reader(database, "UPDATE hot SET hits = 1 WHERE id = 1"):
        return hot.migrator("upgrade", "--index-lock-timeout", "300ms", "--json")


def invalid_indexes(database: Database) -> list[tuple[str]]:
    return database.query("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")


def test_a_concurrent_index_build_is_not_retried_and_the_invalid_index_is_named(
    hot: Project, database: Database
) -> None:
    failed = fails_to_index(hot, database)
    assert failed.returncode == 12, failed.output
    assert invalid_indexes(database) == [("ix_hot_hits",)]
    assert re.search(r"invalid +INVALID index ix_hot_hits on hot, left by this run", failed.stderr)
    assert re.search(r"left +part of b2 ran outside a transaction", failed.stderr)
    assert "DROP INDEX CONCURRENTLY" in failed.stderr
    assert "55P03" in failed.stderr
    assert "try 1" not in failed.stderr
    [target] = failed.json["targets"]
    assert target["invalid_indexes"] == [{"name": "ix_hot_hits", "table": "hot"}]
    assert [(step["revision"], step["tries"], step["autocommit"]) for step in target["steps"]] == [
        ("b2", 1, True)
    ]
    assert database.revisions == ["a1"]


def test_an_invalid_index_from_before_is_reported(hot: Project, database: Database) -> None:
    fails_to_index(hot, database)
    (hot.versions / "b2.py").unlink()
    hot.add_revision("b3", "a1", ALTER_HOT)
    ended = hot.migrator("upgrade", check=True)
    assert re.search(r"invalid +INVALID index ix_hot_hits on hot, there before this run", ended.stderr)
    assert ended.stderr.count("INVALID index ix_hot_hits") == 1
    assert database.revisions == ["b3"]


def test_what_takes_long_says_for_how_long_who_blocks_it_and_how_far_it_is(
    hot: Project, database: Database, new_database: Callable[..., Database], tmp_path: Path
) -> None:
    hot.add_revision("b2", "a1", ALTER_HOT)
    crawl = write_project(tmp_path / "crawl", new_database(), revisions=[Revision("c1", None, CRAWL)])
    with reader(database) as pid:
        blocked = hot.start("upgrade", "--lock-timeout", "60s")
        crawling = crawl.start("upgrade")
        blocked.wait_for_line(
            rf"1/1 +b2 +blocked [\d.]+ s {blocked_by(pid)}.*ALTER TABLE hot ADD COLUMN note"
        )
        crawling.wait_for_line(
            r"1/1 +c1 +running [\d.]+ s: CREATE INDEX ix_crawl .* · building index.*, \d+ % "
            r"\([\d,]+ of [\d,]+ blocks\)"
        )
        crawling.kill()
    assert blocked.wait().returncode == 0, blocked.output


def test_an_index_that_an_earlier_build_left_invalid_is_to_be_dropped(
    hot: Project, database: Database
) -> None:
    fails_to_index(hot, database)
    again = hot.migrator("upgrade", "--json")
    assert again.returncode == 20, again.output
    assert "DROP INDEX CONCURRENTLY ix_hot_hits;" in again.json["error"]["next"]
    assert "stamp" not in again.json["error"]["next"]
    database.query("DROP INDEX ix_hot_hits")
    assert hot.migrator("upgrade").returncode == 0
