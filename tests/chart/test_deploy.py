"""The manifests for people without Helm: the same as the chart's, and what other tools make of them."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import harness
from tests.chart.rendering import CHART, DIGEST, Helm, tool, usual
from tests.servers import binaries

DEPLOY = harness.REPOSITORY / "deploy"
KUSTOMIZE = DEPLOY / "kustomize"
GITOPS = Path(__file__).parent / "gitops"
HELMS_OWN = ("helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version")


def read(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.load_all(path.read_text(), yaml.CSafeLoader) if one]


def plain(rendered: dict[str, Any]) -> dict[str, Any]:
    """Without what only Helm needs: its labels, the namespace, the hash in an ordinary Job's name."""
    one = deepcopy(rendered)
    one["metadata"].pop("namespace", None)
    one["metadata"]["labels"] = {k: v for k, v in one["metadata"]["labels"].items() if k not in HELMS_OWN}
    if one["kind"] == "Job":
        one["metadata"]["name"] = one["metadata"]["name"].rpartition("-")[0]
    return one


@pytest.mark.chart
def test_the_plain_job_is_what_the_chart_renders(helm: Helm) -> None:
    values = usual({"mode": "job", "fullnameOverride": "shop-migrate", "test": {"enabled": False}})
    rendered = sorted((plain(one) for one in helm.template(values).objects), key=lambda one: one["kind"])
    assert sorted(read(DEPLOY / "job.yaml"), key=lambda one: one["kind"]) == rendered


@pytest.mark.chart
def test_the_plain_init_container_is_what_the_chart_renders(helm: Helm, tmp_path: Path) -> None:
    chart = tmp_path / "migrator"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "wait.yaml").write_text(
        'kind: Wait\nmetadata: {name: wait}\ninitContainers: {{ include "migrator.waitForHead" . | nindent 2 }}\n'
    )
    expected = helm.template(chart=chart).only("Wait")["initContainers"]
    (deployment,) = read(DEPLOY / "init-container.yaml")
    assert deployment["spec"]["template"]["spec"]["initContainers"] == expected


def test_the_base_of_kustomize_is_the_plain_job() -> None:
    assert read(KUSTOMIZE / "base" / "job.yaml") == read(DEPLOY / "job.yaml")


@pytest.mark.chart
def test_kustomize_sets_the_digest_and_a_name_of_its_own() -> None:
    built = subprocess.run(
        [tool("kubectl"), "kustomize", str(KUSTOMIZE / "production")],
        capture_output=True,
        text=True,
        check=True,
    )
    objects = {one["kind"]: one for one in yaml.load_all(built.stdout, yaml.CSafeLoader)}
    (overlay,) = read(KUSTOMIZE / "production" / "kustomization.yaml")
    spec = objects["Job"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == f"registry.example.com/shop@{overlay['images'][0]['digest']}"
    assert DIGEST not in built.stdout
    assert objects["Job"]["metadata"]["name"] == f"shop-migrate{overlay['nameSuffix']}"
    assert spec["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]


STATES = {
    "just made": ([], False),
    "suspended": ([("Suspended", "True")], False),
    "about to fail, its pod still there": ([("FailureTarget", "True")], False),
    "failed": ([("FailureTarget", "True"), ("Failed", "True")], True),
    "about to be complete": ([("Suspended", "False"), ("SuccessCriteriaMet", "True")], False),
    "complete": ([("SuccessCriteriaMet", "True"), ("Complete", "True")], True),
}
"""Conditions of a Job, and whether it has ended."""


@pytest.mark.chart
@pytest.mark.parametrize(("conditions", "ended"), STATES.values(), ids=STATES.keys())
def test_the_wait_of_the_page_is_over_when_the_job_has_ended_in_either_way(
    tmp_path: Path, conditions: list[tuple[str, str]], ended: bool
) -> None:
    (expression,) = re.findall(r"--for=jsonpath='(\S+)'=True ", (DEPLOY / "README.md").read_text())
    (job,) = (one for one in read(DEPLOY / "job.yaml") if one["kind"] == "Job")
    job["status"] = {"conditions": [{"type": name, "status": status} for name, status in conditions]}
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job))
    # The same reader of JSONPath as in `kubectl wait`, on an object of no cluster.
    shown = subprocess.run(
        [tool("kubectl"), "label", "--local", "-f", file, "a=b", f"--output=jsonpath={expression}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == ("True" if ended else "")


@pytest.mark.chart
def test_kubectl_takes_the_expression_of_the_page_for_one() -> None:
    (line,) = re.findall(
        r"^\$ kubectl (wait .*--for=jsonpath=.*)$", (DEPLOY / "README.md").read_text(), re.MULTILINE
    )
    command = [tool("kubectl"), "--server=http://127.0.0.1:1", *shlex.split(line)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # It is read before the cluster is asked, which there is none of.
    assert "connection to the server" in done.stderr


def migrator_values(example: str) -> list[dict[str, Any]]:
    """The values for this chart that stand in the examples for Argo CD and Flux."""
    found = []
    for one in read(DEPLOY / example):
        if one["kind"] == "Application":
            found.append(one["spec"]["source"]["helm"]["valuesObject"]["migrator"])
        elif one["kind"] == "HelmRelease" and "values" in one["spec"]:
            found.append(one["spec"]["values"])
    return found


@pytest.mark.chart
@pytest.mark.parametrize(
    ("example", "hook"),
    [("argocd/application.yaml", "argocd.argoproj.io/hook"), ("flux/helmrelease.yaml", "helm.sh/hook")],
)
def test_the_values_of_an_example_render_the_hook_of_its_tool(
    one_helm: Helm, example: str, hook: str
) -> None:
    (values,) = migrator_values(example)
    assert hook in one_helm.template(values).job["metadata"]["annotations"]


def test_flux_gives_the_hook_the_time_that_the_values_say() -> None:
    release = next(one for one in read(DEPLOY / "flux/helmrelease.yaml") if "values" in one.get("spec", {}))
    assert release["spec"]["timeout"] == "5m"
    assert release["spec"]["values"]["helm"]["timeoutSeconds"] == 300


@pytest.fixture(scope="session")
def models() -> Path:
    """Node packages with the types of Argo CD's and Flux's objects, as locked; fetched once and kept."""
    npm = tool("npm")
    files = [GITOPS / name for name in ("package.json", "package-lock.json", "validate.mjs")]
    name = f"gitops-{hashlib.sha256(b''.join(file.read_bytes() for file in files)).hexdigest()[:12]}"
    with binaries.making(name) as new:
        if new is not None:
            for file in files:
                shutil.copy(file, new)
            install = [npm, "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(install, cwd=new, check=True)
    return binaries.directory() / name


def complaints(models: Path, objects: list[dict[str, Any]]) -> str:
    """What Argo CD's and Flux's types say about objects; empty: nothing."""
    lines = "\n".join(json.dumps(one) for one in objects)
    return subprocess.run(
        [tool("node"), "validate.mjs"], cwd=models, input=lines, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.chart
@pytest.mark.parametrize("example", ["argocd/application.yaml", "flux/helmrelease.yaml"])
def test_an_example_fits_the_types_of_its_tool(models: Path, example: str) -> None:
    objects = read(DEPLOY / example)
    assert complaints(models, objects) == ""
    objects[-1]["spec"] = {"interval": 1}
    assert complaints(models, objects)
