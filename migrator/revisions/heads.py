"""The names that a revision file binds before its first function, read from its text.

What could make an import bind one of them otherwise makes the file *not conclusive*: whoever needs to know
must import it.
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Sequence

RawValue = str | tuple[str, ...] | None
Values = tuple[dict[str, RawValue], str | None]
"""The values by name (of the four, those that the file binds; a list or a set as a tuple), and the docstring."""

_NAMES = ("revision", "down_revision", "branch_labels", "depends_on")
# "revision" is part of "down_revision".
_NAMES_IN_BYTES = (b"revision", b"branch_labels", b"depends_on")
# In the part of a file that is parsed: what can bind a name without an assignment that names it.
_OTHER_BINDINGS = (b":=", b"global", b"vars(", b"locals(")
_STAR_IMPORT = re.compile(rb"import[\s\\]*\*")
_UNKNOWN = object()

# A head as Alembic's templates write it: docstring, imports and comments, the four names with simple values.
_TYPE = rb"(?:: (?:str|Union\[(?:str|str, Sequence\[str\]), None\]))?"
_VALUE = rb" = (None|'[\w.]*'|\"[\w.]*\")\n"
_TEMPLATE = re.compile(
    rb'"""([^"\\\r\0]*)"""(\n.*?\n)' + b"".join(name.encode() + _TYPE + _VALUE for name in _NAMES) + rb"\s*",
    re.DOTALL,
)
# What stood between the docstring and the names of such a head when all of it was parsed and found conclusive.
# Any other head that differs in docstring and values alone is conclusive, too, and need not be parsed: that
# saves half of the time, since a history has a handful of different imports.
_known_imports: set[bytes] = set()


def read_values(data: bytes) -> Values | None:
    """What the text of a revision file binds the four names to; None where it is not conclusive.

    Not conclusive is a value that is not a literal, code that could bind a name again, an encoding other
    than UTF-8, a syntax error.
    """
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
    template = _TEMPLATE.fullmatch(head)
    if template is not None and template[2] in _known_imports:
        return _values_of(template)
    if any(head.find(binding) >= 0 for binding in _OTHER_BINDINGS):
        return None
    tree = _syntax_tree(head)
    raw = _bound_values(tree.body) if tree is not None else None
    if tree is None or raw is None:
        return None
    if len(raw) < len(_NAMES) and data.find(b"__getattr__") >= 0:
        return None  # the module's own __getattr__ may know the missing names
    values = raw, _docstring(tree)
    if template is not None and values == _values_of(template):
        _known_imports.add(template[2])
    return values


def _values_of(template: re.Match[bytes]) -> Values | None:
    docstring, _, *written = template.groups()
    values = [None if value == b"None" else value[1:-1].decode("ascii") for value in written]
    try:
        return dict(zip(_NAMES, values, strict=True)), _as_compiled(docstring.decode())
    except UnicodeDecodeError:
        return None


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


def _syntax_tree(source: bytes) -> ast.Module | None:
    try:
        if b"\\" not in source:
            return ast.parse(source)
        # An invalid escape sequence is warned about by the import, if there is one.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
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
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return _as_compiled(first.value.value)
    return None


def _as_compiled(docstring: str) -> str:
    """Without its indentation, from Python 3.13 on."""
    if sys.version_info >= (3, 13) and (docstring[:1].isspace() or "\n " in docstring or "\t" in docstring):
        # So that the rule is the compiler's own.
        tree = ast.Module([ast.Expr(ast.Constant(docstring))], [])
        code = compile(ast.fix_missing_locations(tree), "<docstring>", "exec", dont_inherit=True, optimize=0)
        namespace: dict[str, object] = {}
        exec(code, namespace)
        return str(namespace["__doc__"])
    return docstring
