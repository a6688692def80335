"""Where the lines go: a stream that may be a terminal, a pipe, closed, full, or written to by two threads."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Mapping
from typing import TextIO

ERASE_LINE = "\r\x1b[2K"
_COMMAND = re.compile(r"^[^\S\n]*::|##\[", re.MULTILINE)


def colour_wanted(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to colour what goes to ``stream``.

    ``NO_COLOR`` (https://no-color.org) wins, then ``FORCE_COLOR``; else a terminal that is not ``TERM=dumb``.
    """
    if environ.get("NO_COLOR"):
        return False
    forced = environ.get("FORCE_COLOR")
    if forced:
        return forced.lower() not in ("0", "false")
    return live_wanted(stream, environ)


def live_wanted(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a line on ``stream`` can be drawn over: a terminal that is not ``TERM=dumb``."""
    return environ.get("TERM") != "dumb" and is_terminal(stream)


def on_github(environ: Mapping[str, str]) -> bool:
    """Whether this process is a step of a GitHub workflow."""
    return environ.get("GITHUB_ACTIONS") == "true"


def without_commands(text: str) -> str:
    """``text`` with nothing in it that a GitHub runner takes for a command to itself.

    It takes each line that begins with ``::``, after blanks, and ``##[`` anywhere (actions/runner, ActionCommand.cs).
    """
    return _COMMAND.sub(lambda found: f"{found[0][:-1]} {found[0][-1]}", text)


def is_terminal(stream: TextIO) -> bool:
    """``stream.isatty()``; a closed stream is none."""
    try:
        return stream.isatty()
    except (OSError, ValueError):
        return False


def discard(stream: TextIO) -> None:
    """Point a stream that cannot be written to at the null device. Never raises."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)


class Output:
    """Writes whole lines to a stream, from any thread, and never raises.

    A pipe that nobody reads, a full disk or a closed stream must not end a migration half-way. The first such
    error is kept in ``trouble``.
    """

    def __init__(self, stream: TextIO) -> None:
        self.trouble: Exception | None = None
        self._stream = stream
        # Re-entrant: a signal handler may report while the main thread is inside this very block.
        self._lock = threading.RLock()
        self._drawn = False

    def line(self, text: str) -> None:
        """Write ``text`` and a line break, in the place of the live line if one is drawn."""
        with self._lock:
            start = ERASE_LINE if self._drawn else ""
            self._drawn = False
            self._write(f"{start}{text}\n")

    def draw(self, text: str) -> None:
        """Draw ``text`` as the live line, over the one before. The next :meth:`line` takes its place."""
        with self._lock:
            self._drawn = True
            self._write(f"{ERASE_LINE}{text}")

    def clear(self) -> None:
        """Take the live line away, if one is drawn."""
        with self._lock:
            if self._drawn:
                self._drawn = False
                self._write(ERASE_LINE)

    def columns(self) -> int:
        """The width of the terminal at this moment; 80 where it cannot be asked."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def close(self) -> None:
        """Clear the live line and flush. The stream stays open.

        A standard stream that cannot be written to is pointed at the null device: otherwise Python's own flush
        at exit fails, too, and turns every exit code into 120.
        """
        self.clear()
        try:
            self._stream.flush()
        except (OSError, ValueError) as problem:
            self._remember(problem)
        if self.trouble is None:
            return
        discard(self._stream)

    def _write(self, text: str) -> None:
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError as problem:
                encoding = problem.encoding
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._stream.flush()
        except (OSError, ValueError) as problem:
            self._remember(problem)

    def _remember(self, problem: Exception) -> None:
        self.trouble = self.trouble or problem
