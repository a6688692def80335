"""``--log-format json``: one object a line, whatever happens."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import math
from typing import Any

from migrator.errors import MigratorError
from migrator.events import DatabaseReady, LockWaiting, StepRunning, StepStarted
from migrator.report.document import error_document, run_document
from migrator.report.json_lines import JsonLinesReport
from migrator.results import Activity, LockHolder, Statement
from tests.unit.report_examples import (
    ADD,
    BACKFILL,
    HOLDER,
    RETRIED,
    BrokenPipe,
    applied_result,
    every_event,
    failed_result,
    finished_steps,
    migration_failed,
    raised,
)


def written(*events: Any) -> list[dict[str, Any]]:
    stream = io.StringIO()
    report = JsonLinesReport(stream)
    for event in events:
        report(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def without_time(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "time"}


def test_every_event_is_an_object_with_its_name_and_the_time() -> None:
    lines = written(*every_event())
    assert len(lines) == len(every_event())
    assert {line["event"] for line in lines} == {
        "target_known",
        "wait_failed",
        "database_ready",
        "head_awaited",
        "lock_waiting",
        "lock_held",
        "run_again",
        "invalid_indexes_found",
        "planned",
        "step_started",
        "step_retried",
        "step_running",
        "step_finished",
        "notice",
        "verified",
    }
    for line in lines:
        assert line["time"].endswith("Z")
        assert datetime.datetime.fromisoformat(line["time"]).utcoffset() == datetime.timedelta(0)


def test_the_fields_of_an_event_are_the_fields_of_its_line() -> None:
    assert without_time(written(DatabaseReady(2.1, 3, "refused"))[0]) == {
        "event": "database_ready",
        "waited_seconds": 2.1,
        "attempts": 3,
        "last_reason": "refused",
    }
    assert without_time(written(finished_steps()[0])[0]) == {
        "event": "step_finished",
        "revision": "9a0c12",
        "message": "add orders.placed_at",
        "file": "migrations/versions/9a0c12_add_placed_at.py",
        "direction": "upgrade",
        "outcome": "applied",
        "duration_seconds": 0.04,
        "tries": 1,
        "autocommit": False,
        "committed": [],
        "number": 1,
        "total": 3,
    }
    assert written(LockWaiting(HOLDER, 0.0, math.inf))[0]["holder"]["pid"] == 4711
    assert written(LockWaiting(None, 0.0, math.inf))[0]["at_most_seconds"] is None
    assert written(RETRIED)[0]["blockers"][0]["relation"] == "orders"


def test_no_field_is_lost_because_two_have_the_same_name() -> None:
    def leaves(value: Any) -> int:
        from migrator.report.json_lines import FLATTENED

        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return sum(leaves(inner) if isinstance(inner, FLATTENED) else 1 for inner in fields)

    for event in every_event():
        assert len(written(event)[0]) == leaves(event) + 2, event


def test_a_line_meant_to_be_drawn_over_is_left_out() -> None:
    assert written(StepRunning(BACKFILL, 2, 3, 15.0, Activity("UPDATE orders"), live=True)) == []


def test_the_last_line_is_the_document() -> None:
    stream = io.StringIO()
    JsonLinesReport(stream).finished(applied_result())
    error = migration_failed(failed_result())
    JsonLinesReport(stream).failed(error)
    JsonLinesReport(stream).failed(raised(MigratorError("x")), "wait")
    finished, failed, bug = (without_time(json.loads(line)) for line in stream.getvalue().splitlines())
    assert finished == {"event": "finished", **run_document(applied_result())}
    assert failed == {"event": "failed", **error_document("upgrade", error)}
    assert bug["command"] == "wait"
    assert bug["traceback"].endswith("MigratorError: x\n")


def test_a_traceback_comes_with_every_failure_for_the_verbose() -> None:
    stream = io.StringIO()
    JsonLinesReport(stream, verbose=True).failed(raised(migration_failed(failed_result())))
    JsonLinesReport(stream, verbose=True).failed(migration_failed(failed_result()))
    JsonLinesReport(stream).failed(raised(migration_failed(failed_result())))
    verbose, never_raised, quiet = (json.loads(line) for line in stream.getvalue().splitlines())
    assert verbose["traceback"].startswith("Traceback (most recent call last):")
    assert never_raised["traceback"] is None
    assert "traceback" not in quiet


def test_a_line_stays_short_enough_for_a_container_log() -> None:
    huge = "UPDATE t SET x = '\x00é" + "y" * 100_000
    stream = io.StringIO()
    report = JsonLinesReport(stream)
    report(StepRunning(ADD, 1, 1, 15.0, Activity(huge)))
    report(LockWaiting(LockHolder(1, "x", statement=huge), 0.0, 1.0))
    error = migration_failed(failed_result())
    error.statement = Statement(huge)
    report.failed(error)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert all(len(line) < 16_384 for line in lines)


def test_names_with_line_breaks_and_lone_surrogates_stay_on_one_ascii_line() -> None:
    step = dataclasses.replace(ADD, message="a\nb\u2028c\x85\x1b[0m\udc80é")
    stream = io.StringIO()
    JsonLinesReport(stream)(StepStarted(step, 1, 1, 1))
    assert stream.getvalue().isascii()
    assert len(stream.getvalue().splitlines()) == 1
    assert json.loads(stream.getvalue())["message"] == step.message


def test_a_broken_pipe_is_remembered_and_not_raised() -> None:
    report = JsonLinesReport(BrokenPipe())
    for event in every_event():
        report(event)
    report.finished(applied_result())
    report.failed(migration_failed())
    report.close()
    assert isinstance(report.trouble, BrokenPipeError)
