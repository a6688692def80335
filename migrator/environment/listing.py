"""What Alembic's step objects and revision map say, in our own values; and what is wrong with a history."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator.environment.state import Run
from migrator.errors import ConfigurationError, HistoryError
from migrator.results import Direction, Pending, Step
from migrator.revisions import database_ahead

if TYPE_CHECKING:
    from alembic.script import Script, ScriptDirectory


def relative(path: str | Path) -> str:
    """``path`` relative to the working directory where it lies below it."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd().resolve()))
    except (ValueError, OSError):
        return os.fspath(path)


def describe_step(planned: Any) -> Step:
    """Alembic's RevisionStep or StampStep as a :class:`Step`."""
    if not hasattr(planned, "revision"):
        goal = ", ".join(planned.to_revisions) or "base"
        return Step(goal, "stamp", "", Direction.STAMP)
    script = planned.revision
    direction = Direction.UPGRADE if planned.is_upgrade else Direction.DOWNGRADE
    return Step(script.revision, message_of(script), relative(script.path), direction)


def message_of(script: Script) -> str:
    """First line of the revision's docstring."""
    return script.doc.strip().splitlines()[0] if script.doc.strip() else ""


def goal_of(script: ScriptDirectory, planned: Iterable[Any], current: Collection[str]) -> tuple[str, ...]:
    """The version rows that the steps lead to, for the announcement; verification asks Alembic afterwards."""
    heads = set(current)
    for step in planned:
        if not hasattr(step, "revision"):
            heads -= set(step.from_revisions)
            heads |= set(step.to_revisions)
        elif step.is_upgrade:
            heads -= set(step.revision._all_down_revisions)
            heads.add(step.revision.revision)
        else:
            heads.discard(step.revision.revision)
            kept = ancestors(script, heads)
            heads |= {parent for parent in step.revision._versioned_down_revisions if parent not in kept}
    return tuple(sorted(heads))


def ancestors(script: ScriptDirectory, revisions: Collection[str]) -> set[str]:
    """The given revisions and all that they build on, dependencies included; unknown ones are left out."""
    found: set[str] = set()
    waiting = list(revisions)
    known: Any = script.revision_map._revision_map
    while waiting:
        revision = known.get(waiting.pop())
        if revision is not None and revision.revision not in found:
            found.add(revision.revision)
            waiting.extend(revision._all_down_revisions)
    return found


def unknown_revisions(script: ScriptDirectory, current: Collection[str]) -> tuple[str, ...]:
    """Version rows that this image has no revision for."""
    known = script.revision_map._revision_map
    return tuple(sorted(revision for revision in current if revision not in known))


def pending(script: ScriptDirectory, current: Collection[str]) -> tuple[Pending, ...]:
    """The revisions between ``current`` and the heads, in the order in which they would run; nothing is imported.

    None where a row is unknown here: what it comes after, perhaps all of them, is not known either.
    """
    if unknown_revisions(script, current):
        return ()
    missing = list(script.iterate_revisions("heads", tuple(current), implicit_base=True))
    return tuple(Pending(s.revision, message_of(s), relative(s.path)) for s in reversed(missing))


def check_history(script: ScriptDirectory, current: Collection[str], run: Run) -> bool:
    """True: the database is ahead and that was allowed, so there is nothing to do.

    :raises HistoryError: the database is at a revision that this image does not have.
    :raises ConfigurationError: this image has no revision at all.
    """
    locations = ", ".join(relative(location) for location in script._version_locations)
    empty = not script.revision_map.heads
    unknown = unknown_revisions(script, current)
    if empty and current:
        raise HistoryError(
            f"the database is at {', '.join(sorted(current))}, and there is no revision in {locations}",
            details=("the folder is empty, not mounted, or was not copied into the image",),
            next_step="Put the revisions where script_location says, and run again. Nothing was changed.",
        )
    if unknown and run.command != "stamp":
        if run.settings.allow_ahead and run.command == "upgrade":
            return True
        raise database_ahead(unknown, script.revision_map.heads)
    if empty and not run.settings.allow_empty and run.command == "upgrade":
        raise ConfigurationError(
            f"there is no revision in {locations}",
            details=("a job without a single revision is nearly always a packaging mistake",),
            next_step=(
                "Copy the revisions into the image. In a new project, migrator revision --autogenerate --scratch -m "
                "first writes the first one, and MIGRATOR_ALLOW_EMPTY=yes accepts that there is none. "
                "Nothing was changed."
            ),
        )
    return False
