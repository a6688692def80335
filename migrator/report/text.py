"""The report for people: plain lines, one fact each, a label that can be searched for in the first column."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TextIO

from migrator.durations import format_duration
from migrator.errors import ExitCode, MigratorError
from migrator.events import (
    DatabaseReady,
    Event,
    HeadAwaited,
    InvalidIndexesFound,
    LockHeld,
    LockWaiting,
    Notice,
    Planned,
    RunAgain,
    StepFinished,
    StepRetried,
    StepRunning,
    StepStarted,
    TargetKnown,
    Verified,
    WaitFailed,
)
from migrator.report.failure import Failure, failure_of, traceback_of
from migrator.report.layout import LABEL_WIDTH, block, coloured, label_of_step, labelled
from migrator.report.output import Output
from migrator.report.safe import (
    Redact,
    display_width,
    fitted,
    lines,
    one_line,
    padded,
    redacted,
    redacted_error,
    unchanged,
)
from migrator.report.words import (
    at,
    done_words,
    head_awaited_words,
    index_words,
    lock_waiting_words,
    plan_words,
    retried_words,
    run_again_words,
    running_words,
    step_message,
    target_words,
    wait_failed_words,
)
from migrator.results import InvalidIndex, Outcome, RunResult, Step, Target

DURATION_WIDTH = 8


class TextReport:
    """Writes each event as a line, the end of the run as a few. A reporter: callable from any thread, never raises.

    :param colour: colour the labels (ANSI).
    :param live: the stream is a terminal on which a line can be drawn over.
    :param verbose: also say when a step begins, and add the traceback to every failure.
    :param redact: masks the secrets in whatever is written.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        colour: bool,
        live: bool,
        verbose: bool = False,
        redact: Redact = unchanged,
    ) -> None:
        self._output = Output(stream)
        self._colour = colour
        self._live = live
        self._verbose = verbose
        self._redact = redact
        # Whole blocks, not only lines, stay together; re-entrant for the reason given in Output.
        self._lock = threading.RLock()
        self._over = False
        self._targets: list[Target] = []
        self._messages: dict[str, str] = {}
        self._revision_width = 0
        self._message_width = 0
        self._lock_waited = False
        self._nothing_to_do = False
        self._indexes_told: set[InvalidIndex] = set()

    @property
    def trouble(self) -> Exception | None:
        """The first error in writing, if there was one."""
        return self._output.trouble

    def __call__(self, event: Event) -> None:
        """Write the line for ``event``, or draw it as the live line."""
        handler = HANDLERS.get(type(event))
        if handler is not None:
            with self._lock:
                handler(self, redacted(event, self._redact))

    def finished(self, result: RunResult) -> None:
        """Say what was done, unless the plan has said already that there is nothing to do."""
        result = redacted(result, self._redact)
        with self._lock:
            self._over = True
            for target in result.targets:
                for index in target.invalid_indexes:
                    if index not in self._indexes_told:
                        self._line("invalid", index_words(index))
            if result.applied or not self._nothing_to_do:
                self._line("done", done_words(result))
            self._output.clear()

    def failed(self, error: MigratorError) -> None:
        """Say what failed, where, what is true now and what to do next."""
        with self._lock:
            self._over = True
            if self._verbose or error.exit_code is ExitCode.BUG:
                self._block("traceback", lines(self._redact(traceback_of(error))))
            failure = failure_of(
                redacted_error(error, self._redact),
                planned=self._messages,
                indexes_told=frozenset(self._indexes_told),
            )
            for label, texts in failure_blocks(failure):
                self._block(label, texts)
            self._output.clear()

    def close(self) -> None:
        """Clean up the terminal and flush; nothing is written after."""
        self._over = True
        self._output.close()

    def _target_known(self, event: TargetKnown) -> None:
        if event.target not in self._targets:
            self._targets.append(event.target)
            self._line("target", target_words(event.target))

    def _wait_failed(self, event: WaitFailed) -> None:
        self._passing("wait", wait_failed_words(event))

    def _database_ready(self, event: DatabaseReady) -> None:
        tries = f" ({event.attempts} tries: {one_line(event.last_reason)})" if event.last_reason else ""
        self._line("wait", f"ready after {format_duration(event.waited_seconds)}{tries}")

    def _head_awaited(self, event: HeadAwaited) -> None:
        self._passing("wait", head_awaited_words(event))

    def _lock_waiting(self, event: LockWaiting) -> None:
        self._lock_waited = True
        self._passing("lock", lock_waiting_words(event))

    def _lock_held(self, event: LockHeld) -> None:
        waited = self._lock_waited or event.waited_seconds >= 1
        self._line(
            "lock",
            f"held (pid {event.pid})" + (f" after {format_duration(event.waited_seconds)}" if waited else ""),
        )
        self._lock_waited = False

    def _planned(self, event: Planned) -> None:
        for step in event.steps:
            self._messages[step.revision] = step.message
            self._widen(step)
        self._nothing_to_do = not event.steps
        self._line("plan", plan_words(event))

    def _step_started(self, event: StepStarted) -> None:
        text = f"{self._revision(event.step)}  {step_message(event.step.message)}"
        if self._live:
            self._draw(label_of_step(event.number, event.total), text)
        if self._verbose:
            tried = f", try {event.tried}" if event.tried > 1 else ""
            self._line(
                label_of_step(event.number, event.total), f"{self._revision(event.step)}  begun{tried}"
            )

    def _step_running(self, event: StepRunning) -> None:
        label, revision = label_of_step(event.number, event.total), self._revision(event.step)
        if self._live:
            room = self._output.columns() - 1 - max(LABEL_WIDTH, len(label) + 1) - display_width(revision) - 2
            self._draw(label, f"{revision}  {running_words(event, width=room)}")
        elif not event.live and not self._over:
            self._line(label, f"{revision}  {running_words(event)}")

    def _step_retried(self, event: StepRetried) -> None:
        label = label_of_step(event.number, event.total)
        self._line(label, f"{self._revision(event.step)}  {retried_words(event)}")

    def _run_again(self, event: RunAgain) -> None:
        self._line("again", run_again_words(event))

    def _step_finished(self, event: StepFinished) -> None:
        result = event.result
        self._widen(result.step)
        message = padded(step_message(result.step.message), self._message_width)
        text = (
            f"{self._revision(result.step)}  {message}  "
            f"{format_duration(result.duration_seconds):>{DURATION_WIDTH}}"
        )
        if result.outcome is not Outcome.APPLIED:
            text += f"  {result.outcome.value}"
        if result.tries > 1:
            text += f"  ({result.tries} tries)"
        self._line(label_of_step(event.number, event.total), text)

    def _verified(self, event: Verified) -> None:
        which = f" · {target_words(event.target)}" if len(self._targets) > 1 else ""
        self._line("verified", f"{at(event.at)}, read on a new connection{which}")

    def _notice(self, event: Notice) -> None:
        self._block(one_line(event.label), lines(event.message))

    def _invalid_indexes_found(self, event: InvalidIndexesFound) -> None:
        self._indexes_told.update(event.indexes)
        origin = "left by this run" if event.left_by_run else "there before this run"
        for index in event.indexes:
            self._line("invalid", f"{index_words(index)}, {origin}")

    def _widen(self, step: Step) -> None:
        self._revision_width = max(self._revision_width, display_width(one_line(step.revision)))
        self._message_width = max(self._message_width, display_width(step_message(step.message)))

    def _revision(self, step: Step) -> str:
        return padded(one_line(step.revision), self._revision_width)

    def _passing(self, label: str, text: str) -> None:
        if self._live:
            self._draw(label, text)
        else:
            self._line(label, text)

    def _draw(self, label: str, text: str) -> None:
        # One that the watching thread sends when the run is over would stay on the screen.
        if not self._over:
            # A line that wraps cannot be drawn over: only its last row is erased.
            shown = fitted(labelled(label, text), self._output.columns() - 1)
            self._output.draw(self._painted(shown, label))

    def _line(self, label: str, text: str) -> None:
        self._output.line(self._painted(labelled(label, text).rstrip(), label))

    def _block(self, label: str, texts: Sequence[str]) -> None:
        for number, line in enumerate(block(label, texts)):
            self._output.line(self._painted(line, label) if number == 0 else line)

    def _painted(self, line: str, label: str) -> str:
        return coloured(line, label) if self._colour else line


def failure_blocks(failure: Failure) -> list[tuple[str, tuple[str, ...]]]:
    """The blocks of a failure in their order: each a label and its lines."""
    headline = f"{failure.revision}  {failure.headline}" if failure.revision else failure.headline
    return [
        ("failed", (headline, *failure.reasons)),
        ("state", failure.states),
        ("left", failure.left),
        ("next", failure.next_lines),
        ("exit", (f"{failure.exit_code.value} {failure.exit_code.meaning}",)),
    ]


HANDLERS: dict[type[Event], Callable[..., None]] = {
    TargetKnown: TextReport._target_known,
    WaitFailed: TextReport._wait_failed,
    DatabaseReady: TextReport._database_ready,
    HeadAwaited: TextReport._head_awaited,
    LockWaiting: TextReport._lock_waiting,
    LockHeld: TextReport._lock_held,
    Planned: TextReport._planned,
    StepStarted: TextReport._step_started,
    StepRunning: TextReport._step_running,
    StepRetried: TextReport._step_retried,
    RunAgain: TextReport._run_again,
    StepFinished: TextReport._step_finished,
    Verified: TextReport._verified,
    Notice: TextReport._notice,
    InvalidIndexesFound: TextReport._invalid_indexes_found,
}
