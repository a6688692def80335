"""What is around ``env.py`` while it runs, and is gone afterwards: its turn, its variables, its logging."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from migrator import urls
from migrator.exported import exported

if TYPE_CHECKING:
    from migrator.settings import Settings

_ONE_AT_A_TIME = threading.RLock()
"""Alembic's proxies are one per process: two runs in one process take turns."""

_PROGRESS = ("alembic.runtime.migration", "alembic.runtime.plugins")
_AUTOGENERATE = ("alembic.autogenerate", "alembic.ddl")

TURN_SECONDS = 0.1
"""How often whoever waits for a turn looks whether it is to stop."""


@contextlib.contextmanager
def alone(
    settings: Settings, check: Callable[[], None] = lambda: None, *, autogenerates: bool = False
) -> Iterator[None]:
    """The only run of Alembic in this process, with the variables of the configured database.

    :param check: called while another thread has its turn; raises to leave.
    :param autogenerates: the report says what autogenerate finds, so Alembic need not.
    """
    quiet = _PROGRESS + (_AUTOGENERATE if autogenerates else ())
    with turn(check), _variables(settings), _logging_kept(), _quiet_alembic(settings.verbose, quiet):
        yield


@contextlib.contextmanager
def turn(check: Callable[[], None]) -> Iterator[None]:
    """No other thread of this process runs Alembic or changes its variables meanwhile; may be entered again.

    :param check: see :func:`alone`.
    """
    # In bits: nothing that is raised in a thread from outside gets through to a lock that blocks.
    while not _ONE_AT_A_TIME.acquire(timeout=TURN_SECONDS):
        check()
    try:
        yield
    finally:
        _ONE_AT_A_TIME.release()


@contextlib.contextmanager
def _variables(settings: Settings) -> Iterator[None]:
    """The variables that ``env.py`` may read the database from, while it runs, and the folder that we are in."""
    urls.teach_sqlalchemy_bare_scheme()
    additions: dict[str, str | None] = dict(settings.project_environment())
    if "PGCONNECT_TIMEOUT" not in os.environ:
        # libpq then bounds its own handshake, also where only env.py knows the database.
        additions["PGCONNECT_TIMEOUT"] = str(max(2, round(settings.connect_timeout)))
    folder = os.getcwd()
    try:
        with exported(additions):
            yield
    finally:
        with contextlib.suppress(OSError):
            os.chdir(folder)  # Some go elsewhere, and env.py may be run once more.


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    """``fileConfig`` in ``env.py`` closes a program's handlers and silences its loggers: all come back."""
    before = [
        (logger, logger.level, logger.propagate, logger.disabled, logger.handlers[:]) for logger in _loggers()
    ]
    # logging.shutdown() and logging.config close every handler that is in this list.
    every: list[object] = logging._handlerList  # type: ignore[attr-defined]
    handlers = every[:]
    del every[:]
    try:
        yield
    finally:
        every[:0] = handlers
        for logger in _loggers():
            logger.disabled = False
        for logger, level, propagate, disabled, own in before:
            logger.setLevel(level)
            logger.propagate, logger.disabled, logger.handlers[:] = propagate, disabled, own


def _loggers() -> list[logging.Logger]:
    root = logging.getLogger()
    named = list(root.manager.loggerDict.values())
    return [root, *(logger for logger in named if isinstance(logger, logging.Logger))]


@contextlib.contextmanager
def _quiet_alembic(verbose: bool, beginnings: tuple[str, ...]) -> Iterator[None]:
    """Alembic's own progress lines say again what the report says.

    :param beginnings: of the names of the loggers that say it.
    """
    if verbose:
        yield
        return

    def warnings_only(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    loggers = [logger for logger in _loggers() if logger.name.startswith(beginnings)]
    for logger in loggers:
        logger.addFilter(warnings_only)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(warnings_only)
