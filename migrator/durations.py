"""Durations as people write and read them. Everywhere else they are seconds, as floats."""

from __future__ import annotations

import math
import re
from datetime import timedelta

LONGEST_SECONDS = 2_147_483.0
"""PostgreSQL keeps its timeouts as milliseconds in 32 bits, signed."""
SHORTEST_SECONDS = 0.001
"""PostgreSQL rounds anything below to 0, and takes 0 for "no limit"."""

_NUMBER = r"\d+(?:\.\d+)?|\.\d+"
_WITH_UNITS = re.compile(
    rf"(?:({_NUMBER})\s*h\s*)?(?:({_NUMBER})\s*m\s*)?(?:({_NUMBER})\s*s\s*)?(?:({_NUMBER})\s*ms)?"
)
_UNIT_SECONDS = (3600.0, 60.0, 1.0, 0.001)


class UnacceptableValue(ValueError):
    """A setting's value is wrong: ``problem`` says how, ``allowed`` what would be right. Holds no secret."""

    def __init__(self, problem: str, allowed: str) -> None:
        super().__init__(f"{problem}; {allowed}")
        self.problem = problem
        self.allowed = allowed


def parse_duration(value: object) -> float:
    """Seconds from ``1.5``, ``500ms``, ``30s``, ``10m``, ``1h``, ``1m30s``, a number or a timedelta.

    :raises UnacceptableValue: not a duration, negative, or longer than :data:`LONGEST_SECONDS`.
    """
    seconds: float | None = None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        seconds = _parse_text(value.strip().lower())
    if seconds is None or math.isnan(seconds):
        raise UnacceptableValue(
            "is not a duration", "give seconds (1.5) or a number with a unit (500ms, 30s, 10m, 1h, 1m30s)"
        )
    if seconds < 0:
        raise UnacceptableValue("is negative", "give a duration from 0 up")
    if seconds > LONGEST_SECONDS:
        raise UnacceptableValue("is too long", f"give at most {LONGEST_SECONDS // 3600:.0f}h")
    return seconds


def _parse_text(text: str) -> float | None:
    if re.fullmatch(_NUMBER, text):
        return float(text)
    match = _WITH_UNITS.fullmatch(text)
    if not text or match is None:
        return None
    return sum(float(number) * unit for number, unit in zip(match.groups("0"), _UNIT_SECONDS, strict=True))


def format_duration(seconds: float) -> str:
    """For people: ``0.04 s``, ``500 ms``, ``1.5 s``, ``15 s``, ``1 m 52 s``, ``10 m``, ``1 h 5 m``."""
    if seconds < 0.0995:
        decimals = next((n for n in (2, 3) if round(seconds, n)), 2)
        return f"{seconds:.{decimals}f} s" if seconds else "0 s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
