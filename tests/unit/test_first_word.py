"""What kind of statement it is, told by its first word; the work for it grows with the text and no faster."""

from __future__ import annotations

import pytest

from migrator.dialects import first_word


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("create table t (id int)", "CREATE"),
        ("\n    -- a word\n  # another\n /* a third */ (SELECT 1)", "SELECT"),
        ("", ""),
        ("/* nothing */ ;", ""),
    ],
)
def test_comments_and_brackets_come_before_it(statement: str, word: str) -> None:
    assert first_word(statement) == word


@pytest.mark.parametrize("before", [" ", "\n", "/* a */ ", "-- a\n", "("])
@pytest.mark.parametrize("end", ["", ";", "'"])
def test_a_statement_without_a_word_is_looked_through_once(before: str, end: str) -> None:
    """What ``script.split(";")`` leaves at its end: with each blank tried in every way, this took for ever."""
    assert first_word(before * 5000 + end) == ""
