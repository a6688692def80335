"""Results and events, told to whoever reads them: people, pipelines, GitHub, Kubernetes. One module for each.

:class:`Report` ties them together for one process. Nothing here decides anything: what is said comes from the
events, the result and the error alone, and everything passes through the mask for secrets on its way out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from migrator.errors import ExitCode, MigratorError
from migrator.events import Notice, StepFinished, StepStarted
from migrator.report.output import Output, colour_wanted, live_wanted, on_github, without_commands
from migrator.report.safe import JsonObject, Redact, redacted, redacted_error
from migrator.report.text import TextReport

if TYPE_CHECKING:
    from migrator.events import DatabaseReady, Event
    from migrator.report.json_lines import JsonLinesReport
    from migrator.results import CheckResult, GeneratedRevision, RunResult, Status, Step, Target

__all__ = ["Report", "TextReport", "colour_wanted"]

TERMINATION_LOG = Path("/dev/termination-log")


class Report:
    """All that one process says. A reporter: callable from any thread with an event; never raises.

    Events and the end of the run go to standard error, as text or as JSON lines. Standard output has the one
    JSON document where that was asked for; else only the answer of a command that answers a question
    (``status``, ``check``, ``config``). GitHub and Kubernetes get theirs where they are there.

    Call one of :meth:`finished`, :meth:`failed`, :meth:`status`, :meth:`check`, :meth:`generated`, :meth:`waited`
    or :meth:`config` once, then :meth:`close`.
    """

    def __init__(
        self,
        *,
        command: str,
        events: TextReport | JsonLinesReport,
        answers: Output | None,
        documents: Output | None,
        annotations: TextIO | None,
        redact: Redact,
        environ: Mapping[str, str],
        termination_log: Path,
    ) -> None:
        self._command = command
        self._events = events
        self._answers = answers
        self._documents = documents
        self._annotations = annotations
        self._redact = redact
        self._environ = environ
        self._termination_log = termination_log
        self._running: Step | None = None

    @classmethod
    def for_process(
        cls,
        *,
        command: str,
        log_format: str,
        json_output: bool,
        verbose: bool,
        redact: Redact,
        stdout: TextIO,
        stderr: TextIO,
        environ: Mapping[str, str],
        termination_log: Path = TERMINATION_LOG,
    ) -> Report:
        """The report of a process with these streams and this environment.

        :param command: the subcommand, as its user typed it.
        :param log_format: ``text`` or ``json``, for what goes to ``stderr``.
        :param json_output: write the JSON document to ``stdout`` at the end.
        :param redact: masks secrets; asked anew for each text, so it may learn of a secret later.
        """
        events: TextReport | JsonLinesReport
        # Workflow commands must not get between JSON on either stream.
        annotations: TextIO | None
        if log_format == "json":
            from migrator.report.json_lines import JsonLinesReport

            events = JsonLinesReport(stderr, verbose=verbose, redact=redact)
            annotations = None if json_output else stdout
        else:

            def shown(text: str) -> str:
                return without_commands(redact(text)) if on_github(environ) else redact(text)

            events = TextReport(
                stderr,
                colour=colour_wanted(stderr, environ),
                live=live_wanted(stderr, environ),
                verbose=verbose,
                redact=shown,
            )
            annotations = stderr
        output = Output(stdout)
        return cls(
            command=command,
            events=events,
            answers=None if json_output else output,
            documents=output if json_output else None,
            annotations=annotations,
            redact=redact,
            environ=environ,
            termination_log=termination_log,
        )

    @property
    def trouble(self) -> Exception | None:
        """The first error in writing to a standard stream, if there was one."""
        output = self._documents or self._answers
        return self._events.trouble or (output.trouble if output else None)

    def __call__(self, event: Event) -> None:
        """Report an event of the run."""
        if isinstance(event, StepStarted):
            self._running = event.step
        elif isinstance(event, StepFinished):
            self._running = None
        self._events(event)

    def finished(self, result: RunResult) -> None:
        """Report a run that ended well."""
        self._events.finished(result)

        def document() -> JsonObject:
            from migrator.report.document import run_document

            return run_document(redacted(result, self._redact))

        self._conclude(document, summary=True)

    def failed(self, error: MigratorError) -> None:
        """Report what failed, and what had been done before."""
        if isinstance(self._events, TextReport):
            self._events.failed(error)
        else:
            self._events.failed(error, self._command)
        masked = redacted_error(error, self._redact)

        def document() -> JsonObject:
            from migrator.report.document import error_document

            return error_document(self._command, masked)

        self._conclude(document, summary=True, error=masked)

    def status(self, status: Status, exit_code: ExitCode = ExitCode.OK) -> None:
        """Report where the database stands.

        :param exit_code: what the command will exit with.
        """
        masked = redacted(status, self._redact)

        def document() -> JsonObject:
            from migrator.report.document import status_document

            return status_document(masked, command=self._command, exit_code=exit_code)

        if self._answers:
            from migrator.report.status import status_lines

            self._answer(status_lines(masked))
        self._conclude(document, summary=True)

    def check(self, result: CheckResult) -> None:
        """Report what a check found."""
        masked = redacted(result, self._redact)

        def document() -> JsonObject:
            from migrator.report.document import check_document

            return check_document(masked)

        if self._answers:
            from migrator.report.status import check_lines

            self._answer(check_lines(masked))
        if self._annotations and on_github(self._environ):
            from migrator.report import github

            for finding in masked.findings:
                command = github.finding_error(finding, github.Repository.of(self._environ))
                Output(self._annotations).line(command)
        self._conclude(document, summary=True)

    def generated(self, result: GeneratedRevision) -> None:
        """Report what autogenerate found. The answer is the path of each file that was written, a line each."""
        masked = redacted(result, self._redact)

        def document() -> JsonObject:
            from migrator.report.document import generated_document

            return generated_document(masked)

        from migrator.report.generated import generated_notices

        for notice in generated_notices(masked):
            self._events(notice)
        if masked.refused:
            code = ExitCode.CHECK_SAYS_NO
            self._events(Notice("exit", f"{code.value} {code.meaning}"))
        self._warn_of_renames(masked)
        self._answer([one.file for one in masked.written])
        self._conclude(document, summary=True)

    def waited(self, ready: DatabaseReady, target: Target | None = None) -> None:
        """Report that the database answers; the text has been written with the event."""
        masked = redacted(ready, self._redact), redacted(target, self._redact)

        def document() -> JsonObject:
            from migrator.report.document import wait_document

            return wait_document(*masked)

        self._conclude(document)

    def config(self, settings: Iterable[tuple[str, str, str]]) -> None:
        """Report the settings: name, value (secrets masked) and source of each."""
        masked = redacted(list(settings), self._redact)

        def document() -> JsonObject:
            from migrator.report.document import config_document

            return config_document(masked)

        if self._answers:
            from migrator.report.status import setting_lines

            self._answer(setting_lines(masked))
        self._conclude(document)

    def close(self) -> None:
        """Clean up the terminal and flush both streams; nothing is written after."""
        self._events.close()
        output = self._documents or self._answers
        if output:
            output.close()

    def _answer(self, texts: Sequence[str]) -> None:
        if self._answers:
            for text in texts:
                self._answers.line(text)

    def _warn_of_renames(self, result: GeneratedRevision) -> None:
        if not (result.renames and self._annotations and on_github(self._environ)):
            return
        from migrator.report import github

        file = result.written[0].file if result.written else None
        for rename in result.renames:
            command = github.rename_warning(rename, file, github.Repository.of(self._environ))
            Output(self._annotations).line(command)

    def _conclude(
        self,
        make_document: Callable[[], JsonObject],
        *,
        summary: bool = False,
        error: MigratorError | None = None,
    ) -> None:
        for_github = summary and on_github(self._environ)
        in_kubernetes = _exists(self._termination_log)
        if not (self._documents or for_github or in_kubernetes):
            return
        document = make_document()
        if for_github:
            from migrator.report import github

            github.write(document, error, self._environ, self._annotations)
        if in_kubernetes:
            from migrator.report import termination

            running = redacted(self._running, self._redact)
            termination.write(document, self._termination_log, running)
        if self._documents:
            import json

            self._documents.line(json.dumps(document))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
