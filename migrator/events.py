"""What happens during a run, as values. Every report is made of these and of the result, of nothing else.

A reporter is any callable that takes an event. It is called from the thread that runs the migration and
from the thread that watches it, and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from migrator.results import (
    Activity,
    Blocker,
    InvalidIndex,
    LockHolder,
    Revisions,
    Step,
    StepResult,
    Target,
)


@dataclass(frozen=True, slots=True)
class TargetKnown:
    """The database that the run is about was settled."""

    target: Target


@dataclass(frozen=True, slots=True)
class WaitFailed:
    """One attempt to reach the database failed for a reason that may pass."""

    reason: str
    attempt: int
    next_seconds: float
    left_seconds: float


@dataclass(frozen=True, slots=True)
class DatabaseReady:
    """The database answered a query. ``last_reason``: why the attempt before failed, if one did."""

    waited_seconds: float
    attempts: int
    last_reason: str = ""


@dataclass(frozen=True, slots=True)
class HeadAwaited:
    """The database is not at head yet. Told at first, when the reason changes, and at growing intervals.

    :ivar reason: why it is not known where the database is now; empty: ``at`` has just been read.
    :ivar pending: how many revisions of this image are missing.
    :ivar holder: of the run lock, if somebody migrates.
    """

    at: Revisions
    wanted: Revisions
    pending: int
    reason: str
    holder: LockHolder | None
    waited_seconds: float
    at_most_seconds: float


@dataclass(frozen=True, slots=True)
class LockWaiting:
    """The run lock is held by another run (told when it begins, when the holder changes, and at growing intervals)."""

    holder: LockHolder | None
    waited_seconds: float
    at_most_seconds: float


@dataclass(frozen=True, slots=True)
class LockHeld:
    """This run holds the lock on the connection with backend ``pid``."""

    pid: int
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class Planned:
    """The steps were listed, under the lock. ``goal``: the version rows that they lead to."""

    before: Revisions
    goal: Revisions
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A try of a revision begins. ``number`` counts from 1 to ``total``, ``tried`` from 1."""

    step: Step
    number: int
    total: int
    tried: int


@dataclass(frozen=True, slots=True)
class StepRunning:
    """A revision has been running for a while. ``live``: only for a line that is drawn over."""

    step: Step
    number: int
    total: int
    running_seconds: float
    activity: Activity
    live: bool = False


@dataclass(frozen=True, slots=True)
class StepRetried:
    """A try ran into a lock timeout or a deadlock and was rolled back; the revision will be tried again."""

    step: Step
    number: int
    total: int
    tried: int
    reason: str
    blockers: tuple[Blocker, ...]
    ran_seconds: float
    next_seconds: float
    left_seconds: float


@dataclass(frozen=True, slots=True)
class RunAgain:
    """``env.py`` as a whole will be run again; ``reason`` says why."""

    reason: str
    next_seconds: float
    left_seconds: float


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A revision ran to its end and, where it has a transaction of its own, was committed."""

    result: StepResult
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class Verified:
    """A new connection read exactly the version rows that were to be reached."""

    at: Revisions
    target: Target


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person should know and that is no failure. ``label``: the first column."""

    label: str
    message: str


@dataclass(frozen=True, slots=True)
class InvalidIndexesFound:
    """INVALID indexes in the database, before (``left_by_run`` false) or after this run."""

    indexes: tuple[InvalidIndex, ...]
    left_by_run: bool


Event = (
    TargetKnown
    | WaitFailed
    | DatabaseReady
    | HeadAwaited
    | LockWaiting
    | LockHeld
    | Planned
    | StepStarted
    | StepRunning
    | StepRetried
    | RunAgain
    | StepFinished
    | Verified
    | Notice
    | InvalidIndexesFound
)

Reporter = Callable[[Event], None]


def silent(_event: Event) -> None:
    """The reporter that reports nothing."""
