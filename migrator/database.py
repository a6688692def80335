"""Reaching a database: bounded attempts, waiting until it answers, and connections beside the project's own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from migrator import urls
from migrator.dialects import Dialect, ErrorKind, RawConnection, ServerError, ServerFacts, dialect_named
from migrator.errors import (
    AccessRefused,
    ConfigurationError,
    ConnectionLost,
    DatabaseUnreachable,
    LockUnusable,
    MigratorError,
)
from migrator.events import DatabaseReady, Reporter, TargetKnown, WaitFailed
from migrator.results import Target

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

    from migrator.configured import ConfiguredDatabase
    from migrator.settings import Settings

Result = TypeVar("Result")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
"""Bounds of the jittered, doubling pause between attempts to connect."""


class NoAnswer(Exception):
    """The server accepted and said nothing within the limit; what was begun is abandoned."""


def bounded(work: Callable[[], Result], seconds: float) -> Result:
    """What ``work`` returns or raises; :class:`NoAnswer` after ``seconds``.

    It runs in a thread of its own because no driver bounds all of a handshake and a query: a server that
    accepts and stays silent holds libpq for ever. An abandoned thread ends with the process at the latest.
    """
    box: list[Any] = []

    def run() -> None:
        try:
            box.append((True, work()))
        except BaseException as error:
            box.append((False, error))

    thread = threading.Thread(target=run, name="migrator-attempt", daemon=True)
    thread.start()
    thread.join(seconds)
    if not box:
        raise NoAnswer
    succeeded, value = box[0]
    if succeeded:
        return value  # type: ignore[no-any-return]
    try:
        raise value
    finally:
        del value


def connect(url: URL, dialect: Dialect, timeout_seconds: float) -> RawConnection:
    """A raw connection of our own to ``url``, with an installed synchronous driver.

    Raises what the driver raises. The caller bounds it and closes it.
    """
    ours = urls.sync_url(url)
    of_sqlalchemy: Any = ours.get_dialect()
    engine_dialect = of_sqlalchemy(dbapi=of_sqlalchemy.import_dbapi())
    positional, named = engine_dialect.create_connect_args(ours)
    arguments = {**dialect.connect_arguments(engine_dialect.driver, timeout_seconds), **named}
    return engine_dialect.connect(*positional, **arguments)


def on_new_connection(
    url: URL, dialect: Dialect, work: Callable[[RawConnection], Result], seconds: float
) -> Result:
    """``work`` on a new raw connection to ``url``, closed afterwards, within ``seconds`` altogether."""
    # Not within the limit: on a tenth of a CPU, as a pod has it, the import alone takes seconds.
    of_sqlalchemy: Any = urls.sync_url(url).get_dialect()
    of_sqlalchemy.import_dbapi()

    def attempt() -> Result:
        raw = connect(url, dialect, seconds)
        try:
            return work(raw)
        finally:
            _close(raw)

    return bounded(attempt, seconds)


def on_connection_like(engine: Engine, work: Callable[[RawConnection], Result], seconds: float) -> Result:
    """``work`` on a new raw connection made as ``engine`` makes its own: same arguments, credentials and hooks.

    It never comes from the engine's pool and never goes back to it. What ``work`` changes is rolled back.
    """

    def attempt() -> Result:
        pool = engine.pool.recreate()
        try:
            connection = pool.connect()
            try:
                raw: RawConnection = connection.dbapi_connection
                result = work(raw)
                engine.dialect.do_rollback(connection)
                return result
            finally:
                connection.invalidate()
        finally:
            pool.dispose()

    if not engine.dialect.is_async:
        return bounded(attempt, seconds)

    def attempt_in_a_loop() -> Result:
        import asyncio

        from sqlalchemy.util import greenlet_spawn

        async def main() -> Result:
            return await greenlet_spawn(attempt)

        return asyncio.run(main())

    return bounded(attempt_in_a_loop, seconds)


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


def target_of(
    database: ConfiguredDatabase,
    dialect: Dialect,
    facts: ServerFacts | None,
    *,
    version_table: str | None = None,
) -> Target:
    """The configured database for people, with what its server said of itself, if it has."""
    name = facts.database if facts is not None else ""
    user = facts.user if facts is not None else ""
    return Target(
        dialect=dialect.name,
        address=name if dialect.in_a_file and name else urls.address(database.url),
        database="" if dialect.in_a_file else name or database.url.database or "",
        user=user or database.url.username or "",
        source=database.source,
        server_version=facts.version if facts is not None else "",
        version_table=version_table,
    )


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
        raise DatabaseUnreachable(
            f"the database did not answer within {_seconds(settings.wait_timeout)} ({_tries(attempts)})",
            details=(f"{urls.describe(database.url)}: {last.reason}",),
            next_step=(
                f"Check that the server is up and that {database.source} names it; "
                "MIGRATOR_WAIT_TIMEOUT allows more time. Nothing was changed."
            ),
        ) from None
    report(DatabaseReady(time.monotonic() - begun, attempts, reason))
    return ready


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
        raise NotYet(f"nothing was answered within {_seconds(settings.connect_timeout)}") from None
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


def connection_error(found: ServerError, where: str, source: str, *, changed: bool = False) -> MigratorError:
    """The error for a connection that was not to be had, ``where`` without a password.

    :param changed: migrations have run, so "nothing was changed" would be a lie.
    """
    nothing = "" if changed else " Nothing was changed."
    details = (f"{where}: {found}", *found.further)
    if found.kind in (ErrorKind.REFUSED, ErrorKind.DENIED):
        return AccessRefused(
            "the server refused the connection",
            details=details,
            sqlstate=found.sqlstate or None,
            next_step=(
                f"Check user, password, database name and TLS settings in {source}. "
                f"MIGRATOR_AUTH_GRACE retries for credentials that are still being made.{nothing}"
            ),
        )
    if found.kind is ErrorKind.POOLER:
        return LockUnusable(
            "migrations cannot work here: a pooler in statement mode is between us and the server",
            details=details,
            next_step=f"Give the direct address of the server as MIGRATOR_DIRECT_DATABASE_URL.{nothing}",
        )
    if found.kind.may_pass:
        return DatabaseUnreachable(
            details=details,
            sqlstate=found.sqlstate or None,
            next_step=f"Check that the server is up and that {source} names it.{nothing}",
        )
    return ConfigurationError(
        "the database cannot be connected to",
        details=details,
        sqlstate=found.sqlstate or None,
        next_step=f"Correct the value of {source}.{nothing}",
    )


def lost(found: ServerError, details: tuple[str, ...] = ()) -> ConnectionLost:
    """The error for a connection that broke during the run."""
    return ConnectionLost(
        "the connection to the database was lost",
        details=(str(found), *details),
        sqlstate=found.sqlstate or None,
        next_step="Run the same command again.",
    )


def _close(raw: RawConnection) -> None:
    try:
        raw.close()
    except Exception:
        return  # Closing is tidiness here; a connection that is broken is closed as well.


def _seconds(seconds: float) -> str:
    from migrator.durations import format_duration

    return format_duration(seconds)


def _tries(count: int) -> str:
    return "1 try" if count == 1 else f"{count} tries"
