"""The lines of a run that people read, compared whole."""

from __future__ import annotations

import dataclasses
import io
import math
import threading
import typing

import pytest

from migrator.events import (
    DatabaseReady,
    Event,
    InvalidIndexesFound,
    LockHeld,
    LockWaiting,
    Notice,
    Planned,
    RunAgain,
    StepFinished,
    StepRunning,
    StepStarted,
    TargetKnown,
    Verified,
    WaitFailed,
)
from migrator.report.text import HANDLERS, TextReport
from migrator.results import (
    Activity,
    Blocker,
    Direction,
    LockHolder,
    Outcome,
    Progress,
    RunResult,
    Step,
    StepResult,
    TargetResult,
)
from tests.unit.report_examples import (
    ADD,
    BACKFILL,
    BLOCKER,
    BUILDING,
    HOLDER,
    INVALID,
    NOTHING,
    OTHER_TARGET,
    PLANNED,
    RETRIED,
    TARGET,
    applied_result,
    every_event,
    nothing_result,
    whole_run,
)


def told(*events: Event, verbose: bool = False, result: RunResult | None = None) -> str:
    stream = io.StringIO()
    report = TextReport(stream, colour=False, live=False, verbose=verbose)
    for event in events:
        report(event)
    if result:
        report.finished(result)
    return stream.getvalue()


def test_a_run_reads_as_one_fact_a_line() -> None:
    assert told(*whole_run(), result=applied_result()) == (
        "target    db.internal:5432/shop as shop_owner · PostgreSQL 17.2 · from MIGRATOR_DATABASE_URL_FILE\n"
        "wait      ready after 2.1 s (3 tries: the database system is starting up)\n"
        "lock      held (pid 4711)\n"
        "plan      3 pending: 8f2e1a → c41b77\n"
        "  1/3     9a0c12  add orders.placed_at                    0.04 s\n"
        "  2/3     b7730e  backfill orders.placed_at               12.8 s\n"
        "  3/3     c41b77  index orders.placed_at, concurrently    41.2 s\n"
        "verified  at c41b77, read on a new connection\n"
        "done      3 revisions in 54.6 s\n"
    )


def test_a_second_runner_says_whom_it_waits_for_and_then_that_nothing_is_left_to_do_once() -> None:
    text = told(LockWaiting(HOLDER, 0.0, 600.0), LockHeld(4719, 51.3), NOTHING, result=nothing_result())
    assert text == (
        "lock      held by pid 4711 (shop-migrate-x7k2p: 9a0c12 for 3.2 s); waiting at most 10 m\n"
        "lock      held (pid 4719) after 51.3 s\n"
        "plan      nothing to do: at c41b77\n"
    )


def test_a_run_that_had_nothing_to_do_says_so_even_if_no_plan_was_told() -> None:
    assert told(result=nothing_result()) == "done      nothing to do\n"


