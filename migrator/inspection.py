"""Looking without changing, with what ``env.py`` knows."""

from __future__ import annotations

import time
from typing import TypeVar

from migrator import environment
from migrator.database import connection_error
from migrator.environment import LearnSecret, Reading, Run, TargetRun
from migrator.errors import AccessRefused, DatabaseUnreachable, MigratorError, VerificationFailed
from migrator.events import Reporter
from migrator.job import Supervision, execute_until_settled
from migrator.preflight import check_before_connecting
from migrator.readiness import NotYet, wait_until_ready
from migrator.results import Status, TargetStatus
from migrator.settings import Settings
from migrator.stopping import GiveUp, Stopping, interruptible
from migrator.truth import Truth, read_truth
from migrator.watch import Watch

Result = TypeVar("Result")

LOCK_TIMEOUT_SECONDS = 5.0


def status(settings: Settings, report: Reporter, give_up: GiveUp | None = None) -> Status:
    """Where each target of ``env.py`` stands against the revisions of this image. Locks and changes nothing.

    :param give_up: see :class:`migrator.stopping.Stopping`.
    :raises MigratorError: the database cannot be reached or read, or ``env.py`` fails.
    """
    return status_and_obstacles(settings, report, give_up)[0]


def status_and_obstacles(
    settings: Settings, report: Reporter, give_up: GiveUp | None = None
) -> tuple[Status, tuple[MigratorError, ...]]:
    """:func:`status`, and what a run that changes something would refuse there: a pooler, several nodes."""
    following = settings.rotation.followed_by_engines(lambda: settings.database)
    with Stopping(settings.deadline, give_up) as stopping, following:
        state = look(settings, report, stopping)
        return _status(state, settings), environment.obstacles(state)


def look(
    settings: Settings,
    report: Reporter,
    stopping: Stopping,
    *,
    arguments: tuple[str, ...] = ("current",),
    reading: Reading | None = None,
    learn_secret: LearnSecret | None = None,
) -> Run:
    """Run ``env.py`` to learn its targets, and to let ``reading`` look at them. Changes nothing.

    :param arguments: what Alembic's command line would have got.
    :raises MigratorError: what went wrong.
    """
    with Watch(report, first_look_seconds=LOCK_TIMEOUT_SECONDS, live=False) as watch:
        state = Run(
            "status",
            "heads",
            settings,
            report,
            Supervision(stopping, watch),
            environment.no_steps,
            arguments,
            learn_secret=learn_secret,
            reading=reading,
        )

        def run_environment() -> None:
            if settings.database is not None:
                wait_until_ready(settings, report, stopping.sleep, writable=False)
            execute_until_settled(state, stopping)

        interruptible(stopping, run_environment)
    if stopping.reason is not None:
        raise stopping.reason
    if state.failure is not None:
        raise state.failure from state.cause
    if not any(target.before is not None for target in state.targets.values()):
        raise VerificationFailed(
            "env.py ended without running any migration",
            next_step="Let env.py call context.run_migrations() before it returns "
            "(migrator explain nothing-ran).",
        )
    return state


def _status(state: Run, settings: Settings) -> Status:
    return Status(tuple(_target_status(state, target, settings) for target in state.targets.values()))


def _target_status(state: Run, target: TargetRun, settings: Settings) -> TargetStatus:
    truth = _truth(target, settings)
    script = state.script
    return TargetStatus(
        target=target.target,
        current=truth.rows,
        heads=tuple(sorted(script.get_heads())),
        pending=environment.pending(script, truth.rows),
        unknown=environment.unknown_revisions(script, truth.rows),
        version_table_exists=truth.version_table_exists,
        tables=truth.tables,
        lock_holder=truth.holder,
        invalid_indexes=truth.invalid_indexes,
    )


def _truth(target: TargetRun, settings: Settings) -> Truth:
    try:
        return read_truth(target.engine, target.dialect, target.resolved_key, settings.connect_timeout)
    except MigratorError:
        raise
    except Exception as error:
        found = target.dialect.read_error(error)
        if found is None:
            raise DatabaseUnreachable(
                "the database does not answer", next_step="Check the server and run again."
            ) from error
        raise connection_error(found, target.target.database, target.target.source) from error


class EnvironmentLook:
    """A :class:`migrator.looking.Look` that lets ``env.py`` say where the version tables are, once.

    The connections are made as ``env.py`` makes its own.
    """

    def __init__(self, settings: Settings, report: Reporter, stopping: Stopping) -> None:
        self._settings = settings
        self._report = report
        self._stopping = stopping
        self._begun = time.monotonic()
        self._state: Run | None = None

    def read(self, *, holder: bool) -> Status:
        with self._settings.rotation.followed_by_engines(lambda: self._settings.database):
            return self._read()

    def _read(self) -> Status:
        if self._state is None:
            check_before_connecting(self._settings, "upgrade", "heads")
            self._state = look(self._settings, self._report, self._stopping)
            self._stopping.arm()
        try:
            return _status(self._state, self._settings)
        except DatabaseUnreachable as error:
            raise _not_yet(error) from error
        except AccessRefused as error:
            if time.monotonic() - self._begun >= self._settings.auth_grace:
                raise
            raise _not_yet(error) from error


def _not_yet(error: MigratorError) -> NotYet:
    return NotYet("; ".join(error.details) or error.message)
