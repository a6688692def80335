"""What to do about an error of a migration, by SQLSTATE. Each recipe is a section of ``docs/recipes.md``."""

from __future__ import annotations

from migrator.dialects import ErrorKind, ServerError

_SAME_AGAIN = "The same image will fail again. "

_BY_SQLSTATE = {
    "23502": "Add the column nullable, fill it, then set NOT NULL (docs/recipes.md#not-null).",
    "23505": "Find and merge the duplicates in a revision before this one (docs/recipes.md#unique).",
    "23503": "Find the rows without a parent, and correct or delete them first (docs/recipes.md#foreign-key).",
    "23514": "Find the rows that break the check, and correct them first (docs/recipes.md#check).",
    "25001": "The statement cannot run in a transaction: put it into "
    "op.get_context().autocommit_block() (docs/recipes.md#concurrent-index).",
    "25P02": "An earlier statement of this revision failed and its error was swallowed: let it be raised.",
    "42P01": "A table that the revision needs is missing: check its down_revision, and search_path.",
    "42703": "A column that the revision needs is missing: check its down_revision.",
    "42P07": "The object is there already, made by hand or by another tool (docs/recipes.md#already-there).",
    "42701": "The column is there already, made by hand or by another tool (docs/recipes.md#already-there).",
    "42710": "The object is there already, made by hand or by another tool (docs/recipes.md#already-there).",
    "42601": "Correct the statement: this server version does not understand it.",
    "53200": "The transaction holds more locks than the server has room for: split the revision.",
    "57014": "The statement ran longer than statement_timeout allows: set MIGRATOR_STATEMENT_TIMEOUT, "
    "or split the work (docs/recipes.md#backfill).",
}


def advice_for(found: ServerError) -> str:
    """The next action after ``found`` ended a migration."""
    if found.kind is ErrorKind.DISK_FULL:
        return "The server's disk is full: free or add space, then run the same command again."
    if found.sqlstate == "57014" and "user request" in found.message:
        return (
            "Somebody cancelled the statement on the server: find out why, then run the same command again."
        )
    if found.sqlstate in ("25001", "42601", "42P01", "42703"):
        return _SAME_AGAIN + _BY_SQLSTATE[found.sqlstate]
    return _SAME_AGAIN + _BY_SQLSTATE.get(
        found.sqlstate, "Correct the revision or the data, then build or run again."
    )
