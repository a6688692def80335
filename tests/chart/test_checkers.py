"""What other people's checkers say about the chart in every way of use, and about the plain manifests: nothing."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests import harness
from tests.chart.rendering import CHART, HELM_MAJORS, WAYS, Helm, tool, way_names
from tests.chart.test_deploy import DEPLOY, read

pytestmark = pytest.mark.chart

OLDEST_MINOR = 31
"""Kubernetes 1.31: podFailurePolicy is stable since."""
MINORS = range(OLDEST_MINOR, int(kubernetes_validate.latest_version().split(".")[1]) + 1)
PLAIN = [DEPLOY / "job.yaml", DEPLOY / "init-container.yaml", DEPLOY / "kustomize" / "base" / "job.yaml"]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the chart renders in every way of use, and with the plain manifests."""
    folder = tmp_path_factory.mktemp("rendered")
    helm = Helm(HELM_MAJORS[-1], tmp_path_factory.mktemp("helm"))
    for way in WAYS:
        (folder / way.name).write_text(helm.template(way).stdout)
    for number, manifest in enumerate(PLAIN):
        # As they would be applied: into a namespace of the application's.
        objects = [{**one, "metadata": {**one["metadata"], "namespace": "shop"}} for one in read(manifest)]
        (folder / f"plain{number}.yaml").write_text(yaml.safe_dump_all(objects))
    return folder


def check(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=harness.REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("way", WAYS, ids=way_names())
def test_helm_lint_finds_nothing(helm: Helm, way: Path) -> None:
    linted = helm.run("lint", "--strict", CHART, "--values", way)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "[WARNING]" not in linted.stdout + linted.stderr


def test_helm_packs_the_chart_without_what_is_only_for_its_tests(helm: Helm, tmp_path: Path) -> None:
    assert helm.run("package", CHART, "--destination", tmp_path).returncode == 0
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as packed:
        names = packed.getnames()
    assert "migrator/values.schema.json" in names
    assert {"migrator/files/exit-codes.yaml", "migrator/files/nulls.yaml"} <= set(names)
    assert not [name for name in names if "/ci/" in name]


@pytest.mark.parametrize("minor", MINORS, ids=lambda minor: f"1.{minor}")
def test_the_objects_are_valid_in_each_version_of_kubernetes(everything: Path, minor: int) -> None:
    wrong: list[Any] = []
    for file in sorted(everything.iterdir()):
        for one in read(file):
            try:
                kubernetes_validate.validate(one, f"1.{minor}", strict=True)
            except kubernetes_validate.ValidationError as error:
                wrong.append((file.name, one["kind"], str(error)))
    assert not wrong


def test_the_objects_are_valid_by_the_newest_kubernetes_own_schemas(everything: Path) -> None:
    kubeconform = tool("kubeconform")
    # A folder of the API's JSON schemas; without it kubeconform downloads those that it knows of.
    folder = os.environ.get("KUBERNETES_SCHEMAS")
    location = f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json" if folder else "default"
    check(kubeconform, "-strict", "-summary", "-schema-location", location, everything)


def test_checkov_finds_nothing_but_what_is_explained(everything: Path) -> None:
    checkov = tool(os.environ.get("CHECKOV", "checkov"), "make test-chart installs it")
    check(checkov, "--config-file", harness.REPOSITORY / "helm" / "checkov.yaml", "--directory", everything)


def test_every_check_that_is_left_out_has_its_reason_above_it() -> None:
    lines = (harness.REPOSITORY / "helm" / "checkov.yaml").read_text().splitlines()
    skipped = [place for place, line in enumerate(lines) if line.strip().startswith("- CKV")]
    assert skipped
    for place in skipped:
        above = lines[place - 1].strip()
        assert above.startswith(("# ", "- CKV"))


def scripts() -> list[str]:
    """The shell scripts of the repository, whatever they are called."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=harness.REPOSITORY, capture_output=True, text=True, check=True
    )
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        file = harness.REPOSITORY / name
        if file.is_file() and file.stat().st_mode & 0o111:
            with file.open("rb") as opened:
                first = opened.readline()
            if first.startswith(b"#!") and first.split()[-1].rpartition(b"/")[2] in (b"sh", b"bash"):
                found.append(name)
    return found


def test_shellcheck_finds_nothing_in_any_script() -> None:
    found = scripts()
    assert ".ci/run" in found
    check(tool("shellcheck"), *found)
