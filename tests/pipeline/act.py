"""Workflows as they really run: ``act`` on this machine, in scratch repositories of their own.

What act does not do, GitHub does: other people's actions, approvals, secrets of environments, concurrency, and the end
of a matrix of reusable workflows at its first failure. act goes on to the next one; so in these tests it is the
workflows' own checks that stop the line. Secrets of an environment are given as ``secrets`` of the run. The workflows
keep other people's actions behind ``!env.ACT``; one that is reached all the same fails.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness import NO_VARIABLES, REPOSITORY, Completed, checked, clean_environment

WORKFLOWS = REPOSITORY / ".github"
ORIGIN = "https://github.com/example/shop.git"
"""Names the repository ``example/shop`` for act; nothing is fetched from it."""
_FOREIGN = re.compile(r"uses:\s*(?P<repository>[\w.-]+/[\w.-]+)(?:/[\w./-]+)?@(?P<ref>[\w.-]+)")
_OUT_OF_REACH = """\
name: out of reach
runs:
  using: composite
  steps:
    - shell: bash
      run: echo "::error::an action that cannot be fetched here was reached" && exit 1
"""
_ON_THIS_MACHINE = (
    "-P",
    "ubuntu-latest=-self-hosted",
    "--action-offline-mode",
    "--no-cache-server",
    "--defaultbranch",
    "main",
    "--json",
)


@dataclass(frozen=True)
class Run:
    """A run of workflows that has ended: every line of every job, in the order in which they were written."""

    returncode: int
    lines: tuple[dict[str, Any], ...]
    rest: str
    """What act wrote that was no line of JSON: its own errors."""

    def jobs(self, result: str = "") -> list[str]:
        """Names of the jobs that ran, in order of their start; only those with the result, if one is given.

        A job that was skipped is not among them. ``result``: ``success`` or ``failure``.
        """
        ended = {line["job"].strip(): line["jobResult"] for line in self.lines if "jobResult" in line}
        started = (line["job"].strip() for line in self.lines if line.get("stepid") == ["--setup-job"])
        names = dict.fromkeys(started)
        return [name for name in names if not result or ended.get(name) == result]

    def said(self, job: str = "") -> str:
        """What the steps of the jobs wrote whose name contains ``job``; of all jobs without one."""
        return "".join(
            line["msg"] for line in self.lines if line.get("raw_output") and job in line.get("job", "")
        )

    def summary(self, job: str = "") -> str:
        """The step summaries of these jobs, Markdown."""
        return "".join(
            line["content"]
            for line in self.lines
            if line.get("command") == "summary" and job in line.get("job", "")
        )

    def errors(self, job: str = "") -> list[str]:
        """The messages of the annotations ``::error …::`` of these jobs, with their line breaks."""
        found = []
        for line in self.lines:
            if job in line.get("job", "") and line.get("command") == "error":
                found.append(line.get("arg", ""))
        return [_unescaped(message) for message in found]

    @property
    def output(self) -> str:
        """Everything, as a person would see it, for messages of assertions."""
        shown = [f"[{line.get('job', 'act')}] {line.get('msg', '').rstrip()}" for line in self.lines]
        return "\n".join([f"exit {self.returncode}", *shown, self.rest])


_LINGERING_BASH = """\
#!/bin/sh
case "$*" in
*/act/workflow/*)
  {bash} "$@"
  code=$?
  [ "$code" -eq 0 ] || sleep 0.5
  exit "$code"
  ;;
esac
exec {bash} "$@"
"""


@dataclass(frozen=True)
class Caller:
    """A scratch repository that calls the workflows of this one."""

    path: Path
    home: Path
    """The home directory of its runs: nothing of the user's own is read or written."""

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def git(self, *args: str) -> str:
        """``git ARGS`` in it; what it wrote on standard output."""
        done = run("git", *args, cwd=self.path, home=self.home)
        return done.stdout.strip()

    def commit(self, message: str = "a change") -> str:
        """Commit everything; the new commit's id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def act(
        self,
        workflow: str,
        *args: str,
        event: str = "push",
        payload: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] = NO_VARIABLES,
        variables: Mapping[str, str] = NO_VARIABLES,
        inputs: Mapping[str, str] = NO_VARIABLES,
        env: Mapping[str, str] = NO_VARIABLES,
        timeout: float = 300,
    ) -> Run:
        """Run the workflow file of that name (in ``.github/workflows``) as it is in the working tree.

        :param payload: of the event, in place of an empty one.
        :param inputs: of ``workflow_dispatch``.
        :param env: variables of the machine that the steps see, such as PATH.
        """
        command = ["act", event, *_ON_THIS_MACHINE, "-W", f".github/workflows/{workflow}", *args]
        command += self._foreign_actions()
        if payload is not None:
            event_file = self.home / "event.json"
            event_file.write_text(json.dumps(payload))
            command += ["--eventpath", str(event_file)]
        for option, given in (("--secret", secrets), ("--var", variables), ("--input", inputs)):
            for name, value in given.items():
                command += [option, f"{name}={value}"]
        path = f"{self._lingering_bash()}{os.pathsep}{env.get('PATH', os.environ['PATH'])}"
        env = {**env, "PATH": path}
        done = run(*command, cwd=self.path, home=self.home, env=env, check=False, timeout=timeout)
        return _parsed(done)

    def _lingering_bash(self) -> Path:
        """A folder whose bash ends a failed step a little later: act, on a busy machine, misses a step's last lines."""
        script = self.home / "bin" / "bash"
        if not script.exists():
            script.parent.mkdir(exist_ok=True)
            script.write_text(_LINGERING_BASH.format(bash=shutil.which("bash", path=os.defpath)))
            script.chmod(0o755)
        return script.parent

    def _foreign_actions(self) -> list[str]:
        """act fetches an action before it asks whether its step runs: here each gets one that fails."""
        place = self.home / "out-of-reach"
        place.mkdir(exist_ok=True)
        (place / "action.yml").write_text(_OUT_OF_REACH)
        files = [*(self.path / ".github").rglob("*.yml"), *(self.path / ".github").rglob("*.yaml")]
        used = {
            f"{found['repository']}@{found['ref']}"
            for file in files
            for found in _FOREIGN.finditer(file.read_text())
        }
        wanted = sorted(name for name in used if not name.startswith("actions/checkout@"))
        return [word for name in wanted for word in ("--local-repository", f"{name}={place}")]


def make_caller(path: Path, home: Path, names: Sequence[str] = ("workflows", "actions")) -> Caller:
    """A new repository ``example/shop`` on the branch main, with copies of this repository's workflows and actions."""
    home.mkdir(parents=True, exist_ok=True)
    path.mkdir(parents=True)
    caller = Caller(path, home)
    caller.git("init", "--quiet", "--initial-branch", "main")
    caller.git("config", "user.name", "A developer")
    caller.git("config", "user.email", "developer@example.com")
    caller.git("remote", "add", "origin", ORIGIN)
    for name in names:
        if (WORKFLOWS / name).is_dir():
            shutil.copytree(WORKFLOWS / name, path / ".github" / name)
    # act knows no ``queue`` of a concurrency group, and refuses a workflow that has one.
    for workflow in (path / ".github").rglob("*.yml"):
        workflow.write_text(re.sub(r"^ +queue: max\n", "", workflow.read_text(), flags=re.MULTILINE))
    return caller


def run(
    *command: str,
    cwd: Path,
    home: Path,
    env: Mapping[str, str] = NO_VARIABLES,
    check: bool = True,
    timeout: float = 120,
) -> Completed:
    """Run a command in a clean environment with a home directory of its own."""
    surroundings = clean_environment({"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", **env})
    done = subprocess.run(
        command,
        cwd=cwd,
        env=surroundings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return checked(Completed(done.returncode, done.stdout, done.stderr), check)


def _parsed(done: Completed) -> Run:
    lines: list[dict[str, Any]] = []
    rest = []
    for text in [*done.stdout.splitlines(), *done.stderr.splitlines()]:
        try:
            line = json.loads(text)
        except ValueError:
            rest.append(text)
            continue
        lines.append(line) if isinstance(line, dict) else rest.append(text)
    return Run(done.returncode, tuple(lines), "\n".join(rest))


def _unescaped(message: str) -> str:
    """The text of a workflow command (``%0A`` is a line break)."""
    codes = {"%0A": "\n", "%0D": "\r", "%3A": ":", "%2C": ",", "%25": "%"}
    return re.sub("%(0A|0D|3A|2C|25)", lambda found: codes[found[0]], message)
