"""What a revision that takes long is doing, asked from beside it and told at growing intervals."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from migrator.durations import format_duration
from migrator.events import Notice, Reporter, StepRunning
from migrator.lock import next_telling
from migrator.results import Activity, Blocker, Step

TICK_SECONDS = 0.2
"""How often the watch looks at the clock; the server is asked far less often."""

LIVE_SECONDS = 1.0
"""How often a line on a terminal is drawn again."""


@dataclass(slots=True)
class _Running:
    step: Step
    number: int
    total: int
    begun: float
    look: Callable[[], Activity]
    spoken: float = 0.0
    looked: float = 0.0
    statement_begun: float = 0.0
    statement_seen: bool = False
    blockers: tuple[Blocker, ...] = ()


class Watch:
    """A thread that looks after the running step. A context manager.

    :param first_look_seconds: after how long to ask for the blockers of a statement first; below
        ``lock_timeout``, or the statement has given up before anyone asked what it waited for.
    """

    def __init__(self, report: Reporter, *, first_look_seconds: float, live: bool) -> None:
        self._report = report
        self._first_look = first_look_seconds
        self._live = live
        self._running: _Running | None = None
        self._entered: float | None = None
        self._entered_told = 0.0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._running = None
        self._closed.set()

    def entered_project(self) -> None:
        """``env.py`` begins: until :meth:`configured`, nothing else says that it takes long."""
        self._entered, self._entered_told = time.monotonic(), 0.0
        self._start()

    def configured(self) -> None:
        """``env.py`` has come to ``context.configure()``, or has ended."""
        self._entered = None

    def began(self, step: Step, number: int, total: int, look: Callable[[], Activity]) -> None:
        """A try of ``step`` begins; ``look`` asks the server what it is doing, from another connection."""
        now = time.monotonic()
        self._running = _Running(step, number, total, now, look, statement_begun=now)
        self._start()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="migrator-watch", daemon=True)
            self._thread.start()

    def statement_began(self) -> None:
        """The step sends a statement. Called for each, so it does no more than note the time."""
        running = self._running
        if running is not None:
            running.statement_begun = time.monotonic()
            running.statement_seen = False
            running.blockers = ()

    def ended(self) -> tuple[Blocker, ...]:
        """The try ended; who was last seen to block it."""
        running, self._running = self._running, None
        return running.blockers if running else ()

    def _watch(self) -> None:
        tick = min(TICK_SECONDS, max(0.02, self._first_look / 2))
        while not self._closed.wait(tick):
            running, entered = self._running, self._entered
            with contextlib.suppress(Exception):
                if running is not None:
                    self._look_after(running)
                elif entered is not None:
                    self._look_at_project(time.monotonic() - entered)

    def _look_at_project(self, seconds: float) -> None:
        if seconds >= next_telling(self._entered_told):
            self._entered_told = seconds
            words = f"running for {format_duration(seconds)}, and has not called context.configure() yet"
            self._report(Notice("env.py", words))

    def _look_after(self, running: _Running) -> None:
        now, statement_begun = time.monotonic(), running.statement_begun
        seconds = now - running.begun
        due_first = not running.statement_seen and now - statement_begun >= self._first_look
        due_live = self._live and running.looked > 0.0 and seconds - running.looked >= LIVE_SECONDS
        due_telling = seconds >= next_telling(running.spoken)
        if not (due_first or due_live or due_telling):
            return
        running.looked = seconds
        running.statement_seen = running.statement_seen or due_first
        activity = running.look()
        if activity.blockers and running.statement_begun == statement_begun:
            running.blockers = activity.blockers
        if self._running is not running:
            return
        if due_telling:
            running.spoken = seconds
            self._report(StepRunning(running.step, running.number, running.total, seconds, activity))
        elif self._live and seconds >= LIVE_SECONDS:
            self._report(
                StepRunning(running.step, running.number, running.total, seconds, activity, live=True)
            )
