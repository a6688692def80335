"""How MySQL and MariaDB are asked: literals, names, and rows by the names of their columns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from migrator.dialects import RawConnection

_VERSION = re.compile(r"(?:5\.5\.5-)?(\d+(?:\.\d+)*)")


def literal(text: str) -> str:
    """``text`` as an SQL string literal, whatever ``sql_mode`` says of backslashes and quotes."""
    return f"_utf8mb4 0x{text.encode().hex()}" if text else "''"


def identifier(name: str) -> str:
    """``name`` as a quoted SQL identifier."""
    return "`" + name.replace("\0", "").replace("`", "``") + "`"


def records(raw: RawConnection, sql: str) -> list[dict[str, Any]]:
    """Run one statement; its rows by column name, in small letters: servers differ in order and number."""
    cursor = raw.cursor()
    try:
        cursor.execute(sql)
        names = [str(column[0]).lower() for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []
    finally:
        cursor.close()


def variables(raw: RawConnection, names: Iterable[str], scope: str = "SESSION") -> dict[str, str]:
    """The values of those server variables that this server has."""
    listed = ", ".join(f"'{name}'" for name in names)
    found = records(raw, f"SHOW {scope} VARIABLES WHERE Variable_name IN ({listed})")
    return {text(row["variable_name"]): text(row["value"]) for row in found}


def text(value: object) -> str:
    """A value as text: some columns come as bytes, depending on server and driver."""
    if isinstance(value, (bytes, bytearray)):
        return value.decode(errors="replace")
    return "" if value is None else str(value)


def version_number(version: str) -> str:
    """``10.11.6`` of ``10.11.6-MariaDB-1:10.11.6+maria~deb12`` (some versions say ``5.5.5-`` before it)."""
    found = _VERSION.match(version)
    return found.group(1) if found else version
