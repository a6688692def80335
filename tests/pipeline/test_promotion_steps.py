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
from tests.pipeline.conftest import Keys, Registry
from tests.pipeline.test_promotion import image
from tests.pipeline.test_promotion_attacks import instead_of
from tests.pipeline.test_promotion_form import step_of

pytestmark = pytest.mark.pipeline
__all__ = ["image"]

DIGEST = f"sha256:{'1' * 64}"
NAME = "registry.example.com/shop/migrate"
Step = Callable[..., Completed]
AGAIN = "Ask again whether the environment before is at this digest"
COSIGN_2 = """\
if [ "$1" = signing-config ]; then
  echo 'Error: unknown command "signing-config" for "cosign"' >&2
  exit 1
fi
exec REAL "$@"
"""


@pytest.fixture
def step(tmp_path: Path) -> Step:
    """Run a step of the job migrate to its end, with scripts that stand before programs: ``step(NAME, {}, helm=…)``."""

    def run(name: str, env: Mapping[str, str], **scripts: str) -> Completed:
        path = {}
        for program, script in scripts.items():
            path = instead_of(program, f"#!/usr/bin/env bash\n{script}", tmp_path / "bin")
        files = {"GITHUB_STEP_SUMMARY": tmp_path / "step.md", "GITHUB_OUTPUT": tmp_path / "output"}
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


# What was true before the approval


def test_a_promotion_that_was_overtaken_while_it_waited_for_its_approval_is_stopped(
    step: Step, registry: Registry, image: str
) -> None:
    name = f"{registry.host}/overtaken-while-it-waited/migrate"
    registry.crane("copy", image, f"{name}:test")
    this, other = image.partition("@")[2], registry.another(image, name).partition("@")[2]
    given = {"NAME": name, "DIGEST": this, "AFTER": "test"}
    still = step(AGAIN, given)
    assert (still.returncode, still.stdout) == (0, ""), still.output
    registry.crane("tag", f"{name}@{other}", "test")
    told = refused(
        step(AGAIN, given), f"test is at {other}, no longer at {this}", "Nothing was changed in prod"
    )
    assert "overtaken by another promotion" in told
    refused(step(AGAIN, {**given, "AFTER": "dev"}), "dev is at no digest")


def test_a_registry_that_does_not_answer_after_the_approval_stops_the_promotion(step: Step) -> None:
    ended = step(AGAIN, {"NAME": "localhost:1/shop/migrate", "AFTER": "test"})
    refused(
        ended, "The registry does not tell what localhost:1/shop/migrate:test is", "Run the failed jobs again"
    )
    assert "connection refused" in ended.stderr


def test_a_cosign_that_could_not_sign_is_refused_before_anything_is_migrated(step: Step, keys: Keys) -> None:
    given = {
        "PLACE": "the GitHub environment prod",
        "COSIGN_PUBLIC_KEY": keys.public,
        "COSIGN_PRIVATE_KEY": keys.private,
        "COSIGN_PASSWORD": keys.password,
    }
    assert step("Check the key", given).returncode == 0
    ended = step("Check the key", given, cosign=COSIGN_2)
    refused(ended, "This cosign is too old", "cosign 3", "cosign-image", "Nothing was changed")


# Docker


ON_THE_RUNNER = {
    "GITHUB_RUN_ID": "4711",
    "SETTINGS": "",
    "CONTEXT": ".",
    "NETWORK": "host",
    "MIGRATOR_DATABASE_URL": "postgresql://owner@db/shop",
}


def test_an_image_that_cannot_be_pulled_is_told_before_it_migrates(step: Step, tmp_path: Path) -> None:
    ended = step("Migrate", {**ON_THE_RUNNER, "NAME": "localhost:1/shop/migrate"})
    refused(ended, "could not pull localhost:1/shop/migrate@", "REGISTRY_PASSWORD", "Nothing was changed")
    assert "could not pull" in (tmp_path / "step.md").read_text()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (125, ("could not start the image in prod", "input network")),
        (126, ("entry point", "docs/docker.md")),
        (127, ("no migrator in", "docs/docker.md")),
        (137, ("killed", "out of memory", "rolls an open transaction back")),
    ],
)
def test_an_end_that_migrator_has_not_told_itself_is_told_with_its_cause(
    step: Step, tmp_path: Path, code: int, words: tuple[str, ...]
) -> None:
    ended = step("Migrate", ON_THE_RUNNER, docker=f'if [ "$1" = run ]; then exit {code}; fi\n')
    refused(ended, *words, code=code)
    assert "### prod: stopped" in (tmp_path / "step.md").read_text()


def test_an_end_that_migrator_has_told_is_not_told_again(step: Step) -> None:
    told = 'if [ "$1" = run ]; then echo "### a migration failed" >>"$RUNNER_TEMP/summary.md"; exit 137; fi\n'
    ended = step("Migrate", ON_THE_RUNNER, docker=told)
    assert (ended.returncode, "::error" in ended.stdout) == (137, False), ended.output


def test_a_network_of_another_container_comes_with_its_host_name(step: Step) -> None:
    written = 'if [ "$1" = run ]; then printf "%s\\n" "$@"; fi\n'
    for network, named in (("host", True), ("container:db", False)):
        ended = step("Migrate", {**ON_THE_RUNNER, "NETWORK": network}, docker=written)
        assert ended.returncode == 0, ended.output
        assert network in ended.stdout.splitlines()
        assert ("--hostname" in ended.stdout.splitlines()) == named


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, ("is not where this image wants it",)), (10, ("could not be asked", "ended with 10"))],
)
def test_a_database_that_is_elsewhere_after_the_migration_is_shown_where_it_stands(
    step: Step, tmp_path: Path, code: int, words: tuple[str, ...]
) -> None:
    (tmp_path / "settings.env").touch()
    answer = f'echo \'{{"targets": [{{"at": ["f9"]}}]}}\'\necho ::error::forged >&2\nexit {code}\n'
    ended = step("Verify", ON_THE_RUNNER, docker=answer)
    refused(ended, *words)
    before, _, rest = ended.stdout.partition('{"targets": [{"at": ["f9"]}]}')
    token = before.strip().removeprefix("::stop-commands::")
    assert len(token) == 32
    assert rest.strip().startswith(f"::{token}::")


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
    for told in (ended.stdout, (tmp_path / "step.md").read_text()):
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
