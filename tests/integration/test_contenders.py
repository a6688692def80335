"""Several runs at once: one migrates, the others wait, say for whom, and find nothing to do."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import Database, Project, Revision, Running, query, transaction, wait_until

MakeProject = Callable[..., Project]

CREATE_LOG = 'op.create_table("log", sa.Column("revision", sa.Text))\n'


def logged(id: str, down: str | None, body: str = "", *, message: str = "") -> Revision:
    """A revision that leaves a row each time it is applied; the first makes the table for that."""
    log = f"op.execute(\"INSERT INTO log VALUES ('{id}')\")\n"
    return Revision(id, down, (CREATE_LOG if down is None else "") + log + body, message=message)


def log(database: Database) -> list[str]:
    """The revisions that were applied, as often as they were."""
    return [revision for (revision,) in database.query("SELECT revision FROM log ORDER BY 1")]


class Gate:
    """Where a revision stops until the test lets it pass."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.body = (
            "import os, sys, time\n"
            'print("at the gate", file=sys.stderr, flush=True)\n'
            f"while not os.path.exists({str(path)!r}):\n"
            "    time.sleep(0.02)\n"
        )
        """For the end of ``upgrade()``."""

    def open(self) -> None:
        self._path.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    closed = Gate(tmp_path / "gate")
    yield closed
    closed.open()


@contextmanager
def at_the_gate(project: Project) -> Iterator[tuple[Running, str]]:
    """A run that holds the lock and stands at the gate, and the pid of its backend."""
    holder = project.start("upgrade")
    pid = holder.wait_for_line(r"lock +held \(pid (\d+)\)")[1]
    holder.wait_for_line("at the gate")
    yield holder, pid


def test_of_twenty_contenders_on_an_empty_database_one_applies_and_all_succeed(
    project: MakeProject, database: Database
) -> None:
    ids = ["a1", "b2", "c3", "d4", "e5"]
    made = project(revisions=[logged(one, down) for one, down in zip(ids, [None, *ids], strict=False)])
    contenders = [made.start("upgrade") for _ in range(20)]
    ended = [contender.wait(120) for contender in contenders]
    assert [one.output for one in ended if one.returncode != 0] == []
    assert log(database) == ids
    assert database.revisions == ["e5"]
    assert len([one for one in ended if "nothing to do" in one.stderr]) == 19


def test_when_the_holder_is_killed_in_a_statement_a_waiter_takes_over(
    project: MakeProject, database: Database, tmp_path: Path
) -> None:
    slow = f"import os\nif not os.path.exists({str(tmp_path / 'quick')!r}):\n    op.execute('SELECT pg_sleep(300)')"
    made = project(revisions=[logged("a1", None), logged("b2", "a1", slow), logged("c3", "b2")])
    holder = made.start("upgrade")
    holder.wait_for_line("lock +held")
    wait_until(lambda: sleeping(database), "the holder runs its statement")
    waiters = [made.start("upgrade") for _ in range(3)]
    for waiter in waiters:
        waiter.wait_for_line("lock +held by pid")
    (tmp_path / "quick").touch()
    killed = time.monotonic()
    holder.kill()
    wait_until(lambda: any("plan" in waiter.output for waiter in waiters), "one of them takes over")
    print(f"\na waiter entered {time.monotonic() - killed:.2f} s after SIGKILL of the holder")
    ended = [waiter.wait() for waiter in waiters]
    assert [one.output for one in ended if one.returncode != 0] == []
    assert log(database) == ["a1", "b2", "c3"]
    assert database.revisions == ["c3"]
    assert len([one for one in ended if "nothing to do" in one.stderr]) == 2


def sleeping(database: Database) -> bool:
    return bool(
        query(
            database.server.url,
            "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event = 'PgSleep'",
            [database.name],
        )
    )


def test_ten_waiters_do_not_disturb_a_concurrent_index_build(
    project: MakeProject, database: Database
) -> None:
    build = (
        "with op.get_context().autocommit_block():\n"
        '    op.create_index("ix_log", "log", ["revision"], postgresql_concurrently=True)\n'
    )
    made = project(revisions=[logged("a1", None), logged("b2", "a1", build)])
    made.migrator("upgrade", "a1", check=True)
    # The build waits for this transaction; by its end all ten are waiting, and it has two phases to go.
    with transaction(database.url, "UPDATE log SET revision = revision"):
        builder = made.start("upgrade")
        wait_until(lambda: building(database), "the index build begins")
        waiters = [made.start("upgrade") for _ in range(10)]
        for waiter in waiters:
            waiter.wait_for_line("lock +held by pid", timeout=60)
        assert building(database)
    ended = [one.wait() for one in (builder, *waiters)]
    assert [one.output for one in ended if one.returncode != 0] == []
    assert database.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_log'::regclass") == [
        (True,)
    ]
    assert log(database) == ["a1", "b2"]


def building(database: Database) -> bool:
    return bool(
        database.query("SELECT 1 FROM pg_stat_progress_create_index WHERE datname = current_database()")
    )


def test_a_waiter_says_who_holds_the_lock_and_then_finds_nothing_to_do(
    project: MakeProject, database: Database, gate: Gate
) -> None:
    made = project(revisions=[logged("a1", None, gate.body, message="make the log")])
    with at_the_gate(made) as (holder, pid):
        waiter = made.start("upgrade")
        said = waiter.wait_for_line(r"lock +held by pid (\d+) \((.*)\); waiting at most (.*)")
        assert said[1] == pid
        assert re.match(r"migrator \S+: a1\b", said[2])
        assert said[3].startswith("10 m")
        gate.open()
        assert holder.wait().returncode == 0
    ended = waiter.wait()
    assert ended.returncode == 0, ended.output
    assert re.search(r"lock +held \(pid \d+\) after", ended.stderr)
    assert "nothing to do: at a1" in ended.stderr
    assert log(database) == ["a1"]


def test_who_may_not_wait_longer_leaves_with_11_and_names_the_holder(
    project: MakeProject, database: Database, gate: Gate
) -> None:
    made = project(revisions=[logged("a1", None, gate.body)])
    with at_the_gate(made) as (holder, pid):
        refused = made.migrator("upgrade", "--run-lock-timeout", "500ms", "--json")
        assert refused.returncode == 11, refused.output
        assert re.search(rf"failed .*held by pid {pid} \(migrator \S+: a1\)", refused.stderr)
        assert "MIGRATOR_RUN_LOCK_TIMEOUT" in refused.stderr
        assert f"pg_terminate_backend({pid})" in refused.stderr
        assert refused.json["exit_code"] == 11
        gate.open()
        assert holder.wait().returncode == 0
    assert log(database) == ["a1"]


def test_a_frozen_holder_keeps_the_lock_until_it_goes_on(
    project: MakeProject, database: Database, gate: Gate
) -> None:
    made = project(revisions=[logged("a1", None, gate.body), logged("b2", "a1")])
    with at_the_gate(made) as (holder, pid):
        holder.send_signal(signal.SIGSTOP)
        gate.open()
        waiters = [made.start("upgrade", "--run-lock-timeout", "1s") for _ in range(2)]
        for ended in [waiter.wait() for waiter in waiters]:
            assert ended.returncode == 11, ended.output
            assert f"held by pid {pid}" in ended.stderr
        assert database.tables == []
        holder.send_signal(signal.SIGCONT)
        assert holder.wait().returncode == 0, holder.output
    assert log(database) == ["a1", "b2"]
    assert database.revisions == ["b2"]
