"""What a terminal shows: one line that is drawn over, colours in the label alone, nothing left behind."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Iterator

import pytest

from migrator.events import DatabaseReady, LockHeld, LockWaiting, StepRunning, StepStarted, WaitFailed
from migrator.report.output import colour_wanted, live_wanted
from migrator.report.safe import display_width
from migrator.report.text import TextReport
from migrator.results import Activity
from tests.unit.report_examples import (
    ADD,
    BACKFILL,
    BUILDING,
    HOLDER,
    PLANNED,
    RETRIED,
    Terminal,
    applied_result,
    failed_result,
    finished_steps,
    migration_failed,
    whole_run,
)

RUNNING = StepRunning(BACKFILL, 2, 3, 15.0, Activity("UPDATE orders"), live=True)
ERASE = "\r\x1b[2K"


def live_report(terminal: Terminal, *, colour: bool = False) -> TextReport:
    return TextReport(terminal, colour=colour, live=True)


def test_a_live_line_is_drawn_over_and_gone_when_the_step_ends() -> None:
    terminal = Terminal()
    report = live_report(terminal)
    report(RUNNING)
    assert terminal.getvalue() == f"{ERASE}  2/3     b7730e  running 15 s: UPDATE orders"
    report(dataclasses.replace(RUNNING, running_seconds=41.2))
    assert terminal.screen() == "  2/3     b7730e  running 41.2 s: UPDATE orders"
    report(finished_steps()[1])
    assert terminal.screen() == "  2/3     b7730e  backfill orders.placed_at    12.8 s\n"


def test_waiting_is_drawn_over_too() -> None:
    terminal = Terminal()
    report = live_report(terminal)
    report(WaitFailed("connection refused", 1, 15.0, 45.0))
    assert "not ready" in terminal.screen()
    report(DatabaseReady(2.1, 2, "connection refused"))
    report(LockWaiting(HOLDER, 0.0, 600.0))
    report(LockWaiting(HOLDER, 15.0, 600.0))
    assert terminal.screen().count("held by pid 4711") == 1
    report(LockHeld(4719, 51.3))
    assert terminal.screen() == (
        "wait      ready after 2.1 s (2 tries: connection refused)\nlock      held (pid 4719) after 51.3 s\n"
    )


def test_what_is_running_is_drawn_from_the_start_of_the_step_and_repeated_beginnings_leave_nothing() -> None:
    terminal = Terminal()
    report = live_report(terminal)
    report(PLANNED)
    report(StepStarted(ADD, 1, 3, 1))
    assert terminal.screen().splitlines()[-1] == "  1/3     9a0c12  add orders.placed_at"
    report(RETRIED)
    report(StepStarted(ADD, 1, 3, 4))
    report(finished_steps()[0])
    log = io.StringIO()
    in_log = TextReport(log, colour=False, live=False)
    for event in (PLANNED, RETRIED, finished_steps()[0]):
        in_log(event)
    assert terminal.screen() == log.getvalue()


def test_the_screen_after_a_run_is_what_a_log_shows() -> None:
    terminal, log = Terminal(), io.StringIO()
    on_terminal, in_log = live_report(terminal), TextReport(log, colour=False, live=False)
    for event in whole_run():
        on_terminal(RUNNING)
        on_terminal(event)
        in_log(event)
    on_terminal(RUNNING)
    on_terminal.finished(applied_result())
    in_log.finished(applied_result())
    assert terminal.screen() == log.getvalue()


def test_a_failure_takes_the_live_line_away() -> None:
    terminal, log = Terminal(), io.StringIO()
    report = live_report(terminal)
    report(RUNNING)
    report.failed(migration_failed(failed_result()))
    TextReport(log, colour=False, live=False).failed(migration_failed(failed_result()))
    assert terminal.screen() == log.getvalue()


def test_what_the_watching_thread_says_too_late_is_not_drawn() -> None:
    terminal = Terminal()
    report = live_report(terminal)
    report.finished(applied_result())
    before = terminal.getvalue()
    report(RUNNING)
    report(dataclasses.replace(RUNNING, live=False))
    assert terminal.getvalue() == before


def test_closing_takes_the_live_line_away() -> None:
    terminal = Terminal()
    report = live_report(terminal)
    report(RUNNING)
    report.close()
    assert terminal.screen() == ""


def test_without_a_terminal_a_line_meant_to_be_drawn_over_is_left_out() -> None:
    log = io.StringIO()
    report = TextReport(log, colour=False, live=False)
    report(RUNNING)
    assert log.getvalue() == ""
    report(dataclasses.replace(RUNNING, live=False))
    assert log.getvalue() == "  2/3     b7730e  running 15 s: UPDATE orders\n"


@pytest.fixture
def pseudo_terminal() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """A real one of 60 columns: the side to read from, and the stream to write to."""
    import termios

    reader, writer = os.openpty()
    termios.tcsetwinsize(writer, (24, 60))
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield reader, stream
    os.close(reader)


def test_a_live_line_never_wraps(pseudo_terminal: tuple[int, io.TextIOWrapper]) -> None:
    reader, stream = pseudo_terminal
    report = TextReport(stream, colour=True, live=True)
    wide = dataclasses.replace(BUILDING, activity=Activity("UPDATE 注文 SET 名 = '" + "長" * 100, 45.0))
    for event, end in (
        (BUILDING, "· buildin…"),
        (wide, "…"),
        (LockWaiting(HOLDER, 0.0, 600.0), "9a0c12 for…"),
    ):
        report(event)
        drawn = os.read(reader, 10_000).decode().split(ERASE)[-1]
        shown = re.sub(r"\x1b\[\d*m", "", drawn)
        assert display_width(shown) <= 59
        assert shown.endswith(end), shown


def test_a_statement_gives_way_to_the_progress_on_a_narrow_terminal(
    pseudo_terminal: tuple[int, io.TextIOWrapper],
) -> None:
    import termios

    reader, stream = pseudo_terminal
    termios.tcsetwinsize(stream.fileno(), (24, 100))
    TextReport(stream, colour=False, live=True)(BUILDING)
    shown = os.read(reader, 10_000).decode().split(ERASE)[-1]
    assert shown == (
        "  3/3     c41b77  running 45 s: CREATE INDEX CONC… · building index, 37 % (12,402 of 33,519 blocks)"
    )


def test_only_the_label_is_coloured() -> None:
    stream = io.StringIO()
    report = TextReport(stream, colour=True, live=False)
    for event in whole_run():
        report(event)
    report.failed(migration_failed(failed_result()))
    coloured = [line for line in stream.getvalue().splitlines() if "\x1b" in line]
    assert [re.sub(r"\x1b\[\d+m(.+?)\x1b\[0m.*", r"<\1>", line) for line in coloured] == [
        "<target>",
        "<wait>",
        "<lock>",
        "<plan>",
        "  <1/3>",
        "  <2/3>",
        "  <3/3>",
        "<verified>",
        "<failed>",
        "<state>",
        "<next>",
        "<exit>",
    ]
    assert "\x1b[31mfailed\x1b[0m    9a0c12" in stream.getvalue()
    assert "\x1b[32mverified\x1b[0m  at c41b77" in stream.getvalue()
    assert "\x1b[1mlock\x1b[0m      held" in stream.getvalue()
    plain = io.StringIO()
    uncoloured = TextReport(plain, colour=False, live=False)
    for event in whole_run():
        uncoloured(event)
    uncoloured.failed(migration_failed(failed_result()))
    assert re.sub(r"\x1b\[\d+m", "", stream.getvalue()) == plain.getvalue()


@pytest.mark.parametrize(
    ("terminal", "environ", "wanted"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (True, {"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        (True, {"FORCE_COLOR": "0"}, False),
        (True, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_wanted(terminal: bool, environ: dict[str, str], wanted: bool) -> None:
    assert colour_wanted(Terminal() if terminal else io.StringIO(), environ) is wanted


def test_a_live_line_needs_a_terminal_however_much_colour_is_forced() -> None:
    assert not live_wanted(io.StringIO(), {"FORCE_COLOR": "1"})
    assert live_wanted(Terminal(), {"NO_COLOR": "1"})


def test_a_closed_stream_is_no_terminal() -> None:
    closed = io.StringIO()
    closed.close()
    assert not colour_wanted(closed, {})
