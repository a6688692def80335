"""Steps of the promotion by themselves: what follows from an answer that no registry or cluster gives when asked to.

Before a program stands a script that gives that answer; everything else of the step is as on a runner.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Completed
from tests.pipeline.test_promotion_attacks import instead_of
from tests.pipeline.test_promotion_form import step_of

pytestmark = pytest.mark.pipeline

DIGEST, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
NAME = "registry.example.com/shop/migrate"
Step = Callable[..., Completed]


@pytest.fixture
def step(tmp_path: Path) -> Step:
    """Run a step of the job migrate to its end, with scripts that stand before programs: ``step(NAME, {}, helm=…)``."""

    def run(name: str, env: Mapping[str, str], **scripts: str) -> Completed:
        path = {}
        for program, script in scripts.items():
            path = instead_of(program, f"#!/usr/bin/env bash\n{script}", tmp_path / "bin")
        files = {"GITHUB_STEP_SUMMARY": tmp_path / "summary.md", "GITHUB_OUTPUT": tmp_path / "output"}
        given = {"RUNNER_TEMP": str(tmp_path), "NAME": NAME, "DIGEST": DIGEST, "ENVIRONMENT": "prod"}
        given |= {name: str(file) for name, file in files.items()}
        return step_of(name, given | path | dict(env)).wait(60)

    return run


def refused(ended: Completed, *words: str, code: int = 2) -> str:
    """The one error of a step that ended with that code; it says what to do next, and names the words."""
    assert ended.returncode == code, ended.output
    (message,) = [line for line in ended.stdout.splitlines() if line.startswith("::error title=promote::")]
    cause, _, following = message.partition("%0A")
    assert cause, message
    assert following, message
    for word in words:
        assert word in message, message
    return message


# By Helm

RELEASED = {
    "CHART": "chart",
    "RELEASE": "shop",
    "NAMESPACE": "shop-prod",
    "KUBECONFIG": "kubeconfig",
    "TIMEOUT": "5s",
}
# What the API server tells: Jobs, pods, their log, events.
KUBECTL = """\
case "$*" in
  *" get jobs "*) cat jobs.json ;;
  *" get pods "*) cat pods.json ;;
  *" logs "*) echo "done      2 revisions" ;;
  *" get events "*) cat events.json ;;
esac
"""
FAILS = 'echo "Error: UPGRADE FAILED: resource Deployment/shop-prod/shop-web not ready" >&2\nexit 1\n'


def cluster(place: Path, said: Mapping[str, Any]) -> None:
    """A cluster whose Job for the digest has ended with these words; the Deployment of the release comes not up."""
    container = {"name": "migrate", "image": f"{NAME}@{DIGEST}"}
    job = {
        "metadata": {"uid": "1", "name": "shop-migrator", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    ended = {"name": "migrate", "state": {"terminated": {"message": json.dumps(said)}}}
    pod = {"metadata": {"name": "shop-migrator-x", "creationTimestamp": "2026-01-01T00:00:00Z"}}
    event = {"involvedObject": {"name": "shop-web-1"}, "message": "Readiness probe failed: refused"}
    items = {"jobs": job, "pods": {**pod, "status": {"containerStatuses": [ended]}}, "events": event}
    for name, item in items.items():
        (place / f"{name}.json").write_text(json.dumps({"items": [item]}))
    (place / "helm-options").write_text("--wait\n")


def test_an_upgrade_that_fails_after_its_migration_stops_the_promotion_and_says_what_failed(
    step: Step, tmp_path: Path
) -> None:
    cluster(tmp_path, {"exit_code": 0, "outcome": "applied", "message": "applied 2 revisions"})
    ended = step("Migrate by Helm", RELEASED, kubectl=KUBECTL, helm=FAILS)
    message = refused(ended, "The migration was done", "helm upgrade of shop in shop-prod", code=1)
    assert "delete job" not in message
    assert "Deployment/shop-prod/shop-web not ready" in ended.stderr
    for told in (ended.stdout, (tmp_path / "summary.md").read_text()):
        assert "Readiness probe failed: refused" in told


def test_a_migration_that_fails_in_the_cluster_ends_the_step_with_its_code_and_words(
    step: Step, tmp_path: Path
) -> None:
    cluster(tmp_path, {"exit_code": 20, "message": "a migration failed", "next": "Mend it."})
    ended = step("Migrate by Helm", RELEASED, kubectl=KUBECTL, helm=FAILS)
    message = refused(ended, "a migration failed", "Mend it.", "delete job shop-migrator", code=20)
    assert "The migration was done" not in message


def test_a_release_that_is_not_deployed_is_not_recorded(step: Step) -> None:
    failed = 'if [ "$1" = status ]; then echo \'{"info": {"status": "failed"}}\'; fi\n'
    ended = step("Verify by Helm", RELEASED, helm=failed, kubectl=KUBECTL)
    refused(ended, "The release shop in shop-prod is failed, and not deployed", "helm history shop")
    away = 'echo "Error: Kubernetes cluster unreachable" >&2\nexit 1\n'
    refused(step("Verify by Helm", RELEASED, helm=away, kubectl=KUBECTL), "not to be asked")
