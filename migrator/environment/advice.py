"""What to do about an error of a migration, by its kind; the recipes are those of ``migrator explain``."""

from __future__ import annotations

from migrator.dialects import ErrorKind, ServerError

_SAME_AGAIN = "The same image will fail again. "

_BY_KIND = {
    ErrorKind.NULL_VALUE: "Add the column nullable, fill it, then set NOT NULL (migrator explain not-null).",
    ErrorKind.DUPLICATE_KEY: "Find and merge the duplicates in a revision before this one (migrator explain unique).",
    ErrorKind.FOREIGN_KEY: "Find the rows without a parent, and correct or delete them first "
    "(migrator explain foreign-key).",
    ErrorKind.CHECK_VIOLATED: "Find the rows that break the check, and correct them first (migrator explain check).",
    ErrorKind.NEEDS_NO_TRANSACTION: "The statement cannot run in a transaction: put it into "
    "op.get_context().autocommit_block() (migrator explain concurrent-index).",
    ErrorKind.TRANSACTION_ABORTED: "An earlier statement of this revision failed and its error was swallowed: "
    "let it be raised.",
    ErrorKind.NO_TABLE: "A table that the revision needs is missing: check its down_revision, and the schema "
    "that it is looked for in.",
    ErrorKind.NO_COLUMN: "A column that the revision needs is missing: check its down_revision.",
    ErrorKind.ALREADY_EXISTS: "It is there already: made by hand, by another tool, or by an earlier try of this "
    "revision that was not undone (migrator explain already-there).",
    ErrorKind.SYNTAX: "Correct the statement: this server version does not understand it.",
    ErrorKind.SEVERAL_STATEMENTS: "asyncpg takes one statement at a time: give each an op.execute() of its own "
    "(migrator explain asyncpg).",
    ErrorKind.CACHED_PLAN: "The table was changed where SQLAlchemy does not see it (DO, a function): put that ALTER "
    "into an op.execute() of its own, or prepared_statement_cache_size=0 into the URL (migrator explain asyncpg).",
    ErrorKind.TOO_MANY_LOCKS: "The transaction holds more locks than the server has room for: split the revision.",
    ErrorKind.STATEMENT_TIMEOUT: "The statement ran longer than the statement timeout allows: set "
    "MIGRATOR_STATEMENT_TIMEOUT, or split the work (migrator explain backfill).",
}


def advice_for(found: ServerError) -> str:
    """The next action after ``found`` ended a migration."""
    if found.kind is ErrorKind.DISK_FULL:
        return "The server's disk is full: free or add space, then run the same command again."
    if found.kind is ErrorKind.CANCELLED:
        return (
            "Somebody cancelled the statement on the server: find out why, then run the same command again."
        )
    return _SAME_AGAIN + _BY_KIND.get(
        found.kind, "Correct the revision or the data, then build or run again."
    )
