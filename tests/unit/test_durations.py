"""Durations as people write and read them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from migrator.durations import UnacceptableValue, format_duration, parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1.5", 1.5),
        ("0", 0.0),
        (".5", 0.5),
        (" 30 ", 30.0),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("1m30s", 90.0),
        ("1h2m3s4ms", 3723.004),
        ("1.5h", 5400.0),
        ("1 m 52 s", 112.0),
        ("10M", 600.0),
        (5, 5.0),
        (0.25, 0.25),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_a_duration_is_read(written: object, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    ["", "soon", "-1", "1e3", "nan", "inf", "30s1m", "1m1m", "ms", "1d", "5 5", True, None, [], float("nan")],
)
def test_what_is_no_duration_is_refused_with_what_is_allowed(written: object) -> None:
    with pytest.raises(UnacceptableValue, match="not a duration") as raised:
        parse_duration(written)
    assert "500ms, 30s, 10m, 1h, 1m30s" in raised.value.allowed


@pytest.mark.parametrize(
    ("written", "problem"), [(-1, "negative"), ("597h", "too long"), (float("inf"), "too long")]
)
def test_a_duration_out_of_range_is_refused(written: object, problem: str) -> None:
    with pytest.raises(UnacceptableValue, match=problem):
        parse_duration(written)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.001, "0.001 s"),
        (0.04, "0.04 s"),
        (0.0431, "0.04 s"),
        (0.0999, "100 ms"),
        (0.5, "500 ms"),
        (0.9997, "1 s"),
        (1.5, "1.5 s"),
        (2.0, "2 s"),
        (12.84, "12.8 s"),
        (59.97, "1 m"),
        (112.3, "1 m 52 s"),
        (600, "10 m"),
        (3599.9, "1 h"),
        (5400, "1 h 30 m"),
        (3661, "1 h 1 m 1 s"),
    ],
)
def test_a_duration_is_shown_for_people(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.5, 1.5, 30.0, 90.0, 600.0, 3661.0])
def test_what_is_shown_can_be_written_again(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)
