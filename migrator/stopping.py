"""SIGTERM, SIGINT and the deadline: noticed at once, whatever the main thread is doing.

``env.py`` stays in the main thread, so that one that installs signal handlers itself or runs an event loop is
undisturbed. A Python signal handler runs only when the interpreter gets control back, up to seconds after a
statement ended (measured: 7 s). So the C-level handler writes the signal's number into a socket, a monitor
thread reads it, and cancels what the server is running from a new connection; the Python handler then raises
in the main thread. Code may swallow that: it is cancelled and raised again about every second.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

from migrator.errors import DeadlineExceeded, Interrupted, MigratorError, Terminated

Result = TypeVar("Result")

GiveUp = Callable[[MigratorError], None]
"""Told why the process ends, just before it does."""

PUSH_SECONDS = 1.0
"""Pause between two attempts to stop code that goes on."""

GRACE_SECONDS = 10.0
"""After this, the process ends without waiting for the code (only where the process is ours)."""

DOUBLED_SECONDS = 0.3
"""A signal so soon after another is the same request: shells and supervisors often send one to the process and
one to its group. It must not tear the unwinding apart, nor count as the second that does not wait."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequested(KeyboardInterrupt):
    """Raised in the migrating thread. A KeyboardInterrupt, because psycopg 3 and asyncio unwind well from one."""


class Stopping:
    """Watches for signals and for the deadline while a run lasts. A context manager.

    In the main thread it installs handlers for SIGTERM and SIGINT and puts the old ones back at the end;
    elsewhere only the deadline works.

    :param deadline_seconds: for the whole run; None: no deadline.
    :param give_up: called with the reason as an error when the grace is over or a second signal came, before
        the process ends with its exit code. None: the process is not ours to end.
    """

    def __init__(self, deadline_seconds: float | None, give_up: GiveUp | None = None) -> None:
        self._deadline = None if deadline_seconds is None else time.monotonic() + deadline_seconds
        self._deadline_seconds = deadline_seconds
        self._give_up = give_up
        self._cancellers: dict[object, Callable[[], None]] = {}
        # Signal handlers append here, and may interrupt one another: a lock would stop the thread for good.
        self._requests: list[tuple[MigratorError, float]] = []
        self._raised = float("-inf")
        self._pushing = threading.Lock()
        self._armed = False
        self._closed = False
        self._stopped = threading.Event()
        self._thread = threading.get_ident()
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        self._own_signals = 0
        self._forward_to = -1
        self._previous_handlers: dict[int, Any] = {}
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    @property
    def reason(self) -> MigratorError | None:
        """Why the run is to stop, once it is."""
        return self._requests[0][0] if self._requests else None

    @property
    def _seconds_since_request(self) -> float:
        return time.monotonic() - self._requests[0][1] if self._requests else 0.0

    def __enter__(self) -> Stopping:
        if self._in_main_thread:
            self._previous_wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
            self._forward_to = self._previous_wakeup
            self._real_set_wakeup_fd = signal.set_wakeup_fd
            signal.set_wakeup_fd = self._keep_wakeup_fd
            for number in _SIGNALS:
                self._previous_handlers[number] = signal.signal(number, self._on_signal)
        _watching.add(self)
        self._monitor = threading.Thread(target=self._watch, name="migrator-monitor", daemon=True)
        self._monitor.start()
        self.arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disarm()
        _watching.discard(self)
        self._closed = True
        self._write.send(b"\0")
        self._monitor.join(PUSH_SECONDS)
        if self._in_main_thread:
            signal.set_wakeup_fd = self._real_set_wakeup_fd
            signal.set_wakeup_fd(self._previous_wakeup, warn_on_full_buffer=False)
            ending = self._give_up is not None and self.reason is not None
            for number, handler in self._previous_handlers.items():
                signal.signal(number, self._on_late_signal if ending else handler)
        self._read.close()
        self._write.close()

    def leave_to_child(self) -> None:
        """In a process that the project has forked: signals to it are none of ours.

        Its C-level handler would write into the socket that it shares with this process: the SIGTERM with
        which a ``multiprocessing.Pool`` ends its workers would stop the run.
        """
        self._armed = False
        if self._in_main_thread:
            signal.set_wakeup_fd = self._real_set_wakeup_fd
            signal.set_wakeup_fd(-1)
            for number, handler in self._previous_handlers.items():
                if signal.getsignal(number) == self._on_signal:
                    signal.signal(number, handler)

    def arm(self) -> None:
        """From now on a stop interrupts the migrating thread wherever it is."""
        self._armed = True

    def rearm(self) -> None:
        """After what may have disarmed: arm, and raise :class:`StopRequested` if a stop was asked for meanwhile."""
        self.arm()
        self.check()

    def disarm(self) -> None:
        """From now on a stop is only noted: cleaning up and reading the verdict are not to be torn apart."""
        self._armed = False
        if not self._in_main_thread:
            with self._pushing:
                _raise_in_thread(self._thread, None)

    def check(self) -> None:
        """Raise :class:`StopRequested` if a stop was asked for, and perhaps swallowed."""
        if self._requests:
            raise StopRequested

    def sleep(self, seconds: float) -> None:
        """Sleep, unless or until a stop is asked for: then :class:`StopRequested`."""
        self.check()
        self._stopped.wait(seconds)
        self.check()

    def add_canceller(self, token: object, cancel: Callable[[], None]) -> None:
        """Until :meth:`remove_canceller`, ``cancel`` ends what runs on the server. Called in a thread of its own."""
        self._cancellers[token] = cancel

    def remove_canceller(self, token: object) -> None:
        """Forget the canceller of that token."""
        self._cancellers.pop(token, None)

    def _keep_wakeup_fd(self, fd: int, *, warn_on_full_buffer: bool = True) -> int:
        """Stands in for ``signal.set_wakeup_fd``: ours stays, theirs gets a copy of every byte.

        Event loops set a descriptor of their own; uvloop's made SIGTERM go unnoticed for 39 s (measured).
        """
        previous, self._forward_to = self._forward_to, fd
        return previous

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._requests:
            self._requests.append((_signal_reason(number), now))
        if self._armed and now - self._raised >= DOUBLED_SECONDS:
            self._raised = now
            raise StopRequested

    def _on_late_signal(self, number: int, _frame: FrameType | None) -> None:
        """The run is over and its failure is being told; whoever insists does not wait for that either."""
        if self._seconds_since_request >= PUSH_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _watch(self) -> None:
        pushed = 0.0
        first = True
        # Not select(), which refuses descriptors above 1,023: a program that embeds us may have many open.
        signals = select.poll()
        signals.register(self._read, select.POLLIN)
        while not self._closed:
            pause = self._pause(pushed)
            with contextlib.suppress(OSError, ValueError):
                signals.poll(None if pause is None else math.ceil(pause * 1000))
                self._take_bytes()
            now = time.monotonic()
            if not self._requests and self._deadline is not None and now >= self._deadline:
                self._requests.append((_deadline_reason(self._deadline_seconds), now))
            if not self._requests:
                continue
            self._stopped.set()
            if not self._armed or self._closed:
                continue
            if now - pushed >= PUSH_SECONDS:
                pushed = now
                self._push(by_signal_already=first and not isinstance(self.reason, DeadlineExceeded))
                first = False
            if self._give_up is not None and self._seconds_since_request >= GRACE_SECONDS:
                self._end_process()

    def _pause(self, pushed: float) -> float | None:
        if self._requests:
            return max(0.0, pushed + PUSH_SECONDS - time.monotonic()) if self._armed else PUSH_SECONDS
        if self._deadline is not None:
            return max(0.0, self._deadline - time.monotonic())
        return None

    def _take_bytes(self) -> None:
        try:
            data = self._read.recv(4096)
        except BlockingIOError:
            return
        for number in data:
            if number in _SIGNALS:
                self._on_byte(number)
        if self._forward_to >= 0 and data.strip(b"\0"):
            with contextlib.suppress(OSError):
                os.write(self._forward_to, data)

    def _on_byte(self, number: int) -> None:
        if self._own_signals > 0:
            self._own_signals -= 1
        elif not self._requests:
            self._requests.append((_signal_reason(number), time.monotonic()))
        elif self._give_up is not None and self._seconds_since_request >= DOUBLED_SECONDS:
            if self._armed:
                self._push(by_signal_already=True)
            self._end_process()

    def _push(self, *, by_signal_already: bool) -> None:
        """Cancel on the server, and raise in the migrating thread."""
        for cancel in list(self._cancellers.values()):
            threading.Thread(target=_quietly, args=(cancel,), name="migrator-cancel", daemon=True).start()
        if by_signal_already:
            return
        if self._in_main_thread and signal.getsignal(signal.SIGTERM) == self._on_signal:
            self._own_signals += 1
            signal.pthread_kill(self._thread, signal.SIGTERM)
        else:
            with self._pushing:
                if self._armed:
                    _raise_in_thread(self._thread, StopRequested)

    def _end_process(self) -> None:
        reason = self.reason
        if reason is None or self._give_up is None:
            return
        with contextlib.suppress(BaseException):
            told = "ended by force: what became of the open transaction could not be asked any more"
            reason.details = (*reason.details, told)
            self._give_up(reason)
        os._exit(int(reason.exit_code))


