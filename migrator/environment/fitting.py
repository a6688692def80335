"""Whether a column's new type holds every value of its old one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Enum, Float, Integer, Numeric, SmallInteger, String, Text, TypeDecorator
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect as AlchemyDialect

MYSQL = ("mysql", "mariadb")
"""The names of SQLAlchemy's dialects for it."""


def fits(old: Any, new: Any, dialect: AlchemyDialect) -> bool:
    """Each value of the old type is one of the new: a longer text, a larger integer. False where nobody knows."""
    if old is None:
        return False
    old, new = (_inner(one, dialect) for one in (old, new))
    if isinstance(new, Enum) and (isinstance(old, Enum) or _refuses_others(new, dialect)):
        return isinstance(old, Enum) and set(old.enums) <= set(new.enums)
    if isinstance(new, mysql.SET):
        return isinstance(old, mysql.SET) and set(old.values) <= set(new.values)
    if isinstance(old, String) and isinstance(new, String):
        return _text_fits(old, new, dialect)
    if isinstance(old, Integer) and isinstance(new, Integer):
        (low, high), (lowest, highest) = _range(old), _range(new)
        return lowest <= low and high <= highest
    if isinstance(old, Numeric) and isinstance(new, Numeric):
        return _number_fits(old, new, dialect)
    return False


def _inner(type_: Any, dialect: AlchemyDialect) -> Any:
    type_ = getattr(type_, "_variant_mapping", {}).get(dialect.name, type_)
    return type_.load_dialect_impl(dialect) if isinstance(type_, TypeDecorator) else type_


def _refuses_others(type_: Enum, dialect: AlchemyDialect) -> bool:
    """An enumeration is a mere text where the database has none, and no constraint was asked for."""
    return (type_.native_enum and dialect.supports_native_enum) or type_.create_constraint


def _text_fits(old: String, new: String, dialect: AlchemyDialect) -> bool:
    if dialect.name in MYSQL:
        room = _mysql_bytes(new)
        if room is not None:
            needed = _mysql_bytes(old)
            if needed is None:
                needed = min((old.length or 0) * _LONGEST_CHARACTER, _MYSQL_TEXT)
            return room >= needed
        if new.length is not None and (most := _mysql_bytes(old)) is not None:
            return new.length >= most
    return new.length is None or (old.length is not None and new.length >= old.length)


_MYSQL_TEXT = 2**16 - 1
_LONGEST_CHARACTER = 4


def _mysql_bytes(type_: String) -> int | None:
    """What one of MySQL's ``TEXT`` types holds at most; None of a type with a number of characters."""
    for kind, limit in ((mysql.TINYTEXT, 2**8), (mysql.MEDIUMTEXT, 2**24), (mysql.LONGTEXT, 2**32)):
        if isinstance(type_, kind):
            return limit - 1
    if not isinstance(type_, Text):
        return None
    if type_.length is None:
        return _MYSQL_TEXT
    # TEXT(1000) is the smallest type that holds so many characters.
    longest = type_.length * _LONGEST_CHARACTER
    return next((2**bits - 1 for bits in (8, 16, 24) if longest < 2**bits), 2**32 - 1)


def _range(type_: Any) -> tuple[int, int]:
    """The smallest and the largest value."""
    if isinstance(type_, mysql.TINYINT):
        size = 1
    elif isinstance(type_, mysql.MEDIUMINT):
        size = 3
    else:
        size = 2 if isinstance(type_, SmallInteger) else 8 if isinstance(type_, BigInteger) else 4
    if _unsigned(type_):
        return 0, 2 ** (8 * size) - 1
    half = 2 ** (8 * size - 1)
    return -half, half - 1


def _unsigned(type_: Any) -> bool:
    return bool(getattr(type_, "unsigned", False) or getattr(type_, "zerofill", False))


def _number_fits(old: Any, new: Any, dialect: AlchemyDialect) -> bool:
    if type(old) is not type(new) and (isinstance(old, Float) or isinstance(new, Float)):
        return False
    if _unsigned(new) and not _unsigned(old):
        return False
    before, after = _digits(old, dialect), _digits(new, dialect)
    return after is None or (before is not None and all(a >= b for a, b in zip(after, before, strict=True)))


def _digits(type_: Any, dialect: AlchemyDialect) -> tuple[int, int] | None:
    """Digits before and after the point; None: as many as you like."""
    if type_.precision is None:
        return (10, 0) if dialect.name in MYSQL and not isinstance(type_, Float) else None
    scale = type_.scale or 0
    return type_.precision - scale, scale
