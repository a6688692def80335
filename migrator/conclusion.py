"""The verdict on a run: read from the database on a new connection, never concluded from an exception."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from migrator import environment
from migrator.database import NoAnswer
from migrator.environment import Noted, Run, TargetRun
from migrator.errors import ConnectionLost, DatabaseUnreachable, MigratorError, VerificationFailed
from migrator.events import InvalidIndexesFound, Verified
from migrator.redaction import without_secret_literals
from migrator.results import (
    MOST_STATEMENTS,
    Direction,
    InvalidIndex,
    Outcome,
    Revisions,
    RunResult,
    Statement,
    StepResult,
    TargetResult,
)
from migrator.truth import PATIENCE_SECONDS, Truth, read_truth

SETTLING_SECONDS, SETTLING_PAUSE_SECONDS = 1.0, 0.1
"""How long at least a session of the run's own that outlives its connection is waited for, and how often seen."""


def conclude(state: Run, failure: MigratorError | None, begun: float) -> RunResult:
    """Read what is true now, and return the result or raise the failure that carries it.

    :param failure: why the run ended, if not well.
    :param begun: the monotonic clock when it began.
    """
    results: list[TargetResult] = []
    failed = failure
    for target in state.targets.values():
        target_result, unverified = _conclude_target(state, target, failed)
        results.append(target_result)
        failure = failure or unverified
    if failure is None and not any(target.before is not None for target in state.targets.values()):
        failure = _nothing_ran(state)
    if isinstance(failure, ConnectionLost):
        _say_what_became_of_the_transaction(failure, results)
    result = RunResult(state.command, state.revision, tuple(results), time.monotonic() - begun)
    if failure is None:
        return result
    failure.result = result
    raise failure from state.cause


class _StillOpen(Exception):
    """The run's own session is still in a transaction, though nobody listens to it any more."""


def _settled_truth(target: TargetRun, timeout: float, patience: float) -> Truth:
    """What is true when the run's own session has ended its transaction, for a COMMIT may be under way still.

    :raises Exception: as :func:`read_truth`; :class:`_StillOpen` if that did not happen within ``patience``.
    """
    begun = time.monotonic()
    while True:
        truth = read_truth(
            target.engine, target.dialect, target.resolved_key, timeout, patience_seconds=patience
        )
        holder = truth.holder
        if holder is None or holder.pid != target.session.backend_pid or holder.state == "idle":
            return truth
        if time.monotonic() - begun > max(patience, SETTLING_SECONDS):
            raise _StillOpen(
                f"the session of this run (pid {holder.pid}) is still there, {holder.state}, "
                "and may commit or roll back at any moment"
            )
        time.sleep(SETTLING_PAUSE_SECONDS)


def _say_what_became_of_the_transaction(lost: ConnectionLost, results: Sequence[TargetResult]) -> None:
    """A connection can break while the answer to COMMIT is on its way: only the database knows how that ended."""
    tried = [
        (target, step) for target in results for step in target.steps if step.outcome is not Outcome.NOT_TRIED
    ]
    if not tried or tried[-1][1].autocommit:
        return
    target, step = tried[-1]
    if target.after is None:
        became = f"Whether {step.step.revision} was committed is not known."
    elif step.outcome is Outcome.APPLIED:
        became = f"Nothing is half done: {step.step.revision} had been committed."
    else:
        became = "The open transaction rolled back."
    lost.next_step = f"{became} {lost.next_step}"


def _conclude_target(
    state: Run, target: TargetRun, failure: MigratorError | None
) -> tuple[TargetResult, MigratorError | None]:
    truth: Truth | None = None
    trouble, passing = "", False
    try:
        timeout = state.settings.connect_timeout
        # Who was told to stop must not spend long on saying how far it came.
        patience = 0.0 if state.supervisor.stopping else PATIENCE_SECONDS
        truth = _settled_truth(target, timeout, patience)
    except _StillOpen as error:
        trouble = str(error)
        if failure is not None:
            failure.details = (*failure.details, trouble)
    except NoAnswer:
        trouble, passing = "nothing", True
    except Exception as error:
        found = target.dialect.read_error(error)
        trouble = str(found) if found is not None else type(error).__name__
        passing = found is not None and found.kind.may_pass
    verified = failure is None and truth is not None and _same(truth.rows, target.goal)
    result = TargetResult(
        target=target.target,
        before=target.before,
        after=truth.rows if truth is not None else None,
        steps=tuple(_step_results(state, target, truth)),
        verified=verified,
        lock_wait_seconds=target.lock_wait,
        invalid_indexes=_invalid_indexes(state, target, truth),
    )
    if verified and truth is not None:
        state.report(Verified(truth.rows, target.target))
    if verified or failure is not None:
        return result, None
    return result, _not_verified(state, target, truth) if truth is not None else _unread(trouble, passing)


