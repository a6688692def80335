"""Looking without changing: ``status``, ``wait`` and ``check``."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import TypeVar

from migrator import environment
from migrator.database import connection_error, wait_until_ready
from migrator.environment import LearnSecret, Reading, Run, TargetRun
from migrator.errors import (
    ConfigurationError,
    DatabaseUnreachable,
    MigratorError,
    NotAtHead,
    VerificationFailed,
)
from migrator.events import DatabaseReady, Event, Notice, Reporter
from migrator.job import Supervision, execute_until_settled
from migrator.preflight import check_before_connecting
from migrator.results import Revisions, Status, TargetStatus
from migrator.settings import Settings
from migrator.stopping import GiveUp, Stopping, StopRequested
from migrator.truth import Truth, read_truth
from migrator.watch import Watch

Result = TypeVar("Result")

POLL_SECONDS = (0.5, 5.0)
"""``wait --for head``: first and longest pause; 200 waiting pods then ask 40 times a second altogether."""

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
    with Stopping(settings.deadline, give_up) as stopping:
        state = look(settings, report, stopping)
        return _status(state, settings), environment.obstacles(state)


def wait_for_connection(settings: Settings, report: Reporter, give_up: GiveUp | None = None) -> DatabaseReady:
    """Return when the database answers a query, and what it took.

    :param give_up: see :class:`migrator.stopping.Stopping`.
    :raises DatabaseUnreachable: not within ``wait-timeout``.
    """
    begun = time.monotonic()
    seen: list[Event] = []

    def note(event: Event) -> None:
        seen.append(event)
        report(event)

    with Stopping(settings.deadline, give_up) as stopping:
        if settings.database is not None:
            _interruptible(stopping, lambda: wait_until_ready(settings, note, stopping.sleep))
        else:
            look(settings, note, stopping)
    ready = [event for event in seen if isinstance(event, DatabaseReady)]
    return ready[-1] if ready else DatabaseReady(time.monotonic() - begun, 1)


def wait_for_head(settings: Settings, report: Reporter, give_up: GiveUp | None = None) -> Status:
    """Return when every target is at head; needs no more than SELECT on the version table.

    ``env.py`` runs once, to learn where the version table is; after that only the table is asked.

    :param give_up: see :class:`migrator.stopping.Stopping`.
    :raises NotAtHead: not within ``wait-timeout``; says where it is.
    :raises HistoryError: the database is ahead, and that was not allowed.
    """
    begun = time.monotonic()
    check_before_connecting(settings, "upgrade", "heads")
    with Stopping(settings.deadline, give_up) as stopping:
        state = look(settings, report, stopping)
        pause = POLL_SECONDS[0]
        shown: object = None
        while True:
            current = _interruptible(stopping, lambda: _status(state, settings))
            if satisfied(current, settings):
                return current
            waited = time.monotonic() - begun
            position = tuple(target.current for target in current.targets)
            if position != shown:
                shown = position
                report(Notice("wait", _position(current, waited)))
            left = settings.wait_timeout - waited
            if left <= 0:
                raise NotAtHead(
                    f"the database is not at head after {_seconds(waited)}",
                    details=(_position(current, waited),),
                    next_step="Look at the migration job; MIGRATOR_WAIT_TIMEOUT allows more time.",
                )
            sleep = min(left, pause * random.uniform(0.5, 1.5))
            _interruptible(stopping, functools.partial(stopping.sleep, sleep))
            pause = min(pause * 1.5, POLL_SECONDS[1])


def _interruptible(stopping: Stopping, work: Callable[[], Result]) -> Result:
    try:
        return work()
    except StopRequested:
        raise stopping.reason or AssertionError("stopped without a reason") from None


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

        _interruptible(stopping, run_environment)
    if stopping.reason is not None:
        raise stopping.reason
    if state.failure is not None:
        raise state.failure from state.cause
    if not any(target.before is not None for target in state.targets.values()):
        raise VerificationFailed(
            "env.py ended without running any migration",
            next_step="Let env.py call context.run_migrations() before it returns "
            "(docs/troubleshooting.md#nothing-ran).",
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


def satisfied(current: Status, settings: Settings) -> bool:
    """Every target is at head, or ahead where that was allowed.

    :raises HistoryError: a target is ahead, and that was not allowed.
    :raises ConfigurationError: this image has no revision at all, and that was not allowed.
    """
    for target in current.targets:
        if target.unknown and not settings.allow_ahead:
            raise environment.database_ahead(target.unknown, target.heads)
        if target.unknown:
            continue
        if target.pending:
            return False
        if not target.heads and not settings.allow_empty:
            raise ConfigurationError(
                "this image has no revision at all",
                next_step="Copy the revisions into the image. Nothing was changed.",
            )
    return bool(current.targets)


def _position(current: Status, waited: float) -> str:
    parts = []
    for target in current.targets:
        at: Revisions = target.current
        parts.append(f"at {', '.join(at) or 'base'}, wanted {', '.join(target.heads)}")
    return f"{'; '.join(parts)}; waited {_seconds(waited)}"


def _seconds(seconds: float) -> str:
    from migrator.durations import format_duration

    return format_duration(seconds)
