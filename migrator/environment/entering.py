"""What an exception out of ``env.py`` means, where no step has already been blamed for it."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.util import CommandError

from migrator.database import connection_error
from migrator.dialects import ErrorKind, ServerError, dialect_named, known
from migrator.drivers import DRIVERS
from migrator.environment.failures import no_such_revision, place_in
from migrator.environment.listing import relative
from migrator.environment.state import Again, Run, RunAgain
from migrator.errors import AccessRefused, ConfigurationError, HistoryError, MigrationFailed, MigratorError

RACES = (ErrorKind.CATALOG_RACE, ErrorKind.SERIALIZATION, ErrorKind.DEADLOCK, ErrorKind.LOCK_TIMEOUT)
"""Before the lock is held, other runners do the same at the same moment: ``CREATE SCHEMA IF NOT EXISTS`` from
three of them fails with a duplicate key in a catalog index. Running ``env.py`` again settles it."""


def classify(error: BaseException, run: Run, config: Config) -> None:
    """Set ``run.again`` or ``run.failure`` for what ``env.py`` raised."""
    if isinstance(error, RunAgain):
        run.again = error
        return
    if isinstance(error, MigratorError):
        run.fail(error, error)
        return
    found = _server_error(error)
    failure = translate(error, config, changed=run.changed)
    if found is not None and found.kind in RACES:
        run.again = RunAgain(Again.CONTENTION, str(found), failure)
    elif found is not None and found.kind.may_pass and not run.changed:
        run.again = RunAgain(Again.UNREACHABLE, str(found), failure)
    else:
        run.fail(failure, error)


def translate(error: BaseException, config: Config, *, changed: bool = False) -> MigratorError:
    """The error for what ``env.py``, Alembic or a revision raised outside a step of ours.

    :param changed: migrations have run, so "nothing was changed" would be a lie.
    """
    found = _server_error(error)
    if found is not None and (found.kind.may_pass or found.kind is ErrorKind.REFUSED):
        failure = connection_error(found, "env.py connects by itself", "env.py or the settings that it reads")
        if changed:
            failure.next_step = failure.next_step.removesuffix(" Nothing was changed.")
        return failure
    missing = _missing_driver(error)
    if missing is not None:
        return missing
    file, line = _place(error, config)
    nothing = "" if changed else " Nothing was changed."
    if found is not None and found.kind is ErrorKind.DENIED:
        return AccessRefused(
            "a statement of env.py's was refused",
            details=(str(found), *found.further),
            file=file,
            line=line,
            sqlstate=found.sqlstate,
            next_step=f"Grant what the statement needs, or run as the owner; then run again.{nothing}",
        )
    if isinstance(error, CommandError):
        said, details = no_such_revision(error, ()) or (_one_line(error), ())
        return HistoryError(
            said,
            details=details,
            file=file,
            line=line,
            next_step=f"migrator history lists what there is.{nothing}",
        )
    if isinstance(error, SystemExit):
        message, detail = f"env.py called sys.exit({error.code!r})", ""
    elif isinstance(error, SyntaxError):
        message, detail = f"{file or 'env.py'} has a syntax error", _one_line(error)
    else:
        message = "env.py failed after migrations had run" if changed else f"{file or 'env.py'} failed"
        detail = f"{type(error).__name__}: {_one_line(error)}"
    kind = MigrationFailed if changed else ConfigurationError
    return kind(
        message,
        details=(detail,) if detail else (),
        file=file,
        line=line,
        next_step=f"Correct it, or the settings that it reads; --verbose shows the traceback.{nothing}",
    )


def _server_error(error: BaseException) -> ServerError | None:
    for name in known():
        found = dialect_named(name).read_error(error)
        if found is not None:
            return found
    return None


def _place(error: BaseException, config: Config) -> tuple[str | None, int | None]:
    """The innermost line of the project's own code, not of what is installed."""
    if isinstance(error, SyntaxError) and error.filename:
        return relative(error.filename), error.lineno
    roots = [str(Path.cwd()), config.get_main_option("script_location") or "."]
    if config.config_file_name:
        roots.append(str(Path(config.config_file_name).resolve().parent))
    place = place_in(error, roots)
    return place if place is not None else (None, None)


def _missing_driver(error: BaseException) -> MigratorError | None:
    """A driver that is not installed or not known, named with the extra that brings it."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        name = error.name.partition(".")[0]
        needing = [driver for driver in DRIVERS.values() if name in driver.modules and driver.package]
        if needing:
            # A scheme without a driver takes one of several modules: its package may not be this one.
            package = min(needing, key=lambda driver: len(driver.modules)).package
            return ConfigurationError(
                f"the database driver {name} is not installed",
                details=("env.py asks for it",),
                next_step=f'pip install "{package}" brings it. Nothing was changed.',
            )
    if type(error).__name__ == "NoSuchModuleError":
        return ConfigurationError(
            "the database URL that env.py uses names an unknown driver",
            details=(_one_line(error),),
            next_step="Correct the part of the URL before ://. Nothing was changed.",
        )
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
