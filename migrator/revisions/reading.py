"""Which files are revisions, and what each says about its place in the history, without importing it.

A revision file says so before its first function, in literals. What could make an import say something
else (code that may bind one of the four names again) makes the file *not conclusive*: :func:`read_head`
returns None, and whoever needs to know must import it.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

RawValue = str | tuple[str, ...] | None

_NAMES = frozenset({"revision", "down_revision", "branch_labels", "depends_on"})
# "revision" is part of "down_revision".
_NAMES_IN_BYTES = (b"revision", b"branch_labels", b"depends_on")
# In the part of a file that is parsed: what can bind a name without an assignment that names it.
_OTHER_BINDINGS = (b":=", b"global", b"vars(", b"locals(")
_STAR_IMPORT = re.compile(rb"import[\s\\]*\*")
# As Alembic's templates write them. Parsing these four annotations costs as much as all the rest of a head.
_ANNOTATED = tuple(
    (f"\n{name}: {annotation} = ".encode(), f"\n{name} = ".encode())
    for name, annotation in (
        ("revision", "str"),
        ("down_revision", "Union[str, Sequence[str], None]"),
        ("down_revision", "Union[str, None]"),
        ("branch_labels", "Union[str, Sequence[str], None]"),
        ("depends_on", "Union[str, Sequence[str], None]"),
    )
)
_JUST_WRITTEN_NANOSECONDS = 2_000_000_000
_UNKNOWN = object()


@dataclass(frozen=True, slots=True)
class RevisionFile:
    """What a revision file says about its place in the history.

    :ivar path: absolute, symbolic links resolved.
    :ivar down_revision: the parents; empty for a base.
    :ivar depends_on: revision ids or branch labels, as written.
    :ivar docstring: as the imported module would have it in ``__doc__``, where docstrings are kept.
    :ivar raw: the names that the file binds, with the values that Alembic would see (a list or a set as a
        tuple).
    """

    path: Path
    revision: str
    down_revision: tuple[str, ...]
    branch_labels: tuple[str, ...]
    depends_on: tuple[str, ...]
    docstring: str | None
    raw: tuple[tuple[str, RawValue], ...]

    @property
    def message(self) -> str:
        """The first line of the docstring; empty without one."""
        return (self.docstring or "").strip().partition("\n")[0].rstrip()


def as_tuple(value: RawValue) -> tuple[str, ...]:
    """What Alembic makes of a value that may be one id, several or none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def list_files(locations: Sequence[Path], *, recursive: bool, sourceless: bool) -> list[Path]:
    """The revision files in ``locations``, in the order in which Alembic reads them.

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
    return [Path(path) for path in found]


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


_CacheKey = tuple[int, int, int]
_heads_read: dict[str, tuple[_CacheKey, RevisionFile | None]] = {}


def read_head(path: Path) -> RevisionFile | None:
    """What the file at ``path`` (absolute, links resolved) says about its place in the history.

    None where that is not conclusive without importing it: a value that is not a literal, code that could
    bind one of the four names again, an encoding other than UTF-8, a syntax error, a file that cannot be
    read, a compiled one. Reading an unchanged file a second time costs one ``stat``.
    """
    location = os.fspath(path)
    if not location.endswith(".py"):
        return None
    try:
        descriptor = os.open(location, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        key = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = _heads_read.get(location)
        if known is not None and known[0] == key:
            return known[1]
        data = _read(descriptor, status.st_size)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    head = _parse(path, data)
    # A file that was written just now can change again without a new mtime: the kernel's clock ticks every 4 ms.
    if time.time_ns() - status.st_mtime_ns > _JUST_WRITTEN_NANOSECONDS:
        _heads_read[location] = (key, head)
    return head


def _read(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size + 1)
    while len(data) < size:
        more = os.read(descriptor, size - len(data))
        if not more:
            break
        data += more
    return data


def _parse(path: Path, data: bytes) -> RevisionFile | None:
    if data.find(b"exec(") >= 0 or data.find(b"globals(") >= 0 or not _is_utf8(data):
        return None
    cut = data.find(b"\ndef ")
    for marker in (b"\nclass ", b"\n@", b"\nasync def "):
        earlier = data.find(marker, 0, cut if cut >= 0 else len(data))
        cut = earlier if earlier >= 0 else cut
    if cut < 0 or any(data.find(name, cut) >= 0 for name in _NAMES_IN_BYTES):
        head = data
    elif data.find(b"*", cut) >= 0 and _STAR_IMPORT.search(data, cut):
        return None
    else:
        head = data[: cut + 1]
    if any(head.find(binding) >= 0 for binding in _OTHER_BINDINGS):
        return None
    tree = _syntax_tree(head, os.fspath(path))
    if tree is None:
        return None
    raw = _bound_values(tree.body)
    if raw is None:
        return None
    revision = raw.get("revision")
    if not isinstance(revision, str) or "down_revision" not in raw:
        return None
    if (
        len(raw) < len(_NAMES) and data.find(b"__getattr__") >= 0
    ):  # of the module: it may know the missing ones
        return None
    return RevisionFile(
        path=path,
        revision=revision,
        down_revision=as_tuple(raw["down_revision"]),
        branch_labels=as_tuple(raw.get("branch_labels")),
        depends_on=as_tuple(raw.get("depends_on")),
        docstring=_docstring(tree),
        raw=tuple(raw.items()),
    )


def _is_utf8(data: bytes) -> bool:
    """Whether Python would read it as UTF-8. Only the first two lines can say otherwise."""
    second_line_end = data.find(b"\n", data.find(b"\n") + 1)
    if data.find(b"coding", 0, second_line_end if second_line_end >= 0 else len(data)) < 0:
        return True
    import io
    import tokenize

    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError:
        return False
    return encoding in ("utf-8", "utf-8-sig")


def _syntax_tree(source: bytes, name: str) -> ast.Module | None:
    for annotated, plain in _ANNOTATED:
        source = source.replace(annotated, plain, 1)
    try:
        if b"\\" not in source:
            return ast.parse(source, name)
        # An invalid escape sequence is warned about by the import, if there is one.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source, name)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _bound_values(statements: Sequence[ast.stmt]) -> dict[str, RawValue] | None:
    """The four names with their values; None where the statements do not surely bind each once, to a literal."""
    raw: dict[str, RawValue] = {}
    for statement in statements:
        if isinstance(statement, ast.Assign):
            targets: list[ast.expr] = statement.targets
            value: ast.expr | None = statement.value
        elif isinstance(statement, ast.AnnAssign):
            targets, value = [statement.target], statement.value
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            for alias in statement.names:
                if alias.name == "*" or (alias.asname or alias.name.partition(".")[0]) in _NAMES:
                    return None
            continue
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if statement.name in _NAMES:
                return None
            continue
        elif isinstance(statement, (ast.Expr, ast.Pass)):
            continue
        else:
            return None
        for target in targets:
            if not isinstance(target, ast.Name):
                if any(isinstance(node, ast.Name) and node.id in _NAMES for node in ast.walk(target)):
                    return None
            elif target.id in _NAMES and value is not None:
                literal = _literal(value)
                if literal is _UNKNOWN or len(targets) > 1 or target.id in raw:
                    return None
                raw[target.id] = literal  # type: ignore[assignment]
    return raw


def _literal(node: ast.expr) -> object:
    """A string, None, or a tuple of the strings in a tuple, list or set; else ``_UNKNOWN``."""
    if isinstance(node, ast.Constant):
        return node.value if node.value is None or isinstance(node.value, str) else _UNKNOWN
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        values = tuple(item.value if isinstance(item, ast.Constant) else None for item in node.elts)
        return values if all(isinstance(value, str) for value in values) else _UNKNOWN
    return _UNKNOWN


def _docstring(tree: ast.Module) -> str | None:
    first = tree.body[0] if tree.body else None
    if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
        return None
    text = first.value.value
    if not isinstance(text, str):
        return None
    if sys.version_info >= (3, 13) and (text[:1].isspace() or "\n " in text or "\t" in text):
        # The compiler takes the indentation out of docstrings; let it do so itself.
        namespace: dict[str, object] = {}
        code = compile(ast.Module([first], []), "<docstring>", "exec", dont_inherit=True, optimize=0)
        exec(code, namespace)
        return str(namespace["__doc__"])
    return text


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
