"""Imports that fail: of what is not there, and of a package of the project's that is called like this tool."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

TOOL = Path(__file__).parents[1]


def advice_on_namesake(error: BaseException) -> str:
    """The next action where ``error`` is an import of the project's own package; else an empty string."""
    if not isinstance(error, ImportError) or (error.name or "").partition(".")[0] != TOOL.name:
        return ""
    # A folder without __init__.py is never in the way: Python goes on to the next one of that name.
    found = [Path(entry or ".", TOOL.name, "__init__.py") for entry in sys.path]
    if not any(file.is_file() and not file.parent.samefile(TOOL) for file in found):
        return ""
    return (
        f"Python has imported {TOOL.name} already, and the project's package {TOOL.name}/ has the name of this tool: "
        "give that another name (migrator explain a-package-called-migrator)."
    )


def advice_on_missing_module(error: BaseException) -> str:
    """The next action where ``error`` is an import of what is not installed; else an empty string."""
    top = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    try:
        missing = bool(top) and importlib.util.find_spec(top) is None
    except (ImportError, ValueError):
        missing = False
    if not missing:
        return ""
    return (
        f"Correct it, or install {top} where migrator runs, or copy it there (in an image: docs/docker.md, With "
        "packages of its own); --verbose shows the traceback."
    )
