"""The report for log collectors (``--log-format json``): each event one JSON object on a line of its own."""

from __future__ import annotations

import datetime
from dataclasses import fields
from typing import TextIO

from migrator.errors import ExitCode, MigratorError
from migrator.events import Event, StepRunning
from migrator.report.document import error_document, run_document, snake_case
from migrator.report.failure import traceback_of
from migrator.report.output import Output
from migrator.report.safe import (
    JsonObject,
    Redact,
    plain,
    redacted,
    redacted_error,
    shortened,
    unchanged,
)
from migrator.results import Activity, RunResult, Step, StepResult, Target

# Container runtimes split log lines at 16 KiB, and half an object is none.
STATEMENT_LIMIT = 2000

FLATTENED = (Activity, Step, StepResult, Target)
"""Values whose fields become fields of the line, so that ``.revision`` is the revision in every line."""


class JsonLinesReport:
    """Writes each event as a JSON object on one line. A reporter: callable from any thread, never raises.

    Each line has ``time`` (UTC, ISO 8601) and ``event`` (the event's name in snake case). The last line is
    ``finished`` or ``failed`` and has the fields of the ``--json`` object.

    :param verbose: put the traceback into every ``failed`` line, not only for a bug in migrator.
    :param redact: masks the secrets in each value before it is written.
    """

    def __init__(self, stream: TextIO, *, verbose: bool = False, redact: Redact = unchanged) -> None:
        self._output = Output(stream)
        self._verbose = verbose
        self._redact = redact

    @property
    def trouble(self) -> Exception | None:
        """The first error in writing, if there was one."""
        return self._output.trouble

    def __call__(self, event: Event) -> None:
        """Write the line for ``event``; one that is meant for a live line is left out."""
        if isinstance(event, StepRunning) and event.live:
            return
        self._write(snake_case(type(event).__name__), flat(redacted(event, self._redact)))

    def finished(self, result: RunResult) -> None:
        """Write the last line of a run that ended well."""
        self._write("finished", run_document(redacted(result, self._redact)))

    def failed(self, error: MigratorError, command: str = "") -> None:
        """Write the last line of a command that failed.

        :param command: the subcommand; where it is not given, that of the error's result.
        """
        command = command or (error.result.command if error.result else "")
        document = error_document(command, redacted_error(error, self._redact))
        if self._verbose or error.exit_code is ExitCode.BUG:
            document["traceback"] = self._redact(traceback_of(error)) or None
        self._write("failed", document)

    def close(self) -> None:
        """Flush; nothing is written after."""
        self._output.close()

    def _write(self, name: str, values: JsonObject) -> None:
        import json

        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        _shorten_statements(values)
        self._output.line(json.dumps({"time": now, "event": name, **values}))


def flat(value: object) -> JsonObject:
    """The fields of a dataclass as a JSON object, with the fields of ``FLATTENED`` values in place of these."""
    result: JsonObject = {}
    for field in fields(value):  # type: ignore[arg-type]
        inner = getattr(value, field.name)
        if isinstance(inner, FLATTENED):
            result.update(flat(inner))
        else:
            result[field.name] = plain(inner)
    return result


def _shorten_statements(values: JsonObject) -> None:
    for part in (values, values.get("error"), values.get("holder")):
        if isinstance(part, dict):
            statement = part.get("statement")
            if isinstance(statement, str):
                part["statement"] = shortened(statement, STATEMENT_LIMIT)
