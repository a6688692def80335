"""What is true in the database afterwards, asked on a new connection."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.database import NoAnswer, on_connection_like
from migrator.dialects import Dialect, LockKey, RawConnection
from migrator.results import InvalidIndex, LockHolder, Revisions

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

PATIENCE_SECONDS = 10.0
"""A new connection may meet a server or a pooler that is just coming back; the verdict deserves some waiting."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
"""Bounds of the doubling pause between two tries."""


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


def truth_on(raw: RawConnection, dialect: Dialect, key: LockKey) -> Truth:
    """What ``raw`` sees of the target named by ``key``."""
    # Who holds the lock comes first: a session that was gone then has committed, or not, before the rows are read.
    holder = dialect.holder(raw, key)
    found = dialect.version_table(raw, key.version_table, key.schema or None)
    return Truth(
        rows=dialect.version_rows(raw, *found) if found is not None else (),
        version_table_exists=found is not None,
        tables=dialect.count_tables(raw, key.schema) if found is None else 0,
        invalid_indexes=dialect.invalid_indexes(raw),
        holder=holder,
    )


def read_truth(
    engine: Engine, dialect: Dialect, key: LockKey, timeout_seconds: float, *, patience_seconds: float = 0.0
) -> Truth:
    """Read the version table named by ``key``, on a new connection made as ``engine`` makes its own.

    It is asked for by its schema-qualified name: ``env.py`` may have set ``search_path`` on the migration's
    connection, and a new one would find another table.

    :param timeout_seconds: of one try.
    :param patience_seconds: how long after the first try another one may begin, where that may help.
    :raises Exception: what the driver raises, or :class:`NoAnswer`.
    """
    begun = time.monotonic()
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return on_connection_like(engine, lambda raw: truth_on(raw, dialect, key), timeout_seconds)
        except Exception as error:
            found = dialect.read_error(error)
            passing = isinstance(error, NoAnswer) or (found is not None and found.kind.may_pass)
            if not passing or time.monotonic() - begun + pause > patience_seconds:
                raise
        time.sleep(pause * random.uniform(0.7, 1.3))
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
