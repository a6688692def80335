"""What SQLite's errors mean for a run."""

from __future__ import annotations

import sqlite3

from migrator.dialects import ErrorKind, ServerError
from migrator.dialects.unwrapped import driver_error

# https://www.sqlite.org/rescode.html; the low byte is the primary code.
_BY_CODE = {
    275: ErrorKind.CHECK_VIOLATED,
    787: ErrorKind.FOREIGN_KEY,
    1299: ErrorKind.NULL_VALUE,
    1555: ErrorKind.DUPLICATE_KEY,
    2067: ErrorKind.DUPLICATE_KEY,
    2579: ErrorKind.DUPLICATE_KEY,
}
_BY_PRIMARY_CODE = {
    3: ErrorKind.DENIED,
    5: ErrorKind.LOCK_TIMEOUT,
    6: ErrorKind.LOCK_TIMEOUT,
    8: ErrorKind.DENIED,
    9: ErrorKind.CANCELLED,
    13: ErrorKind.DISK_FULL,
    14: ErrorKind.REFUSED,
    23: ErrorKind.DENIED,
}
# SQLITE_ERROR has no finer codes: these are the library's own words.
_BY_WORDS = (
    ("already exists", ErrorKind.ALREADY_EXISTS),
    ("duplicate column name", ErrorKind.ALREADY_EXISTS),
    ("no such table", ErrorKind.NO_TABLE),
    ("no such column", ErrorKind.NO_COLUMN),
    ("has no column named", ErrorKind.NO_COLUMN),
    ("syntax error", ErrorKind.SYNTAX),
    ("within a transaction", ErrorKind.NEEDS_NO_TRANSACTION),
    ("inside a transaction", ErrorKind.NEEDS_NO_TRANSACTION),
)


def read_error(error: BaseException) -> ServerError | None:
    """See :meth:`migrator.dialects.Dialect.read_error`."""
    found = driver_error(error, lambda one: isinstance(one, sqlite3.Error))
    if not isinstance(found, sqlite3.Error):
        return None
    code: int | None = getattr(found, "sqlite_errorcode", None)
    message = " ".join(str(found).split())
    if code is None:
        # The driver's own: wrong use of a connection, or one that was closed.
        closed = "closed database" in message or "no active connection" in message
        return ServerError(ErrorKind.CONNECTION_LOST if closed else ErrorKind.OTHER, message)
    return ServerError(_kind(code, message), f"{found.sqlite_errorname}: {message}")


def _kind(code: int, message: str) -> ErrorKind:
    kind = _BY_CODE.get(code) or _BY_PRIMARY_CODE.get(code & 0xFF)
    if kind is not None:
        return kind
    return next((kind for words, kind in _BY_WORDS if words in message), ErrorKind.OTHER)
