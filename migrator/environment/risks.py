"""What an operation may cost: data that is gone afterwards, or a run that fails on the rows that are there.

Told from Alembic's operations alone. What a revision's own SQL does is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from alembic.operations import ops
from sqlalchemy import BigInteger, Integer, Numeric, SmallInteger, String, TypeDecorator
from sqlalchemy.engine import Dialect as AlchemyDialect

DOES_NOT_FIT = "fails, or cuts something off, where a value does not fit the new type"


def risk_of(operation: Any, dialect: AlchemyDialect) -> str | None:
    """In words, to be read after what the operation does; None: nothing is lost, whatever the rows are."""
    for kind, risk in _RISKS.items():
        if isinstance(operation, kind):
            return risk(operation, dialect)
    return None


def _drop_table(_op: Any, _dialect: AlchemyDialect) -> str:
    return "deletes every row of it"


def _drop_column(_op: Any, _dialect: AlchemyDialect) -> str:
    return "deletes every value in it"


def _add_column(op: Any, _dialect: AlchemyDialect) -> str | None:
    column = op.column
    if column.nullable or column.server_default is not None or column.primary_key:
        return None
    return "fails where the table has a row: NOT NULL, and no default on the server"


def _alter_column(op: Any, dialect: AlchemyDialect) -> str | None:
    risks = []
    if op.modify_type is not None and not _fits(op.existing_type, op.modify_type, dialect):
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


def _execute(_op: Any, _dialect: AlchemyDialect) -> str:
    return "unknown: what it does cannot be told from here"


_RISKS: Mapping[type, Callable[[Any, AlchemyDialect], str | None]] = {
    ops.DropTableOp: _drop_table,
    ops.DropColumnOp: _drop_column,
    ops.AddColumnOp: _add_column,
    ops.AlterColumnOp: _alter_column,
    ops.DropIndexOp: _drop_index,
    ops.DropConstraintOp: _drop_constraint,
    ops.ExecuteSQLOp: _execute,
}


def _fits(old: Any, new: Any, dialect: AlchemyDialect) -> bool:
    """Each value of the old type is one of the new: a longer text, a larger integer. False where nobody knows."""
    if old is None:
        return False
    old, new = (_inner(one, dialect) for one in (old, new))
    if isinstance(old, String) and isinstance(new, String):
        return new.length is None or (old.length is not None and new.length >= old.length)
    if isinstance(old, Integer) and isinstance(new, Integer):
        return _size(new) >= _size(old)
    if isinstance(old, Numeric) and isinstance(new, Numeric) and type(old) is type(new):
        before, after = _digits(old), _digits(new)
        return after is None or (
            before is not None and all(a >= b for a, b in zip(after, before, strict=True))
        )
    return False


def _inner(type_: Any, dialect: AlchemyDialect) -> Any:
    return type_.load_dialect_impl(dialect) if isinstance(type_, TypeDecorator) else type_


def _size(type_: Integer) -> int:
    return 2 if isinstance(type_, SmallInteger) else 8 if isinstance(type_, BigInteger) else 4


def _digits(type_: Any) -> tuple[int, int] | None:
    """Digits before and after the point; None: as many as you like."""
    if type_.precision is None:
        return None
    scale = type_.scale or 0
    return type_.precision - scale, scale
