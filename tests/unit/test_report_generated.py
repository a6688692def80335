"""What people read of a generated revision."""

from __future__ import annotations

import dataclasses

import pytest

from migrator.report.generated import generated_notices, lost_words
from migrator.results import ROWS_COUNTED, GeneratedRevision
from tests.unit.report_examples import GENERATED, RENAME


def told(result: GeneratedRevision) -> list[tuple[str, str]]:
    return [(notice.label, notice.message) for notice in generated_notices(result)]


def test_each_difference_has_a_line_and_the_file_comes_last() -> None:
    lines = told(GENERATED)
    assert lines[:2] == [
        ("found", "added column orders.placed_at (TIMESTAMP)"),
        ("found", "dropped column orders.placed"),
    ]
    assert lines[2] == ("risk", "dropped column orders.placed: deletes every value in it")
    assert lines[3][0] == "rename?"
    assert lines[-1] == ("wrote", "migrations/versions/9a0c12_placed_at.py (9a0c12)")


def test_what_was_refused_says_so_and_what_to_do() -> None:
    refused = dataclasses.replace(GENERATED, written=(), refused=True, renames=(RENAME, RENAME))
    assert told(refused)[-2] == ("refused", "no revision was written, because of 2 suspected renames")
    assert told(refused)[-1][0] == "next"


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (
            GeneratedRevision(scratch=True),
            "the models and the revisions agree: no revision was written",
        ),
        (
            GeneratedRevision(written=GENERATED.written),
            "the models and the database agree: an empty revision was written",
        ),
    ],
)
def test_models_that_agree(result: GeneratedRevision, says: str) -> None:
    assert told(result)[0] == ("agreed", says)


def test_differences_of_which_a_hook_left_no_file() -> None:
    assert told(dataclasses.replace(GENERATED, written=()))[-1][1].startswith(
        "no revision was written: a hook"
    )


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (None, "deletes every value in it"),
        (0, "there is none in this database"),
        (1, "1 row of this database has one"),
        (1204, "1,204 rows of this database have one"),
        (ROWS_COUNTED + 1, "more than 100,000 rows of this database have one"),
    ],
)
def test_what_would_be_lost(rows: int | None, says: str) -> None:
    assert says in lost_words(dataclasses.replace(RENAME, rows=rows))


def test_what_would_be_lost_of_a_table() -> None:
    table = dataclasses.replace(RENAME, kind="table", table="", old="buyers", new="customers")
    assert "deletes its rows: 1,204 rows in this database" in lost_words(table)
    assert "every row of it" in lost_words(dataclasses.replace(table, rows=None))