def _invalid_indexes(state: Run, target: TargetRun, truth: Truth | None) -> tuple[InvalidIndex, ...]:
    if truth is None or not truth.invalid_indexes:
        return ()
    left = tuple(index for index in truth.invalid_indexes if index not in target.invalid_before)
    if left:
        state.report(InvalidIndexesFound(left, left_by_run=bool(target.steps)))
    return truth.invalid_indexes


def _same(rows: Revisions, goal: Revisions) -> bool:
    return tuple(sorted(rows)) == tuple(sorted(goal))


def _nothing_ran(state: Run) -> VerificationFailed:
    return VerificationFailed(
        "env.py ended without running any migration",
        details=(
            "it called context.configure(connection=…), and never context.run_migrations()"
            if state.configured
            else "it never called context.configure(connection=…): it started a task and did not wait for it, "
            "or a condition was false",
        ),
        next_step="Let env.py run the migrations before it returns (migrator explain nothing-ran).",
    )


def _unread(trouble: str, passing: bool) -> MigratorError:
    """No verdict. A database that is away for a while is none that says otherwise: another run can tell."""
    kind = DatabaseUnreachable if passing else VerificationFailed
    return kind(
        "the result could not be read",
        details=(f"a new connection said: {trouble}",),
        next_step="Run the same command again when the database answers: it verifies, and applies what is missing.",
    )


def _not_verified(state: Run, target: TargetRun, truth: Truth) -> VerificationFailed:
    goal = ", ".join(sorted(target.goal)) or "base"
    rows = ", ".join(truth.rows) or "base"
    tried = [step_run for step_run in target.steps.values() if step_run.tries]
    if tried and tried[-1].autocommit:
        cause = (
            "a revision committed by itself (op.get_bind().commit()?): nobody commits what came after that"
        )
        next_step = (
            "Look at what is listed as left; let the revision leave the commit to Alembic, or use "
            "op.get_context().autocommit_block()."
        )
    elif state.ends_transaction_itself:
        cause = "env.py ends its transaction itself (begin_transaction() as …): a dry run?"
        next_step = "Run it without what makes env.py roll back. Nothing is applied by a dry run."
    else:
        cause = "the usual cause: SQL before context.configure() began a transaction that nobody commits"
        next_step = (
            "In env.py, commit before context.configure(), or connect with engine.begin() "
            "(migrator explain not-verified)."
        )
    return VerificationFailed(
        f"env.py ended without an error, but the database is at {rows} and not at {goal}",
        details=(cause,),
        next_step=next_step,
    )


def _statements(noted: list[Noted]) -> tuple[Statement, ...]:
    named = tuple(
        Statement((f"{one.times} × " if one.times > 1 else "") + without_secret_literals(one.text))
        for one in noted[:MOST_STATEMENTS]
    )
    return named if len(noted) <= MOST_STATEMENTS else (*named, Statement("… and more"))


def _step_results(state: Run, target: TargetRun, truth: Truth | None) -> list[StepResult]:
    """What became of each step, from the rows that are in the database; if unreadable, from what was seen."""
    have = None
    if truth is not None and state.script is not None:
        with contextlib.suppress(Exception):  # A history that cannot be read is what failed, then.
            have = environment.ancestors(state.script, truth.rows)
    results = []
    for step_run in target.steps.values():
        step = step_run.step
        if have is None or truth is None:
            done = step_run.finished
        elif step.direction is Direction.STAMP:
            done = _same(truth.rows, target.goal)
        else:
            done = (step.revision in have) is (step.direction is Direction.UPGRADE)
        if done:
            outcome = Outcome.APPLIED
        elif step_run.tries == 0:
            outcome = Outcome.NOT_TRIED
        elif step_run.autocommit:
            outcome = Outcome.FAILED
        else:
            outcome = Outcome.ROLLED_BACK
        results.append(
            StepResult(
                step,
                outcome,
                step_run.duration,
                step_run.tries,
                autocommit=step_run.autocommit,
                committed=() if outcome is Outcome.APPLIED else _statements(step_run.committed),
            )
        )
    return results
