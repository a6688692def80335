"""The Kubernetes termination message: valid JSON of at most 4,096 bytes, the important facts first."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import (
    ConnectionLost,
    DeadlineExceeded,
    LockTimeoutExhausted,
    MigrationFailed,
    MigratorError,
    Terminated,
    VerificationFailed,
)
from migrator.report import termination
from migrator.report.document import check_document, error_document, run_document, status_document
from migrator.results import (
    CheckResult,
    Finding,
    Outcome,
    RunResult,
    Statement,
    Status,
    Step,
    StepResult,
    TargetResult,
)
from tests.unit.report_examples import (
    BACKFILL,
    TARGET,
    applied_result,
    failed_result,
    migration_failed,
    nothing_result,
    pooler_error,
)


def decoded(document: Any) -> dict[str, Any]:
    encoded = termination.message(document)
    assert len(encoded) <= 4096
    loaded: dict[str, Any] = json.loads(encoded.decode("utf-8"))
    for name in termination.ALWAYS:
        assert name in loaded
    return loaded


def test_a_failure_has_every_fact_where_there_is_room() -> None:
    error = migration_failed(
        failed_result(("9a0c12",), (Outcome.APPLIED, Outcome.ROLLED_BACK, Outcome.NOT_TRIED))
    )
    error.revision, error.message = BACKFILL.revision, BACKFILL.message
    assert decoded(error_document("upgrade", error)) == {
        "exit_code": 20,
        "outcome": "failed",
        "message": "b7730e backfill orders.placed_at: " + migration_failed().details[0],
        "next": error.next_step,
        "revision": "b7730e",
        "command": "upgrade",
        "exit_meaning": "a migration failed",
        "at": ["9a0c12"],
        "file": "migrations/versions/9a0c12_add_placed_at.py",
        "line": 14,
        "sqlstate": "23502",
        "statement": "ALTER TABLE orders ADD COLUMN placed_at timestamptz NOT NULL",
        "steps": [
            {"revision": "9a0c12", "outcome": "applied", "duration_seconds": 0.0},
            {"revision": "b7730e", "outcome": "rolled back", "duration_seconds": 0.0},
            {"revision": "c41b77", "outcome": "not tried", "duration_seconds": 0.0},
        ],
    }


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (run_document(applied_result()), "3 revisions applied"),
        (run_document(nothing_result()), "nothing to do"),
        (status_document(Status(())), "answered"),
        (check_document(CheckResult((), (Finding("a", "b"),))), "the answer to a check is no"),
        (
            error_document("upgrade", pooler_error()),
            "the lock cannot work here: a transaction pooler is between us and the server",
        ),
    ],
)
def test_each_ending_has_a_message(document: Any, message: str) -> None:
    assert decoded(document)["message"] == message


def many_steps(count: int, last: Outcome) -> RunResult:
    outcomes = [Outcome.APPLIED] * (count - 1) + [last]
    steps = tuple(StepResult(Step(f"{n:012x}", "m", "f"), o, 0.04) for n, o in enumerate(outcomes))
    return RunResult("upgrade", "head", (TargetResult(TARGET, (), (f"{count - 2:012x}",), steps),), 1.0)


def test_what_is_not_known_takes_no_room() -> None:
    assert decoded(error_document("wait", MigrationFailed("m"))) == {
        "exit_code": 20,
        "outcome": "failed",
        "message": "m",
        "next": "",
        "revision": None,
        "command": "wait",
        "exit_meaning": "a migration failed",
    }
    base = RunResult("downgrade", "base", (TargetResult(TARGET, ("9a",), ()),))
    assert decoded(run_document(base))["at"] == []


def test_applied_steps_go_first() -> None:
    error = migration_failed(many_steps(5000, Outcome.ROLLED_BACK))
    loaded = decoded(error_document("upgrade", error))
    assert [step["outcome"] for step in loaded["steps"]] == ["rolled back"]
    assert loaded["statement"]
    assert "contains null values" in loaded["message"]


def test_then_details_and_only_then_the_statement() -> None:
    error = migration_failed(failed_result())
    error.details = ("23502: contains null values", "a hint", *("d" * 1000 for _ in range(10)))
    loaded = decoded(error_document("upgrade", error))
    assert loaded["message"] == "9a0c12 add orders.placed_at: 23502: contains null values"
    assert loaded["details"][0] == "a hint"
    assert len(loaded["details"]) == 3
    assert "steps" not in loaded
    assert loaded["statement"].startswith("ALTER TABLE")
    error.statement = Statement("SELECT " + "1," * 3000)
    loaded = decoded(error_document("upgrade", error))
    assert "details" not in loaded
    assert len(loaded["statement"]) == 200
    assert loaded["file"]


@pytest.mark.parametrize("text", ["x", "é", "注", "🐘", "\x00", "\x1b", '"', "\\", "\udc80"])
@pytest.mark.parametrize("length", [1100, 4096, 100_000])
@pytest.mark.parametrize("name", ["message", "next_step", "revision", "file", "statement", "details", "all"])
def test_it_never_exceeds_the_limit_and_stays_valid(text: str, length: int, name: str) -> None:
    error = migration_failed(failed_result())
    values: dict[str, Any] = {
        **dict.fromkeys(("message", "next_step", "revision", "file"), text * length),
        "statement": Statement(text * length),
        "details": (text * length,) * 3,
    }
    for field, value in values.items():
        if name in (field, "all"):
            setattr(error, field, value)
    loaded = decoded(error_document("upgrade", error))
    assert loaded["exit_code"] == 20
    assert loaded["outcome"] == "failed"
    if name not in ("message", "all"):
        assert "add orders.placed_at" in loaded["message"]
    if name not in ("revision", "all"):
        assert loaded["revision"] == "9a0c12"
        assert loaded["message"].startswith("9a0c12 ")
    if name in ("statement", "next_step", "file"):
        assert "contains null values" in loaded["message"]
    if name in ("next_step", "revision"):
        shown = loaded[{"next_step": "next"}.get(name, name)]
        assert shown.startswith(text)
        assert len(shown) > 20


def test_the_limit_itself_is_allowed_and_one_byte_more_is_not() -> None:
    def document(length: int) -> Any:
        return error_document("upgrade", MigrationFailed("m" * 400, next_step="n", file="f" * length))

    spare = 4096 - len(termination.message(document(1)))
    full = termination.message(document(1 + spare))
    assert len(full) == 4096
    assert json.loads(full)["exit_meaning"]
    over = json.loads(termination.message(document(2 + spare)))
    assert "exit_meaning" not in over
    assert over["file"] == "f" * (2 + spare)


def test_a_database_at_thousands_of_heads_leaves_room_for_the_message() -> None:
    result = dataclasses.replace(
        failed_result(), targets=(TargetResult(TARGET, (), tuple(f"{n:012x}" for n in range(1000))),)
    )
    loaded = decoded(error_document("upgrade", migration_failed(result)))
    assert "contains null values" in loaded["message"]
    assert loaded["file"]


STOPPED = {
    "a deadline": DeadlineExceeded("the deadline of 3 s passed; the running statement was cancelled"),
    "a signal": Terminated("stopped by SIGTERM"),
    "a broken connection": ConnectionLost("the connection was lost", details=("server closed it",)),
}


@pytest.mark.parametrize("error", STOPPED.values(), ids=STOPPED)
def test_what_stops_a_run_is_told_with_the_revision_that_was_at_work(error: MigratorError) -> None:
    error.result = failed_result(("9a0c12",), (Outcome.APPLIED, Outcome.ROLLED_BACK, Outcome.NOT_TRIED))
    loaded = decoded(error_document("upgrade", error))
    said = ": ".join([error.message, *error.details])
    assert loaded["message"] == f"b7730e backfill orders.placed_at: {said}"
    assert (loaded["revision"], loaded["file"]) == (BACKFILL.revision, BACKFILL.file)
    error.result = failed_result(("9a0c12",), (Outcome.APPLIED, Outcome.NOT_TRIED, Outcome.NOT_TRIED))
    loaded = decoded(error_document("upgrade", error))
    assert (loaded["message"], loaded["revision"]) == (error.message, None)


def test_what_ended_by_force_is_told_with_the_step_that_was_at_work() -> None:
    error = DeadlineExceeded("the deadline of 3 s passed", details=("ended by force",))
    loaded = json.loads(termination.message(error_document("upgrade", error), BACKFILL))
    assert loaded["message"] == "b7730e backfill orders.placed_at: the deadline of 3 s passed: ended by force"
    assert loaded["revision"] == "b7730e"
    other = json.loads(termination.message(error_document("upgrade", MigrationFailed("m")), BACKFILL))
    assert (other["message"], other["revision"]) == ("m", None)


def test_a_verdict_names_no_revision_as_if_it_had_failed() -> None:
    error = VerificationFailed("env.py ended without an error, but the database is at base and not at c41b77")
    error.result = failed_result()
    loaded = decoded(error_document("upgrade", error))
    assert (loaded["message"], loaded["revision"]) == (error.message, None)


def test_a_lock_timeout_says_its_revision_once() -> None:
    error = LockTimeoutExhausted(
        "add orders.placed_at: lock timeout, 3 tries",
        details=("55P03: canceling statement due to lock timeout", "blocked by pid 812"),
        revision="9a0c12",
    )
    error.result = failed_result()
    loaded = decoded(error_document("upgrade", error))
    assert loaded["message"] == (
        "9a0c12 add orders.placed_at: lock timeout, 3 tries: 55P03: canceling statement due to lock timeout"
    )
    assert loaded["details"] == ["blocked by pid 812"]


@pytest.mark.parametrize("revision", ["1", "a", "ex"])
def test_a_short_id_that_other_words_contain_is_named_all_the_same(revision: str) -> None:
    error = MigrationFailed("m", details=("column 11 already exists",), revision=revision)
    error.message = "column 11 already exists in a_table"
    assert decoded(error_document("upgrade", error))["message"].startswith(f"{revision}: ")
    error.message = f"revision {revision}: it fails"
    assert decoded(error_document("upgrade", error))["message"].startswith(error.message)


def test_it_replaces_what_the_file_held(tmp_path: Path) -> None:
    path = tmp_path / "termination-log"
    path.write_text("x" * 9000)
    document = run_document(applied_result())
    termination.write(document, path)
    assert path.read_bytes() == termination.message(document)


def test_it_never_creates_the_file_and_never_raises(tmp_path: Path) -> None:
    document = run_document(applied_result())
    missing = tmp_path / "termination-log"
    termination.write(document, missing)
    assert not missing.exists()
    termination.write(document, tmp_path)
    termination.write(document, missing / "below")
    termination.write(document, Path("/proc/self/maps"))
    termination.write(document, Path("nul\0byte"))
