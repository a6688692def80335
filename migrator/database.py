"""Connections to a database beside the project's own, each bounded in time, and what their errors mean."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from migrator import urls
from migrator.dialects import Dialect, ErrorKind, RawConnection, ServerError, ServerFacts
from migrator.errors import (
    AccessRefused,
    ConfigurationError,
    ConnectionLost,
    DatabaseUnreachable,
    LockUnusable,
    MigratorError,
)
from migrator.results import Target

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

    from migrator.configured import ConfiguredDatabase

Result = TypeVar("Result")


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


def connection_error(found: ServerError, where: str, source: str, *, changed: bool = False) -> MigratorError:
    """The error for a connection that was not to be had, ``where`` without a password.

    :param changed: migrations have run, so "nothing was changed" would be a lie.
    """
    nothing = "" if changed else " Nothing was changed."
    details = (f"{where}: {found}", *found.further)
    if found.kind.about_tls:
        from migrator.tls import tls_error

        return tls_error(found, where, source, nothing)
    if found.kind in (ErrorKind.REFUSED, ErrorKind.DENIED):
        return AccessRefused(
            "the server refused the connection",
            details=details,
            sqlstate=found.sqlstate or None,
            next_step=(
                f"{_NO_SUCH_DATABASE if _no_such_database(found) else ''}"
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


_NO_SUCH_DATABASE = "migrator makes no database: create that one first, if its name is right. "


def _no_such_database(found: ServerError) -> bool:
    if found.sqlstate == "3D000" or found.number == 1049:
        return True
    return 'database "' in found.message and found.message.endswith('" does not exist')


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
