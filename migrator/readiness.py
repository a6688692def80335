"""Asking a database until it answers: one attempt, and as many as the time allows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from migrator import urls
from migrator.container import about_localhost, kind_of_container
from migrator.database import NoAnswer, connection_error, on_new_connection, target_of
from migrator.dialects import Dialect, ErrorKind, RawConnection, ServerError, ServerFacts, dialect_named
from migrator.durations import format_duration
from migrator.errors import AccessRefused, ConfigurationError, DatabaseUnreachable, MigratorError
from migrator.events import DatabaseReady, Reporter, TargetKnown, WaitFailed

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from migrator.settings import Settings

Result = TypeVar("Result")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
"""Bounds of the jittered, doubling pause between attempts to connect."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A database that answered."""

    dialect: Dialect
    facts: ServerFacts


class NotYet(Exception):
    """One attempt failed for a reason that may pass.

    :ivar crowded: the server has no connection to give; asking again soon takes one from somebody else.
    """

    def __init__(self, reason: str, *, crowded: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.crowded = crowded


def wait_until_ready(
    settings: Settings, report: Reporter, sleep: Callable[[float], None], *, writable: bool = True
) -> Ready:
    """Connect to the configured database until it answers a query.

    :param writable: a standby that only reads counts as not ready (it may be promoted).
    :raises DatabaseUnreachable: not within ``wait-timeout``.
    :raises AccessRefused: the server will not let us in, after ``auth-grace``.
    :raises ConfigurationError: the driver cannot make sense of the URL.
    """
    database = settings.database
    if database is None:
        raise AssertionError("only called when a database is configured")
    dialect = dialect_named(database.url.get_backend_name(), without_lock=settings.lock == "none")
    dialect.refuse_url(database.url, database.source)
    urls.require_driver(urls.sync_url(database.url), database.source)
    begun = time.monotonic()
    attempts = 0
    told = False

    def tell(facts: ServerFacts | None = None) -> None:
        nonlocal told
        if not told:
            told = True
            report(TargetKnown(target_of(database, dialect, facts)))

    def attempt() -> Ready:
        nonlocal attempts
        attempts += 1
        try:
            now = settings.database or database
            facts = _first_answer(settings, now.url, dialect, now.source, begun)
        except (NotYet, MigratorError):
            tell()
            raise
        tell(facts)
        if writable and facts.read_only:
            raise NotYet("the server is a read-only standby")
        if writable and facts.read_only_by_setting:
            raise AccessRefused(
                "each transaction is read-only here: default_transaction_read_only is on",
                details=(f"for {facts.user} in {facts.database}, from {database.source}",),
                next_step=(
                    "Take it away where it was set (ALTER ROLE … or ALTER DATABASE … RESET "
                    "default_transaction_read_only; some providers set it when the disk is full). "
                    "Nothing was changed."
                ),
            )
        return Ready(dialect, facts)

    reason = ""
    try:
        try:
            ready = attempt()
        except NotYet as first:
            reason = first.reason
            ready = _again_and_again(attempt, first, settings.wait_timeout, begun, report, sleep)
    except NotYet as last:
        raise unanswered(settings, last.reason, settings.wait_timeout, attempts) from None
    report(DatabaseReady(time.monotonic() - begun, attempts, reason))
    return ready


def unanswered(settings: Settings, reason: str, seconds: float, tries: int) -> DatabaseUnreachable:
    """The error for a database that did not answer within ``seconds``.

    :param reason: why not, the last time.
    """
    database = settings.database
    where = f"{urls.describe(database.url)}: " if database is not None else ""
    source = database.source if database is not None else "env.py"
    about = about_localhost(database.url, reason, kind_of_container()) if database is not None else ()
    return DatabaseUnreachable(
        f"the database did not answer within {format_duration(seconds)} "
        f"({tries} {'try' if tries == 1 else 'tries'})",
        details=(f"{where}{reason}", *about),
        next_step=(
            f"Check that the server is up and that {source} names it; "
            "MIGRATOR_WAIT_TIMEOUT allows more time. Nothing was changed."
        ),
    )


def _again_and_again(
    attempt: Callable[[], Ready],
    first: NotYet,
    timeout_seconds: float,
    begun: float,
    report: Reporter,
    sleep: Callable[[float], None],
) -> Ready:
    # Imported only now: a database that answers at once, the usual case, does not pay for it.
    import tenacity

    def pauses(state: tenacity.RetryCallState) -> float:
        # At the longest pause, too: those that a restarting server has shut out together must not come back so.
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(state.attempt_number - 1, 20))
        return float(pause * random.uniform(0.5, 1.5))

    def announce(state: tenacity.RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        left = timeout_seconds - (time.monotonic() - begun)
        report(WaitFailed(str(failure or ""), state.attempt_number, pause, max(0.0, left)))

    handed_over = [first]

    def next_attempt() -> Ready:
        if handed_over:
            raise handed_over.pop()
        return attempt()

    def out_of_time(state: tenacity.RetryCallState) -> bool:
        return time.monotonic() - begun + state.upcoming_sleep > timeout_seconds

    retrying = tenacity.Retrying(
        wait=pauses,
        stop=out_of_time,
        retry=tenacity.retry_if_exception_type(NotYet),
        before_sleep=announce,
        sleep=sleep,
        reraise=True,
    )
    return retrying(next_attempt)


def _first_answer(settings: Settings, url: URL, dialect: Dialect, source: str, begun: float) -> ServerFacts:
    return ask(settings, url, dialect, source, begun, dialect.facts)


def ask(
    settings: Settings,
    url: URL,
    dialect: Dialect,
    source: str,
    begun: float,
    work: Callable[[RawConnection], Result],
) -> Result:
    """One attempt: ``work`` on a new connection to ``url``, closed afterwards, within ``connect-timeout``.

    :param source: the setting that the URL comes from.
    :param begun: the monotonic clock when the first attempt was made, for ``auth-grace``.
    :raises NotYet: not now, and perhaps later.
    :raises MigratorError: it is in vain to try again; or what ``work`` raised.
    """
    try:
        return on_new_connection(url, dialect, work, settings.connect_timeout)
    except NotYet:
        raise
    except NoAnswer:
        raise NotYet(f"nothing was answered within {format_duration(settings.connect_timeout)}") from None
    except MigratorError:
        raise
    except Exception as error:
        found = dialect.read_error(error)
        if found is None:
            raise ConfigurationError(
                "the database driver does not accept the URL",
                details=(f"{type(error).__name__}: {error}", f"from {source}"),
                next_step=f"Correct the value of {source}. Nothing was changed.",
            ) from error
        if found.kind is ErrorKind.CONNECTION_LOST and _takes_no_transaction(settings, url, dialect):
            found = ServerError(ErrorKind.POOLER, "a statement alone is answered, a transaction is not")
        graceful = found.kind is ErrorKind.REFUSED and time.monotonic() - begun < settings.auth_grace
        if graceful or found.kind.may_pass:
            crowded = found.kind is ErrorKind.TOO_MANY_CONNECTIONS
            raise NotYet(str(found), crowded=crowded) from error
        raise connection_error(found, urls.describe(url), source) from error


def _takes_no_transaction(settings: Settings, url: URL, dialect: Dialect) -> bool:
    """Whether a pooler in statement mode is what ended a connection, which psycopg2 cannot tell.

    It ends each connection that begins a transaction, so the reason shows only in the comparison.
    """

    def alone(raw: RawConnection) -> bool:
        raw.autocommit = True
        return dialect.session(raw).pooled

    def in_a_transaction(raw: RawConnection) -> bool:
        return dialect.session(raw).pooled

    def answered(work: Callable[[RawConnection], bool]) -> bool:
        try:
            return on_new_connection(url, dialect, work, settings.connect_timeout)
        except Exception:
            return False

    # Asked again afterwards, for the server may have come up in between.
    return answered(alone) and not answered(in_a_transaction) and answered(alone)