def interruptible(stopping: Stopping, work: Callable[[], Result]) -> Result:
    """What ``work`` returns.

    :raises MigratorError: why it was stopped, if it was.
    """
    try:
        return work()
    except StopRequested:
        raise stopping.reason or AssertionError("stopped without a reason") from None


_watching: weakref.WeakSet[Stopping] = weakref.WeakSet()


_at_fork = threading.local()


def _before_fork() -> None:
    """A signal to the child waits until the child's handlers are its own: a pool may end a worker at once."""
    _at_fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS) if _watching else None


def _after_fork() -> None:
    mask, _at_fork.mask = getattr(_at_fork, "mask", None), None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    for stopping in list(_watching):
        stopping.leave_to_child()
    _watching.clear()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def _quietly(work: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):
        work()


def _raise_in_thread(thread_id: int, exception: type[BaseException] | None) -> None:
    """Raise at the thread's next step; None takes back what has not been raised yet."""
    import ctypes

    raised = ctypes.py_object() if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), raised)


def _signal_reason(number: int) -> MigratorError:
    kind = Interrupted if number == signal.SIGINT else Terminated
    return kind(
        f"stopped by {signal.Signals(number).name}",
        next_step="Run the same command again: it goes on where this one stopped.",
    )


def _deadline_reason(seconds: float | None) -> MigratorError:
    from migrator.durations import format_duration

    return DeadlineExceeded(
        f"the deadline of {format_duration(seconds or 0.0)} passed; the running statement was cancelled",
        next_step=(
            "Run the same command again: it goes on where this one stopped. "
            "MIGRATOR_DEADLINE allows more time."
        ),
    )
