"""How a line of text is laid out: a label in the first column, the fact behind it."""

from __future__ import annotations

from collections.abc import Sequence

LABEL_WIDTH = 10
INDENT = " " * LABEL_WIDTH

COLOURS = {"failed": "31", "verified": "32", "done": "32", "next": "36"}
"""ANSI colours of the labels that the eye looks for; the others are bold."""

BOLD = "1"


def labelled(label: str, text: str) -> str:
    """``text`` behind ``label`` in its column."""
    return f"{label:<{LABEL_WIDTH}}{text}" if len(label) < LABEL_WIDTH else f"{label} {text}"


def block(label: str, texts: Sequence[str]) -> list[str]:
    """Lines of which only the first has the label."""
    return [labelled(label, text) if index == 0 else INDENT + text for index, text in enumerate(texts)]


def label_of_step(number: int, total: int) -> str:
    """``  1/3``, ``   1/12``."""
    return f"  {number:>{len(str(total))}}/{total}"


def coloured(line: str, label: str) -> str:
    """``line``, which begins with ``label``, with the label's word in its colour (ANSI)."""
    word = label.strip()
    if not word:
        return line
    start = line.index(word)
    end = start + len(word)
    return f"{line[:start]}\x1b[{COLOURS.get(word, BOLD)}m{word}\x1b[0m{line[end:]}"
