"""Which statements of MySQL and MariaDB commit by themselves, and what the wire protocol says of transactions.

MySQL 8.4, 15.3.3 "Statements That Cause an Implicit Commit"; MariaDB, "SQL statements That Cause an Implicit
Commit". They commit what stands before them in the transaction even when they fail themselves (measured).
"""

from __future__ import annotations

import re

from migrator.dialects import RawConnection, first_word_at, rows
from migrator.dialects.unwrapped import driver_connection

IN_TRANSACTION = 1
"""``SERVER_STATUS_IN_TRANS`` of the protocol's OK packet."""

_COMMITTING = {
    *("ALTER", "CREATE", "DROP", "RENAME", "TRUNCATE", "GRANT", "REVOKE"),
    *("BEGIN", "START", "LOCK", "CACHE", "CHECK", "FLUSH", "OPTIMIZE", "REPAIR", "RESET"),
    *("INSTALL", "UNINSTALL", "IMPORT", "CHANGE", "STOP"),
}
_NOT_COMMITTING = re.compile(
    r"\b(?:(?:CREATE\s+(?:OR\s+REPLACE\s+)?|DROP\s+)TEMPORARY|BEGIN\s+NOT\s+ATOMIC)\b", re.IGNORECASE
)
_ALSO_COMMITTING = re.compile(
    r"\b(?:ANALYZE\s+(?:NO_WRITE_TO_BINLOG\s+|LOCAL\s+)?TABLES?|LOAD\s+INDEX|SET\s+PASSWORD)\b", re.IGNORECASE
)
_MAY_COMMIT = ("INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "CALL", "EXECUTE", "UNLOCK")
_PROGRAMS = ("CALL", "EXECUTE", "IF", "CASE", "LOOP", "REPEAT", "WHILE", "FOR")
_COMPOUND = re.compile(r"BEGIN\s+NOT\s+ATOMIC\b", re.IGNORECASE)
# What mysqldump writes, and MariaDB's variables for one statement: both run what stands in or behind them.
_EXECUTED_COMMENT = re.compile(r"/\*M?!\d*")
_FOR_ONE_STATEMENT = re.compile(r"SET\s+STATEMENT\s.*?\sFOR\s", re.IGNORECASE | re.DOTALL)
_BEGINNING = 200
_HERE = "migrator_here"
_NOT_ROLLED_BACK = 1196
"""``ER_WARNING_NOT_COMPLETE_ROLLBACK``"""


def commits_implicitly(statement: str) -> bool:
    """Whether the statement, run in a transaction, commits that transaction before it does anything."""
    word, beginning = _beginning(statement)
    if word in _COMMITTING:
        return _NOT_COMMITTING.match(beginning) is None
    return _ALSO_COMMITTING.match(beginning) is not None


def runs_a_program(statement: str) -> bool:
    """Whether the statement runs others that it does not show, which may commit: a procedure, a block."""
    word, beginning = _beginning(statement)
    return word in _PROGRAMS or _COMPOUND.match(beginning) is not None


def _beginning(statement: str) -> tuple[str, str]:
    """The first word that is executed, and what begins there. Words, not a parse."""
    statement = _EXECUTED_COMMENT.sub(" ", statement[: _BEGINNING * 20])
    word, index = first_word_at(statement)
    beginning = statement[index:]
    if word == "SET" and (one := _FOR_ONE_STATEMENT.match(beginning)) is not None:
        return _beginning(beginning[one.end() :])
    return word, beginning[:_BEGINNING]


def has_committed(raw: RawConnection, statement: str) -> bool:
    """Whether the statement, which succeeded in a transaction, is not undone by a rollback any more."""
    word, _ = _beginning(statement)
    if word == "COMMIT" or commits_implicitly(statement):
        return True
    # A procedure that runs DDL; a table whose engine has no transactions (MyISAM).
    return word in _MAY_COMMIT and _in_transaction(raw) is False


def outlives_rollback(raw: RawConnection) -> bool:
    """Whether rows of a table without transactions (MyISAM) were changed; MySQL counts such a table in.

    What the server warns of at a ROLLBACK, it warns of as well where the rollback goes no further than to here.
    """
    if _warns(raw):  # a deadlock has rolled back all of it
        return True
    rows(raw, f"SAVEPOINT {_HERE}")
    rows(raw, f"ROLLBACK TO SAVEPOINT {_HERE}")
    return _warns(raw)


def _warns(raw: RawConnection) -> bool:
    return any(int(number) == _NOT_ROLLED_BACK for _level, number, _words in rows(raw, "SHOW WARNINGS"))


def _in_transaction(raw: RawConnection) -> bool | None:
    """What the server said last; None where the driver does not show it."""
    driver = driver_connection(raw)
    status = getattr(driver, "server_status", None)
    # asyncmy 0.2 keeps the old status where the new one is 0, which is: no transaction.
    if not isinstance(status, int) or type(driver).__module__.startswith("asyncmy"):
        return None
    return bool(status & IN_TRANSACTION)
