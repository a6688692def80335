"""Alembic's operations in people's words, and those of them that look like renames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from alembic.operations import ops
from sqlalchemy import Boolean, Enum, TypeDecorator
from sqlalchemy import Column as AlchemyColumn
from sqlalchemy.dialects.mysql import TINYINT
from sqlalchemy.engine import Dialect as AlchemyDialect

from migrator.environment.risks import Fact, risk_of
from migrator.renames import Column, Match, Table, renamed_columns, renamed_tables
from migrator.results import Difference


def flat(operations: Iterable[Any]) -> Iterator[Any]:
    """The operations without the containers that Alembic puts those of one table in."""
    for operation in operations:
        if isinstance(operation, ops.OpContainer):
            yield from flat(operation.ops)
        else:
            yield operation


def describe(operation: Any, dialect: AlchemyDialect, facts: Collection[Fact] = ()) -> Difference:
    """One operation; those of plugins and of the project itself by their class's name.

    :param facts: what the operations beside it say of the rows (:func:`~migrator.environment.risks.earlier_facts`).
    """
    for kind, words in _WORDS.items():
        if isinstance(operation, kind):
            text = words(operation, dialect)
            break
    else:
        text = _name(operation).replace("_", " ")
    return Difference(_name(operation), text, table_of(operation), risk_of(operation, dialect, facts))


def table_of(operation: Any) -> str:
    """The table that an operation is about, with its schema where there is one."""
    table = getattr(operation, "table_name", None) or getattr(operation, "source_table", None)
    return qualified(getattr(operation, "schema", None), str(table)) if table else ""


def qualified(schema: str | None, name: str) -> str:
    """``shop.orders``."""
    return f"{schema}.{name}" if schema else name


def suspected_columns(operations: Iterable[Any], dialect: AlchemyDialect) -> list[tuple[Any, Any, Match]]:
    """(operation that drops, operation that adds, why) of each pair of columns that looks like a rename."""
    operations = list(flat(operations))
    drops = {
        (op.schema, op.table_name, op.column_name): op
        for op in operations
        if isinstance(op, ops.DropColumnOp) and _dropped_column(op) is not None
    }
    adds = {
        (op.schema, op.table_name, op.column.name): op for op in operations if isinstance(op, ops.AddColumnOp)
    }
    found = []
    for place in dict.fromkeys((schema, table) for schema, table, _ in drops):
        dropped = [_column(_dropped_column(op), dialect) for key, op in drops.items() if key[:2] == place]
        added = [_column(op.column, dialect) for key, op in adds.items() if key[:2] == place]
        for match in renamed_columns(dropped, added):
            found.append((drops[(*place, match.old)], adds[(*place, match.new)], match))
    return found


def suspected_tables(operations: Iterable[Any], dialect: AlchemyDialect) -> list[tuple[Any, Any, Match]]:
    """The same for tables."""
    operations = list(flat(operations))
    drops = {
        (op.schema, op.table_name): op
        for op in operations
        if isinstance(op, ops.DropTableOp) and getattr(op, "_reverse", None) is not None
    }
    adds = {(op.schema, op.table_name): op for op in operations if isinstance(op, ops.CreateTableOp)}
    found = []
    for schema in dict.fromkeys(schema for schema, _ in drops):
        dropped = [_table(op._reverse, dialect) for key, op in drops.items() if key[0] == schema]
        added = [_table(op, dialect) for key, op in adds.items() if key[0] == schema]
        for match in renamed_tables(dropped, added):
            found.append((drops[(schema, match.old)], adds[(schema, match.new)], match))
    return found


def _dropped_column(operation: Any) -> Any:
    """The column as it was reflected; None where a project made the operation itself, by name alone."""
    reverse = getattr(operation, "_reverse", None)
    return getattr(reverse, "column", None)


def _table(operation: Any, dialect: AlchemyDialect) -> Table:
    columns = [column for column in operation.columns if isinstance(column, AlchemyColumn)]
    return Table(str(operation.table_name), tuple(_column(column, dialect) for column in columns))


def _column(column: Any, dialect: AlchemyDialect) -> Column:
    default = column.server_default
    text = None if default is None else str(getattr(default, "arg", default))
    references = frozenset(str(key.target_fullname) for key in column.foreign_keys)
    return Column(
        str(column.name),
        _type(column.type, dialect),
        _family(column.type, dialect),
        bool(column.nullable),
        text,
        references,
    )


def _family(type_: Any, dialect: AlchemyDialect) -> str:
    """SQLAlchemy's affinity; where a database reports another type than models have, the affinity of theirs."""
    inner = type_.load_dialect_impl(dialect) if isinstance(type_, TypeDecorator) else type_
    if isinstance(inner, Enum) and inner.native_enum and dialect.supports_native_enum:
        return Enum.__name__  # SQLAlchemy's own is a text to it, PostgreSQL's and MySQL's are not
    if isinstance(type_, TINYINT) and type_.display_width == 1:
        return Boolean.__name__
    affinity = getattr(type_, "_type_affinity", None) or type(type_)
    return str(affinity.__name__)


