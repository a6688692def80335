"""``check --reversible``: the newest revisions undone and applied again, on a disposable database."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from migrator import environment
from migrator.durations import format_duration
from migrator.environment import LearnSecret, Reading, Since, Snapshot
from migrator.errors import ExitCode, HistoryError, MigratorError
from migrator.events import Notice, Reporter
from migrator.inspection import look
from migrator.job import Order
from migrator.results import Difference, Finding, StepResult
from migrator.revisions import unwritten
from migrator.scratch import Stopover, run_quietly
from migrator.settings import Settings
from migrator.stopping import Stopping

NEWEST = "newest"
"""Undo the newest revision alone."""

DOWN = "downgrade"
"""The name of the check that a finding belongs to."""

_OF_A_REVISION = (ExitCode.MIGRATION_FAILED, ExitCode.HISTORY)
"""The latter of a first revision that meets its own tables: the database then looks as if nobody had recorded any."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reversed:
    """What came of it.

    :ivar notes: what a person should know and no fault.
    """

    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


class RoundTrip:
    """From a revision up to head, down to it and up again; the schema is compared both times.

    :param below: the revision to go down to, ``base``, or :data:`NEWEST`.
    :raises HistoryError: there is no such revision; several heads.
    """

    def __init__(
        self,
        below: str,
        settings: Settings,
        report: Reporter,
        stopping: Stopping,
        learn_secret: LearnSecret | None,
    ) -> None:
        self._report, self._stopping, self._learn_secret = report, stopping, learn_secret
        self._below = environment.revisions_below(settings, None if below == NEWEST else below)
        self._before, self._at_head = Snapshot(), Snapshot()
        self.stopover = Stopover(self._below, lambda scratch: self._read(scratch, self._before))

    def run(self, settings: Settings) -> Reversed:
        """Go down and up again; the database is at head, and will be unless there is a finding.

        :param settings: of the disposable database.
        :raises MigratorError: what is no answer: the database went away, a signal.
        """
        self._read(settings, self._at_head)
        try:
            down = self._go(Order.downgrade((self._below or ("base",))[0]), settings)
        except MigratorError as error:
            return self._stopped(error, settings)
        findings = _unwritten(down)
        traces = self._changes(settings, self._before)
        findings = findings or _traces(traces, down)
        try:
            up = self._go(Order.upgrade("heads"), settings)
        except MigratorError as error:
            if error.exit_code not in _OF_A_REVISION:
                raise
            # What downgrade() left is why, and it is said already.
            return Reversed(findings or (_failed("the second upgrade()", error),))
        findings += _other_schema(self._changes(settings, self._at_head), up)
        if not findings:
            count = f"{len(down)} revision{'' if len(down) == 1 else 's'}"
            took = format_duration(sum(step.duration_seconds for step in (*down, *up)))
            self._report(Notice("scratch", f"{count} down and up again in {took}, the schema is the same"))
        return Reversed(findings)

    def _stopped(self, error: MigratorError, settings: Settings) -> Reversed:
        """A revision that says itself that there is no way back is no fault."""
        if error.exit_code not in _OF_A_REVISION:
            raise error
        if not isinstance(error.__cause__, NotImplementedError):
            return Reversed((_failed("downgrade()", error),))
        self._go(Order.upgrade("heads"), settings)
        said = f": {error.__cause__}" if str(error.__cause__) else ""
        return Reversed(
            notes=(f"{error.revision} cannot be undone, as its downgrade() says (NotImplementedError{said})",)
        )

    def _go(self, order: Order, settings: Settings) -> tuple[StepResult, ...]:
        result = run_quietly(order, settings, self._report, self._stopping, self._learn_secret)
        self._stopping.rearm()
        return result.applied

    def _read(self, settings: Settings, reading: Reading) -> None:
        look(
            settings,
            lambda _event: None,
            self._stopping,
            arguments=("check",),
            reading=reading,
            learn_secret=self._learn_secret,
        )
        self._stopping.rearm()

    def _changes(self, settings: Settings, snapshot: Snapshot) -> tuple[Difference, ...]:
        since = Since(snapshot)
        self._read(settings, since)
        return since.differences


def refuse_several_heads(settings: Settings) -> None:
    """Look before anything is made.

    :raises HistoryError: there are several heads.
    """
    heads = environment.heads_of(settings)
    if len(heads) > 1:
        raise HistoryError(
            f"several heads ({', '.join(heads)}): which is the newest revision is not known",
            next_step='migrator merge heads -m "merge", or leave out --reversible. Nothing was changed.',
        )


def _unwritten(down: Sequence[StepResult]) -> tuple[Finding, ...]:
    findings = []
    for step in down:
        with contextlib.suppress(OSError, SyntaxError, ValueError):
            line = unwritten(Path(step.step.file))
            if line is not None:
                findings.append(
                    Finding(
                        DOWN,
                        f"{step.step.revision}: downgrade() does nothing, and upgrade() does something",
                        step.step.file,
                        line,
                        "Write it. If there is no way back: raise NotImplementedError in it. If there is nothing to "
                        "undo: say so in its docstring.",
                    )
                )
    return tuple(findings)


def _traces(differences: Sequence[Difference], down: Sequence[StepResult]) -> tuple[Finding, ...]:
    sides = {"added": "gone after downgrade()", "dropped": "left behind by downgrade()"}
    return _changed(
        differences, down, sides, "not as before upgrade()", "Let downgrade() undo what upgrade() does."
    )


def _other_schema(differences: Sequence[Difference], up: Sequence[StepResult]) -> tuple[Finding, ...]:
    sides = {
        "added": "missing after the second upgrade()",
        "dropped": "only there after the second upgrade()",
    }
    step = "A second upgrade() has to come to the same schema as the first."
    return _changed(differences, up, sides, "different after the second upgrade()", step)


def _changed(
    differences: Sequence[Difference],
    steps: Sequence[StepResult],
    sides: dict[str, str],
    otherwise: str,
    next_step: str,
) -> tuple[Finding, ...]:
    file = steps[-1].step.file if len(steps) == 1 else None
    revisions = ", ".join(step.step.revision for step in steps)
    findings = []
    for difference in differences:
        deed, _, thing = difference.words.partition(" ")
        thing = thing or f"operation {difference.operation}"
        findings.append(Finding(DOWN, f"{revisions}: {sides.get(deed, otherwise)}: {thing}", file))
    if findings:
        findings[-1] = dataclasses.replace(findings[-1], next_step=next_step)
    return tuple(findings)


def _failed(what: str, error: MigratorError) -> Finding:
    message = "; ".join((f"{error.revision}: {what} fails", *error.details))
    next_step = "Correct it; or, if there is no way back, raise NotImplementedError in downgrade()."
    return Finding(DOWN, message, error.file, error.line, next_step)
