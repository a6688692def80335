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


def test_every_cell_of_the_matrix_was_played_whole_and_the_readme_says_how_long_that_takes() -> None:
    assert PUBLISHED.whole
    assert {(c.row, c.fault) for c in PUBLISHED.counts} == {
        (row.name, fault.name) for row, fault in matrix.cells()
    }
    minutes = round(PUBLISHED.seconds / 60)
    readme = " ".join((REPOSITORY / "README.md").read_text().split())
    assert f"the whole matrix of faults ({len(PUBLISHED.counts)} cells in {minutes} minutes" in readme


def test_every_cell_was_struck() -> None:
    assert PUBLISHED.counts
    assert [(c.row, c.fault) for c in PUBLISHED.counts if not c.trials or not c.runs] == []


def test_the_page_has_the_version_of_everything() -> None:
    assert {"Python", "alembic", "sqlalchemy", "PgBouncer"} <= set(PUBLISHED.versions)
