"""SQLite: a temporary file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from migrator import urls
from migrator.disposable.made import Disposable, Sleep, source_of
from migrator.errors import ConfigurationError
from migrator.events import Notice, Reporter

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from migrator.settings import Settings


@contextlib.contextmanager
def make(url: URL | None, settings: Settings, report: Reporter, _sleep: Sleep) -> Iterator[Disposable]:
    """See :func:`migrator.disposable.disposable_database`."""
    if url is not None:
        raise ConfigurationError(
            "scratch-url names a file, and for SQLite a temporary one is used anyway",
            details=(f"from {source_of(settings)}",),
            next_step=f"Leave {source_of(settings)} out. Nothing was changed.",
        )
    with tempfile.TemporaryDirectory(prefix="migrator-") as folder:
        # As SQLite names it itself.
        file = os.path.join(os.path.realpath(folder), "scratch.db")
        report(Notice("scratch", "a temporary SQLite file, thrown away at the end"))
        yield Disposable(
            urls.parse(f"sqlite:///{file}", "the temporary file"), "a temporary file", own_server=True
        )
