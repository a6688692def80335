"""The connections of ``env.py``: session settings, the run lock, and giving both back."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import socket
from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection

from migrator import urls
from migrator.database import bounded, on_connection_like
from migrator.dialects import Boundary, LockKey, RawConnection, SessionOptions, first_word
from migrator.environment.identity import (
    prove_identity,
    prove_identity_by_probe,
    refuse_clusters,
    refuse_foreign_version_table,
    refuse_other_kind,
    refuse_poolers,
)
from migrator.environment.state import Again, Held, Notes, Run, RunAgain, TargetRun
from migrator.errors import LockLost
from migrator.events import LockHeld, LockWaiting, Notice, TargetKnown
from migrator.lock import RunLock, locked_out, next_telling
from migrator.results import Target

READING = ("SELECT", "SHOW", "SET", "PRAGMA", "EXPLAIN", "DESCRIBE", "USE", "VALUES")
"""First words of statements that change nothing worth a line when they are not undone."""


class Connections:
    """What one execution of ``env.py`` connects with.

    :param notes: who is told of what is seen on them; asked for when it happens.
    """

    def __init__(self, run: Run, notes: Callable[[], Notes]) -> None:
        self._run = run
        self._notes = notes
        self._held: list[Held] = []

    def prepare(self, connection: Connection) -> Held:
        """Apply the session settings to ``connection``, once, and see to it that it never goes back to a pool."""
        raw: RawConnection = connection.connection.dbapi_connection
        for held in self._held:
            if held.raw is raw and not held.returned:
                held.connection = connection
                self._look_at_schema(held)
                return held
        self._learn_password(connection.engine.url)
        dialect = self._run.dialect_named(connection.dialect.name)
        dialect.refuse_url(connection.engine.url, "env.py")
        inside = connection.in_transaction()
        held = Held(raw, connection, dialect.session(raw), dialect, connection.engine, inside)
        refuse_other_kind(self._run, held)
        refuse_poolers(self._run, held)
        refuse_clusters(self._run, held)
        held.old_snapshot = inside and dialect.keeps_snapshot(connection.get_isolation_level())
        if self._leaves_settings_alone(held):
            held.lock_timeout = held.session.previous.get("lock_timeout", "")
        else:
            held.lock_timeout = dialect.apply_settings(raw, held.session, self._session_options())
        if not inside:
            raw.commit()
        dialect.watch_connection(raw)
        self._listen(held)
        self._held.append(held)
        return held

    def _leaves_settings_alone(self, held: Held) -> bool:
        """Behind a pooler that nobody vouched for, a setting may meet the next client of the same backend."""
        return self._run.reads_only and held.session.pooled

    def _look_at_schema(self, held: Held) -> None:
        """``env.py`` may set ``search_path`` between two calls: one tenant after the other on one connection."""
        schema = held.dialect.session(held.raw).schema
        if not held.connection.in_transaction():
            held.raw.commit()
        held.session = dataclasses.replace(held.session, schema=schema)

    def target_at(self, held: Held, target: TargetRun, schema: str, table: str) -> TargetRun:
        """``target``, or another one where that was found to be of another version table before."""
        if target.version_table in (None, (schema, table)):
            return target
        key = LockKey(held.session.database, schema, table)
        return self._run.targets.setdefault(key, self._new_target(held, key))

    def take(self, held: Held, key: LockKey) -> TargetRun:
        """Lock the target of that key on ``held``, and make it known."""
        run = self._run
        refuse_foreign_version_table(run, held, key)
        target = run.targets.get(key) or self._new_target(held, key)
        told = run.settings.database is not None and not run.targets
        if not told and key not in run.announced:
            run.report(TargetKnown(target.target))
        run.announced.add(key)
        if run.reads_only:
            prove_identity_by_probe(run, held, key)
        elif key not in held.locks:
            target.lock_wait += self._lock(held, key)
        target.engine, target.session = held.engine, held.session
        run.targets[key] = target
        return target

    def take_resolved(self, held: Held, target: TargetRun, schema: str, table: str) -> bool:
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
            again = RunAgain(
                Again.RUN_LOCK, Again.RUN_LOCK.value, locked_out(held.dialect, holder, self._run.lock_waited)
            )
            self._run.again = again
            raise again
        held.locks[key] = lock
        return False

    def leave(self) -> None:
        """``env.py`` has ended: give back what it left open. Never raises."""
        for held in self._held:
            if not held.returned:
                with contextlib.suppress(Exception):
                    if self._run.supervisor.stopping:
                        self._return_from_whoever_uses_it(held)
                    else:
                        self._return(held)
            for undo in held.undo:
                with contextlib.suppress(Exception):
                    undo()

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

    def _lock(self, held: Held, key: LockKey) -> float:
        run = self._run
        self._release_elsewhere(key)
        lock = RunLock(held.dialect, key, held.raw)
        left = run.settings.run_lock_timeout - run.lock_waited
        if held.connection.in_transaction():
            # Waiting here would keep whatever env.py's transaction has locked, and read from an old snapshot.
            if not lock.try_take():
                holder = held.dialect.holder(held.raw, key)
                if run.lock_told < 0 or run.lock_waited >= next_telling(run.lock_told):
                    run.lock_told = run.lock_waited
                    run.report(LockWaiting(holder, run.lock_waited, run.settings.run_lock_timeout))
                raise RunAgain(
                    Again.RUN_LOCK, Again.RUN_LOCK.value, locked_out(held.dialect, holder, run.lock_waited)
                )
            waited = 0.0
        else:
            waited = lock.wait(
                max(0.0, left),
                end_transaction=held.raw.commit,
                report=run.report,
                sleep=run.supervisor.sleep,
            )
        run.lock_waited += waited
        if run.settings.lock == "none":
            run.report(Notice("lock", "none, as MIGRATOR_LOCK says: nothing keeps two runs apart"))
            return waited
        held.locks[key] = lock
        prove_identity(run, held, key, key, held.session.backend_pid)
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
                        held.raw.commit()
                del held.locks[key]

    def _new_target(self, held: Held, key: LockKey) -> TargetRun:
        run = self._run
        database = run.settings.database
        first = not run.targets
        url = database.url if database is not None and first else held.engine.url
        in_a_file = held.dialect.in_a_file
        target = Target(
            dialect=held.dialect.name,
            address=held.session.database if in_a_file else urls.address(url),
            database="" if in_a_file else held.session.database,
            user=held.session.user,
            source=database.source if database is not None and first else "env.py",
            server_version=held.session.server_version,
            version_table=f"{key.schema}.{key.version_table}" if key.schema else key.version_table,
        )
        return TargetRun(key, target, held.engine, held.dialect, held.session)

    def _listen(self, held: Held) -> None:
        connection, engine = held.connection, held.engine
        token = object()
        if not self._run.reads_only:
            for name, listener in (
                ("commit", self._before_commit(held)),
                ("rollback", self._before_rollback),
                ("before_cursor_execute", self._before_statement(held)),
                ("after_cursor_execute", self._after_statement(held)),
            ):
                event.listen(connection, name, listener)
                # The connection may belong to an application that goes on with it after the run.
                held.undo.append(functools.partial(event.remove, connection, name, listener))
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
            self._check_locks(held)
            self._notes().committed()

        return check

    def _before_rollback(self, _connection: Connection) -> None:
        self._notes().rolls_back()

    def _check_locks(self, held: Held) -> None:
        for lock in list(held.locks.values()):
            try:
                lock.check()
            except LockLost as lost:
                self._notes().failed(lost)
                raise

    def _before_statement(self, held: Held) -> Callable[..., None]:
        def before(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            self._run.supervisor.statement_began()
            boundary = held.dialect.before_statement(held.raw, statement)
            if boundary in (Boundary.COMMITS, Boundary.MAY_COMMIT):
                self._check_locks(held)
            if boundary is Boundary.COMMITS:
                self._notes().commits_implicitly()
            if boundary is Boundary.MAY_COMMIT:
                self._notes().left_transaction()
            if boundary is not Boundary.OUTSIDE:
                return
            self._notes().left_transaction()
            self._notes().committed()
            if not held.dialect.waits_for_snapshots(statement):
                return
            if held.dialect.lock_timeout(held.raw) == held.lock_timeout:
                held.dialect.set_lock_timeout(held.raw, self._run.settings.index_lock_timeout)
                held.index_timeout_set = True

        return before

    def _after_statement(self, held: Held) -> Callable[..., None]:
        def after(connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
            held.restore_lock_timeout()
            notes = self._notes()
            if first_word(statement) not in READING:
                notes.noted(statement)
            if not connection.in_transaction():
                return
            if held.dialect.is_autocommit(held.raw):
                notes.left_transaction()
                notes.committed()
            elif held.dialect.committed(held.raw, statement):
                # By itself, as DDL does on MySQL, or because it is a COMMIT of the revision's own.
                notes.left_transaction()
                notes.committed()
                self._check_locks(held)

        return after

    def _cancel(self, held: Held) -> None:
        if held.returned or held.dialect.interrupt(held.raw):
            return
        on_connection_like(
            held.engine,
            lambda raw: held.dialect.cancel(raw, held.session.backend_pid),
            self._run.settings.connect_timeout,
        )

    def _return_from_whoever_uses_it(self, held: Held) -> None:
        """A thread of ``env.py``'s may be in a statement still: end that first, and do not wait for long."""
        seconds = self._run.settings.connect_timeout
        with contextlib.suppress(Exception):
            self._cancel(held)
        bounded(lambda: self._return(held), seconds)

    def _return(self, held: Held) -> None:
        """Unlock, and put the session's settings back."""
        held.returned = True
        theirs = not held.connection.closed and held.connection.in_transaction()
        try:
            self._restore(held)
        except Exception:
            # A transaction that failed, and that env.py left open, takes no statement any more.
            held.raw.rollback()
            theirs = False
            self._restore(held)
        if not theirs:
            held.raw.commit()

    def _restore(self, held: Held) -> None:
        try:
            if not self._leaves_settings_alone(held):
                held.dialect.restore_session(held.raw, held.session)
        finally:
            for lock in held.locks.values():
                lock.release()
