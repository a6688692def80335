"""A disposable database at head, and settings that know of no other: what ``--scratch`` works on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from migrator import environment, redirected
from migrator.disposable import Disposable, disposable_database
from migrator.durations import format_duration
from migrator.environment import LearnSecret
from migrator.errors import ConfigurationError, DeadlineExceeded, Interrupted, MigratorError, Terminated
from migrator.events import (
    Event,
    InvalidIndexesFound,
    Notice,
    Reporter,
    RunAgain,
    StepRetried,
    StepRunning,
    WaitFailed,
)
from migrator.exported import exported, variables
from migrator.job import Order, run_within
from migrator.preflight import check_before_connecting
from migrator.results import Revisions, RunResult
from migrator.settings import Settings
from migrator.stopping import Stopping, StopRequested
from migrator.watch import Watch


@dataclass(frozen=True, slots=True)
class Stopover:
    """Where to look on the way to head.

    :ivar revisions: the database has been brought to each of them; none: it is empty.
    """

    revisions: Revisions
    look: Callable[[Settings], None]


_TOLD = (WaitFailed, StepRetried, StepRunning, RunAgain, InvalidIndexesFound)
"""Events of the run on the scratch database that are told; its plan and steps are nobody's concern."""


@contextlib.contextmanager
def scratch_at_head(
    settings: Settings,
    report: Reporter,
    stopping: Stopping,
    learn_secret: LearnSecret | None,
    stopover: Stopover | None = None,
) -> Iterator[Settings]:
    """Settings for a disposable database that the project's own revisions have brought to every head.

    While the block lasts, the process's variables and these settings name no other database. The database is
    thrown away at the end, after errors and signals as well.

    :raises MigratorError: it cannot be made; or what :func:`migrator.job.run` raises.
    """
    check_before_connecting(settings, "upgrade", "heads")
    known = _known_scheme(settings)
    scheme = known or "postgresql"
    stopping.check()
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(environment.turn(stopping.check))
        # The disposable database is where its URL says, whatever libpq's variables are.
        cleanup.enter_context(exported(dict.fromkeys((*redirected.LIBPQ, *redirected.LIBPQ_PLACES))))
        made = cleanup.enter_context(
            _unhurried(
                disposable_database(redirected.family(scheme), settings, report, stopping.sleep), stopping
            )
        )
        if learn_secret is not None and made.url.password:
            learn_secret(str(made.url.password), never=[name for name in (made.url.username,) if name])
        scratch = _settings_for(made, scheme, settings)
        cleanup.enter_context(environment.alone(scratch, stopping.check))
        try:
            _upgrade(scratch, report, stopping, learn_secret, stopover)
            stopping.rearm()
            yield scratch
        except MigratorError as error:
            error.result = None  # it tells of a database that is about to be gone
            if not known and isinstance(error, ConfigurationError):
                error.details = (*error.details, _TAKEN_FOR_POSTGRESQL)
            if isinstance(error, (Terminated, Interrupted, DeadlineExceeded)):
                error.next_step = "Run the same command again; the disposable database is gone."
            raise
        finally:
            _disarmed(stopping)


def _known_scheme(settings: Settings) -> str | None:
    """The scheme of the URLs that the project is made for, as far as can be known before it runs."""
    if settings.database is not None:
        return settings.database.for_project.partition("://")[0]
    return environment.project_scheme(environment.alembic_config(settings, ["heads"]))


_TAKEN_FOR_POSTGRESQL = (
    "no database is configured, so the project was taken for one on PostgreSQL; if it is for another kind, set "
    "MIGRATOR_DATABASE_URL to a URL of that kind (sqlite:///shop.db, mysql://shop@localhost/shop)"
)


def _settings_for(made: Disposable, scheme: str, settings: Settings) -> Settings:
    known = {**_dotenv(settings), **variables()}
    own = scheme if "+" in scheme else made.url.drivername
    return settings.on_disposable_database(
        redirected.with_scheme(made.url, own),
        made.source,
        redirected.redirected(known, made.url, settings.export_url_as, own_server=made.own_server),
        tuple(redirected.moved_argument(argument, made.url) for argument in settings.x),
    )


def _dotenv(settings: Settings) -> dict[str, str]:
    """What projects read from files, for a variable comes before the file with pydantic, decouple and dotenv."""
    from dotenv import dotenv_values

    found: dict[str, str] = {}
    for file in (".env", *([f".env.{settings.env}"] if settings.env else [])):
        if Path(file).is_file():
            with contextlib.suppress(OSError, UnicodeDecodeError):
                values = dotenv_values(file)
                found |= {name: value for name, value in values.items() if value is not None}
    return found


def run_quietly(
    order: Order,
    settings: Settings,
    report: Reporter,
    stopping: Stopping,
    learn_secret: LearnSecret | None,
) -> RunResult:
    """A run on the disposable database. A stop is only noted afterwards: rearm ``stopping``.

    :raises MigratorError: as :func:`migrator.job.run`.
    """

    def tell(event: Event) -> None:
        if settings.verbose or isinstance(event, _TOLD):
            report(event)

    with Watch(tell, first_look_seconds=5.0, live=False) as watch:
        return run_within(order, settings, tell, stopping, watch, learn_secret=learn_secret)


def _upgrade(
    settings: Settings,
    report: Reporter,
    stopping: Stopping,
    learn_secret: LearnSecret | None,
    stopover: Stopover | None,
) -> None:
    earlier: list[RunResult] = []
    for revision in stopover.revisions if stopover else ():
        earlier.append(run_quietly(Order.upgrade(revision), settings, report, stopping, learn_secret))
        stopping.rearm()
    if stopover:
        stopover.look(settings)
    result = run_quietly(Order.upgrade("heads"), settings, report, stopping, learn_secret)
    if len({(target.target.address, target.target.database) for target in result.targets}) > 1:
        raise ConfigurationError(
            "env.py migrates several databases, and a scratch run serves one",
            next_step="Choose one with -x or -n, as env.py allows. Nothing was changed.",
        )
    at = sorted({revision for target in result.targets for revision in target.after or ()})
    count = sum(len(one.applied) for one in (*earlier, result))
    duration = format_duration(sum(one.duration_seconds for one in (*earlier, result)))
    revisions = f"{count} revision{'' if count == 1 else 's'} in {duration}"
    report(Notice("scratch", f"at {', '.join(at) or 'base'}: {revisions}, verified"))


@contextlib.contextmanager
def _unhurried(
    database: contextlib.AbstractContextManager[Disposable], stopping: Stopping
) -> Iterator[Disposable]:
    """Nothing interrupts the making of the database, which waits for nothing but servers, nor its end."""
    _disarmed(stopping)
    with database as made:
        stopping.arm()
        try:
            stopping.check()
            yield made
        finally:
            _disarmed(stopping)


def _disarmed(stopping: Stopping) -> None:
    """From here on a signal is only noted; one that comes at this very moment is noted as well."""
    while True:
        try:
            stopping.disarm()
            return
        except StopRequested:
            continue
