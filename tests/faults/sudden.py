"""Ends of the process and of the session: signals, SIGKILL and terminated backends between any two statements."""

from __future__ import annotations

import signal

from migrator.errors import ExitCode
from tests.faults.stage import Cell, Trial
from tests.faults.wire import Boundary, Wire
from tests.harness import Running, wait_until

EACH, POOLED_EACH = 9, 3
"""Of how many boundaries a cell that is not whole takes one; and through a pooler, where those that commit are
taken as well: the statements are the same as without it, and so is what they leave."""


def sigterm(cell: Cell) -> None:
    """SIGTERM while a revision is in a statement, sleeps in Python, or computes.

    Exit 143. The statement is cancelled on the server, the revision rolled back, the lock free.
    """
    for place in ("statement", "python", "loop"):
        with cell.trial(f"in a {place}", revisions=cell.place.ordinary) as trial:
            run = trial.staying(place)
            trial.strike()
            run.send_signal(signal.SIGTERM)
            trial.ended(run, {ExitCode.TERMINATED}, timeout=9)  # the grace would be over after 10 s
            trial.wait_until_free()


def sigkill(cell: Cell) -> None:
    """SIGKILL before each statement that a run sends, and while one runs.

    No exit code of ours. Nothing that was committed is applied again; what an index build left is named.
    """
    if cell.place.reader is None:
        _sigkill_from_inside(cell)
    else:
        for number in boundaries(cell):
            _sigkill_before(cell, number)
    with cell.trial("in a statement") as trial:
        run = trial.staying("statement")
        trial.strike()
        run.kill()
        trial.ended(run, {-signal.SIGKILL})
        trial.end_orphan()
        trial.wait_until_free()


def _sigkill_before(cell: Cell, number: int) -> None:
    with wire(cell) as relay, cell.trial(f"before request {number}") as trial:
        run, held = held_at(trial, relay, number)
        trial.label = f"before request {number}: {held.text if held else 'none: it had ended'}"
        trial.strike()
        run.kill()
        run.wait()
        relay.cut()
        trial.ended(run, {-signal.SIGKILL} if held else {0})
        trial.wait_until_free()


def _sigkill_from_inside(cell: Cell) -> None:
    with cell.trial("undisturbed") as trial:
        ended = trial.ended(trial.start(env={"FAULT_KILL_AT": "never"}), {0})
        count = int(ended.stderr.partition("boundaries ")[2].split()[0])
    for number in range(1, count + 1, 1 if cell.whole else EACH):
        with cell.trial(f"at boundary {number}") as trial:
            run = trial.start(env={"FAULT_KILL_AT": str(number)})
            trial.ended(run, {-signal.SIGKILL})
            trial.strike()
            trial.wait_until_free()


def terminated(cell: Cell) -> None:
    """Every session of the run is ended by the server before each statement, after each COMMIT, and in one.

    Exit 13, or 0 where what was lost was not needed any more.
    """
    codes = {0, ExitCode.CONNECTION_LOST}
    numbers = boundaries(cell)
    for number, text in numbers.items():
        for answered in (False, True) if any(words in text for words in cell.place.commits) else (False,):
            moment = "after the server did" if answered else "before"
            with wire(cell) as relay, cell.trial(f"{moment} request {number}") as trial:
                run, held = held_at(trial, relay, number, answered=answered)
                trial.label = f"{moment} request {number}: {held.text if held else 'none: it had ended'}"
                trial.strike()
                trial.database.terminate_sessions()
                relay.release()
                trial.ended(run, codes)
                trial.wait_until_free()
    with cell.trial("in a statement") as trial:
        run = trial.staying("statement")
        trial.strike()
        trial.database.terminate_sessions()
        trial.ended(run, {ExitCode.CONNECTION_LOST})
        trial.wait_until_free()


def wire(cell: Cell) -> Wire:
    """A relay to where the cell's runs connect to."""
    return Wire(cell.address, cell.place.reader)


def boundaries(cell: Cell) -> dict[int, str]:
    """The requests of a run that nothing happens to, by number, from the one that asks for the lock.

    Before that one a run has changed nothing.
    """
    with wire(cell) as relay, cell.trial("undisturbed") as trial:
        trial.ended(trial.start(address=relay.address), {0})
        numbered = dict(enumerate(relay.requests, start=1))
    first = next((n for n, text in numbered.items() if cell.place.takes_lock in text), 1)
    wanted = {number: text for number, text in numbered.items() if number >= first}
    each = (POOLED_EACH if cell.pooled else 1) if cell.whole else EACH
    return {
        number: text
        for place, (number, text) in enumerate(wanted.items())
        if place % each == 0 or (cell.whole and any(words in text for words in cell.place.commits))
    }


def held_at(
    trial: Trial, relay: Wire, number: int, *, answered: bool = False
) -> tuple[Running, Boundary | None]:
    """A run that is stopped at that request; None where it ended before it came so far."""
    relay.hold(number, answered=answered)
    run = trial.start(address=relay.address)
    wait_until(lambda: relay.held or run.process.poll() is not None, f"request {number} comes")
    return run, relay.held
