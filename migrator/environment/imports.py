"""What ``env.py`` imports and nobody has installed or copied: found without running a line of the project."""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_CHANGES_IMPORTS = (
    b"sys.path",
    b"sys.modules",
    b"meta_path",
    b"path_hooks",
    b"addsitedir",
    b"__path__",
)
"""Words of a file that may decide what the imports after it find."""

_CHANGED_BEFORE = b"current_app"
"""An env.py of Flask's runs when the application has been loaded, whose folder is put first for that."""


@dataclass(frozen=True, slots=True)
class MissingImport:
    """A module that an import of ``env.py`` cannot find.

    :ivar certain: nothing that runs before it could have changed where modules are looked for.
    """

    module: str
    line: int
    certain: bool


def missing_imports(environment: Path) -> list[MissingImport]:
    """The absolute imports of ``env.py`` that always run and find no module.

    Only those that stand by themselves on the module's first level: what is in ``try``, ``if``, ``with`` or a function
    may be missing on purpose. Modules below an installed package are left to it; nothing is imported to find out.
    A file that cannot be read or parsed has none.
    """
    try:
        source = environment.read_bytes()
        module = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return []
    certain = not _changes_imports(source) and _CHANGED_BEFORE not in source
    missing = []
    for line, name in _imported(module):
        found = _Search(name)
        certain = certain and not found.may_change_imports
        if found.missing:
            missing.append(MissingImport(found.missing, line, certain))
    return missing


def _imported(module: ast.Module) -> Iterator[tuple[int, str]]:
    for node in module.body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module


class _Search:
    """One search for a dotted name, as far as it goes without importing.

    :ivar missing: the first part of the name, dotted, that is not there; empty: all that can be told is there.
    :ivar may_change_imports: a file of the project that runs for it may decide what later imports find.
    """

    def __init__(self, name: str) -> None:
        self.missing = ""
        self.may_change_imports = False
        top, *below = name.split(".")
        if top in sys.builtin_module_names or top in sys.stdlib_module_names:
            return
        spec = _spec(top)
        found = top
        self._take(top, spec)
        for part in below:
            if spec is None or not _of_project(spec) or self.missing:
                return
            found = f"{found}.{part}"
            spec = PathFinder.find_spec(found, spec.submodule_search_locations or [])
            self._take(found, spec)

    def _take(self, name: str, spec: ModuleSpec | None) -> None:
        if spec is None:
            self.missing = name
        elif "." not in name and _of_project(spec):
            # All of the package: which of its modules come along is not told by the import.
            files = [Path(spec.origin)] if spec.origin is not None else []
            files += [
                file for place in spec.submodule_search_locations or () for file in Path(place).rglob("*.py")
            ]
            self.may_change_imports = any(_changes_imports(_content(file)) for file in files)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # it is imported already, by another way than from a file
        return ModuleSpec(name, None) if name in sys.modules else None


def _changes_imports(source: bytes) -> bool:
    return any(words in source for words in _CHANGES_IMPORTS)


def _of_project(spec: ModuleSpec) -> bool:
    """Not installed: packages may have modules that are in no file of their name."""
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else ())]
    installed = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    return bool(places) and not any(
        "site-packages" in place or "dist-packages" in place or place.startswith(tuple(installed))
        for place in places
    )
