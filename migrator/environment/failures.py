"""Turns whatever was raised into the error that a person reads: what, where, the server's words, what next."""

from __future__ import annotations

import traceback
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from migrator.database import lost
from migrator.dialects import ErrorKind, ServerError
from migrator.environment.advice import advice_for
from migrator.environment.listing import relative
from migrator.environment.namesake import advice_on_namesake
from migrator.environment.state import Run, StepRun, TargetRun
from migrator.errors import (
    AccessRefused,
    DatabaseUnreachable,
    HistoryError,
    LockTimeoutExhausted,
    MigrationFailed,
    MigratorError,
)
from migrator.redaction import without_secret_literals
from migrator.results import Blocker, Statement

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory


def describe_failure(
    error: BaseException,
    found: ServerError | None,
    step_run: StepRun | None,
    target: TargetRun | None,
    run: Run,
    blockers: tuple[Blocker, ...],
) -> MigratorError:
    """The error for ``error``, raised in a step or, with ``step_run`` None, around the steps."""
    if isinstance(error, MigratorError):
        return _placed(error, error, step_run)
    text = getattr(error, "statement", None)
    statement = Statement(without_secret_literals(str(text))) if text else None
    message = _step_message(step_run)
    nothing = "" if run.changed else " Nothing was changed."
    if found is None:
        failure: MigratorError = MigrationFailed(
            message or "env.py failed",
            details=(f"{type(error).__name__}: {_one_line(error)}",),
            next_step=_after_the_part(step_run, target) + _correct(error, step_run),
        )
        return _placed(failure, error, step_run)
    if found.kind is ErrorKind.CONNECTION_LOST:
        failure = lost(found)
        if step_run is not None and step_run.autocommit and target is not None:
            failure.next_step = target.dialect.after_a_part
    elif found.kind in (ErrorKind.LOCK_TIMEOUT, ErrorKind.DEADLOCK, ErrorKind.SERIALIZATION):
        failure = _lock_timeout(found, step_run, target, blockers, statement)
    elif found.kind is ErrorKind.DENIED:
        user = target.target.user if target else "the user"
        failure = AccessRefused(
            message or "permission was refused",
            details=(str(found), *found.further),
            statement=statement,
            sqlstate=found.sqlstate,
            next_step=f"Grant {user} what the statement needs, or run as the owner; then run again.{nothing}",
        )
    elif found.kind is ErrorKind.READ_ONLY:
        failure = DatabaseUnreachable(
            "the server became read-only during the run",
            details=(str(found),),
            sqlstate=found.sqlstate,
            next_step=f"A fail-over may be under way. Run the same command again.{nothing}",
        )
    elif found.kind in (ErrorKind.NOT_READY, ErrorKind.TOO_MANY_CONNECTIONS):
        failure = DatabaseUnreachable(
            "the server would not serve the run",
            details=(str(found),),
            sqlstate=found.sqlstate,
            next_step=f"Run the same command again.{nothing}",
        )
    elif found.kind is ErrorKind.ALREADY_EXISTS and target is not None and _nothing_recorded(target, run):
        failure = _no_version_table(found, target, statement)
    else:
        failure = MigrationFailed(
            message or "the migration failed",
            details=(str(found), *found.further),
            statement=statement,
            sqlstate=found.sqlstate or None,
            next_step=_advice(found, step_run, target),
        )
    return _placed(failure, error, step_run)


def unloadable(error: Exception, script: ScriptDirectory, run: Run) -> MigratorError:
    """The steps could not be listed: a revision that does not import, or a target that does not exist."""
    nothing = "" if run.changed else " Nothing was changed."
    place = place_in(error, [str(location) for location in script._version_locations])
    cause = error.__cause__ or error
    if type(error).__name__ == "CommandError" and place is None:
        known = [str(name) for name in script.revision_map._revision_map if name]
        said, details = no_such_revision(error, known) or _no_such_walk(error, run) or (_one_line(error), ())
        asked = () if run.revision in said else (f"asked for: {run.revision}",)
        return HistoryError(
            said,
            details=(*asked, *details),
            next_step=f"migrator history lists what this image has.{nothing}",
        )
    file, line = place or (None, None)
    if isinstance(cause, SyntaxError) and cause.filename:
        file, line = relative(cause.filename), cause.lineno
    return MigrationFailed(
        "a pending revision cannot be imported",
        details=(f"{type(cause).__name__}: {_one_line(cause)}",),
        file=file,
        line=line,
        next_step=f"The same image will fail again. {advice_on_namesake(cause) or 'Correct the file, build again.'}"
        f"{nothing}",
    )


def no_such_revision(error: BaseException, known: Collection[str]) -> tuple[str, tuple[str, ...]] | None:
    """(message, details) where Alembic could not find a revision among the ``known`` ids; else None.

    Alembic's own words ("identified by '…'") look like SQL with a password in it, and would be masked.
    """
    import difflib

    from alembic.script.revision import ResolutionError

    if not isinstance(error.__cause__, ResolutionError):
        return None
    asked = str(error.__cause__.argument)
    if "://" in asked:
        return "a URL was given in the place of a revision", ()
    begun = sorted(name for name in known if asked and name.startswith(asked))
    if len(begun) > 1:
        return f"several revisions begin with {asked}: {', '.join(begun)}", ()
    close = difflib.get_close_matches(asked, known, n=3)
    return f"there is no revision {asked}", (f"close to it: {', '.join(close)}",) if close else ()


