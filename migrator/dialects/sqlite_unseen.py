"""What a revision does on SQLite past SQLAlchemy: ``executescript()`` and cursors of the driver's own.

``executescript()`` commits what is open, and what it runs is committed statement by statement. SQLite's authorizer
is asked when a statement is prepared, whoever sends it; here it forbids nothing.
"""

from __future__ import annotations

import contextlib
import sqlite3

from migrator.dialects import RawConnection

_DML = (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)
_SCHEMA = ("sqlite_master", "sqlite_schema")


class Unseen:
    """Notes on one connection, from one step on."""

    def __init__(self) -> None:
        self._committed = False
        self._outside = False

    def watch(self, raw: RawConnection) -> None:
        """A step begins. A connection that lives in another thread (``aiosqlite``) is left alone."""
        self._committed = self._outside = False
        driver = _driver(raw)
        if driver is None:
            return

        def note(action: int, first: str | None, *_: str | None) -> int:
            if action == sqlite3.SQLITE_TRANSACTION:
                self._committed = self._committed or (first == "COMMIT" and driver.in_transaction)
            elif action in _DML and not driver.in_transaction:
                # The driver begins a transaction for rows after this, and none for DDL.
                self._outside = True
                self._committed = self._committed or first in _SCHEMA
            return sqlite3.SQLITE_OK

        driver.set_authorizer(note)

    def leave(self, raw: RawConnection) -> None:
        """The run has finished with the connection."""
        driver = _driver(raw)
        if driver is not None:
            with contextlib.suppress(sqlite3.Error):
                driver.set_authorizer(None)

    def committed(self, raw: RawConnection) -> bool:
        """Whether something was committed since the step began."""
        driver = _driver(raw)
        return self._committed or (self._outside and driver is not None and not driver.in_transaction)


def _driver(raw: RawConnection) -> sqlite3.Connection | None:
    driver = getattr(raw, "driver_connection", raw)
    return driver if isinstance(driver, sqlite3.Connection) else None
