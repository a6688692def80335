"""What an operation may cost: data that is gone afterwards, or a run that fails on the rows that are there.

Told from Alembic's operations alone. What a revision's own SQL does is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from alembic.operations import ops
from sqlalchemy import Date, DateTime
from sqlalchemy.engine import Dialect as AlchemyDialect

from migrator.environment.fitting import MYSQL, fits

DOES_NOT_FIT = "fails, or cuts something off, where a value does not fit the new type"


Fact = tuple[object, ...]


def risk_of(operation: Any, dialect: AlchemyDialect, facts: Collection[Fact] = ()) -> str | None:
    """In words, to be read after what the operation does; None: nothing is lost, whatever the rows are.

    :param facts: see :func:`earlier_facts`.
    """
    if any(fact in facts for fact in _excused_by(operation)):
        return None
    for kind, risk in _RISKS.items():
        if isinstance(operation, kind):
            return risk(operation, dialect)
    return None


def earlier_facts(operations: Iterable[Any]) -> frozenset[Fact]:
    """What the operations of one revision say of the rows: a new table has none, a new column no values."""
    facts: set[Fact] = set()
    for operation in operations:
        schema, table = _place(operation)
        if isinstance(operation, ops.CreateTableOp):
            facts.add(("no rows", schema, table))
        elif isinstance(operation, ops.AddColumnOp):
            column = operation.column
            if column.nullable and column.server_default is None:
                facts.add(("no values", schema, table, str(column.name)))
        elif isinstance(operation, (ops.DropConstraintOp, ops.DropIndexOp)):
            kept = _kept_by(getattr(operation, "_reverse", None))
            facts |= {kept} if kept else set()
    return frozenset(facts)


def _excused_by(operation: Any) -> list[Fact]:
    """The facts, each of which is enough for the rows to keep an added constraint."""
    if not isinstance(operation, (ops.AddConstraintOp, ops.CreateIndexOp)):
        return []
    schema, table = _place(operation)
    facts: list[Fact] = [("no rows", schema, table)]
    kept = _kept_by(operation)
    if kept:
        facts += [kept, *(("no values", schema, table, column) for column in _columns(operation))]
    return facts


def _kept_by(operation: Any) -> Fact | None:
    """What the rows of a table keep once this constraint is there; None of other operations."""
    place = _place(operation)
    if isinstance(operation, ops.CreateForeignKeyOp):
        there = (operation.kw.get("referent_schema"), operation.referent_table, *operation.remote_cols)
        return ("refer", *place, tuple(_columns(operation)), there)
    if isinstance(operation, ops.CreateUniqueConstraintOp) or getattr(operation, "unique", False):
        return ("unique", *place, frozenset(_columns(operation)))
    return None


def _columns(operation: Any) -> list[str]:
    if isinstance(operation, ops.CreateForeignKeyOp):
        return [str(column) for column in operation.local_cols]
    return [str(getattr(column, "name", column)) for column in operation.columns]


def _place(operation: Any) -> tuple[str | None, str]:
    if isinstance(operation, ops.CreateForeignKeyOp):
        return operation.kw.get("source_schema"), operation.source_table
    return getattr(operation, "schema", None), str(getattr(operation, "table_name", ""))


def _drop_table(_op: Any, _dialect: AlchemyDialect) -> str:
    return "deletes every row of it"


def _drop_column(_op: Any, _dialect: AlchemyDialect) -> str:
    return "deletes every value in it"


def _add_column(op: Any, dialect: AlchemyDialect) -> str | None:
    column = op.column
    if column.nullable or column.server_default is not None or column.primary_key:
        return None
    if dialect.name in MYSQL:  # which fills in 0 or ''
        if not isinstance(column.type, (Date, DateTime)):
            return None
        return "fails where the table has a row, and zero dates are refused: NOT NULL, and no default on the server"
    return "fails where the table has a row: NOT NULL, and no default on the server"


def _alter_column(op: Any, dialect: AlchemyDialect) -> str | None:
    risks = []
    if op.modify_type is not None and not fits(op.existing_type, op.modify_type, dialect):
        risks.append(DOES_NOT_FIT)
    if op.modify_nullable is False:
        risks.append("fails where a row has no value in it")
    return "; ".join(risks) or None


def _drop_index(op: Any, _dialect: AlchemyDialect) -> str:
    unique = op.kw.get("unique") or getattr(getattr(op, "_reverse", None), "unique", False)
    return "lets duplicates in" if unique else "makes queries slow that used it"


def _drop_constraint(op: Any, _dialect: AlchemyDialect) -> str:
    let_in = {
        "foreignkey": "rows that refer to nothing",
        "unique": "duplicates",
        "primary": "duplicates and rows without a key",
    }
    return f"lets {let_in.get(op.constraint_type or '', 'values that it refused')} in"


def _unique(_op: Any, _dialect: AlchemyDialect) -> str:
    return "fails where two rows have the same value"


def _create_index(op: Any, dialect: AlchemyDialect) -> str | None:
    return _unique(op, dialect) if op.unique else None


def _foreign_key(op: Any, _dialect: AlchemyDialect) -> str | None:
    return None if op.kw.get("postgresql_not_valid") else "fails where a row refers to nothing"


def _check(op: Any, _dialect: AlchemyDialect) -> str | None:
    return None if op.kw.get("postgresql_not_valid") else "fails where a row breaks it"


def _execute(_op: Any, _dialect: AlchemyDialect) -> str:
    return "unknown: what it does cannot be told from here"


_RISKS: Mapping[type, Callable[[Any, AlchemyDialect], str | None]] = {
    ops.DropTableOp: _drop_table,
    ops.DropColumnOp: _drop_column,
    ops.AddColumnOp: _add_column,
    ops.AlterColumnOp: _alter_column,
    ops.DropIndexOp: _drop_index,
    ops.DropConstraintOp: _drop_constraint,
    ops.CreateUniqueConstraintOp: _unique,
    ops.CreateIndexOp: _create_index,
    ops.CreateForeignKeyOp: _foreign_key,
    ops.CreateCheckConstraintOp: _check,
    ops.ExecuteSQLOp: _execute,
}
