"""FAULTS.md is what the matrix counted: written by the suite, and without a cell that breaks the promise."""

from __future__ import annotations

from tests.faults import matrix, report
from tests.faults.report import Played
from tests.harness import REPOSITORY

PAGE = (REPOSITORY / "FAULTS.md").read_text()
PUBLISHED = Played.from_page(PAGE)


def test_the_page_is_exactly_what_the_suite_writes_for_its_counts() -> None:
    assert report.render(PUBLISHED) == PAGE  # after other words: python -m tests.faults --rewrite FAULTS.md


def test_no_cell_applied_a_revision_twice_or_lost_one_in_silence() -> None:
    broken = [(c.row, c.fault) for c in PUBLISHED.counts if c.doubled or c.lost or c.passed != c.trials]
    assert broken == []


def test_every_cell_was_struck() -> None:
    assert PUBLISHED.counts
    assert [(c.row, c.fault) for c in PUBLISHED.counts if not c.trials or not c.runs] == []


def test_the_page_names_only_cells_that_there_are_and_has_every_fault_and_version() -> None:
    known = {(row.name, fault.name) for row, fault in matrix.cells()}
    played = {(c.row, c.fault) for c in PUBLISHED.counts}
    assert played <= known
    assert {fault for _, fault in played} == {fault.name for fault in matrix.FAULTS}
    assert {"Python", "alembic", "sqlalchemy", "PgBouncer"} <= set(PUBLISHED.versions)
