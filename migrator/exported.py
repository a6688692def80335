"""The variables that ``env.py`` reads the database from: there while it runs, and for nobody else."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Export:
    """What a thread has set: of each name the value before, None where there was none."""

    thread: int
    before: Mapping[str, str | None]


_changing = threading.Lock()
_current: _Export | None = None


@contextlib.contextmanager
def exported(additions: Mapping[str, str | None]) -> Iterator[None]:
    """Set these variables of the process, and unset those that are None; afterwards they are as before.

    Only one thread at a time may be in here.
    """
    global _current
    with _changing:
        outer, before = _current, {name: os.environ.get(name) for name in additions}
        _current = _Export(threading.get_ident(), {**before, **(outer.before if outer else {})})
        _put(additions, os.environ)
    try:
        yield
    finally:
        with _changing:
            _put(before, os.environ)
            _current = outer


def variables() -> dict[str, str]:
    """The process's variables, without what :func:`exported` has set in another thread."""
    with _changing:
        found = dict(os.environ)
        if _current is not None and _current.thread != threading.get_ident():
            _put(_current.before, found)
    return found


def _put(values: Mapping[str, str | None], into: dict[str, str] | os._Environ[str]) -> None:
    for name, value in values.items():
        if value is None:
            into.pop(name, None)
        else:
            into[name] = value
