"""What the promotion's workflows promise by their form alone, and how a cancelled migration ends."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import Database, Revision, Running, start, wait_until, write_project
from tests.image.engine import Owned, docker
from tests.pipeline.act import WORKFLOWS
from tests.pipeline.action import ACTION, DOCKERFILE, pushed
from tests.pipeline.conftest import Registry
from tests.pipeline.shop import CUSTOMERS, REVISIONS

pytestmark = pytest.mark.pipeline

SLEEPS = Revision("7d1f08", CUSTOMERS, 'op.execute("SELECT pg_sleep(600)")')
ASLEEP = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"


def content(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((WORKFLOWS / "workflows" / name).read_text())
    return loaded


def environment_job(name: str) -> dict[str, Any]:
    job: dict[str, Any] = content("promote-environment.yml")["jobs"][name]
    return job


def script(name: str) -> str:
    (found,) = [step["run"] for step in environment_job("migrate")["steps"] if step.get("name") == name]
    return str(found)


# Form


def test_what_verifies_an_environment_has_none_of_its_secrets() -> None:
    verify = environment_job("verify")
    assert "environment" not in verify
    named = set(json.dumps(verify).split("secrets.")[1:])
    assert {name.partition(" ")[0] for name in named} == {"REGISTRY_PASSWORD"}
    assert environment_job("plan")["environment"].endswith("-plan")
    assert "secrets.MIGRATOR_DATABASE_URL" not in json.dumps(environment_job("plan"))


def test_an_environment_migrates_once_at_a_time_and_whoever_waits_is_not_dropped() -> None:
    migrate = environment_job("migrate")
    assert migrate["environment"] == "${{ inputs.environment }}"
    group = migrate["concurrency"].pop("group")
    # Of one image and environment, and of no run or branch.
    assert set(re.findall(r"\$\{\{ (.*?) \}\}", group)) == {"inputs.name", "inputs.environment"}
    assert migrate["concurrency"] == {"cancel-in-progress": False, "queue": "max"}


def test_what_only_looks_waits_for_nobody() -> None:
    for workflow in ("promote.yml", "promote-environment.yml"):
        assert "concurrency" not in content(workflow)
        for name, job in content(workflow)["jobs"].items():
            assert ("concurrency" in job) == (name == "migrate")


def test_environments_run_in_order_and_end_at_the_first_that_fails() -> None:
    called = content("promote.yml")["jobs"]["environment"]
    assert (called["strategy"]["max-parallel"], called["strategy"]["fail-fast"]) == (1, True)
    assert called["with"]["environment"] == "${{ matrix.environment.name }}"
    assert called["with"]["after"] == "${{ matrix.environment.after }}"


def test_migrations_run_as_in_the_action_named_and_with_the_same_network() -> None:
    text = (WORKFLOWS / "workflows" / "promote-environment.yml").read_text()
    runs = re.findall(r"docker run (?:.*\\\n)*.*", text.split("jobs:", 1)[1])
    of_image = [run for run in runs if '"$NAME@$DIGEST"' in run]
    assert len(of_image) == 3
    for run in (*of_image, (ACTION / "migrate.sh").read_text()):
        for option in ("--init", "--name", "--read-only", "--cap-drop ALL", "no-new-privileges"):
            assert option in run, (option, run)
    defaults = {yaml.safe_load((ACTION / "action.yml").read_text())["inputs"]["network"]["default"]}
    for workflow in ("promote.yml", "promote-environment.yml"):
        loaded = yaml.load((WORKFLOWS / "workflows" / workflow).read_text(), Loader=yaml.BaseLoader)
        defaults.add(loaded["on"]["workflow_call"]["inputs"]["network"]["default"])
    assert defaults == {"host"}


# Cancelled: what the runner does to the process of a step, without GitHub


@pytest.fixture
def sleeping(
    tmp_path: Path, registry: Registry, runner_image: str, database: Database
) -> Iterator[tuple[Running, dict[str, str]]]:
    """The step Migrate while its second revision sleeps, and its surroundings."""
    project = write_project(tmp_path / "shop", None, revisions=(REVISIONS[0], SLEEPS))
    with Owned() as owned:
        tag = pushed(owned, registry, "cancelled", DOCKERFILE, project.path)
        env = {
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_RUN_ID": "4711",
            "GITHUB_STEP_SUMMARY": str(tmp_path / "step.md"),
            "ENVIRONMENT": "prod",
            "NAME": tag.rpartition(":")[0],
            "DIGEST": registry.digest(tag),
            "SETTINGS": "",
            "NETWORK": "host",
            "CONTEXT": ".",
            "MIGRATOR_DATABASE_URL": database.url,
        }
        step = step_of("Migrate", env)
        try:
            wait_until(lambda: database.query(ASLEEP), "the revision sleeps", timeout=60)
            yield step, env
        finally:
            docker("rm", "--force", (tmp_path / "container").read_text().strip(), check=False)


def step_of(name: str, env: dict[str, str]) -> Running:
    """A step as a runner starts it."""
    file = Path(env["RUNNER_TEMP"]) / "step.sh"
    file.write_text(script(name))
    return start("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(file), env=env, cwd=file.parent)


def test_a_cancelled_step_cancels_its_statement(
    sleeping: tuple[Running, dict[str, str]], database: Database
) -> None:
    step, env = sleeping
    step.send_signal(signal.SIGINT)
    ended = step.wait(60)
    assert ended.returncode == 130, ended.output
    assert (database.revisions, database.query(ASLEEP)) == ([CUSTOMERS], [])
    assert "rolled back" in (Path(env["RUNNER_TEMP"]) / "summary.md").read_text()
    after = step_of("Stop what a cancelled job has left", env).wait(60)
    assert (after.returncode, after.stdout) == (0, ""), after.output


def test_a_container_that_outlives_its_killed_step_is_stopped_by_its_name(
    sleeping: tuple[Running, dict[str, str]], database: Database
) -> None:
    step, env = sleeping
    # The runner kills the step with all that it has started: bash, and the client of Docker.
    (client,) = Path(f"/proc/{step.pid}/task/{step.pid}/children").read_text().split()
    step.kill()
    os.kill(int(client), signal.SIGKILL)
    step.wait(60)
    name = (Path(env["RUNNER_TEMP"]) / "container").read_text().strip()
    assert name.startswith("migrator-4711-")
    assert name in docker("ps", "--format", "{{.Names}}").stdout.splitlines()
    assert database.query(ASLEEP) != []
    after = step_of("Stop what a cancelled job has left", env).wait(90)
    assert after.returncode == 0, after.output
    assert f"::warning title=promote::The migration was stopped: the container {name}" in after.output
    assert (database.revisions, database.query(ASLEEP)) == ([CUSTOMERS], [])
    assert name not in docker("ps", "--all", "--format", "{{.Names}}").stdout.splitlines()
