"""Everything that one process says, and through which stream; nothing that it says has a secret in it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from migrator.errors import ExitCode, MigratorError
from migrator.events import DatabaseReady, LockWaiting, Notice, StepRunning, TargetKnown
from migrator.redaction import Redactor
from migrator.report import Report
from migrator.report.document import schema
from migrator.report.text import TextReport
from migrator.results import (
    Activity,
    CheckResult,
    Finding,
    LockHolder,
    Pending,
    RunResult,
    Statement,
    Status,
    TargetStatus,
)
from migrator.settings import SettingLine
from tests.harness import REPOSITORY
from tests.unit.report_examples import (
    ADD,
    TARGET,
    BrokenPipe,
    Terminal,
    applied_result,
    every_event,
    failed_result,
    migration_failed,
    raised,
    whole_run,
)

SECRET = "hunter2 is\nlong"


REDACTOR = Redactor()
REDACTOR.add(SECRET)


class Process:
    """The streams and files of one process, and its report."""

    def __init__(
        self, folder: Path, *, github: bool = False, kubernetes: bool = False, **options: Any
    ) -> None:
        self.out = options.pop("stdout", None) or io.StringIO()
        self.err = options.pop("stderr", None) or io.StringIO()
        self.summary = folder / "summary.md"
        self.termination_log = folder / "termination-log"
        if kubernetes:
            self.termination_log.touch()
        environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(self.summary)} if github else {}
        arguments: dict[str, Any] = {
            "command": "upgrade",
            "log_format": "text",
            "json_output": False,
            "verbose": False,
            "redact": REDACTOR.redact,
            **options,
        }
        self.report = Report.for_process(
            stdout=self.out,
            stderr=self.err,
            environ=environ,
            termination_log=self.termination_log,
            **arguments,
        )

    def everything(self) -> str:
        files = [
            path.read_text(encoding="utf-8") for path in (self.summary, self.termination_log) if path.exists()
        ]
        return "\n".join((self.out.getvalue(), self.err.getvalue(), *files))


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Process]:
    return lambda **options: Process(tmp_path, **options)


STATUS = Status(
    (
        TargetStatus(
            TARGET,
            current=("8f2e1a",),
            heads=("c41b77",),
            pending=(Pending("9a0c12", "add", "a.py"),),
        ),
    )
)


def test_text_goes_to_standard_error_and_leaves_standard_output_alone(
    process: Callable[..., Process],
) -> None:
    it = process()
    for event in whole_run():
        it.report(event)
    it.report.finished(applied_result())
    it.report.close()
    assert it.out.getvalue() == ""
    assert it.err.getvalue().splitlines()[-1] == "done      3 revisions in 54.6 s"
    assert not it.summary.exists()
    assert not it.termination_log.exists()


def test_json_is_one_line_on_standard_output_and_the_text_stays(process: Callable[..., Process]) -> None:
    it = process(json_output=True)
    it.report(TargetKnown(TARGET))
    it.report.failed(migration_failed(failed_result()))
    (line,) = it.out.getvalue().splitlines()
    assert json.loads(line)["error"]["revision"] == "9a0c12"
    assert it.err.getvalue().splitlines()[-1] == "exit      20 a migration failed"


def test_json_lines_replace_the_text(process: Callable[..., Process]) -> None:
    it = process(log_format="json")
    for event in every_event():
        it.report(event)
    it.report.failed(migration_failed(failed_result()))
    lines = [json.loads(line) for line in it.err.getvalue().splitlines()]
    assert len(lines) == len(every_event()) + 1
    assert lines[-1]["event"] == "failed"
    assert lines[-1]["command"] == "upgrade"
    assert it.out.getvalue() == ""


def answer_status(report: Report) -> None:
    report.status(STATUS)


def answer_status_no(report: Report) -> None:
    report.status(STATUS, ExitCode.CHECK_SAYS_NO)


def answer_check(report: Report) -> None:
    report.check(CheckResult(("heads",), (Finding("heads", "two heads"),)))


def answer_config(report: Report) -> None:
    report.config([SettingLine("wait-timeout", "1 m", "default")])


def answer_wait(report: Report) -> None:
    report.waited(DatabaseReady(2.1, 3, "refused"), TARGET)


def answer_run(report: Report) -> None:
    report.finished(applied_result())


def answer_failure(report: Report) -> None:
    report.failed(migration_failed(failed_result()))


ANSWERS = (
    answer_status,
    answer_status_no,
    answer_check,
    answer_config,
    answer_wait,
    answer_run,
    answer_failure,
)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (answer_status, "at 8f2e1a · 1 pending: 9a0c12 · nobody holds the lock\n"),
        (
            answer_check,
            "checked   heads\nfound     heads: two heads\nexit      3 the answer to a check is no\n",
        ),
        (answer_config, "wait-timeout  1 m  default\n"),
        (answer_wait, ""),
    ],
)
def test_an_answer_goes_to_standard_output(
    process: Callable[..., Process], answer: Callable[[Report], None], text: str
) -> None:
    it = process()
    answer(it.report)
    assert it.out.getvalue() == text
    assert it.err.getvalue() == ""


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("github", [True, False])
def test_with_json_standard_output_is_one_valid_document(
    process: Callable[..., Process], answer: Callable[[Report], None], log_format: str, github: bool
) -> None:
    it = process(json_output=True, log_format=log_format, github=github)
    answer(it.report)
    it.report.close()
    jsonschema.Draft202012Validator(schema()).validate(json.loads(it.out.getvalue()))
    if log_format == "json":
        for line in it.err.getvalue().splitlines():
            json.loads(line)


@pytest.mark.parametrize(
    ("options", "stream"),
    [
        ({}, "err"),
        ({"json_output": True}, "err"),
        ({"log_format": "json"}, "out"),
        ({"log_format": "json", "json_output": True}, None),
    ],
)
def test_the_annotation_goes_where_it_disturbs_no_json(
    process: Callable[..., Process], options: dict[str, Any], stream: str | None
) -> None:
    it = process(github=True, **options)
    it.report.failed(migration_failed(failed_result()))
    assert it.summary.read_text(encoding="utf-8").startswith("### migrator upgrade: a migration failed")
    for name in ("out", "err"):
        lines = getattr(it, name).getvalue().splitlines()
        assert any(line.startswith("::error ") for line in lines) is (name == stream)


def test_a_status_is_summarized(process: Callable[..., Process]) -> None:
    it = process(github=True)
    it.report.status(STATUS)
    assert "| pending | message | file |" in it.summary.read_text(encoding="utf-8")


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_termination_log_is_written_where_there_is_one(
    process: Callable[..., Process], answer: Callable[[Report], None]
) -> None:
    it = process(kubernetes=True)
    answer(it.report)
    assert json.loads(it.termination_log.read_bytes())["message"]


def test_the_verbose_get_the_traceback(process: Callable[..., Process]) -> None:
    it = process(verbose=True)
    it.report.failed(raised(migration_failed(failed_result())))
    assert it.err.getvalue().startswith("traceback ")


def poisoned(value: Any) -> Any:
    """A copy of a value with the secret in every string of it."""
    if isinstance(value, str):
        return f"{value}{'x' * 30}{SECRET}tail"
    if isinstance(value, tuple):
        return tuple(poisoned(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{f.name: poisoned(getattr(value, f.name)) for f in dataclasses.fields(value)}
        )
    return value


def poisoned_error(result: RunResult | None) -> MigratorError:
    error = MigratorError(
        poisoned("boom"),
        details=poisoned(("one", "two")),
        next_step=poisoned("next"),
        revision=poisoned("9a0c12"),
        file=poisoned("a.py"),
        line=3,
        # A cut at any limit would go through the secret if it were made before the mask.
        statement=Statement((" " * 10 + SECRET) * 1000),
        sqlstate=poisoned("23502"),
    )
    error.result = poisoned(result)
    try:
        try:
            raise KeyError(f"inner {SECRET}")
        except KeyError as cause:
            raise error from cause
    except MigratorError as caught:
        return caught


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("json_output", [True, False])
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("with_result", [True, False])
def test_no_secret_leaves_through_any_channel(
    process: Callable[..., Process], log_format: str, json_output: bool, live: bool, with_result: bool
) -> None:
    it = process(
        github=True,
        kubernetes=True,
        log_format=log_format,
        json_output=json_output,
        verbose=True,
        stderr=Terminal() if live else None,
    )
    for event in every_event():
        it.report(poisoned(event))
    it.report(Notice(SECRET, SECRET))
    it.report(LockWaiting(LockHolder(1, SECRET, statement=SECRET * 100), 0.0, 1.0))
    it.report(StepRunning(ADD, 1, 1, 1.0, Activity(("x" * 7 + SECRET) * 1000)))
    it.report.finished(poisoned(applied_result()))
    it.report.status(poisoned(STATUS))
    it.report.check(poisoned(CheckResult(("heads",), (Finding("heads", "two heads"),))))
    it.report.config(poisoned((("wait-timeout", "1 m", "default"),)))
    it.report.waited(poisoned(DatabaseReady(2.1, 3, "refused")), poisoned(TARGET))
    it.report.failed(poisoned_error(failed_result() if with_result else None))
    it.report.close()
    text = it.everything()
    assert "***" in text
    assert "hunter2" not in text
    assert "is\nlong" not in text
    assert "\\nlong" not in text


def test_the_error_that_was_given_is_left_as_it_was(process: Callable[..., Process]) -> None:
    error = poisoned_error(failed_result())
    process(json_output=True).report.failed(error)
    assert SECRET in error.message
    assert error.__cause__ is not None
    assert error.result is not None
    assert SECRET in error.result.command


class Closed(io.StringIO):
    """A stream that was closed before anything was written."""

    def __init__(self) -> None:
        super().__init__()
        self.close()


@pytest.mark.parametrize("broken", [BrokenPipe, Closed])
@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("json_output", [True, False])
def test_streams_that_cannot_be_written_to_stop_nothing(
    process: Callable[..., Process],
    broken: Callable[[], io.StringIO],
    log_format: str,
    json_output: bool,
) -> None:
    it = process(
        github=True,
        kubernetes=True,
        stdout=broken(),
        stderr=broken(),
        log_format=log_format,
        json_output=json_output,
    )
    for event in every_event():
        it.report(event)
    for answer in ANSWERS:
        answer(it.report)
    it.report.close()
    assert isinstance(it.report.trouble, (OSError, ValueError))
    assert it.summary.exists()
    assert json.loads(it.termination_log.read_bytes())["exit_code"] == 20


def test_a_stream_that_works_has_no_trouble(process: Callable[..., Process]) -> None:
    it = process()
    answer_run(it.report)
    it.report.close()
    assert it.report.trouble is None


def test_a_stream_without_the_characters_gets_the_line_anyway() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    report = TextReport(stream, colour=False, live=False)
    for event in whole_run():
        report(event)
    assert report.trouble is None
    assert b"plan      3 pending: 8f2e1a \\u2192 c41b77\n" in raw.getvalue()


@pytest.mark.parametrize("descriptor", [1, 2])
def test_a_reader_that_went_away_does_not_change_the_exit_code(descriptor: int) -> None:
    program = textwrap.dedent(
        """
        import sys
        from migrator.report import Report
        from migrator.results import RunResult

        report = Report.for_process(
            command="upgrade", log_format="text", json_output=False, verbose=False, redact=str,
            stdout=sys.stdout, stderr=sys.stderr, environ={},
        )
        report.finished(RunResult("upgrade", "head"))
        report.config([("a", "b", "c")])
        report.close()
        sys.exit(21)
        """
    )
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        # Unbuffered, there is nothing left to flush at exit.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdout=writer if descriptor == 1 else subprocess.DEVNULL,
        stderr=writer if descriptor == 2 else subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert ended.returncode == 21, ended.stderr


def test_importing_the_report_imports_no_library_and_no_other_format() -> None:
    program = "import sys, migrator.report; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(ended.stdout.split())
    assert not loaded & {"click", "alembic", "sqlalchemy", "jsonschema", "unicodedata", "traceback"}
    assert not loaded & {
        f"migrator.report.{name}" for name in ("document", "github", "json_lines", "termination")
    }
