"""The seam: ``context.configure(connection=…)``, the one call that every ``env.py`` makes.

When the connection arrives there, it gets the session settings, the run lock is taken *on it*, and only then
does Alembic read the current revision. Alembic's private state that this needs is touched in this package
alone: ``MigrationContext._transaction``, ``_transaction_per_migration``, ``_in_external_transaction``.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, _ProxyTransaction
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection

from migrator import urls
from migrator.database import NoAnswer, on_connection_like, on_new_connection
from migrator.dialects import LockKey, RawConnection, SessionOptions, dialect_named
from migrator.environment.state import Again, Held, Run, RunAgain, TargetRun
from migrator.environment.steps import Steps
from migrator.errors import ConfigurationError, LockLost, LockUnusable
from migrator.events import LockHeld, LockWaiting, Notice, TargetKnown
from migrator.lock import RunLock, locked_out
from migrator.results import Target

DEFAULT_VERSION_TABLE = "alembic_version"


class Seam:
    """Sits in one execution of one ``env.py``.

    The wrappers are instance attributes of the EnvironmentContext, set before it is entered: Alembic's module
    ``alembic.context`` looks the methods up on the instance at that moment, so a subclass has no effect.
    """

    def __init__(self, environment: EnvironmentContext, run: Run) -> None:
        self._environment = environment
        self._run = run
        self._held: list[Held] = []
        self._current: tuple[Held, TargetRun] | None = None
        self._one_transaction = False
        self.steps = Steps(run, self._take_resolved)
        self._configure = environment.configure
        self._begin_transaction = environment.begin_transaction
        self._run_migrations = environment.run_migrations
        environment.configure = self.configure  # type: ignore[method-assign]
        environment.begin_transaction = self.begin_transaction  # type: ignore[method-assign]
        environment.run_migrations = self.run_migrations  # type: ignore[method-assign]

    def configure(self, *args: Any, **options: Any) -> None:
        """Stands in for ``EnvironmentContext.configure``; unknown keywords pass through."""
        connection = args[0] if args else options.get("connection")
        if self._environment.is_offline_mode() or not isinstance(connection, Connection):
            self._configure(*args, **options)
            return
        run = self._run
        run.configured = True
        try:
            held = self._prepare(connection)
            table = str(options.get("version_table") or DEFAULT_VERSION_TABLE)
            schema = options.get("version_table_schema")
            target = self._take(held, self._key(held, schema, table))
        except RunAgain as again:
            run.again = again
            raise
        self._current = (held, target)
        self._one_transaction = False
        if not run.reads_only:
            options.setdefault("transaction_per_migration", True)
        options["on_version_apply"] = (
            *_as_tuple(options.get("on_version_apply")),
            self.steps.on_version_apply,
        )
        self._configure(*args, **options)
        context = self._environment.get_context()
        self.steps.enter(context, held, target, table, schema)
        context.autocommit_block = self._autocommit_block(context)  # type: ignore[method-assign]

    @contextlib.contextmanager
    def begin_transaction(self) -> Iterator[Any]:
        """Stands in for ``EnvironmentContext.begin_transaction``.

        With a transaction per revision Alembic's own block is empty. If ``env.py`` ran SQL inside it, the
        whole run keeps that one transaction, and this block ends it.
        """
        context = self._environment.get_context()
        with self._begin_transaction() as real:
            try:
                yield real if real is not None else _ProxyTransaction(context)
            except BaseException as error:
                if self._one_transaction:
                    _ProxyTransaction(context).__exit__(type(error), error, error.__traceback__)
                raise
            if self._one_transaction:
                _ProxyTransaction(context).__exit__(None, None, None)

    def run_migrations(self, **arguments: Any) -> None:
        """Stands in for ``EnvironmentContext.run_migrations``."""
        context = self._environment.get_context()
        connection = context.connection
        if (
            not context.as_sql
            and isinstance(connection, Connection)
            and context._transaction_per_migration
            and not context._in_external_transaction
            and connection.in_transaction()
        ):
            # SQL that env.py ran between configure and here (SET LOCAL search_path, a lock of its own) would
            # be undone at the first revision's COMMIT, and later revisions would run in the wrong schema.
            self._one_transaction = True
            context._transaction_per_migration = False
            context._transaction = connection.get_transaction()
        try:
            self._run_migrations(**arguments)
        except BaseException as error:
            self.steps.failed(error)
            raise
        self.steps.completed()

    def leave(self) -> None:
        """``env.py`` has ended: give back what it left open. Never raises."""
        for held in self._held:
            with contextlib.suppress(Exception):
                if not held.returned:
                    self._return(held)
                for undo in held.undo:
                    undo()

    def _prepare(self, connection: Connection) -> Held:
        raw = connection.connection.dbapi_connection
        for held in self._held:
            if held.raw is raw and not held.returned:
                held.connection = connection
                return held
        self._learn_password(connection.engine.url)
        dialect = dialect_named(connection.dialect.name)
        inside = connection.in_transaction()
        session = dialect.begin_session(raw, self._session_options())
        if not inside:
            _end(raw)
        held = Held(raw, connection, session, dialect, connection.engine, inside)
        self._refuse_poolers(held)
        dialect.watch_connection(raw)
        self._listen(held)
        self._held.append(held)
        return held

    def _learn_password(self, url: URL) -> None:
        """What ``env.py`` connects with is as secret as what was configured."""
        learn = self._run.learn_secret
        if learn is not None and url.password:
            names = (url.username, url.database, url.host)
            learn(str(url.password), never=[name for name in names if name])

    def _session_options(self) -> SessionOptions:
        settings = self._run.settings
        return SessionOptions(
            application_name=f"migrator {socket.gethostname()}",
            lock_timeout=settings.lock_timeout,
            statement_timeout=settings.statement_timeout,
            keep_lock_timeout=settings.sources.get("lock-timeout", "default") == "default",
        )

    def _key(self, held: Held, schema: str | None, table: str) -> LockKey:
        return LockKey(held.session.database, schema or held.session.schema, table)

    def _take(self, held: Held, key: LockKey) -> TargetRun:
        """Lock the target of that key on ``held``, and make it known."""
        run = self._run
        waited = 0.0
        if not run.reads_only and key not in held.locks:
            waited = self._lock(held, key)
        target = run.targets.get(key)
        if target is None:
            target = self._new_target(held, key)
            if run.targets or run.settings.database is None:
                run.report(TargetKnown(target.target))
            run.targets[key] = target
        target.engine, target.session = held.engine, held.session
        target.lock_wait += waited
        return target

    def _lock(self, held: Held, key: LockKey) -> float:
        run = self._run
        self._release_elsewhere(key)
        lock = RunLock(held.dialect, key, held.raw)
        left = run.settings.run_lock_timeout - run.lock_waited
        if held.connection.in_transaction():
            # Waiting here would keep whatever env.py's transaction has locked, and read from an old snapshot.
            if not lock.try_take():
                holder = held.dialect.holder(held.raw, key)
                run.report(LockWaiting(holder, run.lock_waited, run.settings.run_lock_timeout))
                raise RunAgain(Again.RUN_LOCK, Again.RUN_LOCK.value, locked_out(holder, run.lock_waited))
            waited = 0.0
        else:
            waited = lock.wait(
                max(0.0, left),
                end_transaction=lambda: _end(held.raw),
                report=run.report,
                sleep=run.supervisor.sleep,
            )
        run.lock_waited += waited
        held.locks[key] = lock
        self._prove_identity(held, key)
        run.report(LockHeld(held.session.backend_pid, run.lock_waited))
        return waited

    def _release_elsewhere(self, key: LockKey) -> None:
        """A connection that ``env.py`` has finished with, but left open, must not lock out the next one."""
        for held in self._held:
            lock = held.locks.get(key)
            if lock is not None and not held.returned and lock.held:
                with contextlib.suppress(Exception):
                    lock.release()
                    if not held.connection.in_transaction():
                        _end(held.raw)
                del held.locks[key]

    def _take_resolved(self, held: Held, target: TargetRun, schema: str, table: str) -> bool:
        """Where the version table turned out to be elsewhere than ``current_schema()`` said: lock that, too.

        Two runs meet on the same table even if one of them saw another ``search_path``, for example because
        the first revision creates the schema. False: the lock was taken late, read the revision again.
        """
        key = LockKey(held.session.database, schema, table)
        if self._run.reads_only or key in held.locks:
            return True
        lock = RunLock(held.dialect, key, held.raw)
        if not lock.try_take():
            holder = held.dialect.holder(held.raw, key)
            again = RunAgain(Again.RUN_LOCK, Again.RUN_LOCK.value, locked_out(holder, self._run.lock_waited))
            self._run.again = again
            raise again
        held.locks[key] = lock
        return False

    def _new_target(self, held: Held, key: LockKey) -> TargetRun:
        run = self._run
        database = run.settings.database
        first = not run.targets
        url = database.url if database is not None and first else held.engine.url
        target = Target(
            dialect=held.dialect.name,
            address=urls.address(url),
            database=held.session.database,
            user=held.session.user,
            source=database.source if database is not None and first else "env.py",
            server_version=held.session.server_version,
            version_table=f"{key.schema}.{key.version_table}" if key.schema else key.version_table,
        )
        return TargetRun(key, target, held.engine, held.dialect, held.session)

    def _prove_identity(self, held: Held, key: LockKey) -> None:
        """What was configured is what ``env.py`` connects to: the lock must be visible from the configured URL."""
        run = self._run
        database = run.settings.database
        if database is None or key in run.targets:
            return
        where = f"env.py connects to {held.session.database} as {held.session.user} at {urls.address(held.engine.url)}"
        pid = held.session.backend_pid
        try:
            same = on_new_connection(
                database.url,
                held.dialect,
                lambda raw: held.dialect.holds(raw, key, pid),
                run.settings.connect_timeout,
            )
        except NoAnswer:
            raise RunAgain(Again.UNREACHABLE, "the configured database does not answer") from None
        if same:
            return
        if run.targets and run.settings.allow_other_targets:
            return
        if run.targets:
            raise ConfigurationError(
                "env.py goes on to a second database",
                details=(where, f"configured: {urls.describe(database.url)}, from {database.source}"),
                next_step="If that is meant, set MIGRATOR_ALLOW_OTHER_TARGETS=yes.",
            )
        raise ConfigurationError(
            "env.py connects to another database than the one that was configured",
            details=(where, f"configured: {urls.describe(database.url)}, from {database.source}"),
            next_step=(
                "Let env.py read sqlalchemy.url or DATABASE_URL, or name the variable that it does read in "
                "MIGRATOR_EXPORT_URL_AS; to use env.py's own database, unset "
                f"{database.source}. Nothing was changed."
            ),
        )

    def _refuse_poolers(self, held: Held) -> None:
        run = self._run
        session = held.session
        if run.reads_only or not session.pooled:
            return
        proof = self._shared_backend(held)
        allowed = run.settings.pooler == "session"
        if allowed and proof is None:
            run.report(
                Notice("pooler", "a pooler is in between, taken for session mode (MIGRATOR_POOLER=session)")
            )
            return
        where = urls.address(held.engine.url)
        details = (
            f"two connections to {where} were served by the same backend (pid {proof})"
            if proof is not None
            else f"{where} announced backend pid {session.protocol_pid}, and the server says {session.backend_pid}"
        )
        raise LockUnusable(
            "the lock cannot work here: "
            + ("a transaction pooler" if proof is not None else "a connection pooler")
            + " is between us and the server",
            details=(details,),
            next_step=(
                "Give the direct address of the server as MIGRATOR_DIRECT_DATABASE_URL"
                + ("." if allowed else ", or set MIGRATOR_POOLER=session if the pooler is in session mode.")
                + " Nothing was changed."
            ),
        )

    def _shared_backend(self, held: Held) -> int | None:
        """The pid that served two connections at once, which proves a transaction pooler; None: no proof."""
        if held.began_outside:
            return None
        first = held.dialect.facts(held.raw).backend_pid
        _end(held.raw)
        try:
            second = on_connection_like(
                held.engine,
                lambda raw: held.dialect.facts(raw).backend_pid,
                self._run.settings.connect_timeout,
            )
        except Exception:
            return None
        return first if first == second else None

    def _listen(self, held: Held) -> None:
        connection, engine = held.connection, held.engine
        token = object()
        if not self._run.reads_only:
            event.listen(connection, "commit", self._before_commit(held))
            event.listen(connection, "before_cursor_execute", self._before_statement(held))
            event.listen(connection, "after_cursor_execute", self._after_statement(held))
            self._run.supervisor.connected(token, lambda: self._cancel(held))
            held.undo.append(lambda: self._run.supervisor.disconnected(token))

        def on_checkin(dbapi_connection: RawConnection, record: Any) -> None:
            # The lock and the settings must not go back to a pool with the connection.
            if dbapi_connection is held.raw and not held.returned:
                with contextlib.suppress(Exception):
                    self._return(held)
                held.returned = True
                record.invalidate()

        event.listen(engine.pool, "checkin", on_checkin)
        held.undo.append(lambda: event.remove(engine.pool, "checkin", on_checkin))

    def _before_commit(self, held: Held) -> Callable[[Connection], None]:
        def check(_connection: Connection) -> None:
            self._run.supervisor.check()
            for lock in list(held.locks.values()):
                try:
                    lock.check()
                except LockLost as lost:
                    self.steps.failed(lost)
                    raise

        return check

    def _before_statement(self, held: Held) -> Callable[..., None]:
        def before(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if not held.dialect.waits_for_snapshots(statement) or not held.dialect.is_autocommit(held.raw):
                return
            if held.dialect.lock_timeout(held.raw) == held.session.lock_timeout:
                held.dialect.set_lock_timeout(held.raw, self._run.settings.index_lock_timeout)
                held.index_timeout_set = True

        return before

    def _after_statement(self, held: Held) -> Callable[..., None]:
        def after(*_: Any) -> None:
            held.restore_lock_timeout()

        return after

    def _cancel(self, held: Held) -> None:
        if held.returned:
            return
        on_connection_like(
            held.engine,
            lambda raw: held.dialect.cancel(raw, held.session.backend_pid),
            self._run.settings.connect_timeout,
        )

    def _return(self, held: Held) -> None:
        """Unlock, and put the session's settings back."""
        held.returned = True
        for lock in held.locks.values():
            lock.release()
        held.dialect.restore_session(held.raw, held.session)
        if held.connection.closed or not held.connection.in_transaction():
            _end(held.raw)

    def _autocommit_block(self, context: MigrationContext) -> Callable[[], Any]:
        real = context.autocommit_block

        @contextlib.contextmanager
        def autocommit_block() -> Iterator[None]:
            self.steps.entering_autocommit(context)
            with real():
                yield

        return autocommit_block


def _end(raw: RawConnection) -> None:
    raw.commit()


def _as_tuple(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)
