"""What is true in the database afterwards, asked on a new connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.database import NoAnswer, on_connection_like
from migrator.dialects import Dialect, LockKey, RawConnection
from migrator.results import InvalidIndex, LockHolder, Revisions

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

TRIES = 3
"""A new connection may meet a server that is just recovering; the verdict deserves more than one try."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a new connection read.

    :ivar rows: of the version table; empty where there is none.
    :ivar tables: how many tables the schema holds; counted only where there is no version table.
    """

    rows: Revisions
    version_table_exists: bool
    tables: int
    invalid_indexes: tuple[InvalidIndex, ...]
    holder: LockHolder | None


def read_truth(
    engine: Engine, dialect: Dialect, key: LockKey, timeout_seconds: float, *, tries: int = TRIES
) -> Truth:
    """Read the version table named by ``key``, on a new connection made as ``engine`` makes its own.

    It is asked for by its schema-qualified name: ``env.py`` may have set ``search_path`` on the migration's
    connection, and a new one would find another table.

    :raises Exception: what the driver raises, or :class:`NoAnswer`.
    """

    def read(raw: RawConnection) -> Truth:
        found = dialect.version_table(raw, key.version_table, key.schema or None)
        return Truth(
            rows=dialect.version_rows(raw, *found) if found is not None else (),
            version_table_exists=found is not None,
            tables=dialect.count_tables(raw, key.schema) if found is None else 0,
            invalid_indexes=dialect.invalid_indexes(raw),
            holder=dialect.holder(raw, key),
        )

    for _ in range(tries - 1):
        try:
            return on_connection_like(engine, read, timeout_seconds)
        except NoAnswer:
            continue
    return on_connection_like(engine, read, timeout_seconds)
