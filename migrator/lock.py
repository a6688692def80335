"""The run lock: taken, held and given back on the connection that migrates. Polled, bounded, never blocking.

Whoever runs DDL holds the lock, and losing the connection loses both. A waiter that *blocked* in the server
would deadlock with a holder that builds an index concurrently, and the holder would be the victim.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from migrator.dialects import Dialect, LockKey, RawConnection
from migrator.errors import LockLost, RunLockTimeout
from migrator.events import LockWaiting, Reporter
from migrator.results import LockHolder

POLL_SECONDS = (0.05, 0.5)
"""First and longest pause between two polls. After a holder died, a waiter enters within about a second."""

TELL_SECONDS = (5.0, 15.0, 45.0)
"""When a waiter speaks again; then each minute."""


def next_telling(told: float) -> float:
    """After how many seconds to speak again, having spoken at ``told`` seconds."""
    for seconds in TELL_SECONDS:
        if seconds > told:
            return seconds
    return told + 60.0


@dataclass(slots=True)
class RunLock:
    """The lock of one version table on one raw connection."""

    dialect: Dialect
    key: LockKey
    raw: RawConnection
    held: bool = False

    def try_take(self) -> bool:
        """Take it if it is free."""
        self.held = self.dialect.try_lock(self.raw, self.key)
        return self.held

    def check(self) -> None:
        """Raise :class:`LockLost` unless this session still holds the lock. Called before each commit."""
        if not self.dialect.still_locked(self.raw, self.key):
            self.held = False
            raise LockLost(
                "the run lock was lost while the connection lived",
                details=(f"something in this session gave it back: {self.dialect.gives_lock_back}",),
                next_step="Find what released it, in the revision or in env.py; then run again.",
            )

    def release(self) -> bool:
        """Give it back. False: it was not held any more."""
        if not self.held:
            return True
        released = self.dialect.unlock(self.raw, self.key)
        self.held = False  # not before: in a transaction that failed this has to be asked again
        return released

    def wait(
        self,
        timeout_seconds: float,
        *,
        end_transaction: Callable[[], None],
        report: Reporter,
        sleep: Callable[[float], None],
    ) -> float:
        """Poll until it is free; seconds waited.

        :param end_transaction: called after each poll, so that no transaction stays open while waiting.
        :raises RunLockTimeout: not free within ``timeout_seconds``; names the holder.
        """
        begun = time.monotonic()
        pause = POLL_SECONDS[0]
        holder: LockHolder | None = None
        asked = spoken = -1.0
        while True:
            taken = self.try_take()
            waited = time.monotonic() - begun
            if taken:
                end_transaction()
                return waited
            if asked < 0 or waited - asked >= 1.0:
                previous, holder, asked = holder, self.dialect.holder(self.raw, self.key), waited
                changed = (previous.pid if previous else None) != (holder.pid if holder else None)
                if spoken < 0 or changed or waited >= next_telling(spoken):
                    spoken = waited
                    report(LockWaiting(holder, waited, timeout_seconds))
            end_transaction()
            if waited >= timeout_seconds:
                raise locked_out(self.dialect, holder, waited)
            sleep(min(pause * random.uniform(0.7, 1.3), max(0.01, timeout_seconds - waited)))
            pause = min(pause * 2, POLL_SECONDS[1])


def locked_out(dialect: Dialect, holder: LockHolder | None, waited_seconds: float) -> RunLockTimeout:
    """The error for a lock that was not free in time."""
    from migrator.durations import format_duration

    if holder is None:
        who, remedy = "another run", ""
    else:
        who = f"pid {holder.pid} ({holder.application or 'no application name'})"
        remedy = (
            f" If that run is dead for certain, {dialect.ending(holder)} ends it; "
            "its open transaction rolls back."
        )
    details: tuple[str, ...] = ()
    if holder is not None and holder.statement:
        details = (f"{holder.state or 'last'}: {' '.join(holder.statement.split())[:160]}",)
    return RunLockTimeout(
        f"the run lock was not free within {format_duration(waited_seconds)}: held by {who}",
        details=details,
        next_step=(
            "Another run is at work: run again when it has ended, or allow more with MIGRATOR_RUN_LOCK_TIMEOUT."
            + remedy
        ),
    )
