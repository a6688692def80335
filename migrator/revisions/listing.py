"""Which files are revisions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path


def list_files(locations: Sequence[Path], *, recursive: bool, sourceless: bool) -> list[str]:
    """The paths of the revision files in ``locations``, in the order in which Alembic reads them.

    A location that does not exist or cannot be listed has none. A file that two locations (or two symbolic
    links) lead to comes once. Names that start with ``.#`` or ``__init__`` are no revisions; with
    ``sourceless``, compiled files are, where their source is missing.
    """
    found: dict[str, None] = {}
    for location in locations:
        for path in _walk(os.path.abspath(location), recursive, sourceless):
            directory, name = os.path.split(path)
            if _is_revision_name(directory, name, sourceless):
                found[path] = None
    return list(found)


def _walk(directory: str, recursive: bool, sourceless: bool) -> Iterator[str]:
    """The real paths of all files in ``directory``, by name; then those in its folders, by name."""
    try:
        with os.scandir(directory) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        return
    # Resolving each file by itself costs 0.13 s at 5,000 files.
    real_directory = os.path.realpath(directory)
    files = [entry for entry in entries if not entry.is_dir()]
    for entry in files:
        yield os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real_directory, entry.name)
    if sourceless:
        with_source = {entry.name.split(".")[0] for entry in files}
        for path in _walk(os.path.join(directory, "__pycache__"), False, False):
            if os.path.basename(path).split(".")[0] not in with_source:
                yield path
    if recursive:
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink() and not entry.name.endswith("__pycache__"):
                yield from _walk(entry.path, recursive, sourceless)


def _is_revision_name(directory: str, name: str, sourceless: bool) -> bool:
    if name.startswith((".#", "__init__")):
        return False
    if name.endswith(".py"):
        return True
    if not sourceless or not name.endswith((".pyc", ".pyo")):
        return False
    source = os.path.join(directory, name[:-1])
    return not os.path.exists(source) and not (name.endswith("o") and os.path.exists(source + "c"))
