"""The builder that the promotion makes by itself, in a container: what it attests goes the image's whole way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.harness import Database
from tests.image.engine import PYTHON_IMAGE, docker
from tests.image.engine import run as execute
from tests.image.mirror import make_authority
from tests.pipeline import builder, document
from tests.pipeline.act import Caller, Run
from tests.pipeline.builder import BuildKit, attested, removed
from tests.pipeline.conftest import Keys, Registry, serve_registry
from tests.pipeline.shop import DOCKERFILE, ORDERS, Shop

pytestmark = pytest.mark.pipeline

WORKFLOW = "with-environments.yml"
ANOTHER_BUILDER = "      builder: default\n      attestations: false\n"
IN_A_CONTAINER = """\
      buildkit-image: ${{ vars.BUILDKIT_IMAGE }}
      driver-opts: |
        network=host
        env.TEAM=shop
"""


@pytest.fixture
def shop(caller: Caller, registry: Registry, keys: Keys, new_database: Callable[..., Database]) -> Shop:
    """A shop of two environments; act knows no secrets of an environment, so they share a database."""
    made = Shop(caller, registry, keys, {"dev": new_database()})
    build_with(made, f"      environments: dev, test\n{IN_A_CONTAINER}")
    return made


def build_with(shop: Shop, inputs: str, instead_of: str = ANOTHER_BUILDER) -> None:
    """Give the promotion these inputs in the place of others."""
    workflow = shop.caller.path / ".github" / "workflows" / WORKFLOW
    text = workflow.read_text()
    assert instead_of in text
    workflow.write_text(text.replace(instead_of, inputs))


def promoted(shop: Shop, buildkit: BuildKit | None = None, **variables: str) -> Run:
    """Run the promotion of what is written by now."""
    if shop.caller.git("status", "--porcelain"):
        shop.caller.commit()
    given = {"BUILDKIT_IMAGE": buildkit.image, "SBOM_GENERATOR": buildkit.generator} if buildkit else {}
    return shop.promote(
        WORKFLOW,
        secrets={"MIGRATOR_DATABASE_URL": shop.databases["dev"].url},
        variables={**given, **variables},
        env=buildkit.env if buildkit else {},
        timeout=600,
    )


def stopped(run: Run, *words: str) -> None:
    """The run ended in the job image, before anything was pushed, with the one message that has the words."""
    assert run.returncode != 0, run.output
    assert len(run.jobs()) == 1
    (message,) = run.errors("image")
    summary = run.summary("image")
    for word in words:
        assert word in message
        assert word in summary


def test_what_the_builder_attests_is_signed_with_the_image_and_goes_its_whole_way(
    shop: Shop, registry: Registry, runner_image: str, buildkit: BuildKit
) -> None:
    runner = registry.push(runner_image, "base/runner:1")
    shop.caller.write("Dockerfile", DOCKERFILE.replace("migrator:runner", runner))
    build_with(
        shop, "      sbom-generator: ${{ vars.SBOM_GENERATOR }}\n      driver-opts:", "      driver-opts:"
    )
    run = promoted(shop, buildkit)
    assert run.returncode == 0, run.output
    assert removed(run, "migrator")

    commit = shop.caller.git("rev-parse", "HEAD")
    digest = shop.digest(f"git-{commit}")
    assert [shop.digest(name) for name in ("dev", "test")] == [digest] * 2
    assert run.said("verify").count(f"signature  valid: {shop.name}@{digest}") == 2
    assert shop.databases["dev"].revisions == [ORDERS]

    found = attested(f"{shop.name}@{digest}", "SBOM.SPDX")["packages"]
    packages = {package["name"]: package.get("versionInfo") for package in found}
    assert {"alembic", "migrator", "dpkg"} <= packages.keys()
    inside = "from importlib.metadata import version; print(version('alembic'))"
    told = docker("run", "--rm", "--entrypoint", "python", f"{shop.name}@{digest}", "-c", inside)
    assert packages["alembic"] == told.stdout.strip()

    provenance = attested(f"{shop.name}@{digest}", "Provenance.SLSA")
    details = provenance["runDetails"]
    assert details["builder"]["id"] == "https://github.com/example/shop/actions/runs/1/attempts/1"
    assert details["metadata"]["buildkit_metadata"]["vcs"]["revision"] == commit
    # How each step was made is in the one of mode=max alone.
    steps = json.dumps(provenance["buildDefinition"]["internalParameters"]["buildConfig"])
    assert '["migrator", "check", "--offline"]' in steps
    bases = {entry["digest"]["sha256"] for entry in provenance["buildDefinition"]["resolvedDependencies"]}
    assert {image.rpartition(":")[2] for image in (runner, buildkit.generator)} <= bases

    def shown(command: str) -> str:
        told = execute("bash", "-c", command).stdout
        return told.replace(quote(registry.host, safe=""), "registry.example.com")

    document.shown("attestations", document.console_block("attestations", shop.name, shown))

    again = promoted(shop, buildkit)
    assert again.returncode == 0, again.output
    assert "It is not built again" in again.said("image")
    assert "buildx_buildkit" not in again.said("image")
    assert [shop.digest(name) for name in ("dev", "test")] == [digest] * 2


def test_behind_a_mirror_with_an_authority_of_its_own_nothing_else_is_to_be_said(
    shop: Shop, home: Path, tmp_path: Path, runner_image: str, buildkit: BuildKit
) -> None:
    authority = make_authority(tmp_path, ["DNS:localhost"])
    with serve_registry(tmp_path, home, authority=authority) as mirror:
        mirror.push(runner_image, f"library/{runner_image}")
        mirror.push(builder.GENERATOR, builder.KNOWN_GENERATOR)
        shop.caller.write("ci/ca.pem", authority.ca.read_text())
        shop.caller.write("ci/buildkitd.toml", builder.mirroring(mirror.host, ca="ci/ca.pem"))
        build_with(
            shop, "      buildkitd-config: ci/buildkitd.toml\n      driver-opts:", "      driver-opts:"
        )
        build_with(shop, "environments: dev\n", "environments: dev, test\n")
        run = promoted(shop, buildkit)
    assert run.returncode == 0, run.output
    assert removed(run, "migrator")
    provenance = attested(f"{shop.name}:dev", "Provenance.SLSA")["buildDefinition"]
    bases = {entry["uri"].partition("?")[0] for entry in provenance["resolvedDependencies"]}
    assert bases == {"pkg:docker/migrator@runner", f"pkg:docker/{builder.KNOWN_GENERATOR.replace(':', '@')}"}
    assert attested(f"{shop.name}:dev", "SBOM.SPDX")["packages"]


def test_a_builder_is_removed_where_the_image_could_not_be_built(shop: Shop, buildkit: BuildKit) -> None:
    shop.caller.write("Dockerfile", f'FROM {buildkit.image}\nRUN ["none"]\n')
    run = promoted(shop, buildkit)
    stopped(run, "not built", "buildkitd-config")
    assert "creating container buildx_buildkit" in run.said("image")
    assert removed(run, "migrator")


def test_a_builder_that_cannot_start_is_told_and_removed(
    shop: Shop, registry: Registry, buildkit: BuildKit
) -> None:
    # What is no BuildKit at all, and leaves a container behind that never ran.
    run = promoted(shop, buildkit, BUILDKIT_IMAGE=registry.push(PYTHON_IMAGE, "base/no-buildkit:1"))
    stopped(run, "could not be started", "buildkit-image", "the input builder")
    assert "creating container buildx_buildkit" in run.said("image")
    assert removed(run, "migrator")

    run = promoted(shop, buildkit, BUILDKIT_IMAGE=f"{registry.host}/base/buildkit@sha256:{'0' * 64}")
    stopped(run, "could not be started", "moby/buildkit", "buildkit-image")
    assert removed(run, "migrator")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ("      buildkitd-config: none.toml\n", ("none.toml", "buildkitd-config")),
        ("      builder: nobodys\n", ("nobodys", "docker buildx create", "leave the input builder empty")),
        ("      builder: default\n      buildkit-image: b@sha256:1\n", ("default", "buildkit-image")),
    ],
    ids=["no configuration", "no builder", "both"],
)
def test_a_builder_that_cannot_be_meant_is_refused(shop: Shop, inputs: str, words: tuple[str, ...]) -> None:
    build_with(shop, inputs, IN_A_CONTAINER)
    run = promoted(shop)
    stopped(run, *words)
    assert "buildx_buildkit" not in run.said("image")
