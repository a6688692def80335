"""What other people's checkers say about everything in .github, and rules that none of them has."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import REPOSITORY

pytestmark = pytest.mark.pipeline

GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.y*ml"))
ACTIONS = sorted(GITHUB.glob("actions/*/action.y*ml"))
DEPENDABOT = sorted(GITHUB.glob("dependabot.y*ml"))
SCRIPTS = sorted(GITHUB.rglob("*.sh"))
PINNED = re.compile(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40}")


def check(*command: str | Path) -> None:
    program = shutil.which(command[0])
    assert program, f"not on PATH: {command[0]}"
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stdout + done.stderr


def shown(file: Path) -> str:
    return str(file.relative_to(REPOSITORY))


def content(file: Path) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(file.read_text())
    return loaded


def steps(file: Path) -> Iterator[dict[str, Any]]:
    """Every step of a workflow or an action, and each job that calls a workflow."""
    loaded = content(file)
    for job in loaded.get("jobs", {"": loaded.get("runs")}).values():
        yield from job.get("steps", [])
        if "uses" in job:
            yield job


def test_there_is_something_to_check() -> None:
    assert ACTIONS
    assert SCRIPTS


def test_actionlint_finds_nothing_in_the_workflows() -> None:
    """With shellcheck, which it runs over each ``run``, where that is on PATH."""
    check("shellcheck", "--version")
    if WORKFLOWS:
        check("actionlint", *WORKFLOWS)


def test_zizmor_finds_nothing() -> None:
    check("zizmor", "--offline", "--no-progress", GITHUB)


@pytest.mark.parametrize("file", WORKFLOWS, ids=shown)
def test_a_workflow_has_the_form_that_github_describes(file: Path) -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.github-workflows", file)


@pytest.mark.parametrize("file", ACTIONS, ids=shown)
def test_an_action_has_the_form_that_github_describes(file: Path) -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.github-actions", file)


def test_the_configuration_of_dependabot_has_its_form() -> None:
    for file in DEPENDABOT:
        check("check-jsonschema", "--builtin-schema", "vendor.dependabot", file)


@pytest.mark.parametrize("file", SCRIPTS, ids=shown)
def test_shellcheck_finds_nothing_in_a_script(file: Path) -> None:
    check("shellcheck", file)


@pytest.mark.parametrize("file", [*WORKFLOWS, *ACTIONS], ids=shown)
def test_every_action_of_others_is_pinned_to_a_commit(file: Path) -> None:
    used = [step["uses"] for step in steps(file) if "uses" in step]
    assert [use for use in used if not use.startswith("./") and not PINNED.fullmatch(use)] == []


@pytest.mark.parametrize("file", [*WORKFLOWS, *ACTIONS], ids=shown)
def test_a_pin_says_which_version_it_is(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if re.match(r"[\s-]*uses: *[^.\s]", line)]
    assert [line for line in lines if not re.search(r"@[0-9a-f]{40} # v?\d", line)] == []


@pytest.mark.parametrize("file", [*WORKFLOWS, *ACTIONS], ids=shown)
def test_no_expression_is_put_into_a_script(file: Path) -> None:
    """``${{ … }}`` there is code that whoever names a branch can write; it comes by ``env`` instead."""
    assert [step["run"] for step in steps(file) if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize("file", WORKFLOWS, ids=shown)
def test_a_workflow_has_no_permission_but_those_of_its_jobs(file: Path) -> None:
    assert content(file).get("permissions") == {}


@pytest.mark.parametrize("file", WORKFLOWS, ids=shown)
def test_a_checkout_keeps_no_token(file: Path) -> None:
    kept = [
        step
        for step in steps(file)
        if step.get("uses", "").startswith("actions/checkout@")
        and step.get("with", {}).get("persist-credentials") is not False
    ]
    assert kept == []
