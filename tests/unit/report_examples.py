"""The run, the second runner and the failures that the report's tests tell, built by hand."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TypeVar

from migrator.errors import HistoryError, LockUnusable, MigrationFailed, MigratorError
from migrator.events import (
    DatabaseReady,
    Event,
    HeadAwaited,
    InvalidIndexesFound,
    LockHeld,
    LockWaiting,
    Notice,
    Planned,
    RunAgain,
    StepFinished,
    StepRetried,
    StepRunning,
    StepStarted,
    TargetKnown,
    Verified,
    WaitFailed,
)
from migrator.results import (
    Activity,
    Blocker,
    Difference,
    GeneratedRevision,
    InvalidIndex,
    LockHolder,
    Outcome,
    Progress,
    RunResult,
    Statement,
    Step,
    StepResult,
    SuspectedRename,
    Target,
    TargetResult,
    WrittenRevision,
)

Failure = TypeVar("Failure", bound=MigratorError)

TARGET = Target(
    dialect="postgresql",
    address="db.internal:5432",
    database="shop",
    user="shop_owner",
    source="MIGRATOR_DATABASE_URL_FILE",
    server_version="17.2",
    version_table="public.alembic_version",
)
RENAME = SuspectedRename(
    "column",
    "orders",
    "placed",
    "placed_at",
    "similar names, both TIMESTAMP",
    ('op.alter_column("orders", "placed", new_column_name="placed_at")',),
    ('op.alter_column("orders", "placed_at", new_column_name="placed")',),
    rows=1204,
)
GENERATED = GeneratedRevision(
    (
        Difference("add_column", "added column orders.placed_at (TIMESTAMP)", "orders"),
        Difference("drop_column", "dropped column orders.placed", "orders", "deletes every value in it"),
    ),
    (RENAME,),
    (WrittenRevision("9a0c12", "migrations/versions/9a0c12_placed_at.py", ("8f2e1a",)),),
)
OTHER_TARGET = Target(
    dialect="postgresql",
    address="db.internal:5432",
    database="billing",
    user="shop_owner",
    source="env.py",
    server_version="17.2",
    version_table="public.alembic_version",
)

ADD = Step("9a0c12", "add orders.placed_at", "migrations/versions/9a0c12_add_placed_at.py")
BACKFILL = Step("b7730e", "backfill orders.placed_at", "migrations/versions/b7730e_backfill.py")
INDEX = Step("c41b77", "index orders.placed_at, concurrently", "migrations/versions/c41b77_index.py")
STEPS = (ADD, BACKFILL, INDEX)
DURATIONS = (0.04, 12.8, 41.2)

INVALID = InvalidIndex("ix_orders_placed_at", "orders")
HOLDER = LockHolder(4711, "shop-migrate-x7k2p: 9a0c12", user="shop_owner", since_seconds=3.2)
BLOCKER = Blocker(812, "psql", "alice", "idle in transaction", 840.0, relation="orders")
STATEMENT = "ALTER TABLE orders\n  ADD COLUMN placed_at timestamptz NOT NULL"

PLANNED = Planned(before=("8f2e1a",), goal=("c41b77",), steps=STEPS)
NOTHING = Planned(before=("c41b77",), goal=("c41b77",), steps=())
RETRIED = StepRetried(
    ADD,
    1,
    3,
    tried=3,
    reason="lock timeout",
    blockers=(BLOCKER,),
    ran_seconds=1.0,
    next_seconds=0.8,
    left_seconds=112.0,
)
BUILDING = StepRunning(
    INDEX,
    3,
    3,
    running_seconds=45.0,
    activity=Activity(
        statement="CREATE INDEX CONCURRENTLY ix_orders_placed_at ON orders (placed_at)",
        statement_seconds=44.9,
        progress=Progress("building index", 12_402, 33_519, "blocks"),
    ),
)


def finished_steps() -> tuple[StepFinished, ...]:
    return tuple(
        StepFinished(StepResult(step, Outcome.APPLIED, duration_seconds=seconds, tries=1), number, 3)
        for number, (step, seconds) in enumerate(zip(STEPS, DURATIONS, strict=True), start=1)
    )


def whole_run() -> list[Event]:
    return [
        TargetKnown(TARGET),
        DatabaseReady(2.1, 3, "the database system is starting up"),
        LockHeld(4711, 0.0),
        PLANNED,
        *finished_steps(),
        Verified(("c41b77",), TARGET),
    ]


def every_event() -> list[Event]:
    """At least one of each kind."""
    return [
        TargetKnown(TARGET),
        WaitFailed("the database system is starting up", 1, 0.8, 52.0),
        DatabaseReady(2.1, 3, "the database system is starting up"),
        HeadAwaited(("8f2e1a",), ("c41b77",), 3, "", HOLDER, 45.0, 300.0),
        HeadAwaited(("8f2e1a",), ("c41b77",), 3, "the database system is starting up", None, 60.0, 300.0),
        LockWaiting(HOLDER, 0.0, 600.0),
        LockHeld(4711, 51.3),
        RunAgain("tuple concurrently updated", 0.8, 112.0),
        InvalidIndexesFound((INVALID,), left_by_run=False),
        PLANNED,
        StepStarted(ADD, 1, 3, 1),
        RETRIED,
        BUILDING,
        *finished_steps(),
        Notice("pooler", "a pooler is in between"),
        Verified(("c41b77",), TARGET),
    ]


def applied_result() -> RunResult:
    steps = tuple(
        StepResult(step, Outcome.APPLIED, duration_seconds=seconds, tries=1)
        for step, seconds in zip(STEPS, DURATIONS, strict=True)
    )
    target = TargetResult(TARGET, ("8f2e1a",), ("c41b77",), steps, verified=True)
    return RunResult("upgrade", "head", (target,), 54.6)


def nothing_result() -> RunResult:
    return RunResult(
        "upgrade", "head", (TargetResult(TARGET, ("c41b77",), ("c41b77",), verified=True),), 51.5
    )


def failed_result(
    after: tuple[str, ...] | None = ("8f2e1a",),
    outcomes: Iterable[Outcome] = (Outcome.ROLLED_BACK, Outcome.NOT_TRIED, Outcome.NOT_TRIED),
    *,
    autocommit: bool = False,
    indexes: tuple[InvalidIndex, ...] = (),
) -> RunResult:
    """``autocommit``: the steps that were tried used it."""
    steps = tuple(
        StepResult(step, outcome, autocommit=autocommit and outcome is not Outcome.NOT_TRIED)
        for step, outcome in zip(STEPS, outcomes, strict=True)
    )
    target = TargetResult(TARGET, ("8f2e1a",), after, steps, invalid_indexes=indexes)
    return RunResult("upgrade", "head", (target,), 0.4)


def migration_failed(result: RunResult | None = None) -> MigrationFailed:
    error = MigrationFailed(
        "add orders.placed_at",
        details=('23502: column "placed_at" of relation "orders" contains null values',),
        next_step=(
            "The same image will fail again. Add the column nullable, fill it, then set NOT NULL "
            "(migrator explain not-null)."
        ),
        revision="9a0c12",
        file="migrations/versions/9a0c12_add_placed_at.py",
        line=14,
        statement=Statement(STATEMENT),
        sqlstate="23502",
    )
    error.result = result
    return error


def pooler_error() -> LockUnusable:
    return LockUnusable(
        "the lock cannot work here: a transaction pooler is between us and the server",
        details=("two connections to pgbouncer:6432 were served by the same backend (pid 2093)",),
        next_step=(
            "Give the direct address of the server as MIGRATOR_DIRECT_DATABASE_URL. Nothing was changed."
        ),
    )


def two_heads_error() -> HistoryError:
    return HistoryError(
        "two heads: a31f (migrations/versions/a31f_add_tax.py) and b9c0 (migrations/versions/b9c0_add_fee.py), "
        "both after 77de",
        next_step=(
            'migrator merge a31f b9c0 -m "merge tax and fee", commit the file, build again. Nothing was changed.'
        ),
    )


def raised(error: Failure) -> Failure:
    """``error`` with a traceback, and with a cause of its own."""
    try:
        try:
            raise KeyError("deep\x1b inside")
        except KeyError as cause:
            raise error from cause
    except type(error) as caught:
        return caught


class Terminal(io.StringIO):
    """A terminal that remembers what was written; :meth:`screen` shows what is on it."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> str:
        """The rows that a person sees: ``\\r\\x1b[2K`` erases the row."""
        return "\n".join(row.split("\r\x1b[2K")[-1] for row in self.getvalue().split("\n"))


class BrokenPipe(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError("nobody reads")
