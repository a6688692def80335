"""What the text of an ``env.py`` says about how it will use Alembic."""

from __future__ import annotations

import ast
from pathlib import Path


def names_its_transaction(environment: Path) -> bool:
    """Whether it says ``with context.begin_transaction() as transaction``.

    Only somebody does who wants to end that transaction: usually a dry run, which rolls everything back at
    the end. Then the whole run has to be that one transaction. A file that cannot be read does not say so.
    """
    try:
        data = environment.read_bytes()
        if b"begin_transaction" not in data or b" as " not in data:
            return False
        tree = ast.parse(data)
    except (OSError, SyntaxError, ValueError):
        return False
    return any(
        item.optional_vars is not None and _called(item.context_expr) == "begin_transaction"
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
    )


def _called(expression: ast.expr) -> str:
    if not isinstance(expression, ast.Call):
        return ""
    function = expression.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
