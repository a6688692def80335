"""What a revision does on SQLite past SQLAlchemy: ``executescript()`` and cursors of the driver's own.

``executescript()`` commits what is open, and what it runs is committed statement by statement. SQLite's authorizer
is asked when a statement is prepared, whoever sends it; here it forbids nothing.
"""

from __future__ import annotations

import contextlib
import sqlite3

from migrator.dialects import RawConnection
from migrator.dialects.unwrapped import driver_connection

_DML = (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)
_SCHEMA = ("sqlite_master", "sqlite_schema")


class Unseen:
    """Notes on one connection, from one step on."""

    def __init__(self) -> None:
        self._committed = False
        self._outside = False
        self._switch = ""

    def watch(self, raw: RawConnection) -> None:
        """A step begins. A connection that lives in another thread (``aiosqlite``) is left alone."""
        self._committed = self._outside = False
        self._switch = ""
        driver = _driver(raw)
        if driver is None:
            return

        def note(action: int, first: str | None, second: str | None, *_: str | None) -> int:
            if action == sqlite3.SQLITE_TRANSACTION:
                self._committed = self._committed or (first == "COMMIT" and driver.in_transaction)
            elif action in _DML and not driver.in_transaction:
                # The driver begins a transaction for rows after this, and none for DDL.
                self._outside = True
                self._committed = self._committed or first in _SCHEMA
            elif action == sqlite3.SQLITE_PRAGMA and driver.in_transaction:
                self._switch = _value_for_foreign_keys(first, second) or self._switch
            return sqlite3.SQLITE_OK

        driver.set_authorizer(note)

    def leave(self, raw: RawConnection) -> None:
        """The run has finished with the connection."""
        driver = _driver(raw)
        if driver is not None:
            with contextlib.suppress(sqlite3.Error):
                driver.set_authorizer(None)

    def switch_of_foreign_keys(self) -> str:
        """The value that a cursor of the driver's own has just given ``PRAGMA foreign_keys``; told once.

        In a transaction that has no effect, and says so nowhere. Without ours there would have been none.
        """
        value, self._switch = self._switch, ""
        return value

    def committed(self, raw: RawConnection) -> bool:
        """Whether something was committed since the step began."""
        driver = _driver(raw)
        return self._committed or (self._outside and driver is not None and not driver.in_transaction)


def _driver(raw: RawConnection) -> sqlite3.Connection | None:
    driver = driver_connection(raw)
    return driver if isinstance(driver, sqlite3.Connection) else None


def _value_for_foreign_keys(pragma: str | None, value: str | None) -> str:
    named = pragma is not None and pragma.lower() == "foreign_keys"
    return value if named and value is not None and value.isalnum() else ""
