"""The version table is Alembic's own, and part of no comparison, however ``env.py`` spells its schema and its name.

Alembic leaves it out where the schema of ``version_table_schema`` is the one that it is listing. The default
schema it lists as None: written out (``"public"``), it is another to Alembic, and the version table one to drop.
"""

from __future__ import annotations

from typing import Any

from alembic.runtime.migration import MigrationContext

from migrator.dialects import Dialect, RawConnection

Names = frozenset[tuple[str | None, str]]
"""(schema, table), as they may be listed; None: the default schema."""


def leave_out_version_table(
    context: MigrationContext, found: tuple[str, str] | None, dialect: Dialect, raw: RawConnection
) -> None:
    """From here on autogenerate with ``context`` does not see it, in the database or among the models.

    What ``env.py`` itself leaves out stays left out.

    :param found: (schema, table) as the database calls it; None: it is not there.
    """
    names = _names(context, found, dialect, raw)
    include_name, include_object = (context.opts.get(name) for name in ("include_name", "include_object"))

    def keeps_name(name: Any, kind: str, parents: Any) -> bool:
        if kind == "table" and (parents.get("schema_name"), name) in names:
            return False
        return include_name is None or include_name(name, kind, parents)

    def keeps_object(thing: Any, name: Any, kind: str, reflected: bool, other: Any) -> bool:
        if kind == "table" and (thing.schema, name) in names:
            return False
        return include_object is None or include_object(thing, name, kind, reflected, other)

    # Not in the dictionary that is there: the environment keeps it for the next target.
    context.opts = {**context.opts, "include_name": keeps_name, "include_object": keeps_object}


def _names(
    context: MigrationContext, found: tuple[str, str] | None, dialect: Dialect, raw: RawConnection
) -> Names:
    schema, table = context.version_table_schema, context.version_table
    # Of the first connection; env.py may have set another search_path since.
    default = context.dialect.default_schema_name
    where, tables = schema, {table}
    if found is not None:
        where = found[0] or schema
        tables.add(found[1])  # as it was made: the database may not tell small letters from capitals
    schemas = {schema, where}
    if where == default or (found is not None and dialect.version_table(raw, found[1], None) == found):
        schemas.add(None)
    if None in schemas:
        schemas.add(default)
    return frozenset((one, name) for one in schemas for name in tables)
