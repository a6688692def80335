"""The object of ``--json``: one shape for every command, with the names that the text has. See docs/json.md."""

from __future__ import annotations

from collections.abc import Iterable

from migrator.errors import ExitCode, MigratorError
from migrator.events import DatabaseReady
from migrator.report.failure import failure_of, next_step_of
from migrator.report.safe import Json, JsonObject, one_line, plain
from migrator.report.words import state_words
from migrator.results import (
    CheckResult,
    GeneratedRevision,
    RunResult,
    Status,
    Target,
    TargetResult,
    TargetStatus,
)

SCHEMA_VERSION = 1

OUTCOMES = {
    ExitCode.OK: "ok",
    ExitCode.CHECK_SAYS_NO: "no",
    ExitCode.INTERRUPTED: "stopped",
    ExitCode.TERMINATED: "stopped",
}

# ``ExitCode.OK`` says "applied, verified", which only a run may claim.
ANSWERED = "answered"


def run_document(result: RunResult) -> JsonObject:
    """The document of a run that ended well."""
    return _document(
        result.command,
        ExitCode.OK,
        requested=result.revision,
        duration_seconds=result.duration_seconds,
        targets=_run_targets(result),
    )


def error_document(command: str, error: MigratorError) -> JsonObject:
    """The document of a command that failed, with what its result says was done before.

    :param command: the subcommand, as its user typed it.
    """
    result = error.result
    return _document(
        command,
        error.exit_code,
        requested=result.revision if result else None,
        duration_seconds=result.duration_seconds if result else None,
        targets=_run_targets(result) if result else [],
        error=_error(error),
    )


def status_document(
    status: Status, *, command: str = "status", exit_code: ExitCode = ExitCode.OK
) -> JsonObject:
    """The document of ``status``; of ``wait --for head``, too, under its own name.

    :param exit_code: what the command will exit with (``status --exit-code``).
    """
    return _document(
        command,
        exit_code,
        meaning=ANSWERED,
        targets=[_status_target(target) for target in status.targets],
        at_head=status.at_head,
    )


def check_document(result: CheckResult) -> JsonObject:
    """The document of ``check``."""
    return _document(
        "check",
        ExitCode.OK if result.passed else ExitCode.CHECK_SAYS_NO,
        meaning="nothing is wrong",
        checked=plain(result.checked),
        findings=[
            {
                "check": finding.check,
                "message": finding.message,
                "file": finding.file,
                "line": finding.line,
                "next": finding.next_step,
            }
            for finding in result.findings
        ],
        differences=plain(result.differences),
        suspected_renames=plain(result.renames),
        notes=plain(result.notes),
    )


def generated_document(result: GeneratedRevision) -> JsonObject:
    """The document of ``revision``."""
    agree = "the models and the revisions agree" if result.scratch else "the models and the database agree"
    return _document(
        "revision",
        ExitCode.CHECK_SAYS_NO if result.refused else ExitCode.OK,
        meaning="a revision was written" if result.written else agree,
        scratch=result.scratch,
        differences=plain(result.differences),
        suspected_renames=plain(result.renames),
        written=plain(result.written),
    )


def wait_document(ready: DatabaseReady, target: Target | None = None) -> JsonObject:
    """The document of ``wait``: the database answered."""
    return _document(
        "wait",
        ExitCode.OK,
        meaning="the database answers",
        duration_seconds=ready.waited_seconds,
        targets=[_target(target)] if target else [],
        tries=ready.attempts,
    )


def config_document(settings: Iterable[tuple[str, str, str]]) -> JsonObject:
    """The document of ``config``.

    :param settings: name, value (secrets masked) and source of each setting.
    """
    return _document(
        "config",
        ExitCode.OK,
        meaning=ANSWERED,
        settings=[{"name": name, "value": value, "source": source} for name, value, source in settings],
    )


def schema() -> JsonObject:
    """The JSON Schema (2020-12) that every document satisfies; a new object each time."""
    import json
    from importlib.resources import files

    loaded: JsonObject = json.loads(files(__package__).joinpath("schema.json").read_text(encoding="utf-8"))
    return loaded


def _document(
    command: str,
    exit_code: ExitCode,
    *,
    meaning: str = "",
    requested: str | None = None,
    duration_seconds: float | None = None,
    targets: list[Json] | None = None,
    error: Json = None,
    **of_the_command: Json,
) -> JsonObject:
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "requested": requested,
        "outcome": OUTCOMES.get(exit_code, "failed"),
        "exit_code": exit_code.value,
        "exit_meaning": meaning if meaning and exit_code is ExitCode.OK else exit_code.meaning,
        "duration_seconds": plain(duration_seconds),
        "targets": targets or [],
        **of_the_command,
        "error": error,
    }


def _target(target: Target) -> JsonObject:
    return {
        "address": target.address,
        "database": target.database,
        "user": target.user,
        "dialect": target.dialect,
        "server_version": target.server_version,
        "source": target.source,
        "version_table": target.version_table,
    }


def _run_targets(result: RunResult) -> list[Json]:
    return [_run_target(target, alone=len(result.targets) == 1) for target in result.targets]


def _run_target(result: TargetResult, *, alone: bool) -> JsonObject:
    return {
        **_target(result.target),
        "before": plain(result.before),
        "at": plain(result.after),
        "verified": result.verified,
        "state": state_words(result, alone=alone),
        "lock_wait_seconds": plain(result.lock_wait_seconds),
        "steps": [
            {
                "revision": step.step.revision,
                "message": step.step.message,
                "file": step.step.file,
                "direction": plain(step.step.direction),
                "outcome": plain(step.outcome),
                "duration_seconds": plain(step.duration_seconds),
                "tries": step.tries,
                "autocommit": step.autocommit,
                "committed": [one_line(statement.text) for statement in step.committed],
            }
            for step in result.steps
        ],
        "invalid_indexes": plain(result.invalid_indexes),
    }


def _status_target(status: TargetStatus) -> JsonObject:
    return {
        **_target(status.target),
        "at": plain(status.current),
        "heads": plain(status.heads),
        "at_head": status.at_head,
        "pending": plain(status.pending),
        "unknown": plain(status.unknown),
        "version_table_exists": status.version_table_exists,
        "tables": status.tables,
        "lock_holder": plain(status.lock_holder),
        "invalid_indexes": plain(status.invalid_indexes),
    }


def _error(error: MigratorError) -> JsonObject:
    return {
        "kind": kind_of(error),
        "message": error.message,
        "details": list(error.details),
        "next": next_step_of(error),
        "revision": error.revision,
        "file": error.file,
        "line": error.line,
        "statement": error.statement.text if error.statement else None,
        "sqlstate": error.sqlstate,
        "left": list(failure_of(error).left),
        "retryable": error.retryable,
    }


def kind_of(error: MigratorError) -> str:
    """The class of ``error`` in snake case: ``migration_failed``."""
    return snake_case(type(error).__name__)


def snake_case(name: str) -> str:
    """``StepFinished`` as ``step_finished``."""
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")
