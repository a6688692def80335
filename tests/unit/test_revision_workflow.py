"""The workflow that proposes revisions: its page tells of all that it takes, and its jobs have no right too many."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.harness import REPOSITORY

PAGE = REPOSITORY / "docs" / "revision-workflow.md"


def workflow() -> Any:
    """The file; YAML takes the key ``on`` for true."""
    text = (REPOSITORY / ".github" / "workflows" / "revision.yml").read_text()
    loaded = yaml.safe_load(text)
    return {("on" if key is True else key): value for key, value in loaded.items()}


def test_the_page_names_every_input_and_secret_and_no_other() -> None:
    call = workflow()["on"]["workflow_call"]
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    table = {
        name
        for row in rows[: len(call["inputs"]) + len(call["secrets"])]
        for name in re.findall(r"`([\w-]+)`", row)
    }
    assert table >= {*call["inputs"], *call["secrets"]}
    assert set(workflow()["on"]["workflow_dispatch"]["inputs"]) <= set(call["inputs"])


def test_what_runs_the_projects_code_may_only_read() -> None:
    jobs = workflow()["jobs"]
    assert workflow()["permissions"] == {}
    assert jobs["generate"]["permissions"] == {"contents": "read"}
    assert "secrets.PULL_REQUEST_TOKEN" not in str(jobs["generate"])
    assert "github.token" not in str(jobs["generate"])
    writing = str(jobs["propose"])
    assert all(word not in writing for word in ("$WORK", "python", "docker", "alembic"))


def test_no_expression_gets_into_a_shell() -> None:
    steps = [step for job in workflow()["jobs"].values() for step in job["steps"]]
    assert all("${{" not in step.get("run", "") for step in steps)
    assert all(
        step["with"]["persist-credentials"] is False for step in steps if "checkout" in step.get("uses", "")
    )
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps if "uses" in step)
