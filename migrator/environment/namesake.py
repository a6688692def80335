"""A project with a package of its own that is called like this tool: Python keeps one of a name, the first."""

from __future__ import annotations

import sys
from pathlib import Path

TOOL = Path(__file__).parents[1]


def advice_on_namesake(error: BaseException) -> str:
    """The next action where ``error`` is an import of the project's own package; else an empty string."""
    if not isinstance(error, ImportError) or (error.name or "").partition(".")[0] != TOOL.name:
        return ""
    folders = [Path(entry or ".", TOOL.name) for entry in sys.path]
    if not any(folder.is_dir() and not folder.samefile(TOOL) for folder in folders):
        return ""
    return (
        f"Python has imported {TOOL.name} already, and the project's package {TOOL.name}/ has the name of this tool: "
        "give that another name (migrator explain a-package-called-migrator)."
    )