def _no_such_walk(error: BaseException, run: Run) -> tuple[str, tuple[str, ...]] | None:
    """(message, details) where a relative revision leads nowhere, or to several; else None."""
    words = str(error)
    if "didn't produce" in words:
        return f"there are not that many revisions from where the database is: {run.revision}", ()
    if "Ambiguous walk" in words:
        return (
            f"{run.revision} leads to several revisions from where the database is",
            ("name the one to go to by its id",),
        )
    return None


def place_in(error: BaseException, folders: list[str]) -> tuple[str, int] | None:
    """(file, line) of the innermost frame whose file lies in one of ``folders``."""
    found = None
    current: BaseException | None = error
    while current is not None and found is None:
        found = _innermost(current.__traceback__, folders)
        current = current.__cause__ or current.__context__
    return found


def _innermost(trace: TracebackType | None, folders: list[str]) -> tuple[str, int] | None:
    found = None
    resolved = [str(Path(folder).resolve()) for folder in folders]
    for frame, line in traceback.walk_tb(trace):
        name = str(Path(frame.f_code.co_filename).resolve()) if frame.f_code.co_filename[:1] != "<" else ""
        if name and "site-packages" not in name and any(name.startswith(folder) for folder in resolved):
            found = (relative(name), line)
    return found


def _placed(failure: MigratorError, error: BaseException, step_run: StepRun | None) -> MigratorError:
    if step_run is None:
        return failure
    failure.revision = failure.revision or step_run.step.revision
    if failure.file is None and step_run.step.file:
        place = place_in(error, [step_run.step.file])
        failure.file, failure.line = place or (step_run.step.file, None)
    return failure


def _lock_timeout(
    found: ServerError,
    step_run: StepRun | None,
    target: TargetRun | None,
    blockers: tuple[Blocker, ...],
    statement: Statement | None,
) -> LockTimeoutExhausted:
    from migrator.durations import format_duration

    waited = tuple(
        f"blocked by pid {b.pid} ({b.application or 'no application name'}, {b.user}, "
        f"{b.state} for {format_duration(b.since_seconds)})" + (f" on {b.relation}" if b.relation else "")
        for b in blockers
    )
    if step_run is not None and step_run.autocommit and target is not None:
        next_step = target.dialect.after_a_part
    else:
        next_step = (
            "Run again when there is less traffic, end the session that blocks, "
            "or allow more with MIGRATOR_LOCK_RETRY_TIMEOUT."
        )
    tries = step_run.tries if step_run else 1
    return LockTimeoutExhausted(
        f"{_step_message(step_run) or 'the migration'}: {found.kind.value}, "
        + ("1 try" if tries == 1 else f"{tries} tries"),
        details=(str(found), *waited),
        statement=statement,
        sqlstate=found.sqlstate,
        next_step=next_step,
    )


def _no_version_table(found: ServerError, target: TargetRun, statement: Statement | None) -> HistoryError:
    table = target.target.version_table or "alembic_version"
    return HistoryError(
        "the database has tables already, and no revision is recorded in it",
        details=(
            str(found),
            f"{table} is missing or empty: they were made by something else (create_all()?)",
        ),
        statement=statement,
        sqlstate=found.sqlstate,
        next_step=(
            "Record the revision that the tables correspond to: migrator stamp REVISION "
            "(migrator sql shows what each one does; after migrator stamp head, migrator alembic check "
            "lists what differs from the models). Nothing was changed."
        ),
    )


def _advice(found: ServerError, step_run: StepRun | None, target: TargetRun | None) -> str:
    for index in target.invalid_before if target is not None else ():
        if found.kind is ErrorKind.ALREADY_EXISTS and f'"{index.name.split(".")[-1]}"' in found.message:
            return (
                f"DROP INDEX CONCURRENTLY {index.name}; (an earlier build of it failed and left it INVALID), "
                "then run the same command again (migrator explain concurrent-index)."
            )
    return _after_the_part(step_run, target) + advice_for(found)


def _correct(error: BaseException, step_run: StepRun | None) -> str:
    if step_run is None:
        return advice_on_namesake(error) or "Correct env.py, build again."
    return (
        f"The same image will fail again. {advice_on_namesake(error) or 'Correct the revision, build again.'}"
    )


def _after_the_part(step_run: StepRun | None, target: TargetRun | None) -> str:
    if step_run is None or not step_run.autocommit or target is None:
        return ""
    return f"{target.dialect.after_a_part} "


def _nothing_recorded(target: TargetRun, run: Run) -> bool:
    """No revision is in the database, and none was applied by this run, in this target or another."""
    return not target.before and len(run.targets) == 1 and not any(s.finished for s in target.steps.values())


def _step_message(step_run: StepRun | None) -> str:
    return (step_run.step.message or step_run.step.revision) if step_run else ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
