"""The seam: ``context.configure(connection=…)``, the one call that every ``env.py`` makes.

When the connection arrives there, it gets the session settings, the run lock is taken *on it*, and only then
does Alembic read the current revision. Alembic's private state that this needs is touched in this package
alone: ``MigrationContext._transaction``, ``_transaction_per_migration``, ``_in_external_transaction``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, _ProxyTransaction
from sqlalchemy.engine import Connection

from migrator.dialects import LockKey
from migrator.environment.connections import Connections
from migrator.environment.source import names_its_transaction
from migrator.environment.state import Run, RunAgain
from migrator.environment.steps import Steps

DEFAULT_VERSION_TABLE = "alembic_version"


class Seam:
    """Sits in one execution of one ``env.py``.

    The wrappers are instance attributes of the EnvironmentContext, set before it is entered: Alembic's module
    ``alembic.context`` looks the methods up on the instance at that moment, so a subclass has no effect.
    """

    def __init__(self, environment: EnvironmentContext, run: Run) -> None:
        self._environment = environment
        self._run = run
        self._one_transaction = False
        run.ends_transaction_itself = names_its_transaction(Path(environment.script.dir) / "env.py")
        self._connections = Connections(run, lambda: self.steps)
        self.steps = Steps(run, self._connections.take_resolved, self._connections.target_at)
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
        run.supervisor.configured()
        try:
            held = self._connections.prepare(connection)
            table = str(options.get("version_table") or DEFAULT_VERSION_TABLE)
            schema = options.get("version_table_schema")
            key = LockKey(held.session.database, schema or held.session.schema, table)
            target = self._connections.take(held, key)
        except RunAgain as again:
            run.again = again
            raise
        self._one_transaction = False
        if not run.reads_only and not run.ends_transaction_itself:
            options.setdefault("transaction_per_migration", True)
        options["on_version_apply"] = (
            *_as_tuple(options.get("on_version_apply")),
            self.steps.on_version_apply,
        )
        self._configure(*args, **options)
        context = self._environment.get_context()
        self.steps.enter(held, target, table, schema)
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
        self._connections.leave()

    def _autocommit_block(self, context: MigrationContext) -> Callable[[], Any]:
        real = context.autocommit_block

        @contextlib.contextmanager
        def autocommit_block() -> Iterator[None]:
            self.steps.entering_autocommit(context)
            with real():
                yield

        return autocommit_block


def _as_tuple(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)
