"""Servers that restart, fail over, or will not take another connection."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Literal

from migrator.errors import ExitCode
from tests.faults.stage import Cell
from tests.faults.sudden import held_at, wire
from tests.faults.wire import Address
from tests.harness import wait_until

AWAY = {ExitCode.CONNECTION_LOST, ExitCode.UNREACHABLE}


def restart_fast(cell: Cell) -> None:
    """The server restarts in order (``fast``) while a run is in a statement, idle in its transaction, or waits.

    Exit 13, or 10 where it was away for longer than a run may wait. Nothing half applied.
    """
    _restart(cell, "fast")


def restart_immediate(cell: Cell) -> None:
    """The server crashes and recovers (``immediate``), also just after it answered a COMMIT.

    As for the restart in order; what was committed is there.
    """
    _restart(cell, "immediate")
    commits = 0
    with wire(cell) as relay, cell.trial("undisturbed") as trial:
        trial.ended(trial.start(address=relay.address), {0})
        texts = [text.rstrip(";") for text in relay.requests]
        recorded = next(n for n, text in enumerate(texts, start=1) if "INSERT INTO alembic" in text)
        commits = texts.index("COMMIT", recorded) + 1
    with wire(cell) as relay, cell.trial("after the COMMIT of the first revision, not heard") as trial:
        run, _ = held_at(trial, relay, commits, answered=True)
        trial.strike()
        cell.place.restart("immediate")
        relay.cut()
        trial.ended(run, {0, *AWAY})


def half_done(cell: Cell) -> set[int]:
    """What a run may end with that finds the DDL of one before it, where DDL commits by itself."""
    return {ExitCode.MIGRATION_FAILED, ExitCode.HISTORY} if cell.place.ordinary.remedies else set()


def _restart(cell: Cell, mode: Literal["fast", "immediate"]) -> None:
    for place in ("statement", "python"):
        with cell.trial(f"in {place}", revisions=cell.place.ordinary) as trial:
            go_on = cell.path / f"{mode}-{place}"
            run = trial.staying(place if place == "statement" else str(go_on))
            waiter = trial.start()
            waiter.wait_for_line("lock +held by")
            trial.strike()
            cell.place.restart(mode)
            go_on.touch()
            trial.ended(run, AWAY)
            # It may come to the lock on a new connection only if its own was lost before it had asked.
            trial.ended(waiter, {0, *AWAY, *half_done(cell)})
            trial.wait_until_free()


def connections_exhausted(cell: Cell) -> None:
    """Every connection that the server has is taken: before the run, for good, and while it runs.

    It waits and goes on; exit 10 when that takes too long. A run that cannot ask for the result says so.
    """
    with cell.place.another(max_connections="14", superuser_reserved_connections="1") as place:
        with (
            _reached(cell, place) as address,
            cell.trial("before the run", place=place, address=address, revisions=place.ordinary) as trial,
        ):
            with exhausted(place):
                run = trial.start()
                run.wait_for_line("^wait .*(too many|remaining connection|nothing was answered|connect)")
            trial.ended(run, {0})
        with (
            _reached(cell, place) as address,
            cell.trial("for good", place=place, address=address, revisions=place.ordinary) as trial,
        ):
            with exhausted(place):
                run = trial.start("--wait-timeout", "2s", "--connect-timeout", "1s")
                trial.ended(run, {ExitCode.UNREACHABLE})
            trial.strike()
        with (
            _reached(cell, place) as address,
            cell.trial("while it runs", place=place, address=address, revisions=place.ordinary) as trial,
        ):
            go_on = cell.path / "exhausted"
            run = trial.staying(str(go_on), "--connect-timeout", "1s", "--wait-timeout", "3s")
            trial.database.query("SELECT 1")  # From now on there is a connection to look with.
            with exhausted(place):
                go_on.touch()
                # Its own connection ends first, and what that frees it may get again.
                trial.ended(run, {0, ExitCode.UNREACHABLE})


@contextlib.contextmanager
def exhausted(place: Any) -> Iterator[None]:
    """While the block lasts, every connection that becomes free is taken at once."""
    import psycopg2

    taken: list[Any] = []
    full, over = threading.Event(), threading.Event()

    def take() -> None:
        while not over.is_set():
            try:
                taken.append(psycopg2.connect(place.admin_url))
            except psycopg2.OperationalError:
                full.set()
                over.wait(0.001)

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    try:
        wait_until(full.is_set, "every connection is taken")
        yield
    finally:
        over.set()
        taker.join()
        for connection in taken:
            connection.close()


def failover(cell: Cell) -> None:
    """The address leads to a standby: read-only at first, writable later; also in the middle of a run.

    A run waits for a standby that becomes writable. One whose primary dies exits with 13 or 10, and the
    rerun goes on from what the standby has. What an asynchronous standby never got is pending there.
    """
    with cell.place.another() as primary, primary.standby() as second:
        with (
            _reached(cell, primary) as address,
            cell.trial(
                "the primary dies in a statement", place=primary, address=address, revisions=primary.ordinary
            ) as trial,
        ):
            run = trial.staying("statement", "--connect-timeout", "1s")
            wait_until(lambda: second.server.caught_up_with(primary.server), "the standby has caught up")
            trial.strike()
            primary.server.stop("immediate")
            second.server.promote()
            trial.move(second)
            trial.wait_until_free()
            trial.ended(run, AWAY)
            with _reached(cell, second) as moved:
                trial.address = moved
                trial.recover()
        with second.standby() as third, _reached(cell, third) as address:
            _read_only_at_first(cell, second, third, address)
            with third.standby() as fourth:
                _never_got(cell, third, fourth)


def _read_only_at_first(cell: Cell, primary: Any, standby: Any, address: Address) -> None:
    database = primary.new_database()
    wait_until(lambda: standby.server.caught_up_with(primary.server), "the standby has caught up")
    with cell.trial(
        "a standby that becomes writable",
        place=standby,
        database=standby.at(database.name),
        address=address,
        revisions=standby.ordinary,
    ) as trial:
        run = trial.start()
        run.wait_for_line("read-only standby")
        standby.server.promote()
        trial.ended(run, {0})


def _never_got(cell: Cell, primary: Any, standby: Any) -> None:
    database = primary.new_database()
    wait_until(lambda: standby.server.caught_up_with(primary.server), "the standby has caught up")
    standby.server.stop("fast")
    with (
        _reached(cell, primary) as address,
        cell.trial(
            "commits that an asynchronous standby never got",
            place=primary,
            database=database,
            address=address,
            revisions=primary.ordinary,
        ) as trial,
    ):
        trial.ended(trial.start(), {0})
        primary.server.stop("immediate")
        standby.server.start()
        standby.server.promote()
        trial.move(standby)
        with _reached(cell, standby) as moved:
            trial.address = moved
            answer = trial.status()
            assert answer.returncode == ExitCode.CHECK_SAYS_NO, answer.output
            assert "2 pending: a1, b2" in answer.stdout, answer.output
            trial.recover()


@contextlib.contextmanager
def _reached(cell: Cell, place: Any) -> Iterator[Address]:
    """How the cell's runs reach other servers than the cell's."""
    if cell.pooled:
        with place.pooler() as address:
            yield address
    else:
        yield place.address
