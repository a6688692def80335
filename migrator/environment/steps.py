"""Listing the steps under the lock, running each, and noting what failed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from alembic.runtime.migration import MigrationContext

from migrator.database import on_connection_like
from migrator.dialects import ErrorKind
from migrator.environment.failures import describe_failure, unloadable
from migrator.environment.listing import ancestors, check_history, describe_step, goal_of
from migrator.environment.state import Again, Held, Run, RunAgain, StepRun, TargetRun
from migrator.environment.tries import RETRY_KINDS, Tries, commits_each_statement
from migrator.environment.version_table import leave_out_version_table
from migrator.errors import HistoryError, LockLost, LockTimeoutExhausted, MigrationFailed, MigratorError
from migrator.events import (
    InvalidIndexesFound,
    Planned,
    StepFinished,
)
from migrator.results import Outcome, StepResult

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

TakeResolved = Callable[[Held, TargetRun, str, str], bool]
TargetAt = Callable[[Held, TargetRun, str, str], TargetRun]

AlembicSteps = tuple[Any, ...]
"""Alembic's step objects."""


class Steps:
    """The steps of one execution of ``env.py``."""

    def __init__(self, run: Run, take_resolved: TakeResolved, target_at: TargetAt) -> None:
        self._run = run
        self._take_resolved = take_resolved
        self._target_at = target_at
        self._held: Held | None = None
        self._target: TargetRun | None = None
        self._table: tuple[str, str | None] = ("", None)
        self._current: StepRun | None = None
        self._lock_timeout: str | None = None

    def enter(self, held: Held, target: TargetRun, table: str, schema: str | None) -> None:
        """Alembic's context for ``target`` was made."""
        self._held, self._target = held, target
        self._lock_timeout = None
        self._table = (table, schema)

    def list(self, current: tuple[str, ...], context: MigrationContext) -> Any:
        """The function that ``EnvironmentContext(fn=…)`` gets: Alembic calls it with the version rows.

        Here ``search_path`` is final and the version table exists, so this is where its name is resolved.
        """
        run, held, target, script = self._run, self._held, self._target, context.script
        assert script is not None
        if held is None or target is None:  # Offline: there is no connection, and nothing to guard.
            return run.list_steps(script, current)
        table = held.dialect.version_table(held.raw, *self._table)
        if table is not None:
            target = self._target = self._target_at(held, target, *table)
            target.version_table = table
            if not self._take_resolved(held, target, *table):
                # Alembic keeps the rows that it read before the lock was ours, and would move those.
                fresh = context.get_current_heads()
                if set(fresh) != set(current):
                    raise RunAgain(Again.RUN_LOCK, "another run ended between the reading and the lock")
        if target.before is None:
            target.before = tuple(sorted(current))
        target.goal = tuple(sorted(current))
        run.script = script
        if run.reads_only:
            if run.reading is not None:
                leave_out_version_table(context, table, held.dialect, held.raw)
                run.reading.read(current, context)
            return []
        self._refuse_old_snapshot(held, target, current)
        planned: AlembicSteps = ()
        try:
            if not check_history(script, current, run):
                planned = tuple(self._planned(script, current, target))
        except (MigratorError, RunAgain):
            raise
        except Exception as error:
            raise unloadable(error, script, run) from error
        return self._run_all(planned, context, held, target, current)

    def _planned(self, script: ScriptDirectory, current: tuple[str, ...], target: TargetRun) -> Sequence[Any]:
        """Alembic's steps. ``-2`` counts from where the run began, also when ``env.py`` is run once more."""
        run = self._run
        before = target.before
        if not run.relative or before is None or set(before) == set(current):
            return run.list_steps(script, current)
        steps = run.list_steps(script, before)
        have, began_with = ancestors(script, current), ancestors(script, before)
        left = [step for step in steps if (step.revision.revision in have) is not step.is_upgrade]
        done = {step.revision.revision for step in steps if step not in left}
        if have != (began_with - done if run.command == "downgrade" else began_with | done):
            raise HistoryError(
                f"somebody else changed the revision of the database between two tries of {run.revision}",
                details=(
                    f"it was at {', '.join(before) or 'base'}, and is at {', '.join(current) or 'base'}",
                ),
                next_step="Look at migrator status, and name the revision to go to by its id.",
            )
        return left

    def on_version_apply(self, *, heads: set[str], **_rest: Any) -> None:
        """Alembic moved the version rows of the current target, in the step's transaction."""
        if self._target is not None:
            self._target.goal = tuple(sorted(heads))

    def entering_autocommit(self, context: MigrationContext) -> None:
        """A revision enters ``autocommit_block()``: what it did is committed, what it does will be at once."""
        connection: Any = context.connection
        if context.as_sql or connection is None:
            return
        if connection.in_transaction() and context._transaction is None:
            raise MigrationFailed(
                "autocommit_block() cannot work: env.py began a transaction before context.configure()",
                details=("Alembic does not own that transaction, so it cannot commit it here",),
                next_step=(
                    "In env.py use engine.connect() instead of engine.begin(), and run no SQL before "
                    "context.configure()."
                ),
            )
        if self._current is not None:
            self._current.autocommit = True

    def completed(self) -> None:
        """``run_migrations`` returned."""
        run, target = self._run, self._target
        run.supervisor.step_ended()
        self._current = None
        failure = run.failure
        if failure is None or target is None or isinstance(failure, LockLost):
            return
        step = target.steps.get(failure.revision or "")
        if step is not None and step.finished:
            # env.py tried again by itself, and this time it worked.
            run.failure = run.cause = None

    def left_transaction(self) -> None:
        """A statement of the current step is committed, or was outside a transaction: no rollback undoes it."""
        if self._current is not None:
            self._current.autocommit = True

    def noted(self, statement: str) -> None:
        """A statement of the current step succeeded."""
        if self._current is not None:
            self._current.note(statement)

    def committed(self) -> None:
        """The transaction of the current step was committed, or is about to be."""
        if self._current is not None:
            # Alembic's own commit comes after the revision; one within is the revision's: op.get_bind().commit().
            self._current.autocommit = self._current.autocommit or self._current.running
            self._current.commit()

    def rolls_back(self) -> None:
        """The transaction of the current step is about to be rolled back, and part of it may stay all the same."""
        step, held = self._current, self._held
        if step is None or held is None or not step.open_statements:
            return
        with contextlib.suppress(Exception):  # of a connection that is gone: nobody can tell
            if held.dialect.outlives_rollback(held.raw):
                step.autocommit = True
                step.commit()

    def commits_implicitly(self) -> None:
        """A statement of the current step begins that commits what stands before it, even if it fails itself."""
        if self._current is not None and self._current.open_statements:
            self._current.autocommit = True
            self._current.commit()

    def failed(self, error: BaseException) -> None:
        """Something was raised while the steps ran. The first failure is kept, whatever becomes of ``error``."""
        run, held, step = self._run, self._held, self._current
        self.rolls_back()  # by env.py, later, where the transaction is its own
        blockers = run.supervisor.step_ended() or (step.blockers if step is not None else ())
        if isinstance(error, RunAgain):
            run.again = error
            return
        if run.reading is not None:
            return  # No migration ran: whatever was raised is judged where env.py ends.
        if run.supervisor.stopping or run.failure is not None or run.again is not None:
            return
        found = held.dialect.read_error(error) if held is not None else None
        contention = found is not None and found.kind in (*RETRY_KINDS, ErrorKind.SERIALIZATION)
        if found is not None and found.kind is ErrorKind.ALREADY_EXISTS and step is None:
            # The version table, made by another run after this one's snapshot: Alembic does not see it.
            contention = held is not None and held.old_snapshot
        autocommit = step is not None and (step.autocommit or commits_each_statement(held))
        failure = describe_failure(error, found, step, self._target, run, blockers)
        if contention and not autocommit and not isinstance(error, LockTimeoutExhausted):
            waited = isinstance(failure, LockTimeoutExhausted)
            run.again = RunAgain(
                Again.CONTENTION, "; ".join(failure.details) if waited else str(found), failure
            )
            return
        if (
            found is not None
            and found.kind is ErrorKind.READ_ONLY
            and not autocommit
            and self._is_standby(held)
        ):
            run.again = RunAgain(Again.UNREACHABLE, "the server is a read-only standby", failure)
            return
        run.fail(failure, error)

    def _is_standby(self, held: Held | None) -> bool:
        """Asked anew, for a revision may have made its own transaction read-only."""
        if held is None:
            return False
        try:
            seconds = self._run.settings.connect_timeout
            return on_connection_like(held.engine, held.dialect.facts, seconds).read_only
        except Exception:
            return False

    def _run_all(
        self, planned: AlembicSteps, context: MigrationContext, held: Held, target: TargetRun, current: Any
    ) -> Iterator[Any]:
        """The steps, each wrapped; goes on when Alembic has committed the one before."""
        run = self._run
        steps = [describe_step(planned_step) for planned_step in planned]
        if planned and not target.steps:
            target.invalid_before = held.dialect.invalid_indexes(held.raw)
            if target.invalid_before:
                run.report(InvalidIndexesFound(target.invalid_before, left_by_run=False))
        goal = goal_of(run.script, planned, current)
        run.report(Planned(tuple(sorted(current)), goal, tuple(steps)))
        for number, step in enumerate(steps, start=1):
            earlier = target.steps.get(step.revision)
            step_run = StepRun(step, number, len(steps), tries=earlier.tries if earlier else 0)
            target.steps[step.revision] = step_run
        home = held.dialect.database_in_use(held.raw) if planned else ""
        for planned_step, step in zip(planned, steps, strict=True):
            step_run = target.steps[step.revision]
            tries = Tries(run, context, held, target, step_run, self._begin_step, home)
            planned_step.migration_fn = tries.until_done(planned_step.migration_fn)
            self._current = step_run
            run.changed = True
            yield planned_step
            step_run.duration = time.monotonic() - step_run.began
            # In a transaction of env.py's the step is not committed yet, and a later failure undoes it.
            committed = context._transaction_per_migration and not context._in_external_transaction
            step_run.finished = step_run.autocommit or committed
            run.supervisor.step_ended()
            self._current = None
            result = StepResult(
                step, Outcome.APPLIED, step_run.duration, step_run.tries, autocommit=step_run.autocommit
            )
            run.report(StepFinished(result, step_run.number, step_run.total))

    def _refuse_old_snapshot(self, held: Held, target: TargetRun, current: tuple[str, ...]) -> None:
        """A REPEATABLE READ transaction that ``env.py`` began may show rows from before the lock was ours."""
        if not held.old_snapshot or target.version_table is None:
            return
        schema, table = target.version_table
        key_dialect = held.dialect

        def read(raw: Any) -> tuple[str, ...] | None:
            if key_dialect.version_table(raw, table, schema) is None:
                return None
            return key_dialect.version_rows(raw, schema, table)

        fresh = on_connection_like(held.engine, read, self._run.settings.connect_timeout)
        if (fresh or ()) != tuple(sorted(current)):
            raise RunAgain(Again.RUN_LOCK, "env.py's transaction began before the lock was free")

    def _begin_step(self, held: Held, step_run: StepRun) -> None:
        """Name the session after the revision; a lock timeout that the one before changed is put back."""
        import socket

        name = f"migrator {socket.gethostname()}: {step_run.step.revision}"
        self._lock_timeout = held.dialect.begin_step(held.raw, name, self._lock_timeout)
