"""What ``env.py`` imports and nobody has installed or copied: found without running a line of the project."""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

_CHANGES_IMPORTS = (
    b"sys.path",
    b"sys.modules",
    b"meta_path",
    b"path_hooks",
    b"addsitedir",
    b"__path__",
    b"__getattr__",
    # An env.py of Flask's runs when the application has been loaded, whose folder is put first for that.
    b"current_app",
)
"""Words of a file that may decide what the imports in it find."""

_LOADERS = frozenset(
    (
        "builtins",
        "code",
        "codeop",
        "ctypes",
        "imp",
        "importlib",
        "pkgutil",
        "runpy",
        "site",
        "sys",
        "zipimport",
    )
)
"""Modules of Python with which code may decide what imports find."""

_RUNS_CODE = frozenset(
    ("__builtins__", "__import__", "compile", "eval", "exec", "getattr", "globals", "locals", "vars")
)
_KNOWN = frozenset(("alembic", "sqlalchemy"))


@dataclass(frozen=True, slots=True)
class MissingImport:
    """A module that an import of ``env.py`` cannot find.

    :ivar certain: nothing that runs before it could have changed where modules are looked for.
    """

    module: str
    line: int
    certain: bool


def missing_imports(environment: Path) -> list[MissingImport]:
    """The absolute imports of ``env.py`` that always run and find no module, each module once.

    Only those that stand by themselves on the module's first level: what is in ``try``, ``if``, ``with`` or a function
    may be missing on purpose. Modules below an installed package are left to it; nothing is imported to find out.
    A file that cannot be read or parsed has none.
    """
    module, before = _parsed(environment), _Before()
    if module is None:
        return []
    missing: dict[str, MissingImport] = {}
    for node in module.body:
        for name in _names(node):
            found, below_sure = _search(name)
            if found:
                certain = module.plain and before.harmless and below_sure
                missing.setdefault(found, MissingImport(found, node.lineno, certain))
        before.take(node)
    return list(missing.values())


@dataclass(frozen=True, slots=True)
class _Module:
    body: Sequence[ast.stmt]
    plain: bool


def _parsed(file: Path) -> _Module | None:
    try:
        source = file.read_bytes()
        return _Module(ast.parse(source).body, not any(words in source for words in _CHANGES_IMPORTS))
    except (OSError, SyntaxError, ValueError):
        return None


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return [node.module]
    return []


class _Before:
    """The statements that run before an import.

    :ivar harmless: none of them can decide what the import finds: they import what belongs to
        Python, Alembic, SQLAlchemy or is installed, and use nothing of the latter.
    """

    def __init__(self) -> None:
        self.harmless = True
        self._doubtful = set(_RUNS_CODE)

    def take(self, statement: ast.stmt) -> None:
        for node in ast.walk(statement):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node)
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id in self._doubtful:
                self.harmless = False

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name in _names(node) or [""]:
            top = name.partition(".")[0]
            if not top or not (top in _KNOWN or _of_python(top) or _is_missing_or_installed(top)):
                self.harmless = False
        for alias in node.names:
            top = (node.module or "" if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
            if top not in _KNOWN and (top in _LOADERS or not _of_python(top)):
                self._doubtful.add(alias.asname or alias.name.partition(".")[0])
                self.harmless = self.harmless and alias.name != "*"


def _search(name: str) -> tuple[str, bool]:
    """(the first part of the dotted name that is not there, or empty; whether nothing of the project can make it)."""
    top, *below = name.split(".")
    if _of_python(top):
        return "", True
    spec = _spec(top)
    if spec is None:
        return top, True
    found, sure = top, True
    for part in below:
        if not _of_project(spec):
            return "", True
        sure = sure and _is_harmless(spec)
        found = f"{found}.{part}"
        spec = _spec_below(found, spec)
        if spec is None:
            return found, sure
    return "", True


def _is_harmless(spec: ModuleSpec) -> bool:
    """The module can be read, and nothing in it decides what the imports after it find."""
    if not spec.origin:
        return spec.submodule_search_locations is not None
    module, before = _parsed(Path(spec.origin)), _Before()
    for node in module.body if module else ():
        before.take(node)
    return module is not None and module.plain and before.harmless


def _of_python(top: str) -> bool:
    return top in sys.builtin_module_names or top in sys.stdlib_module_names


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # it is imported already, by another way than from a file
        return ModuleSpec(name, None) if name in sys.modules else None


def _spec_below(name: str, parent: ModuleSpec) -> ModuleSpec | None:
    """As an import asks: all finders, for an editable installation has one of its own."""
    if name in sys.modules:
        return ModuleSpec(name, None)
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        try:
            found = find_spec and find_spec(name, list(parent.submodule_search_locations or ()), None)
        except Exception:  # what a finder of others cannot answer is not known to be missing
            return ModuleSpec(name, None)
        if isinstance(found, ModuleSpec):
            return found
    return None


def _is_missing_or_installed(top: str) -> bool:
    spec = _spec(top)
    return spec is None or (bool(_places(spec)) and not _of_project(spec))


def _of_project(spec: ModuleSpec) -> bool:
    """Not installed: packages may have modules that are in no file of their name."""
    places = _places(spec)
    installed = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    return bool(places) and not any(
        "site-packages" in place or "dist-packages" in place or place.startswith(tuple(installed))
        for place in places
    )


def _places(spec: ModuleSpec) -> list[str]:
    return [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else ())]
