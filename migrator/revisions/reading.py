"""Revision files as values: what each says about its place in the history, without importing it."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from migrator.revisions.heads import RawValue, read_values

_JUST_WRITTEN_NANOSECONDS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class RevisionFile:
    """What a revision file says about its place in the history.

    :ivar location: its path, absolute, symbolic links resolved; a string, for there may be thousands.
    :ivar down_revision: the parents; empty for a base.
    :ivar depends_on: revision ids or branch labels, as written.
    :ivar docstring: as the imported module would have it in ``__doc__``, where docstrings are kept.
    :ivar raw: the names that the file binds, with the values that Alembic would see (a list or a set as a
        tuple).
    """

    location: str
    revision: str
    down_revision: tuple[str, ...]
    branch_labels: tuple[str, ...]
    depends_on: tuple[str, ...]
    docstring: str | None
    raw: tuple[tuple[str, RawValue], ...]

    @property
    def path(self) -> Path:
        """The location as a path."""
        return Path(self.location)

    @property
    def message(self) -> str:
        """The first line of the docstring; empty without one."""
        return (self.docstring or "").strip().partition("\n")[0].rstrip()


def as_tuple(value: RawValue) -> tuple[str, ...]:
    """What Alembic makes of a value that may be one id, several or none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


_CacheKey = tuple[int, int, int]
_heads_read: dict[str, tuple[_CacheKey, RevisionFile | None]] = {}


def read_head(location: str) -> RevisionFile | None:
    """What the file at ``location`` (absolute, links resolved) says about its place in the history.

    None where that is not conclusive without importing it: a value that is not a literal, code that could
    bind one of the four names again, an encoding other than UTF-8, a syntax error, a file that cannot be
    read, a compiled one. Reading an unchanged file a second time costs one ``stat``.
    """
    if not location.endswith(".py"):
        return None
    try:
        known = _heads_read.get(location)
        if known is not None and known[0] == _cache_key(os.stat(location)):
            return known[1]
        descriptor = os.open(location, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        data = _read(descriptor, status.st_size)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    head = _revision_file(location, data)
    # A file that was written just now can change again without a new mtime: the kernel's clock ticks every 4 ms.
    if time.time_ns() - status.st_mtime_ns > _JUST_WRITTEN_NANOSECONDS:
        _heads_read[location] = (_cache_key(status), head)
    return head


def _cache_key(status: os.stat_result) -> _CacheKey:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size + 1)
    while len(data) < size:
        more = os.read(descriptor, size - len(data))
        if not more:
            break
        data += more
    return data


def _revision_file(location: str, data: bytes) -> RevisionFile | None:
    values = read_values(data)
    if values is None:
        return None
    raw, docstring = values
    revision = raw.get("revision")
    if not isinstance(revision, str) or "down_revision" not in raw:
        return None
    return RevisionFile(
        location=location,
        revision=revision,
        down_revision=as_tuple(raw["down_revision"]),
        branch_labels=as_tuple(raw.get("branch_labels")),
        depends_on=as_tuple(raw.get("depends_on")),
        docstring=docstring,
        raw=tuple(raw.items()),
    )


def syntax_problem(path: Path) -> tuple[int, str] | None:
    """The line (from 1) and Python's words for it, if the file at ``path`` is not Python; else None.

    :raises OSError: the file cannot be read.
    """
    data = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(data, os.fspath(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        return error.lineno or 1, error.msg
    except ValueError as error:
        return data[: data.find(b"\0")].count(b"\n") + 1, str(error)
    return None
