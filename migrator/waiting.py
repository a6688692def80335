"""``wait``: for an answer of the database, or until its migrations have been run by someone else.

Made for the init containers of hundreds of pods: no connection is held between two polls, the pauses are spread at
random and grow, and a server that is full is asked less often than one that is not.
"""

from __future__ import annotations

import random
import time

from migrator.durations import format_duration
from migrator.errors import ConfigurationError, MigratorError, NotAtHead
from migrator.events import DatabaseReady, Event, HeadAwaited, Reporter, TargetKnown
from migrator.lock import next_telling
from migrator.looking import DirectLook, EnvironmentNeeded, Look
from migrator.readiness import NotYet, unanswered, wait_until_ready
from migrator.results import LockHolder, Revisions, RunResult, Status, TargetResult
from migrator.revisions import database_ahead
from migrator.settings import Settings
from migrator.stopping import GiveUp, Stopping, interruptible

FIRST_SECONDS = 0.5
"""Within this time, at random, comes the first poll: pods of one deployment start together."""

POLL_SECONDS = (0.5, 5.0)
"""First and longest pause, before jitter; 200 waiting pods then ask 40 times a second altogether."""

CROWDED_SECONDS = 10.0
"""The pause where the server has no connection left: the migration needs the next one that gets free."""


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
            interruptible(stopping, lambda: wait_until_ready(settings, note, stopping.sleep))
        else:
            from migrator.inspection import look

            look(settings, note, stopping)
    ready = [event for event in seen if isinstance(event, DatabaseReady)]
    return ready[-1] if ready else DatabaseReady(time.monotonic() - begun, 1)


def wait_for_head(settings: Settings, report: Reporter, give_up: GiveUp | None = None) -> Status:
    """Return when every target is at head; needs no more than SELECT on the version table.

    Where the project is plain enough, its revisions and the place of its version table are read from its files;
    else ``env.py`` runs once to learn them. After that only the table is asked.

    :param give_up: see :class:`migrator.stopping.Stopping`.
    :raises NotAtHead: not within ``wait-timeout``; says where it is, and whether somebody migrates.
    :raises DatabaseUnreachable: it did not answer within that time.
    :raises HistoryError: the database is ahead, and that was not allowed.
    :raises AccessRefused: the user may not read the version table; says what to grant.
    """
    begun = time.monotonic()
    look: Look | None = DirectLook.of(settings, report)
    with Stopping(settings.deadline, give_up) as stopping:
        if look is None:
            from migrator.inspection import EnvironmentLook

            look = EnvironmentLook(settings, report, stopping)
        waiter = _Waiter(settings, report, stopping, look, begun)
        return interruptible(stopping, waiter.wait)


def satisfied(current: Status, settings: Settings) -> bool:
    """Every target is at head, or ahead where that was allowed.

    :raises HistoryError: a target is ahead, and that was not allowed.
    :raises ConfigurationError: this image has no revision at all, and that was not allowed.
    """
    for target in current.targets:
        if target.unknown and not settings.allow_ahead:
            raise database_ahead(target.unknown, target.heads)
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


