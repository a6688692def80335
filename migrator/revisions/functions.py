"""The two functions of a revision file, read without importing it."""

from __future__ import annotations

import ast
from pathlib import Path


def unwritten(path: Path) -> int | None:
    """The line of a ``downgrade()`` that nobody wrote, though ``upgrade()`` does something; else None.

    Unwritten is one that does nothing and does not say why: a docstring is taken for the reason.

    :raises OSError: the file cannot be read.
    :raises SyntaxError: it is not Python.
    """
    functions = {
        node.name: node
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    down, up = functions.get("downgrade"), functions.get("upgrade")
    if down is None or up is None or not _idle(down) or _idle(up) or ast.get_docstring(down):
        return None
    return down.lineno


def _idle(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Return) and node.value is None)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in function.body
    )
