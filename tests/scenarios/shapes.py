"""Copies of the example projects, steered from outside as their users steer them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.harness import (
    Completed,
    Database,
    Role,
    Running,
    parts_of,
    run_alembic,
    run_migrator,
    start_migrator,
)

HERE = Path(__file__).parent
Tool = Callable[..., Completed]
TOOLS: Mapping[str, Tool] = {"alembic": run_alembic, "migrator": run_migrator}
"""Every step that bare Alembic can do, ours does as well: the same test with both."""


class Copy:
    """A project's folder copied to a place of its own, with the variables that its user has set.

    :param run_in: the folder of the project in which its user runs the commands.
    """

    def __init__(self, folder: str, path: Path, variables: Mapping[str, str], run_in: str = ".") -> None:
        shutil.copytree(HERE / folder, path, ignore=shutil.ignore_patterns("__pycache__", ".gitkeep"))
        self.path = path
        self.variables = dict(variables)
        self.run_in = path / run_in

    def run(self, tool: Tool, *args: str, check: bool = True) -> Completed:
        """Run a command of a tool in the project; unless told otherwise it has to exit with 0."""
        return tool(*args, env=self.variables, cwd=self.run_in, check=check)

    def start(self, *args: str) -> Running:
        """Start migrator in the project."""
        return start_migrator(*args, env=self.variables, cwd=self.run_in)

    def revisions(self, directory: str) -> list[Path]:
        """The revision files, the newest last."""
        return sorted((self.path / directory).glob("*.py"), key=lambda file: file.stat().st_mtime_ns)

    def replace(self, file: str, old: str, new: str) -> None:
        """Change a file of the project, as its developer does."""
        text = (self.path / file).read_text()
        assert text.count(old) == 1, f"{old!r} in {file}: {text.count(old)} times"
        (self.path / file).write_text(text.replace(old, new))


def variables(names: Sequence[str], database: Database, role: Role | None = None) -> dict[str, str]:
    """Host, port, user, password and name of the database under the five names that a project reads."""
    parts = parts_of(database.url)
    if role is not None:
        parts |= {"user": role.name, "password": role.password}
    return dict(
        zip(
            names,
            (parts["host"], parts["port"], parts["user"], parts["password"], parts["name"]),
            strict=True,
        )
    )
