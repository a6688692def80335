"""The object of --json: every one of them satisfies the schema, and the schema is strict."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
import typing
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from migrator import errors, events
from migrator.errors import ExitCode, MigratorError
from migrator.events import DatabaseReady
from migrator.report.document import (
    check_document,
    config_document,
    error_document,
    generated_document,
    run_document,
    schema,
    status_document,
    wait_document,
)
from migrator.results import (
    CheckResult,
    Direction,
    Finding,
    GeneratedRevision,
    InvalidIndex,
    LockHolder,
    Outcome,
    Pending,
    RunResult,
    Status,
    TargetResult,
    TargetStatus,
)
from tests.unit.report_examples import (
    GENERATED,
    INVALID,
    OTHER_TARGET,
    TARGET,
    applied_result,
    failed_result,
    migration_failed,
    nothing_result,
    pooler_error,
    two_heads_error,
)

DOCS = Path(__file__).parents[2] / "docs" / "json.md"

STATUS = Status(
    (
        TargetStatus(
            TARGET,
            current=("8f2e1a",),
            heads=("c41b77",),
            pending=(Pending("9a0c12", "add orders.placed_at", "a.py"),),
            unknown=("ffff",),
            lock_holder=LockHolder(4711, "shop"),
            invalid_indexes=(InvalidIndex("ix", "t"),),
        ),
        TargetStatus(OTHER_TARGET, (), (), version_table_exists=False, tables=3),
    )
)
CHECK = CheckResult(
    ("heads", "imports"),
    (Finding("imports", "SyntaxError", "a.py", 3, "Correct it."), Finding("heads", "two heads")),
)
DOCUMENTS: dict[str, dict[str, Any]] = {
    "applied": run_document(applied_result()),
    "nothing": run_document(nothing_result()),
    "no target": run_document(RunResult("upgrade", "head")),
    "failed": error_document("upgrade", migration_failed(failed_result(indexes=(INVALID,), autocommit=True))),
    "state unknown": error_document("upgrade", migration_failed(failed_result(None))),
    "failed early": error_document("upgrade", pooler_error()),
    "history": error_document("check", two_heads_error()),
    "status": status_document(STATUS),
    "status says no": status_document(STATUS, exit_code=ExitCode.CHECK_SAYS_NO),
    "waited for head": status_document(STATUS, command="wait"),
    "passed": check_document(CheckResult(("heads",))),
    "found": check_document(CHECK),
    "wait": wait_document(DatabaseReady(2.1, 3, "refused"), TARGET),
    "wait, url unknown": wait_document(DatabaseReady(0.04, 1)),
    "generated": generated_document(GENERATED),
    "generated nothing": generated_document(GeneratedRevision(scratch=True)),
    "rename refused": generated_document(dataclasses.replace(GENERATED, written=(), refused=True)),
    "models differ": check_document(
        dataclasses.replace(CHECK, differences=GENERATED.differences, renames=GENERATED.renames)
    ),
    "config": config_document([("wait-timeout", "1 m", "default")]),
}


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_satisfies_the_schema_also_after_json(name: str) -> None:
    validator().validate(json.loads(json.dumps(DOCUMENTS[name], allow_nan=False)))


@pytest.mark.parametrize(
    "kind",
    [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MigratorError)],
)
@pytest.mark.parametrize("with_result", [True, False])
def test_every_error_satisfies_the_schema(kind: type[MigratorError], with_result: bool) -> None:
    error = kind()
    error.result = failed_result() if with_result else None
    document = error_document("upgrade", error)
    validator().validate(document)
    assert document["exit_code"] == kind.exit_code.value
    assert document["exit_meaning"] == kind.exit_code.meaning


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_direction_and_outcome_is_in_the_schema(direction: Direction, outcome: Outcome) -> None:
    result = failed_result(outcomes=(outcome,) * 3)
    target = result.targets[0]
    steps = tuple(
        dataclasses.replace(s, step=dataclasses.replace(s.step, direction=direction)) for s in target.steps
    )
    validator().validate(
        run_document(dataclasses.replace(result, targets=(dataclasses.replace(target, steps=steps),)))
    )


def test_the_exit_codes_of_the_schema_are_those_of_the_program() -> None:
    properties: Any = schema()["properties"]
    assert properties["exit_code"]["enum"] == [code.value for code in ExitCode]


def objects(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all objects in a document."""
    found = [path] if isinstance(value, dict) else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += objects(inner, (*path, key))
    return found


