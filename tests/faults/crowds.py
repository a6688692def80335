"""Several runs at once, applications in the way, and index builds that must not be disturbed."""

from __future__ import annotations

import signal

from migrator.errors import ExitCode
from tests.faults.stage import Cell
from tests.harness import wait_until

CONTENDERS, FEWER = 50, 12
WAITERS = 5


def contenders(cell: Cell) -> None:
    """Fifty runs start at once on an empty database.

    All exit 0; one applied, the others found nothing to do.
    """
    count = CONTENDERS if cell.whole else FEWER
    with cell.trial(f"{count} at once") as trial:
        runs = [trial.start() for _ in range(count)]
        ended = [trial.ended(run, {0}, timeout=180) for run in runs]
        idle = sum("nothing to do" in one.stderr for one in ended)
        assert idle == count - 1, f"{count - idle} of {count} applied something"


def frozen_holder(cell: Cell) -> None:
    """The run that holds the lock is frozen (SIGSTOP), and goes on later (SIGCONT).

    Waiters exit 11 within their limit and name it; nothing is applied meanwhile; then it ends with 0.
    """
    with cell.trial("frozen in a revision", revisions=cell.place.ordinary) as trial:
        go_on = cell.path / "frozen"
        holder = trial.staying(str(go_on))
        (pid,) = trial.database.holders
        holder.send_signal(signal.SIGSTOP)
        go_on.touch()
        waiters = [trial.start("--run-lock-timeout", "1s") for _ in range(2)]
        for waiter in waiters:
            ended = trial.ended(waiter, {ExitCode.LOCKED_OUT})
            assert f"held by pid {pid} " in ended.stderr, ended.output
        holder.send_signal(signal.SIGCONT)
        trial.strike()
        trial.ended(holder, {0})
        trial.wait_until_free()


def concurrent_index(cell: Cell) -> None:
    """An index is built concurrently while an application's transaction is open and five runs wait.

    Nobody deadlocks; the index is valid; all exit 0.
    """
    with cell.trial(f"{WAITERS} waiters") as trial:
        builder, waiters = trial.start(stay=str(cell.path / "index")), []
        builder.wait_for_line("^staying")
        with trial.database.transaction(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1 FROM journal"
        ):
            (cell.path / "index").touch()
            wait_until(lambda: trial.database.building_index, "the index build begins")
            waiters += [trial.start() for _ in range(WAITERS)]
            for waiter in waiters:
                waiter.wait_for_line("lock +held by pid", timeout=60)
            assert trial.database.building_index
        for run in (builder, *waiters):
            trial.ended(run, {0})


def application_locks(cell: Cell) -> None:
    """An application's open transaction is in the way of an ALTER TABLE: for a while, and for good.

    It gives up after the lock timeout and comes back: 0. For good: exit 12, the blocker named.
    """
    for lasting, codes in ((False, {0}), (True, {ExitCode.LOCK_TIMEOUT})):
        with cell.trial("for good" if lasting else "for a while", revisions=cell.place.ordinary) as trial:
            trial.ended(trial.start(to="a1"), {0})
            retries = "1s" if lasting else "60s"
            options = ("--lock-timeout", cell.place.shortest_lock_timeout, "--lock-retry-timeout", retries)
            with trial.database.transaction("UPDATE orders SET note = 'application' WHERE id = 1"):
                run = trial.start(*options)
                if lasting:
                    ended = trial.ended(run, codes)
                    assert "blocked by pid" in ended.stderr or not cell.place.names_blockers, ended.output
                else:
                    run.wait_for_line(cell.place.tries_again)
            if not lasting:
                trial.ended(run, codes)
