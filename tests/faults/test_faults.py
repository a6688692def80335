"""The fault suite as CI runs it: each fault once, on the newest server; ``make faults`` plays the whole matrix."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import matrix, sudden
from tests.faults.matrix import Fault, Servers
from tests.faults.stage import Cell
from tests.faults.tally import Row
from tests.servers.binaries import ServerMissing

SELECTION = matrix.selection()


@pytest.fixture(scope="module")
def running() -> Iterator[Callable[[str], Servers]]:
    """Servers of a kind that only this module uses, started when first asked for: some faults stop them."""
    with contextlib.ExitStack() as started:

        @functools.cache
        def start(kind: str) -> Servers:
            try:
                return started.enter_context(matrix.started(kind))
            except ServerMissing as missing:
                pytest.skip(str(missing))

        yield start


@pytest.mark.parametrize(("row", "fault"), SELECTION, ids=lambda one: one.name)
def test_after_a_fault_nothing_is_applied_twice_and_nothing_is_lost_in_silence(
    row: Row, fault: Fault, running: Callable[[str], Servers], tmp_path: Path
) -> None:
    if lacking := fault.lacking():
        pytest.skip(lacking)
    tally = matrix.play(row, fault, running(row.kind), tmp_path, whole=False).tally
    assert tally.problems == []
    assert (tally.doubled, tally.lost) == (0, 0)
    assert tally.trials == tally.passed > 0


def test_a_session_that_ended_before_it_was_proved_is_not_taken_for_another_database(
    running: Callable[[str], Servers], tmp_path: Path
) -> None:
    row = Row(SELECTION[0][0].kind, "psycopg2")
    place = running(row.kind).place
    cell = Cell(row, place, place.address, tmp_path)
    first = next(iter(sudden.boundaries(cell)))
    with sudden.wire(cell) as relay, cell.trial("after the lock was taken") as trial:
        # The COMMIT after the statement that takes the lock.
        run, held = sudden.held_at(trial, relay, first + 1, answered=True)
        assert held is not None
        assert held.text == "COMMIT"
        trial.database.terminate_sessions()
        relay.release()
        trial.ended(run, {0})
    assert cell.tally.problems == []
