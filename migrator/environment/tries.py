"""Trying a revision again, in place, after a lock timeout or a deadlock: where that is safe, and as long as it may."""

from __future__ import annotations

import contextlib
import functools
import random
import time
from collections.abc import Callable
from typing import Any

from alembic.runtime.migration import MigrationContext

from migrator.database import on_connection_like
from migrator.dialects import ErrorKind, ServerError
from migrator.environment.failures import describe_failure
from migrator.environment.forked import children_end_here
from migrator.environment.state import Held, Run, StepRun, TargetRun
from migrator.events import Notice, StepRetried, StepStarted
from migrator.results import Activity, Blocker

RETRY_KINDS = (ErrorKind.LOCK_TIMEOUT, ErrorKind.DEADLOCK)
"""Errors after which the same revision, begun anew, may succeed."""

PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 8.0
"""First and longest pause between two tries of a revision, before jitter: traffic gets through in between."""


def commits_each_statement(held: Held | None) -> bool:
    """Whether nothing on the connection can be rolled back."""
    return held is not None and held.dialect.is_autocommit(held.raw)


class Tries:
    """The tries of one step.

    :param begin: called at the beginning of each try, to name the session after the revision.
    :param home: the database that the session is in between two steps, where a revision can choose another.
    """

    def __init__(
        self,
        run: Run,
        context: MigrationContext,
        held: Held,
        target: TargetRun,
        step_run: StepRun,
        begin: Callable[[Held, StepRun], None],
        home: str,
    ) -> None:
        self._run = run
        self._context = context
        self._held = held
        self._target = target
        self._step_run = step_run
        self._begin = begin
        self._home = home
        self._trouble_since: float | None = None

    def until_done(self, migrate: Callable[..., Any]) -> Callable[..., Any]:
        """Alembic's function of the step, run until it succeeds or trying again does not help."""

        @functools.wraps(migrate)
        def try_until_done(**arguments: Any) -> None:
            while True:
                self._begin_try()
                try:
                    with children_end_here():
                        migrate(**arguments)
                    self._step_run.running = False
                    self._go_home()
                    return
                except Exception as error:
                    pause = self._pause_after(error)
                    if pause is None:
                        raise
                self._begin_anew(pause)

        return try_until_done

    def _begin_try(self) -> None:
        run, step_run = self._run, self._step_run
        run.supervisor.check()
        step_run.begin_try()
        step_run.autocommit = commits_each_statement(self._held)
        step_run.began = time.monotonic()
        run.report(StepStarted(step_run.step, step_run.number, step_run.total, step_run.tries))
        self._begin(self._held, step_run)
        run.supervisor.step_began(step_run.step, step_run.number, step_run.total, self._look)

    def _pause_after(self, error: Exception) -> float | None:
        """Seconds to sleep before the next try in place; None: not here. Raises when the budget is spent."""
        run, held, step_run = self._run, self._held, self._step_run
        step_run.duration = time.monotonic() - step_run.began
        with contextlib.suppress(Exception):  # of a connection that is gone
            step_run.autocommit = step_run.autocommit or held.dialect.ended_transaction(held.raw)
        blockers = step_run.blockers = run.supervisor.step_ended()
        with contextlib.suppress(Exception):  # of a connection that is gone, as `error` tells
            held.restore_lock_timeout()
            self._go_home()
        found = held.dialect.read_error(error)
        if found is None or found.kind not in RETRY_KINDS or not self._may_begin_anew():
            return None
        now = time.monotonic()
        if self._trouble_since is None:
            # What the try did before it had to wait is work, not trouble.
            self._trouble_since = now - min(step_run.duration, run.settings.lock_timeout)
        left = run.settings.lock_retry_timeout - (now - self._trouble_since)
        pause = min(LONGEST_PAUSE_SECONDS, PAUSE_SECONDS * 1.5 ** (step_run.tries - 1))
        pause *= random.uniform(0.6, 1.4)
        if pause >= left:
            failure = describe_failure(error, found, step_run, self._target, run, blockers)
            run.fail(failure, error)
            raise failure from error
        self._report(found, blockers, pause, left)
        return pause

    def _go_home(self) -> None:
        """Undo the revision's ``USE``: Alembic would look for its version row, or move another's, over there."""
        dialect, raw = self._held.dialect, self._held.raw
        left_in = dialect.database_in_use(raw) if self._home else ""
        if left_in == self._home:
            return
        dialect.use_database(raw, self._home)
        revision = self._step_run.step.revision
        self._run.report(
            Notice(
                "database", f"{revision} left the session in {left_in or 'none'}; it is in {self._home} again"
            )
        )

    def _may_begin_anew(self) -> bool:
        """Alembic has a transaction for this revision alone, and all of it can be rolled back."""
        context = self._context
        if self._step_run.autocommit or commits_each_statement(self._held):
            return False
        if not context._transaction_per_migration or context._in_external_transaction:
            return False
        return context._transaction is not None and context.impl.transactional_ddl

    def _report(
        self, found: ServerError, blockers: tuple[Blocker, ...], pause: float, left_seconds: float
    ) -> None:
        step_run = self._step_run
        self._run.report(
            StepRetried(
                step_run.step,
                step_run.number,
                step_run.total,
                step_run.tries,
                found.kind.value,
                blockers,
                step_run.duration,
                pause,
                left_seconds,
            )
        )

    def _begin_anew(self, pause: float) -> None:
        """Roll the try back, sleep outside any transaction with the run lock kept, and begin again."""
        context = self._context
        connection: Any = context.connection
        transaction = context._transaction
        if transaction is not None:
            transaction.rollback()
        self._run.supervisor.sleep(pause)
        context._transaction = connection.begin()
        # Alembic makes its version table in the first revision's transaction; it was rolled back with it.
        context._ensure_version_table()

    def _look(self) -> Activity:
        held, pid = self._held, self._held.session.backend_pid
        return on_connection_like(
            held.engine, lambda raw: held.dialect.activity(raw, pid), self._run.settings.connect_timeout
        )
