"""This repository's own workflows, really run: what CI does in one of its jobs, and what a release publishes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import REPOSITORY, Completed
from tests.image.engine import PYTHON_IMAGE
from tests.pipeline import builder
from tests.pipeline.act import WORKFLOWS, Caller, Run, make_caller, run
from tests.pipeline.builder import BuildKit
from tests.pipeline.conftest import Registry

pytestmark = pytest.mark.pipeline

ON_THIS_MACHINE = ("-P", "ubuntu-24.04=-self-hosted")
NO_TESTS = """\
name: CI
on: workflow_call
permissions: {}
jobs:
  tests:
    runs-on: ubuntu-24.04
    steps:
      - run: echo "tested elsewhere"
"""


@pytest.fixture
def copied(tmp_path: Path, home: Path) -> Caller:
    """A repository with the files of this one, as they are in its working tree."""
    made = make_caller(tmp_path / "migrator", home, names=())
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (made.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, made.path / name)
    made.commit("all files")
    return made


SAYING = """\
#!/usr/bin/env bash
echo "targets: $*"
"""


def content(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((WORKFLOWS / "workflows" / name).read_text())
    return loaded


def test_the_jobs_of_ci_are_the_targets_of_the_command_that_anyone_can_run(copied: Caller) -> None:
    copied.write(".ci/run", SAYING).chmod(0o755)
    copied.commit("what it is called with")
    done = copied.act("ci.yml", *ON_THIS_MACHINE, "-j", "tests")
    assert done.returncode == 0, done.output
    called = re.findall(r"^targets: (.*)", done.said(), re.MULTILINE)
    assert sorted(called) == sorted(content("ci.yml")["jobs"]["tests"]["strategy"]["matrix"]["targets"])

    more = [
        step["run"].removeprefix(".ci/run ")
        for job in content("ci.yml")["jobs"].values()
        for step in job["steps"]
        if step.get("run", "").startswith(".ci/run test")
    ]
    by_default = re.search(
        r"^\(\(.*targets=\((.*)\)$", (REPOSITORY / ".ci" / "run").read_text(), re.MULTILINE
    )
    assert by_default is not None
    assert sorted(" ".join([*called, *more]).split()) == sorted(by_default[1].split())


# The engine's own builder, which makes no attestations.
BY_THE_ENGINE = {"BUILDER": "default", "ATTESTATIONS": "false"}


def release(
    copied: Caller,
    registry: Registry,
    tag: str,
    changelog: str,
    *args: str,
    variables: Mapping[str, str] = BY_THE_ENGINE,
    before: Callable[[str], object] = str,
    merged: bool = True,
    **more: Any,
) -> Run:
    copied.write(".github/workflows/ci.yml", NO_TESTS)
    entries = (REPOSITORY / "CHANGELOG.md").read_text()
    copied.write("CHANGELOG.md", entries.replace("## [Unreleased]", f"## [{changelog}]"))
    before(copied.commit("a release"))
    if merged:
        copied.git("update-ref", "refs/remotes/origin/main", "HEAD")
    copied.git("tag", tag)
    return copied.act(
        "release.yml",
        *ON_THIS_MACHINE,
        *args,
        payload={"ref": f"refs/tags/{tag}", "repository": {"default_branch": "main"}},
        variables={"REGISTRY": f"{registry.host}/Team", **variables},
        timeout=1200,
        **more,
    )


def test_a_release_is_the_image_with_what_attests_it_and_the_chart_of_one_version(
    copied: Caller, registry: Registry, buildkit: BuildKit
) -> None:
    """And not what somebody has put where this workflow would find what it has built before."""
    registry.push(PYTHON_IMAGE, "library/python:3.13-slim-trixie")
    copied.write("buildkitd.toml", builder.mirroring(registry.host))
    made = {
        "BUILDKIT_IMAGE": buildkit.image,
        "BUILDKITD_CONFIG": "buildkitd.toml",
        "DRIVER_OPTS": "network=host",
        "SBOM_GENERATOR": buildkit.generator,
    }
    name = f"{registry.host}/team"  # names of images are in lower case
    foreign = f"{name}/migrator:foreign"
    registry.crane("append", "--new_tag", foreign, "--new_layer", str(copied.write("layer.tar", "")))

    def put(commit: str) -> None:
        for target in ("runner", "job"):
            registry.crane("tag", foreign, f"{target}-git-{commit}")

    done = release(copied, registry, "v0.1.0", "0.1.0", variables=made, env=buildkit.env, before=put)
    assert done.returncode == 0, done.output
    assert builder.removed(done, "release")
    digest = registry.digest(f"{name}/migrator:0.1.0")
    assert f"FROM `{name}/migrator@{digest}`" in done.summary()
    for target in ("runner", "job"):
        image = f"{name}/migrator:0.1.0-{target}"
        entries = [entry["digest"] for entry in json.loads(registry.crane("manifest", image))["manifests"]]
        assert registry.digest(foreign) not in entries
        packages = builder.attested(image, "SBOM.SPDX")["packages"]
        assert {"migrator", "alembic", "dpkg"} <= {package["name"] for package in packages}
        assert builder.attested(image, "Provenance.SLSA")["buildDefinition"]["internalParameters"][
            "buildConfig"
        ]
    labels = json.loads(registry.crane("config", f"{name}/migrator:0.1.0-job"))["config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert labels["org.opencontainers.image.revision"] == copied.git("rev-parse", "HEAD")
    chart_digest = registry.digest(f"{name}/charts/migrator:0.1.0")
    assert f"`oci://{name}/charts/migrator@{chart_digest}`" in done.summary()
    chart = json.loads(registry.crane("manifest", f"{name}/charts/migrator:0.1.0"))
    assert chart["config"]["mediaType"] == "application/vnd.cncf.helm.config.v1+json"


def test_a_release_that_was_published_from_another_commit_stays(copied: Caller, registry: Registry) -> None:
    image = f"{registry.host}/team/migrator:0.1.0-runner"
    registry.crane("append", "--new_tag", image, "--new_layer", str(copied.write("layer.tar", "")))
    there = registry.digest(image)
    done = release(copied, registry, "v0.1.0", "0.1.0", "-j", "image")
    assert done.returncode != 0, done.output
    assert any("from another commit" in error for error in done.errors()), done.output
    assert registry.digest(image) == there


@pytest.mark.parametrize(
    ("tag", "changelog", "told"),
    [
        ("v0.2.0", "0.2.0", "the tag is v0.2.0, and pyproject.toml says 0.1.0"),
        ("v0.1.0", "Unreleased", "the tag is v0.1.0, and CHANGELOG.md says nothing"),
    ],
    ids=["another version", "not in the changelog"],
)
def test_a_release_that_the_files_know_nothing_of_publishes_nothing(
    copied: Caller, registry: Registry, tag: str, changelog: str, told: str
) -> None:
    done = release(copied, registry, tag, changelog)
    assert done.returncode != 0, done.output
    assert told in done.errors(), done.output
    assert done.jobs() == [job for job in done.jobs() if "version" in job], done.jobs()


def test_a_tag_on_a_commit_that_nobody_merged_publishes_nothing(copied: Caller, registry: Registry) -> None:
    copied.git("update-ref", "refs/remotes/origin/main", "HEAD")
    done = release(copied, registry, "v0.1.0", "0.1.0", merged=False)
    assert done.returncode != 0, done.output
    (error,) = done.errors()
    assert error.startswith("v0.1.0 is at a commit that is not on main."), done.output
    assert done.jobs() == [job for job in done.jobs() if "version" in job], done.jobs()


def test_newer_lock_files_replace_what_the_workflow_pushed_and_never_a_persons_commit(
    tmp_path: Path, home: Path
) -> None:
    (step,) = [step for step in content("locks.yml")["jobs"]["lock"]["steps"] if step.get("id") == "push"]
    origin = make_caller(tmp_path / "origin", home, names=())
    origin.write("requirements.lock", "alembic==1\n")
    origin.commit()

    def push(version: int) -> Completed:
        place = tmp_path / f"checkout{version}"
        origin.git("clone", "--quiet", str(origin.path), str(place))
        (place / "requirements.lock").write_text(f"alembic=={version}\n")
        said = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        given = {"TOKEN": "unused", "BOT_EMAIL": step["env"]["BOT_EMAIL"], "BRANCH": "lock-files"}
        return run(
            *("bash", "-e", "-o", "pipefail", "-c", step["run"]),
            cwd=place,
            home=home,
            env={**given, **said, "RUNNER_TEMP": str(tmp_path)},
            check=False,
        )

    for version in (2, 3):
        done = push(version)
        assert done.returncode == 0, done.output
        assert origin.git("show", "lock-files:requirements.lock") == f"alembic=={version}"
    origin.git("switch", "--quiet", "lock-files")
    persons = origin.commit("held back by a person")
    origin.git("switch", "--quiet", "main")
    refused = push(4)
    assert refused.returncode != 0, refused.output
    assert "is by developer@example.com, and would be lost" in refused.stdout
    assert origin.git("rev-parse", "lock-files") == persons


def test_the_page_for_maintainers_names_each_file_and_whatever_it_needs() -> None:
    page = (REPOSITORY / "docs" / "maintaining.md").read_text()
    named = {*re.findall(r"`([\w./-]+)`", page)}
    files = {
        file.relative_to(WORKFLOWS) for file in [*WORKFLOWS.glob("*.yml"), *WORKFLOWS.glob("workflows/*.yml")]
    }
    assert {str(file) for file in files} <= named
    for name in ("ci.yml", "locks.yml", "release.yml"):
        text = (WORKFLOWS / "workflows" / name).read_text()
        wanted = {
            *re.findall(r"\b(?:vars|secrets)\.([A-Z]\w+)", text),
            *re.findall(r"environment: (\w+)", text),
        }
        assert wanted <= named, name