def at_path(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_schema_accepts_no_field_more_and_no_field_less(name: str) -> None:
    optional = {"at_head", "tries", "checked", "findings", "settings"}
    optional |= {"scratch", "differences", "suspected_renames", "written", "notes"}
    for path in objects(DOCUMENTS[name]):
        more = copy.deepcopy(DOCUMENTS[name])
        at_path(more, path)["surprise"] = 1
        assert not validator().is_valid(more), path
        for field in at_path(DOCUMENTS[name], path):
            less = copy.deepcopy(DOCUMENTS[name])
            del at_path(less, path)[field]
            assert validator().is_valid(less) is (path == () and field in optional), (path, field)


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "ok"},
        {"exit_code": 0},
        {"exit_code": 137},
        {"error": None},
        {"schema_version": 2},
        {"outcome": "stopped"},
    ],
)
def test_the_schema_refuses_a_document_that_contradicts_itself(change: dict[str, Any]) -> None:
    assert not validator().is_valid({**DOCUMENTS["failed"], **change})


def test_a_failure_has_the_facts_of_the_text() -> None:
    document: Any = error_document("upgrade", migration_failed(failed_result()))
    assert document["outcome"] == "failed"
    assert document["requested"] == "head"
    assert document["error"] == {
        "kind": "migration_failed",
        "message": "add orders.placed_at",
        "details": ['23502: column "placed_at" of relation "orders" contains null values'],
        "next": migration_failed().next_step,
        "revision": "9a0c12",
        "file": "migrations/versions/9a0c12_add_placed_at.py",
        "line": 14,
        "statement": "ALTER TABLE orders\n  ADD COLUMN placed_at timestamptz NOT NULL",
        "sqlstate": "23502",
        "left": [],
        "retryable": False,
    }
    target = document["targets"][0]
    assert target["before"] == target["at"] == ["8f2e1a"]
    assert [(s["revision"], s["outcome"]) for s in target["steps"]] == [
        ("9a0c12", "rolled back"),
        ("b7730e", "not tried"),
        ("c41b77", "not tried"),
    ]


def test_a_state_that_could_not_be_read_is_null_and_not_empty() -> None:
    assert DOCUMENTS["state unknown"]["targets"][0]["at"] is None
    base = RunResult("downgrade", "base", (TargetResult(TARGET, ("9a",), (), verified=True),))
    document: Any = run_document(base)
    assert document["targets"][0]["at"] == []


@pytest.mark.parametrize(
    ("name", "outcome", "code"),
    [
        ("applied", "ok", 0),
        ("status", "ok", 0),
        ("status says no", "no", 3),
        ("found", "no", 3),
        ("passed", "ok", 0),
        ("failed", "failed", 20),
    ],
)
def test_outcome_and_exit_code_agree(name: str, outcome: str, code: int) -> None:
    assert (DOCUMENTS[name]["outcome"], DOCUMENTS[name]["exit_code"]) == (outcome, code)


def test_only_a_run_claims_that_something_was_applied_and_verified() -> None:
    claims = {name for name, document in DOCUMENTS.items() if "verified" in document["exit_meaning"]}
    assert claims == {"applied", "nothing", "no target"}


def test_a_stop_is_an_outcome_of_its_own() -> None:
    assert error_document("upgrade", errors.Terminated())["outcome"] == "stopped"
    assert error_document("upgrade", errors.Interrupted())["outcome"] == "stopped"


def test_a_number_that_json_does_not_have_becomes_null() -> None:
    result = dataclasses.replace(applied_result(), duration_seconds=math.inf)
    assert run_document(result)["duration_seconds"] is None


def test_the_schema_that_one_caller_changes_is_not_anothers() -> None:
    schema().clear()
    assert schema()["title"]


def fields_of(part: Any) -> set[str]:
    """The names of all properties in a JSON Schema, conditions left out."""
    if isinstance(part, list):
        return set().union(*map(fields_of, part))
    if not isinstance(part, dict):
        return set()
    inner = [value for key, value in part.items() if key != "allOf"]
    return set(part.get("properties", ())) | fields_of(inner)


def test_the_documentation_names_every_field_and_event_and_no_others() -> None:
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    anywhere = set(re.findall(r"`(\w+)`", "\n".join(rows)))
    first_column = set(re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in rows)))
    kinds = typing.get_args(events.Event)
    names = {re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in kinds} | {
        "finished",
        "failed",
    }
    fields = fields_of(schema())
    assert fields <= anywhere
    assert names <= first_column
    assert first_column <= fields | names | {"time", "event"}
    flattened = {"step", "target", "result", "activity"}
    assert {field.name for kind in kinds for field in dataclasses.fields(kind)} - flattened <= anywhere
