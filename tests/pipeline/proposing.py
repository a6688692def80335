"""A repository whose models change: what the workflow ``revision.yml`` runs on, and what it leaves at the origin."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.models import env_with
from tests.harness import MAKO, REPOSITORY, SYNC_ENV, Project, write_project
from tests.pipeline.act import ORIGIN, Caller, Run

CALLING = """\
name: models
on:
  push:
    branches-ignore: ["migrator/**"]
    paths: ["models.py", "migrations/**"]
  pull_request:
permissions: {{}}
jobs:
  revision:
    uses: ./.github/workflows/revision.yml
    permissions:
      contents: write
      pull-requests: write
    with:
{inputs}
    secrets:
      MIGRATOR_SCRATCH_URL: ${{{{ secrets.MIGRATOR_SCRATCH_URL }}}}
"""
MODELS = """\
import sqlalchemy as sa

target_metadata = sa.MetaData()
sa.Table(
    "orders",
    target_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("placed", sa.DateTime),
{columns})
"""
FIRST = 'op.create_table("orders", sa.Column("id", sa.Integer, primary_key=True), sa.Column("placed", sa.DateTime))'


@dataclass(frozen=True)
class Wheels:
    """The tool as projects install it: a folder of wheels and a lock file with their hashes."""

    folder: Path
    lock: str

    @property
    def variables(self) -> dict[str, str]:
        """Let pip take them from there alone."""
        return {"PIP_FIND_LINKS": str(self.folder), "PIP_NO_INDEX": "1", "PIP_NO_COMPILE": "1"}


def make_wheels(folder: Path) -> Wheels:
    """Build the tool's wheel and collect those that it needs at run time."""
    versions = re.findall(r"^[\w.-]+==\S+", (REPOSITORY / "requirements-image.lock").read_text(), re.M)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(versions))
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    subprocess.run([*pip, *build, REPOSITORY], check=True)
    (own,) = folder.glob("*.whl")
    fetch = ("download", "--only-binary", ":all:", "--constraint", constraints, "--dest", folder)
    subprocess.run([*pip, *fetch, own], check=True)
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return Wheels(folder, "".join(lines))


@dataclass
class Shop:
    """A repository with a model of orders, its first revision and a workflow that calls ``revision.yml``."""

    caller: Caller
    origin: Path
    project: Project
    scratch_url: str
    variables: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)

    def git(self, *args: str) -> str:
        """``git ARGS`` in the repository."""
        return self.caller.git(*args)

    def models(self, *columns: str, without: str = "") -> None:
        """Give the table further columns, or take the line away that holds a word."""
        text = MODELS.format(columns="".join(f"    {column},\n" for column in columns))
        lines = [line for line in text.splitlines() if not without or without not in line]
        self.caller.write("models.py", "\n".join(lines) + "\n")

    def push(self, message: str, branch: str = "") -> str:
        """Commit everything, on a new branch if one is named, and push it; the commit's id."""
        if branch:
            self.git("switch", "--quiet", "--create", branch)
        commit = self.caller.commit(message)
        self.git("push", "--quiet", f"file://{self.origin}", "HEAD")
        return commit

    def run(
        self,
        event: str = "push",
        *,
        workflow: str = "models.yml",
        payload: Mapping[str, object] | None = None,
        **inputs: str,
    ) -> Run:
        """Run the workflow as for a push of the branch that is checked out.

        :param inputs: of ``workflow_dispatch``.
        """
        # act finds the repository's name by its origin, and the steps are to find this one there.
        origin = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{self.origin}.insteadOf",
            "GIT_CONFIG_VALUE_0": ORIGIN,
        }
        return self.caller.act(
            workflow,
            event=event,
            payload=payload,
            inputs=inputs,
            secrets={"MIGRATOR_SCRATCH_URL": self.scratch_url} if self.scratch_url else {},
            env={**self.variables, **origin},
        )

    def set(self, **inputs: str) -> None:
        """Change inputs of the call; ``_`` in a name stands for ``-``."""
        self.inputs |= {name.replace("_", "-"): value for name, value in inputs.items()}
        lines = [f"      {name}: {value}" for name, value in self.inputs.items()]
        self.caller.write(".github/workflows/models.yml", CALLING.format(inputs="\n".join(lines)))

    def lock(self, wheels: Wheels) -> None:
        """Let the project's lock file have the tool."""
        self.caller.write("requirements.txt", wheels.lock)
        self.variables |= wheels.variables

    def at_origin(self, *args: str) -> str:
        """``git ARGS`` in the bare repository that is pushed to."""
        return self.caller.git(f"--git-dir={self.origin}", *args)

    @property
    def branches(self) -> list[str]:
        """The branches there."""
        return self.at_origin("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").split()

    def proposed(self, branch: str) -> dict[str, str]:
        """Path and text of each file that the newest commit of a branch adds there."""
        names = self.at_origin("show", "--format=", "--name-status", branch).splitlines()
        assert all(name.startswith("A\t") for name in names), names
        return {name[2:]: self.at_origin("show", f"{branch}:{name[2:]}") for name in names}


def make_shop(caller: Caller, origin: Path, scratch_url: str) -> Shop:
    """The repository on its branch main, pushed to a bare one."""
    subprocess.run(["git", "init", "--quiet", "--bare", origin], check=True)
    env = env_with("", SYNC_ENV).replace(
        "metadata)\n        with", "metadata, compare_type=True)\n        with"
    )
    written = write_project(caller.path / "new", None, env=env)
    for part in written.path.iterdir():
        part.rename(caller.path / part.name)
    written.path.rmdir()
    project = Project(caller.path, None)
    (caller.path / "migrations" / "script.py.mako").write_text(MAKO)
    project.add_revision("a1", None, FIRST, 'op.drop_table("orders")', message="orders")
    shop = Shop(caller, origin, project, scratch_url)
    caller.write(".gitignore", "__pycache__/\n")
    shop.models()
    shop.set(python=sys.executable)
    shop.push("orders")
    return shop


def sql_of(summary: str) -> str:
    """The SQL of a proposal's text."""
    found = re.search(
        r"<details><summary>SQL of .*?</summary>\n\n~~~sql\n(.*?)\n~~~\n\n</details>", summary, re.S
    )
    assert found, summary
    return found[1]