def _type(type_: Any, dialect: AlchemyDialect) -> str:
    try:
        return str(type_.compile(dialect=dialect))
    except Exception:  # of a type that the project wrote, or of another database
        return repr(type_)


def _name(operation: Any) -> str:
    """``AddColumnOp`` as ``add_column``."""
    name = type(operation).__name__.removesuffix("Op")
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")


def _create_table(op: Any, _dialect: AlchemyDialect) -> str:
    count = sum(isinstance(column, AlchemyColumn) for column in op.columns)
    return f"added table {table_of(op)} ({count} column{'' if count == 1 else 's'})"


def _drop_table(op: Any, _dialect: AlchemyDialect) -> str:
    return f"dropped table {table_of(op)}"


def _add_column(op: Any, dialect: AlchemyDialect) -> str:
    column = op.column
    facts = _type(column.type, dialect) + ("" if column.nullable else " NOT NULL")
    return f"added column {table_of(op)}.{column.name} ({facts})"


def _drop_column(op: Any, _dialect: AlchemyDialect) -> str:
    return f"dropped column {table_of(op)}.{op.column_name}"


def _alter_column(op: Any, dialect: AlchemyDialect) -> str:
    changes = []
    if op.modify_type is not None:
        before = f"{_type(op.existing_type, dialect)} → " if op.existing_type is not None else ""
        changes.append(f"type {before}{_type(op.modify_type, dialect)}")
    if op.modify_nullable is not None:
        changes.append("nullable now" if op.modify_nullable else "NOT NULL now")
    if op.modify_server_default is not False:
        changes.append("no default any more" if op.modify_server_default is None else "default")
    if op.modify_comment is not False:
        changes.append("comment")
    if op.modify_name is not None:
        changes.append(f"name → {op.modify_name}")
    return f"changed column {table_of(op)}.{op.column_name}: {', '.join(changes) or 'other options'}"


def _create_index(op: Any, _dialect: AlchemyDialect) -> str:
    columns = ", ".join(str(getattr(column, "name", column)) for column in op.columns)
    name = f" {op.index_name}" if op.index_name else ""
    return f"added {'unique ' if op.unique else ''}index{name} on {table_of(op)} ({columns})"


def _drop_index(op: Any, _dialect: AlchemyDialect) -> str:
    on = f" on {table_of(op)}" if op.table_name else ""
    return f"dropped index {op.index_name}{on}"


def _foreign_key(op: Any, _dialect: AlchemyDialect) -> str:
    schema, referred = op.kw.get("source_schema"), op.kw.get("referent_schema")
    here = f"{qualified(schema, op.source_table)} ({', '.join(op.local_cols)})"
    there = f"{qualified(referred, op.referent_table)} ({', '.join(op.remote_cols)})"
    return f"added foreign key{_of(op)} from {here} to {there}"


def _unique(op: Any, _dialect: AlchemyDialect) -> str:
    return f"added unique constraint{_of(op)} on {table_of(op)} ({', '.join(map(str, op.columns))})"


def _add_constraint(op: Any, _dialect: AlchemyDialect) -> str:
    return f"added {_name(op).removeprefix('create_').replace('_', ' ')}{_of(op)} on {table_of(op)}"


def _drop_constraint(op: Any, _dialect: AlchemyDialect) -> str:
    kinds = {"foreignkey": "foreign key", "unique": "unique constraint", "primary": "primary key"}
    kind = kinds.get(op.constraint_type or "", "constraint")
    return f"dropped {kind}{_of(op)} of {table_of(op)}"


def _of(op: Any) -> str:
    return f" {op.constraint_name}" if op.constraint_name else ""


def _comment(op: Any, _dialect: AlchemyDialect) -> str:
    return f"changed comment of table {table_of(op)}"


def _execute(_op: Any, _dialect: AlchemyDialect) -> str:
    return "added SQL of the project's own"


_WORDS: Mapping[type, Callable[[Any, AlchemyDialect], str]] = {
    ops.CreateTableOp: _create_table,
    ops.DropTableOp: _drop_table,
    ops.AddColumnOp: _add_column,
    ops.DropColumnOp: _drop_column,
    ops.AlterColumnOp: _alter_column,
    ops.CreateIndexOp: _create_index,
    ops.DropIndexOp: _drop_index,
    ops.CreateForeignKeyOp: _foreign_key,
    ops.CreateUniqueConstraintOp: _unique,
    ops.AddConstraintOp: _add_constraint,
    ops.DropConstraintOp: _drop_constraint,
    ops.CreateTableCommentOp: _comment,
    ops.DropTableCommentOp: _comment,
    ops.ExecuteSQLOp: _execute,
}
"""The more special class before the more general one."""
