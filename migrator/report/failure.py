"""What there is to say about a failure, as lines without labels: the same for the screen and for annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from migrator.errors import ExitCode, MigratorError
from migrator.report.safe import lines, one_line, statement_words
from migrator.report.words import index_words, place, state_words
from migrator.results import InvalidIndex, Outcome, TargetResult

NOTHING_CHANGED = "nothing was changed"


@dataclass(frozen=True, slots=True)
class Failure:
    """The facts of a failure, each on a line of its own, in the order in which a person needs them.

    :ivar revision: the revision that failed, or empty.
    :ivar headline: its message; without a revision, what happened.
    :ivar reasons: file and line, statement, the server's words.
    :ivar states: what is true now, one for each target; empty if the run did not come that far.
    :ivar left: what a rollback did not undo.
    """

    revision: str
    headline: str
    reasons: tuple[str, ...]
    states: tuple[str, ...]
    left: tuple[str, ...]
    next_lines: tuple[str, ...]
    exit_code: ExitCode


def failure_of(
    error: MigratorError,
    *,
    planned: Mapping[str, str] | None = None,
    indexes_told: frozenset[InvalidIndex] = frozenset(),
) -> Failure:
    """The facts of ``error`` and of its result.

    :param planned: the messages of the planned revisions, for an error without a result.
    :param indexes_told: INVALID indexes that the reader has been told of already.
    """
    targets = error.result.targets if error.result else ()
    revision = one_line(error.revision or "")
    messages = dict(planned or {})
    messages.update({s.step.revision: s.step.message for t in targets for s in t.steps})
    message = one_line(messages.get(error.revision or "", ""))
    headline, reasons = _headline_and_reasons(error, revision, message)
    next_lines = tuple(lines(next_step_of(error)))
    states = _states(targets)
    if any(NOTHING_CHANGED in line.lower() for line in next_lines):
        states = tuple(state.removesuffix(f" · {NOTHING_CHANGED}") for state in states)
    return Failure(
        revision=revision if message or revision not in headline else "",
        headline=headline,
        reasons=reasons,
        states=states,
        left=_left(targets, indexes_told),
        next_lines=next_lines,
        exit_code=error.exit_code,
    )


def next_step_of(error: MigratorError) -> str:
    """The next action; where the error names none, what follows from its exit code."""
    if error.next_step:
        return error.next_step
    if error.retryable:
        return "Run the same command again."
    if error.exit_code is ExitCode.BUG:
        return "This is a bug in migrator: please report it with the traceback."
    return ""


def location(error: MigratorError) -> str:
    """``migrations/versions/9a0c12_add_placed_at.py:14``, or empty."""
    if not error.file:
        return ""
    return one_line(f"{error.file}:{error.line}" if error.line else error.file)


def _headline_and_reasons(error: MigratorError, revision: str, message: str) -> tuple[str, tuple[str, ...]]:
    said = lines(error.message)
    details = [line for detail in error.details for line in lines(detail)]
    if message:
        headline = message
        known = {message, revision, f"{revision} {message}"}
        said = [line for line in said if " ".join(line.split()) not in known]
    else:
        headline = said[0] if said else ""
        said = said[1:]
    where = location(error)
    statement = statement_words(error.statement.text) if error.statement else ""
    said = [line for line in said if not any(line in detail for detail in details)]
    details = [line for line in details if line not in (where, statement, headline)]
    words = said + details
    if error.sqlstate and not any(error.sqlstate in line for line in (headline, *words)):
        words = [f"{error.sqlstate}: {words[0]}", *words[1:]] if words else [f"SQLSTATE {error.sqlstate}"]
    return headline, tuple(line for line in (where, statement, *words) if line)


def _states(targets: tuple[TargetResult, ...]) -> tuple[str, ...]:
    if len(targets) == 1:
        return (state_words(targets[0], alone=True),)
    return tuple(f"{_target_name(target)}: {state_words(target, alone=False)}" for target in targets)


def _target_name(result: TargetResult) -> str:
    table = one_line(result.target.version_table or "")
    return place(result.target) + (f" ({table})" if table else "")


def _left(targets: tuple[TargetResult, ...], indexes_told: frozenset[InvalidIndex]) -> tuple[str, ...]:
    left = []
    for step in (step for target in targets for step in target.steps):
        if not step.autocommit or step.outcome not in (Outcome.FAILED, Outcome.ROLLED_BACK):
            continue
        revision = one_line(step.step.revision)
        if not step.committed:
            left.append(f"part of {revision} ran outside a transaction and was not undone")
            continue
        left.append(f"of {revision}, committed and not undone:")
        left += [f"  {statement_words(statement.text)}" for statement in step.committed]
    left += [
        index_words(index)
        for target in targets
        for index in target.invalid_indexes
        if index not in indexes_told
    ]
    return tuple(left)


def traceback_of(error: MigratorError) -> str:
    """The traceback of ``error`` and of what caused it, secrets not masked; empty if neither was raised."""
    import traceback

    if error.__traceback__ is None and error.__cause__ is None and error.__context__ is None:
        return ""

    return "".join(traceback.format_exception(error))
