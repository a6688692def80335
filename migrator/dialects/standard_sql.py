"""Literals and names as the SQL standard writes them; PostgreSQL and SQLite follow it, MySQL does not."""

from __future__ import annotations


def literal(text: str) -> str:
    """``text`` as an SQL string literal (in PostgreSQL ``standard_conforming_strings`` is on since 9.1)."""
    return "'" + text.replace("\0", "").replace("'", "''") + "'"


def identifier(name: str) -> str:
    """``name`` as a quoted SQL identifier."""
    return '"' + name.replace("\0", "").replace('"', '""') + '"'
