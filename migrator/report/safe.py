"""What every report does to a value before it leaves: mask secrets, disarm control characters, shorten.

The order matters and is the same everywhere: first the values are masked whole, then they are shortened and
put on one line. The other way round, a cut in the middle of a password would hide it from the mask.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar, cast

from migrator.errors import MigratorError
from migrator.redaction import without_secret_literals

Redact = Callable[[str], str]
"""Takes any text and returns it with the secrets in it masked."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""A value that the ``json`` module writes as it is."""

JsonObject = dict[str, Json]

STATEMENT_LIMIT = 200
LINE_LIMIT = 1000

Value = TypeVar("Value")
Error = TypeVar("Error", bound=MigratorError)


def unchanged(text: str) -> str:
    """The mask for values that hold no secret."""
    return text


def redacted(value: Value, redact: Redact) -> Value:
    """``value`` with each string in it masked: dataclasses, tuples, lists and mappings, at any depth."""
    return cast(Value, _redacted(value, redact))


def redacted_error(error: Error, redact: Redact) -> Error:
    """A copy of ``error`` with each string in its attributes masked, its result included.

    The traceback and the causes are those of the original: whoever formats them has to mask the text.
    """
    copy = type(error).__new__(type(error))
    copy.__dict__.update({name: _redacted(value, redact) for name, value in error.__dict__.items()})
    copy.args = (copy.message,)
    copy.__cause__ = error.__cause__
    copy.__context__ = error.__context__
    copy.__suppress_context__ = error.__suppress_context__
    return copy.with_traceback(error.__traceback__)


def _redacted(value: object, redact: Redact) -> object:
    if isinstance(value, enum.Enum):
        return value
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, (tuple, list)):
        masked = [_redacted(item, redact) for item in value]
        return masked if isinstance(value, list) else tuple(masked)
    if isinstance(value, Mapping):
        return {key: _redacted(item, redact) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = {}
        for name in _field_names(type(value)):
            before = getattr(value, name)
            after = _redacted(before, redact)
            if after is not before and after != before:
                changed[name] = after
        # Nearly always there is nothing to mask, and copying costs more than looking.
        return replace(value, **changed) if changed else value
    return value


@functools.cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def plain(value: object) -> Json:
    """``value`` in JSON's own types: dataclasses as objects, enum members by value, tuples as arrays.

    :raises TypeError: for a type that has no form in JSON.
    """
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, float):
        # Microseconds are as far as any clock here can be trusted; JSON has no infinity.
        return round(value, 6) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def one_line(text: str) -> str:
    """``text`` on one line: white space collapsed, everything that a terminal would obey spelled out."""
    return _disarmed(" ".join(text.split()))


def lines(text: str) -> list[str]:
    """The lines of ``text`` without empty ones, inner spaces kept, each at most ``LINE_LIMIT`` characters."""
    return [
        shortened(_disarmed(line.expandtabs(4).rstrip()), LINE_LIMIT)
        for line in text.splitlines()
        if line.strip()
    ]


def shortened(text: str, limit: int) -> str:
    """``text``, or its beginning and ``…`` where it has more than ``limit`` characters."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)].rstrip() + "…"


def statement_words(text: str, limit: int = STATEMENT_LIMIT) -> str:
    """An SQL statement on one line, its beginning where it is long."""
    # Cut before the costly work: a bulk insert may have megabytes.
    return shortened(without_secret_literals(one_line(text[: limit * 8])), limit)


def display_width(text: str) -> int:
    """How many columns a terminal needs for ``text``, which has no control characters."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def fitted(text: str, columns: int) -> str:
    """``text``, or as much of it as a terminal shows in ``columns``, with ``…`` at its end."""
    if display_width(text) <= columns:
        return text
    kept = text[: max(columns - 1, 0)]
    while kept and display_width(kept) > columns - 1:
        kept = kept[:-1]
    return kept + "…"


def padded(text: str, width: int) -> str:
    """``text`` with spaces after it up to ``width`` columns."""
    return text + " " * max(width - display_width(text), 0)


def _disarmed(text: str) -> str:
    if not text.isprintable():
        text = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
        )
    # A continuous-integration log takes a line that begins with "::", and "##[" anywhere, for a command.
    if text.lstrip().startswith("::"):
        text = text.replace("::", ": :", 1)
    return text.replace("##[", "## [")