def test_every_kind_of_event_has_a_line_of_its_own() -> None:
    assert set(HANDLERS) == set(typing.get_args(Event)) == {type(event) for event in every_event()}
    for event in every_event():
        if not isinstance(event, StepStarted):
            assert told(event).endswith("\n"), event


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            WaitFailed("connection refused", 2, 0.8, 52.0),
            "wait      not ready: connection refused; try 2, next in 800 ms, 52 s left",
        ),
        (DatabaseReady(0.04, 1), "wait      ready after 0.04 s"),
        (
            TargetKnown(
                dataclasses.replace(TARGET, address="/var/run/postgresql", user="", server_version="")
            ),
            "target    /var/run/postgresql/shop · from MIGRATOR_DATABASE_URL_FILE",
        ),
        (
            TargetKnown(
                dataclasses.replace(TARGET, dialect="sqlite", address="shop.db", database="", source="env.py")
            ),
            "target    shop.db as shop_owner · SQLite 17.2 · from env.py",
        ),
        (
            LockWaiting(None, 0.0, 600.0),
            "lock      held by a run that cannot be seen from here; waiting at most 10 m",
        ),
        (
            LockWaiting(
                LockHolder(7, "", user="bob", state="idle in transaction", since_seconds=3.2), 15.0, 600.0
            ),
            "lock      held by pid 7 (bob, idle in transaction for 3.2 s); waited 15 s, waiting at most 10 m",
        ),
        (
            LockWaiting(LockHolder(7, "", state="active", statement="UPDATE\n orders"), 0.0, math.inf),
            "lock      held by pid 7 (unnamed); waiting on · it runs UPDATE orders",
        ),
        (LockHeld(4711, 2.1), "lock      held (pid 4711) after 2.1 s"),
        (Planned((), ("a31f", "b9c0"), (ADD,)), "plan      1 pending: base → a31f, b9c0"),
        (
            Planned(("9a0c12",), (), (dataclasses.replace(ADD, direction=Direction.DOWNGRADE),)),
            "plan      1 to undo: 9a0c12 → base",
        ),
        (
            Planned((), ("9a0c12",), (dataclasses.replace(ADD, direction=Direction.STAMP),)),
            "plan      1 to stamp, no migration is run: base → 9a0c12",
        ),
        (
            StepRunning(
                BACKFILL,
                2,
                3,
                15.0,
                Activity("UPDATE orders SET placed_at = created_at WHERE placed_at IS NULL AND x"),
            ),
            "  2/3     b7730e  running 15 s: UPDATE orders SET placed_at = created_at WHERE placed_at IS…",
        ),
        (StepRunning(BACKFILL, 2, 3, 15.0, Activity()), "  2/3     b7730e  running 15 s"),
        (
            BUILDING,
            (
                "  3/3     c41b77  running 45 s: CREATE INDEX CONCURRENTLY ix_orders_placed_at ON orders (pl…"
                " · building index, 37 % (12,402 of 33,519 blocks)"
            ),
        ),
        (
            StepRunning(
                BACKFILL,
                2,
                3,
                15.0,
                Activity("VACUUM", progress=Progress("scanning heap", 1_234, 0, "blocks")),
            ),
            "  2/3     b7730e  running 15 s: VACUUM · scanning heap, 1,234 blocks",
        ),
        (
            StepRunning(BACKFILL, 2, 3, 15.0, Activity("VACUUM", progress=Progress("initializing"))),
            "  2/3     b7730e  running 15 s: VACUUM · initializing",
        ),
        (
            StepRunning(BACKFILL, 2, 3, 15.0, Activity("VACUUM", progress=Progress("p", 12, 10, "tuples"))),
            "  2/3     b7730e  running 15 s: VACUUM · p, 100 % (12 of 10 tuples)",
        ),
        (
            StepRunning(ADD, 1, 3, 45.0, Activity("ALTER TABLE orders", 15.0, (BLOCKER,))),
            (
                "  1/3     9a0c12  blocked 15 s on orders by pid 812 (psql, alice, idle in transaction for 14 m)"
                " · ALTER TABLE orders"
            ),
        ),
        (
            RETRIED,
            (
                "  1/3     9a0c12  blocked 1 s on orders by pid 812 (psql, alice, idle in transaction for 14 m);"
                " try 3, next in 800 ms, 1 m 52 s left"
            ),
        ),
        (
            dataclasses.replace(RETRIED, reason="deadlock detected", blockers=(), left_seconds=math.inf),
            "  1/3     9a0c12  deadlock detected after 1 s; try 3, next in 800 ms",
        ),
        (
            dataclasses.replace(
                RETRIED, blockers=tuple(Blocker(n, "", "", "", 0.0) for n in (1, 2, 3, 4, 5))
            ),
            "  1/3     9a0c12  blocked 1 s by pid 1, pid 2, pid 3 and 2 more; try 3, next in 800 ms, 1 m 52 s left",
        ),
        (
            RunAgain("tuple concurrently updated", 0.8, 112.0),
            "again     env.py runs again in 800 ms: tuple concurrently updated; 1 m 52 s left",
        ),
        (
            StepFinished(StepResult(ADD, Outcome.APPLIED, 12.8, tries=5), 98, 100),
            "   98/100 9a0c12  add orders.placed_at    12.8 s  (5 tries)",
        ),
        (
            StepFinished(StepResult(ADD, Outcome.ROLLED_BACK, 12.8, tries=1), 999, 1000),
            "   999/1000 9a0c12  add orders.placed_at    12.8 s  rolled back",
        ),
        (Verified((), TARGET), "verified  at base, read on a new connection"),
        (Notice("pooler", "a pooler\nin between"), "pooler    a pooler\n          in between"),
        (
            InvalidIndexesFound((INVALID,), left_by_run=False),
            "invalid   INVALID index ix_orders_placed_at on orders, there before this run",
        ),
        (
            InvalidIndexesFound((INVALID,), left_by_run=True),
            "invalid   INVALID index ix_orders_placed_at on orders, left by this run",
        ),
    ],
)
def test_an_event_reads(event: Event, line: str) -> None:
    assert told(event) == line + "\n"


def test_durations_stand_below_each_other_whatever_the_messages_are() -> None:
    long = Step("2024_11_02_split", "x" * 60, "long.py")
    wide = Step("3f", "注文に列を足す", "wide.py")
    text = told(
        Planned((), ("3f",), (long, wide)),
        StepFinished(StepResult(long, Outcome.APPLIED, 12.8, tries=1), 1, 2),
        StepFinished(StepResult(wide, Outcome.APPLIED, 0.04, tries=1), 2, 2),
    )
    assert text.splitlines()[1:] == [
        f"  1/2     2024_11_02_split  {'x' * 47}…    12.8 s",
        f"  2/2     3f                注文に列を足す{' ' * 34}    0.04 s",
    ]


