"""Jobs without hooks: of the chart, of a pipeline that renders it, and of deploy/."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.cluster import shop
from tests.cluster.helm import PATIENT, Release
from tests.cluster.kube import PATIENCE_SECONDS, Namespace
from tests.cluster.shop import DEPLOY, journal, manifest, orders_in_use, wait_until_altering
from tests.harness import Database

pytestmark = pytest.mark.cluster

PLAIN = {"mode": "job"}
LISTENS = (
    "import http.server, signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
    "http.server.test(port=8000)"
)


def test_the_namespace_refuses_what_is_not_restricted(namespace: Namespace) -> None:
    image = f"{shop.REPOSITORY}:v1"
    refused = namespace.kubectl("run", "root", f"--image={image}", "--dry-run=server", check=False)
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr


def test_the_same_release_with_the_same_values_makes_no_second_job(
    release: Release, database: Database
) -> None:
    release.upgrade("v1", PLAIN)
    (name,) = release.namespace.names("jobs")
    made = release.namespace.get("job", name)["metadata"]["uid"]
    assert release.namespace.job_ended(name).outcome == "Complete"
    release.upgrade("v1", PLAIN)
    assert release.namespace.names("jobs") == [name]
    assert release.namespace.get("job", name)["metadata"]["uid"] == made
    assert database.revisions == ["a1"]


def test_a_new_image_makes_a_new_job(release: Release, database: Database) -> None:
    release.upgrade("v1", PLAIN)
    (first,) = release.namespace.names("jobs")
    assert release.namespace.job_ended(first).outcome == "Complete"
    release.upgrade("v2", PLAIN)
    (second,) = set(release.namespace.names("jobs")) - {first}
    assert release.namespace.job_ended(second).outcome == "Complete"
    assert (database.revisions, journal(database)) == (["b2"], ["a1", "b2"])


def test_what_argo_cd_would_apply_runs_when_kubectl_applies_it(
    release: Release, namespace: Namespace, database: Database
) -> None:
    values = str(release.values("v1", {"mode": "argocd"}))
    rendered = release.run("template", release.name, str(release.chart), "--values", values).stdout
    namespace.apply(*filter(None, yaml.safe_load_all(rendered)))
    ended = namespace.job_ended(release.job)
    assert (ended.outcome, database.revisions) == ("Complete", ["a1"])


def test_the_plain_manifest_runs_and_the_next_image_after_it(
    namespace: Namespace, database: Database
) -> None:
    namespace.apply(*manifest(DEPLOY / "job.yaml", "v1"))
    assert namespace.job_ended("shop-migrate").outcome == "Complete"
    namespace.kubectl("delete", "job", "shop-migrate", "--ignore-not-found", "--cascade=foreground")
    namespace.apply(*manifest(DEPLOY / "job.yaml", "v2"))
    ended = namespace.job_ended("shop-migrate")
    assert (ended.outcome, journal(database)) == ("Complete", ["a1", "b2"])


def waits() -> list[list[str]]:
    """The commands of deploy/README.md that wait for the end of the Job, and then look how it ended."""
    lines = re.findall(
        r"^\$ kubectl (wait .*?)(?: \|\| .*)?$", (DEPLOY / "README.md").read_text(), re.MULTILINE
    )
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize(("tag", "code"), [("v1", 0), ("broken", 1)])
def test_the_waits_of_the_page_end_when_the_job_does_and_say_how(
    namespace: Namespace, database: Database, tag: str, code: int
) -> None:
    until_the_end, look = waits()
    namespace.apply(*manifest(DEPLOY / "job.yaml", tag))
    # Its own limit of 300 s is longer than what this is given.
    namespace.kubectl(*until_the_end, timeout=PATIENCE_SECONDS)
    looked = namespace.kubectl(*look, check=False)
    assert looked.returncode == code, looked.output
    assert namespace.job_ended("shop-migrate").outcome == ("Failed" if code else "Complete")


def test_three_replicas_of_a_plain_job_apply_once(namespace: Namespace, at_v1: Database) -> None:
    account, job = manifest(DEPLOY / "job.yaml", "v2")
    job["spec"] |= {"parallelism": 3, "completions": 3}
    environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
    environment.append({"name": "MIGRATOR_LOCK_TIMEOUT", "value": PATIENT["settings"]["lock-timeout"]})
    with orders_in_use(at_v1):
        namespace.apply(account, job)
        wait_until_altering(at_v1)
        namespace.await_line("jobs", '{{.status.ready}}{{"\\n"}}', "^3$")
    ended = namespace.job_ended("shop-migrate")
    assert (ended.outcome, ended.exit_codes) == ("Complete", [0, 0, 0])
    assert sum(pod.message["message"] == "nothing to do" for pod in ended.pods) == 2
    assert (at_v1.revisions, journal(at_v1)) == (["b2"], ["a1", "b2"])


def test_the_kustomize_base_runs_with_an_overlay(
    namespace: Namespace, database: Database, tmp_path: Path
) -> None:
    shutil.copytree(DEPLOY / "kustomize" / "base", tmp_path / "base")
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../base"],
        "namespace": namespace.name,
        "nameSuffix": "-v1",
        "images": [{"name": "registry.example.com/shop", "newName": shop.REPOSITORY, "newTag": "v1"}],
    }
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    namespace.kubectl("apply", "--kustomize", str(tmp_path / "overlay"))
    ended = namespace.job_ended("shop-migrate-v1")
    assert (ended.outcome, database.revisions) == ("Complete", ["a1"])


def test_a_native_sidecar_is_there_for_the_run_and_does_not_outlive_it(
    release: Release, database: Database
) -> None:
    restricted = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    sidecar = {
        "name": "proxy",
        "image": f"{shop.REPOSITORY}:v1",
        "command": ["python", "-c", LISTENS],
        "startupProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "securityContext": restricted,
    }
    release.upgrade("v1", {"sidecars": [sidecar]})
    (pod,) = release.namespace.job_ended(release.job).pods
    assert pod.object["status"]["phase"] == "Succeeded"
    assert pod.object["status"]["initContainerStatuses"][0]["state"]["terminated"]
    assert database.revisions == ["a1"]
