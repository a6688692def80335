"""A revision may fork. What its child inherits is the connection, in the middle of the parent's transaction."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn


@contextlib.contextmanager
def children_end_here() -> Iterator[None]:
    """A process that was forked inside, and that leaves by returning or raising, ends as a process does then.

    Further out it would roll the parent's transaction back, on the same socket, and report a run of its own.
    Exit codes are Python's: 0, what ``sys.exit()`` was given, 1 with a traceback on standard error.
    """
    parent = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != parent:
            _end(error)
        raise
    if os.getpid() != parent:
        _end(None)


def _end(error: BaseException | None) -> NoReturn:
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code & 0xFF)
