"""The schema of a database as Alembic sees it, kept, and what became of it later."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from alembic.autogenerate import produce_migrations
from alembic.autogenerate.api import AutogenContext
from alembic.config import Config
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect
from sqlalchemy.exc import SAWarning

from migrator.environment.differences import describe, flat
from migrator.results import Difference, Revisions


class Snapshot:
    """The tables of each target that ``env.py`` configures. A :class:`migrator.environment.state.Reading`.

    What ``env.py`` leaves out of comparisons (``include_name``, ``include_object``, ``include_schemas``) is left
    out here as well, and what Alembic does not compare is not in it: check constraints, enumerations, views.
    """

    def __init__(self) -> None:
        self.targets: list[tuple[MetaData, frozenset[Difference]]] = []
        """The tables, and in what autogenerate takes the database for different from itself: a plugin that
        compares it with the project's models finds what these have, and the revisions above do not yet make."""

    def begin(self, _config: Config, _script: ScriptDirectory) -> dict[str, Any]:
        self.targets = []
        return {}

    def read(self, _current: Revisions, context: MigrationContext) -> None:
        """Read the tables."""
        # Any metadata does: only what env.py wants to be compared is asked of it.
        compared = AutogenContext(context, metadata=MetaData())
        connection: Any = context.bind
        inspector = inspect(connection)
        found = MetaData()
        for schema in _schemas(inspector, context, compared):
            tables = [
                name
                for name in inspector.get_table_names(schema=schema)
                if compared.run_name_filters(name, "table", {"schema_name": schema})
            ]
            with _unknown_types():
                found.reflect(connection, schema=schema, only=tables)
        self.targets.append((found, frozenset(_differences(context, found))))


class Since:
    """In what the targets differ from a snapshot. A :class:`migrator.environment.state.Reading`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._seen = 0
        self._differences: dict[Difference, None] = {}

    def begin(self, _config: Config, _script: ScriptDirectory) -> dict[str, Any]:
        self._seen = 0
        self._differences = {}
        return {}

    def read(self, _current: Revisions, context: MigrationContext) -> None:
        """Compare."""
        if self._seen < len(self._snapshot.targets):  # else a loop over tenants that a revision made
            before, known = self._snapshot.targets[self._seen]
            found = _differences(context, before)
            self._differences |= {one: None for one in found if one not in known}
        self._seen += 1

    @property
    def differences(self) -> tuple[Difference, ...]:
        """What would have to be done to come back to the snapshot."""
        return tuple(self._differences)


def _differences(context: MigrationContext, before: MetaData) -> dict[Difference, None]:
    compared = AutogenContext(context, metadata=before)
    with _unknown_types():
        found = produce_migrations(context, before).upgrade_ops
    differences: dict[Difference, None] = {}
    for operation in flat(found.ops if found is not None else ()):
        schema, table = getattr(operation, "schema", None), str(getattr(operation, "table_name", ""))
        # Reflection follows foreign keys to tables that env.py leaves out.
        pulled_in = isinstance(operation, ops.CreateTableOp) and not compared.run_name_filters(
            table, "table", {"schema_name": schema}
        )
        if not pulled_in:
            differences[describe(operation, context.dialect)] = None
    return differences


@contextlib.contextmanager
def _unknown_types() -> Iterator[None]:
    """A column of a type that SQLAlchemy does not know (xml, geometry) is compared by its other facts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)
        yield


def _schemas(inspector: Any, context: MigrationContext, compared: AutogenContext) -> list[str | None]:
    default = inspector.dialect.default_schema_name
    names: list[str | None] = [None]
    if context.opts.get("include_schemas"):
        others = set(inspector.get_schema_names()) - {"information_schema", default}
        names += sorted(others)
    return [name for name in names if compared.run_name_filters(name, "schema", {})]
