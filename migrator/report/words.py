"""The words for values that more than one report uses. One function for each, all of them pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from migrator.durations import format_duration
from migrator.events import HeadAwaited, LockWaiting, Planned, RunAgain, StepRetried, StepRunning, WaitFailed
from migrator.report.safe import one_line, shortened, statement_words
from migrator.results import (
    PRODUCTS,
    Blocker,
    Direction,
    InvalidIndex,
    LockHolder,
    Outcome,
    Progress,
    Revisions,
    RunResult,
    Target,
    TargetResult,
)

SEPARATOR = " · "
RUNNING_STATEMENT_LIMIT = 60
NAMED_BLOCKERS = 3


def at(revisions: Revisions) -> str:
    """``at c41b77``, ``at a31f, b9c0``, ``at base``."""
    return f"at {names(revisions)}"


def names(revisions: Sequence[str]) -> str:
    """``a31f, b9c0``; ``base`` for none."""
    return ", ".join(one_line(revision) for revision in revisions) or "base"


def place(target: Target) -> str:
    """Where a database is: ``db.internal:5432/shop``."""
    named = target.database not in ("", target.address)
    return one_line(f"{target.address}/{target.database}" if named else target.address)


def target_words(target: Target) -> str:
    """``db.internal:5432/shop as shop_owner · PostgreSQL 17.2 · from MIGRATOR_DATABASE_URL_FILE``."""
    facts = [place(target) + (f" as {one_line(target.user)}" if target.user else "")]
    version = one_line(target.server_version)
    if version:
        facts.append(f"{PRODUCTS.get(target.dialect, target.dialect)} {version}")
    if target.source:
        facts.append(f"from {one_line(target.source)}")
    return SEPARATOR.join(facts)


def wait_failed_words(event: WaitFailed) -> str:
    """``not ready: the database system is starting up; try 2, next in 0.8 s, 52 s left``."""
    next_try = _next_try(event.attempt, event.next_seconds, event.left_seconds)
    return f"not ready: {one_line(event.reason)}; {next_try}"


def holder_words(holder: LockHolder | None) -> str:
    """``pid 4711 (shop-migrate-x7k2p: 9a0c12 for 3.2 s)``."""
    if holder is None:
        return "a run that cannot be seen from here"
    who = one_line(holder.application) or one_line(holder.user) or "unnamed"
    state = "" if holder.state in ("", "active") else f", {one_line(holder.state)}"
    since = f" for {format_duration(holder.since_seconds)}" if holder.since_seconds > 0 else ""
    return f"pid {holder.pid} ({who}{state}{since})"


def head_awaited_words(event: HeadAwaited) -> str:
    """``at 8f2e1a, wanted c41b77 (3 pending); pid 4711 (shop-migrate-x7k2p: 9a0c12) migrates; waited 45 s, …``."""
    if event.reason:
        where = f"not ready: {one_line(event.reason)}" + (
            f" (was {at(event.at)}, wanted {names(event.wanted)})" if event.at else ""
        )
    else:
        where = f"{at(event.at)}, wanted {names(event.wanted)} ({event.pending} pending)"
    facts = [where]
    if event.holder is not None:
        facts.append(f"{holder_words(event.holder)} migrates")
    facts.append(
        f"waited {format_duration(event.waited_seconds)}, at most {format_duration(event.at_most_seconds)}"
    )
    return "; ".join(facts)


def lock_waiting_words(event: LockWaiting) -> str:
    """``held by pid 4711 (shop-migrate-x7k2p: 9a0c12 for 3.2 s); waiting at most 10 m``."""
    limit = f"at most {format_duration(event.at_most_seconds)}" if isfinite(event.at_most_seconds) else "on"
    waiting = f"waiting {limit}"
    if event.waited_seconds >= 1:
        waiting = f"waited {format_duration(event.waited_seconds)}, {waiting}"
    statement = statement_words(event.holder.statement, RUNNING_STATEMENT_LIMIT) if event.holder else ""
    return f"held by {holder_words(event.holder)}; {waiting}" + (
        f"{SEPARATOR}it runs {statement}" if statement else ""
    )


def plan_words(event: Planned) -> str:
    """``3 pending: 8f2e1a → c41b77``, ``nothing to do: at c41b77``."""
    if not event.steps:
        return f"nothing to do: {at(event.before)}"
    what = {
        Direction.UPGRADE: "pending",
        Direction.DOWNGRADE: "to undo",
        Direction.STAMP: "to stamp, no migration is run",
    }[event.steps[0].direction]
    return f"{len(event.steps)} {what}: {names(event.before)} → {names(event.goal)}"


def running_words(event: StepRunning, width: int | None = None) -> str:
    """What a revision has been doing: ``running 45 s: CREATE INDEX … · building index, 37 % (…)``.

    :param width: shorten the statement so that all of it fits into so many characters, if that is possible.
    """
    activity = event.activity
    progress = f"{SEPARATOR}{progress_words(activity.progress)}" if activity.progress else ""
    if activity.blockers:
        blocked = format_duration(activity.statement_seconds or event.running_seconds)
        before, after = f"blocked {blocked} {blocker_words(activity.blockers)}", ""
        joint = SEPARATOR
    else:
        before, after = f"running {format_duration(event.running_seconds)}", progress
        joint = ": "
    limit = RUNNING_STATEMENT_LIMIT
    if width is not None:
        limit = min(limit, max(width - len(before) - len(joint) - len(after), 16))
    statement = statement_words(activity.statement, limit)
    return before + (joint + statement if statement else "") + after


def blocker_words(blockers: Sequence[Blocker]) -> str:
    """``on orders by pid 812 (psql, alice, idle in transaction for 14 m)``."""
    named = [_one_blocker(blocker) for blocker in blockers[:NAMED_BLOCKERS]]
    if len(blockers) > NAMED_BLOCKERS:
        named.append(f"{len(blockers) - NAMED_BLOCKERS} more")
    by = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    relation = next((one_line(blocker.relation) for blocker in blockers if blocker.relation), "")
    return f"on {relation} by {by}" if relation else f"by {by}"


def _one_blocker(blocker: Blocker) -> str:
    state = one_line(blocker.state)
    if blocker.since_seconds > 0:
        state = f"{state} for {format_duration(blocker.since_seconds)}".lstrip()
    who = ", ".join(part for part in (one_line(blocker.application), one_line(blocker.user), state) if part)
    return f"pid {blocker.pid} ({who})" if who else f"pid {blocker.pid}"


def progress_words(progress: Progress) -> str:
    """``building index, 37 % (12,402 of 33,519 blocks)``."""
    phase, unit = one_line(progress.phase), one_line(progress.unit)
    if progress.total > 0:
        # 100 % is said only when it is.
        percent = (
            100 if progress.done >= progress.total else min(round(100 * progress.done / progress.total), 99)
        )
        return f"{phase}, {percent} % ({progress.done:,} of {progress.total:,} {unit})"
    return f"{phase}, {progress.done:,} {unit}" if progress.done > 0 else phase


def retried_words(event: StepRetried) -> str:
    """``blocked 1.0 s on orders by pid 812 (…); try 3, next in 0.8 s, 1 m 52 s left``."""
    ran = format_duration(event.ran_seconds)
    what = (
        f"blocked {ran} {blocker_words(event.blockers)}"
        if event.blockers
        else f"{one_line(event.reason)} after {ran}"
    )
    return f"{what}; {_next_try(event.tried, event.next_seconds, event.left_seconds)}"


def run_again_words(event: RunAgain) -> str:
    """``env.py runs again in 0.8 s: tuple concurrently updated; 1 m 52 s left``."""
    again = f"env.py runs again in {format_duration(event.next_seconds)}: {one_line(event.reason)}"
    return f"{again}; {format_duration(event.left_seconds)} left" if isfinite(event.left_seconds) else again


def _next_try(tried: int, next_seconds: float, left_seconds: float) -> str:
    left = f", {format_duration(left_seconds)} left" if isfinite(left_seconds) else ""
    return f"try {tried}, next in {format_duration(next_seconds)}{left}"


def index_words(index: InvalidIndex) -> str:
    """``INVALID index ix_orders_placed_at on orders``."""
    return f"INVALID index {one_line(index.name)} on {one_line(index.table)}"


def done_words(result: RunResult) -> str:
    """``3 revisions in 54.6 s``, ``2 revisions undone in 0.4 s``, ``nothing to do``."""
    applied = result.applied
    if not applied:
        return "nothing to do"
    count = f"{len(applied)} revision{'s' if len(applied) > 1 else ''}"
    what = {
        Direction.UPGRADE: count,
        Direction.DOWNGRADE: f"{count} undone",
        Direction.STAMP: f"{count} stamped, no migration was run",
    }[applied[-1].step.direction]
    targets = sum(1 for target in result.targets if target.steps)
    return f"{what} in {format_duration(result.duration_seconds)}" + (
        f" on {targets} targets" if targets > 1 else ""
    )


def state_words(result: TargetResult, *, alone: bool) -> str:
    """What is true in a target after a failure: ``at 8f2e1a, read on a new connection · rolled back: …``.

    :param alone: the run had no other target; only then may nothing have been changed.
    """
    known = result.after is not None
    by_outcome: dict[Outcome, list[str]] = {}
    for step in result.steps:
        by_outcome.setdefault(step.outcome, []).append(step.step.revision)
    if result.after is not None:
        facts = [f"{at(result.after)}, read on a new connection"]
    else:
        facts = ["could not be read on a new connection"]
        if result.before is not None:
            facts[0] += f"; was {at(result.before)} when the run began"
    # Without a look at the database nobody knows how a COMMIT that was under way ended.
    labels = {
        Outcome.APPLIED: "applied" if known else "committed",
        Outcome.FAILED: "failed" if known else "not known whether undone",
        Outcome.ROLLED_BACK: "rolled back" if known else "not known whether undone",
        Outcome.NOT_TRIED: "not tried",
    }
    lists: dict[str, list[str]] = {}
    for outcome, label in labels.items():
        lists.setdefault(label, []).extend(by_outcome.get(outcome, ()))
    facts += [f"{label}: {names(revisions)}" for label, revisions in lists.items() if revisions]
    untouched = all(step.outcome is Outcome.NOT_TRIED and not step.autocommit for step in result.steps)
    if alone and untouched and known and result.after == result.before:
        facts.append("nothing was changed")
    return SEPARATOR.join(facts)


def step_message(message: str, limit: int = 48) -> str:
    """A revision's message on one line, its beginning where it is long."""
    return shortened(one_line(message), limit)