def test_a_step_without_a_plan_is_still_told() -> None:
    finished = StepFinished(StepResult(ADD, Outcome.APPLIED, 12.8, tries=1), 1, 1)
    assert told(finished) == "  1/1     9a0c12  add orders.placed_at    12.8 s\n"


def test_the_same_target_is_told_once_and_a_second_one_makes_the_verdicts_name_theirs() -> None:
    text = told(
        TargetKnown(TARGET),
        TargetKnown(TARGET),
        Verified(("c41b77",), TARGET),
        TargetKnown(OTHER_TARGET),
        Verified(("77de",), OTHER_TARGET),
    )
    assert text.splitlines() == [
        "target    db.internal:5432/shop as shop_owner · PostgreSQL 17.2 · from MIGRATOR_DATABASE_URL_FILE",
        "verified  at c41b77, read on a new connection",
        "target    db.internal:5432/billing as shop_owner · PostgreSQL 17.2 · from env.py",
        (
            "verified  at 77de, read on a new connection · db.internal:5432/billing as shop_owner · PostgreSQL 17.2"
            " · from env.py"
        ),
    ]


def test_beginnings_of_steps_are_told_only_to_the_verbose() -> None:
    events = [StepStarted(ADD, 1, 3, 1), StepStarted(ADD, 1, 3, 2)]
    assert told(*events) == ""
    assert told(*events, verbose=True) == "  1/3     9a0c12  begun\n  1/3     9a0c12  begun, try 2\n"


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        (Direction.UPGRADE, "1 revision in 54.6 s"),
        (Direction.DOWNGRADE, "1 revision undone in 54.6 s"),
        (Direction.STAMP, "1 revision stamped, no migration was run in 54.6 s"),
    ],
)
def test_the_last_line_says_what_was_done(direction: Direction, words: str) -> None:
    step = StepResult(dataclasses.replace(ADD, direction=direction), Outcome.APPLIED, 0.04, tries=1)
    result = RunResult("x", "head", (TargetResult(TARGET, (), ("9a0c12",), (step,), verified=True),), 54.6)
    assert told(result=result) == f"done      {words}\n"


def test_the_last_line_of_a_run_over_several_targets_counts_them() -> None:
    step = StepResult(ADD, Outcome.APPLIED, 0.04, tries=1)
    targets = tuple(TargetResult(t, (), ("9a0c12",), (step,), verified=True) for t in (TARGET, OTHER_TARGET))
    assert (
        told(result=RunResult("upgrade", "head", targets, 54.6))
        == "done      2 revisions in 54.6 s on 2 targets\n"
    )


def test_an_invalid_index_is_told_at_the_end_unless_it_was_told_before() -> None:
    result = dataclasses.replace(
        nothing_result(),
        targets=(dataclasses.replace(nothing_result().targets[0], invalid_indexes=(INVALID,)),),
    )
    line = "invalid   INVALID index ix_orders_placed_at on orders"
    assert told(NOTHING, result=result).splitlines() == ["plan      nothing to do: at c41b77", line]
    assert (
        told(InvalidIndexesFound((INVALID,), left_by_run=False), NOTHING, result=result).count("INVALID") == 1
    )


def test_names_and_messages_cannot_write_lines_or_move_the_cursor() -> None:
    nasty = Step("9a\x1b[2J", "add\r\n\nfailed    nothing\x07\u202e", "x.py")
    text = told(
        Planned((), ("9a\x1b[2J",), (nasty,)),
        StepFinished(StepResult(nasty, Outcome.APPLIED, 12.8, tries=1), 1, 1),
        LockWaiting(LockHolder(1, "a\x1b]0;title\x07\nb"), 0.0, 600.0),
        Notice("no\ntice", "\x1b[31mred\n\n::error::not a command ##[error]neither\n\ttab"),
        WaitFailed("FATAL:  no\nDETAIL:  more\udc80", 1, 0.8, 52.0),
    )
    assert text == (
        "plan      1 pending: base → 9a\\x1b[2J\n"
        "  1/1     9a\\x1b[2J  add failed nothing\\x07\\u202e    12.8 s\n"
        "lock      held by pid 1 (a\\x1b]0;title\\x07 b); waiting at most 10 m\n"
        "no tice   \\x1b[31mred\n"
        "          : :error::not a command ## [error]neither\n"
        "              tab\n"
        "wait      not ready: FATAL: no DETAIL: more\\udc80; try 1, next in 800 ms, 52 s left\n"
    )


def test_lines_of_two_threads_do_not_mix() -> None:
    stream = io.StringIO()
    report = TextReport(stream, colour=False, live=False)
    report(PLANNED)

    def tell() -> None:
        for _ in range(200):
            report(BUILDING)

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()[1:]
    assert len(lines) == 800
    assert len(set(lines)) == 1