class _Waiter:
    """One wait for head."""

    def __init__(
        self, settings: Settings, report: Reporter, stopping: Stopping, look: Look, begun: float
    ) -> None:
        self._settings = settings
        self._report = report
        self._stopping = stopping
        self._look = look
        self._begun = begun
        self._pause = POLL_SECONDS[0]
        self._told: tuple[str, float] | None = None
        self._last: Status | None = None
        self._polls = 0

    def wait(self) -> Status:
        """Poll until it is satisfied, or the time is over."""
        timeout = self._settings.wait_timeout
        self._stopping.sleep(min(timeout, random.uniform(0.0, FIRST_SECONDS)))
        while True:
            begun = self._waited
            missing = self._poll()
            if missing is None:
                assert self._last is not None
                return self._last
            waited = self._waited
            # One more look where the last one ended late: who migrates is asked only when the time is over.
            if waited >= timeout and (begun >= timeout or missing.reason):
                raise self._out_of_time(missing, waited)
            self._tell(missing, waited)
            self._stopping.sleep(max(0.0, min(timeout - waited, self._next_pause(missing))))

    @property
    def _waited(self) -> float:
        return time.monotonic() - self._begun

    def _poll(self) -> NotYet | None:
        """None: at head. Else why not, with an empty reason where the database answered."""
        self._polls += 1
        self._stopping.arm()
        try:
            self._last = self._look.read(holder=self._is_due(self._waited))
            if satisfied(self._last, self._settings):
                return None
        except EnvironmentNeeded:
            from migrator.inspection import EnvironmentLook

            known = (TargetKnown, DatabaseReady)
            self._look = EnvironmentLook(
                self._settings,
                lambda event: None if isinstance(event, known) else self._report(event),
                self._stopping,
            )
            return self._poll()
        except NotYet as reason:
            return reason
        except MigratorError as error:
            error.result = error.result or self._result()
            raise
        return NotYet("")

    def _next_pause(self, missing: NotYet) -> float:
        if missing.crowded:
            return CROWDED_SECONDS * random.uniform(0.5, 1.5)
        pause, self._pause = self._pause, min(self._pause * 2, POLL_SECONDS[1])
        return pause * random.uniform(0.5, 1.5)

    def _is_due(self, waited: float) -> bool:
        return (
            self._told is None
            or waited >= next_telling(self._told[1])
            or waited >= self._settings.wait_timeout
        )

    def _tell(self, missing: NotYet, waited: float) -> None:
        """Not each poll: what is new, and after 5, 15, 45 s, then each minute."""
        if not self._is_due(waited) and self._told is not None and self._told[0] == missing.reason:
            return
        self._told = (missing.reason, waited)
        at, wanted, pending = _position(self._last)
        holder = None if missing.reason else _holder(self._last)
        timeout = self._settings.wait_timeout
        self._report(HeadAwaited(at, wanted, pending, missing.reason, holder, waited, timeout))

    def _out_of_time(self, missing: NotYet, waited: float) -> MigratorError:
        if self._last is None:
            return unanswered(self._settings, missing.reason, waited, self._polls)
        at, wanted, _ = _position(self._last)
        details = [
            f"at {', '.join(at) or 'base'}, wanted {', '.join(wanted)}; waited {format_duration(waited)}"
        ]
        if missing.reason:
            details.append(f"at the last of {self._polls} polls: {missing.reason}")
        details += [
            "there is no version table yet, as far as this user can see"
            for target in self._last.targets
            if not target.version_table_exists
        ]
        holder = _holder(self._last)
        if holder is not None:
            details.append(
                f"pid {holder.pid} ({holder.application or 'no application name'}) holds the run lock"
            )
            next_step = (
                "A migration is running still: look at the log of the migration job; MIGRATOR_WAIT_TIMEOUT "
                "allows more time."
            )
        else:
            unknown = missing.reason or self._settings.lock == "none"
            running = "" if unknown else "Nobody migrates now. "
            next_step = (
                f"{running}Look at the migration job and its log: has it failed, or not been started? "
                "MIGRATOR_WAIT_TIMEOUT allows more time."
            )
        error = NotAtHead(
            f"the database is not at head after {format_duration(waited)}",
            details=details,
            next_step=next_step,
        )
        error.result = self._result()
        return error

    def _result(self) -> RunResult | None:
        """Where the database was when it was last read, for the report of the failure."""
        if self._last is None:
            return None
        targets = tuple(TargetResult(one.target, one.current, one.current) for one in self._last.targets)
        return RunResult("wait", "head", targets, self._waited)


def _position(status: Status | None) -> tuple[Revisions, Revisions, int]:
    """(at, wanted, how many are pending) of the targets that are not at head, or of all."""
    targets = status.targets if status is not None else ()
    behind = [target for target in targets if target.pending] or targets
    return (
        tuple(revision for target in behind for revision in target.current),
        tuple(dict.fromkeys(revision for target in behind for revision in target.heads)),
        sum(len(target.pending) for target in behind),
    )


def _holder(status: Status | None) -> LockHolder | None:
    targets = status.targets if status is not None else ()
    return next((target.lock_holder for target in targets if target.lock_holder is not None), None)
