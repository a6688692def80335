"""Only what runs is imported: Alembic's revision map over files that were read but not imported.

Alembic imports every revision file to learn how they follow each other (about 4 s at 5,000 files of 4 kB,
without bytecode). Here its own ``Script`` objects stand over modules that import themselves when something
asks for more than the file's head says: ``upgrade``, ``downgrade``, anything else.

Uses of Alembic that are not public API (the same from 1.13.0 to 1.20.1):
``ScriptDirectory._version_locations``, ``Script._from_path``, ``RevisionMap._revision_map``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import Revision, RevisionMap
from alembic.util import load_python_file
from sqlalchemy.util import memoized_property

from migrator.revisions import Graph, RevisionFile, list_files, read_head

# What the head of a file answers, also that it does not have it. The last one is of Python 2; Alembic asks.
_KNOWN = frozenset(
    {"revision", "down_revision", "branch_labels", "depends_on", "__doc__", "_alembic_source_encoding"}
)
_PATH = "_migrator_path"
_LOADED = "_migrator_loaded"


def open_scripts(config: Config) -> ScriptDirectory:
    """Alembic's script directory over revisions that are imported only when they run."""
    script = ScriptDirectory.from_config(config)
    # env.py may change the working directory before the revisions are looked for.
    script.dir = os.path.abspath(script.dir)
    if script.version_locations:
        script.version_locations = [os.path.abspath(location) for location in script.version_locations]
    install_lazy_revision_map(script)
    return script


def install_lazy_revision_map(script: ScriptDirectory) -> None:
    """Give ``script`` a revision map that imports a revision file only when it runs.

    The files are listed and read when the map is first used, so ``env.py`` may still change
    ``script.version_locations``. A file whose head is not conclusive is imported then, as Alembic does.
    """
    script.revision_map = _FastRevisionMap(lambda: _scripts(script))


def _scripts(script: ScriptDirectory) -> Iterator[Script]:
    for path, head in _files(script):
        if head is not None:
            yield Script(_RevisionModule(head), head.revision, path)
        else:
            imported = Script._from_path(script, path)
            if imported is not None:
                yield imported


def _files(script: ScriptDirectory) -> Iterator[tuple[str, RevisionFile | None]]:
    paths = list_files(
        [Path(location) for location in script._version_locations],
        recursive=script.recursive_version_locations,
        sourceless=script.sourceless,
    )
    return ((path, read_head(path)) for path in paths)


def imported_module(script: Script) -> ModuleType:
    """The imported module of a revision; imports it if that has not happened.

    :raises Exception: whatever the import raises, with the traceback into the file.
    """
    module = script.module
    return _loaded(module) if isinstance(module, _RevisionModule) else module


def graph_of(script: ScriptDirectory) -> Graph:
    """The whole graph of ``script``: files that are not conclusive are imported (again).

    For saying what is wrong after Alembic has failed to make a map, and for commands that check without
    ``env.py``: it settles ``script``'s version locations.

    :raises Exception: whatever the import of such a file raises.
    """
    files = []
    for path, head in _files(script):
        if head is not None:
            files.append(head)
        elif (imported := Script._from_path(script, path)) is not None:
            files.append(_head_of(imported, path))
    return Graph(files, locations=[Path(location) for location in script._version_locations])


def _head_of(script: Script, location: str) -> RevisionFile:
    dependencies = script.dependencies
    return RevisionFile(
        location=location,
        revision=script.revision,
        down_revision=tuple(script._versioned_down_revisions),
        branch_labels=tuple(script._orig_branch_labels),
        depends_on=(dependencies,) if isinstance(dependencies, str) else tuple(dependencies or ()),
        docstring=script.longdoc,
        raw=(),
    )


class _FastRevisionMap(RevisionMap):
    """Alembic's map, made from parents to children and then put into the order in which Alembic has it.

    To take a parent out of its heads, Alembic searches a list from the front: in the order of the files'
    names that is quadratic (a quarter of a second at 5,000 revisions).
    """

    @memoized_property
    def _revision_map(self) -> dict[Any, Any]:
        read = self._generator
        scripts = list(read())
        self._generator = lambda: _parents_first(scripts)
        try:
            made: dict[Any, Any] = RevisionMap.__dict__["_revision_map"].fget(self)
        finally:
            self._generator = read
        position: dict[str, int] = {}
        for number, script in enumerate(scripts):
            position.setdefault(script.revision, number)
        for name in ("heads", "_real_heads", "bases", "_real_bases"):
            setattr(self, name, tuple(sorted(getattr(self, name), key=position.__getitem__)))
        return {**{revision: made[revision] for revision in position}, **made}


def _parents_first(scripts: Sequence[Revision]) -> Iterator[Revision]:
    """Each of ``scripts`` after its parents, as far as there is no cycle."""
    by_id: dict[str, list[Revision]] = {}
    for script in scripts:
        by_id.setdefault(script.revision, []).append(script)
    met: set[str] = set()
    for start in by_id:
        path = [] if start in met else [start]
        met.add(start)
        while path:
            below = by_id[path[-1]][-1]._versioned_down_revisions
            parent = next((one for one in below if one in by_id and one not in met), None)
            if parent is None:
                yield from by_id[path.pop()]
            else:
                met.add(parent)
                path.append(parent)


class _RevisionModule(ModuleType):
    """A revision file as a module that is imported when more than its head is asked for.

    Stands for the module that Alembic would have loaded: all but the head's names is read from, set on and
    deleted from that one. A failed import leaves nothing behind; the next access tries again.
    """

    def __init__(self, head: RevisionFile) -> None:
        super().__init__(os.path.basename(head.location).removesuffix(".py"), head.docstring)
        own = _own(self)
        own.update(head.raw)
        own[_PATH] = head.location

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__" or (name in _KNOWN and _LOADED not in _own(self)):
            return super().__getattribute__(name)
        return getattr(_loaded(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_loaded(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_loaded(self), name)

    def __dir__(self) -> list[str]:
        return dir(_loaded(self))

    def __repr__(self) -> str:
        return repr(_own(self).get(_LOADED, f"<revision file {_own(self)[_PATH]}, not imported>"))


def _own(module: _RevisionModule) -> dict[str, Any]:
    own: dict[str, Any] = ModuleType.__getattribute__(module, "__dict__")
    return own


def _loaded(module: _RevisionModule) -> ModuleType:
    own = _own(module)
    if _LOADED not in own:
        own[_LOADED] = load_python_file(*os.path.split(own[_PATH]))
    loaded: ModuleType = own[_LOADED]
    return loaded
