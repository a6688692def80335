"""The promotion with other builders, registries and tools than the plainest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Database, wait_until
from tests.image.engine import build_from, docker
from tests.pipeline import act
from tests.pipeline.act import Caller
from tests.pipeline.conftest import Keys, Registry, serve_registry
from tests.pipeline.shop import DOCKERFILE, ORDERS, Shop

pytestmark = pytest.mark.pipeline

# A generator of SBOMs as BuildKit calls it: it gets the files, and leaves a statement. It lists Python's packages.
GENERATOR = """
import json, os, pathlib
from importlib.metadata import distributions
source, into = os.environ["BUILDKIT_SCAN_SOURCE"], os.environ["BUILDKIT_SCAN_DESTINATION"]
places = map(str, pathlib.Path(source).rglob("site-packages"))
packages = [
    {"name": found.metadata["Name"], "versionInfo": found.version, "SPDXID": f"SPDXRef-{number}",
     "downloadLocation": "NOASSERTION"}
    for place in places for number, found in enumerate(distributions(path=[place]))
]
document = {
    "spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "dataLicense": "CC0-1.0", "name": "image",
    "documentNamespace": "https://example.com/sbom", "packages": packages,
    "creationInfo": {"created": "2026-01-01T00:00:00Z", "creators": ["Tool: a test"]},
}
statement = {
    "_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document", "predicate": document,
}
pathlib.Path(into, "packages.spdx.json").write_text(json.dumps(statement))
"""
# The registry's user "shop", and the password of the tests as bcrypt.
PASSWORD = "a password of the tests"
HASHED = "shop:$2b$05$abcdefghijklmnopqrstuuComanBKiU1JTRzmmvE2xk8ApqQhbSI.\n"


@pytest.fixture
def builder(tmp_path: Path, home: Path, registry: Registry) -> Iterator[str]:
    """A builder of docker buildx that can attest: a BuildKit on this machine."""
    program = shutil.which("buildkitd")
    if program is None:
        pytest.skip("buildkitd is not on PATH")
    socket, name = tmp_path / "buildkitd.sock", f"attesting-{os.getpid()}"
    (tmp_path / "buildkitd.toml").write_text(
        f'root = "{tmp_path}/root"\n[grpc]\naddress = ["unix://{socket}"]\n'
        "[worker.oci]\nenabled = true\n[worker.containerd]\nenabled = false\n"
        f'[registry."{registry.host}"]\nhttp = true\n'
    )
    with (tmp_path / "buildkitd.log").open("w") as log:
        process = subprocess.Popen(
            [program, "--config", str(tmp_path / "buildkitd.toml")], stdout=log, stderr=log
        )
    try:
        wait_until(lambda: socket.exists() or process.poll() is not None, "BuildKit listens")
        assert process.poll() is None, (tmp_path / "buildkitd.log").read_text()
        made = ("docker", "buildx", "create", "--name", name, "--driver", "remote", f"unix://{socket}")
        act.run(*made, cwd=tmp_path, home=home)
        yield name
        act.run("docker", "buildx", "rm", name, cwd=tmp_path, home=home)
    finally:
        process.terminate()
        process.wait(30)


def test_provenance_and_sbom_of_the_builder_lie_in_the_digest_that_is_signed_and_run(
    caller: Caller,
    registry: Registry,
    keys: Keys,
    runner_image: str,
    builder: str,
    database: Database,
    tmp_path: Path,
) -> None:
    base, generator = f"{registry.host}/base/runner:1", f"{registry.host}/base/generator:1"
    docker("tag", runner_image, base)
    (tmp_path / "generator").mkdir()
    (tmp_path / "generator" / "generate.py").write_text(GENERATOR)
    text = f'FROM {runner_image}\nUSER 0:0\nCOPY generate.py /\nENTRYPOINT ["python", "/generate.py"]\n'
    build_from(generator, text, tmp_path / "generator")
    for tag in (base, generator):
        docker("push", "--quiet", tag)
    shop = Shop(caller, registry, keys, {"dev": database})
    shop.caller.write("Dockerfile", DOCKERFILE.replace("migrator:runner", base))
    path = ".github/workflows/with-environments.yml"
    workflow = (shop.caller.path / path).read_text().replace("builder: default", f"builder: {builder}")
    attesting = f"environments: dev\n      sbom-generator: {generator}"
    shop.caller.write(path, workflow.replace("attestations: false", attesting))
    shop.caller.commit()

    run = shop.promote("with-environments.yml", secrets={"MIGRATOR_DATABASE_URL": database.url})
    assert run.returncode == 0, run.output
    assert database.revisions == [ORDERS]
    digest = shop.digest("dev")
    records = shop.predicates(digest, "urn:migrator:deployment:1")
    assert [record["environment"] for record in records] == ["dev"]
    entries = json.loads(registry.crane("manifest", f"{shop.name}@{digest}"))["manifests"]
    kinds = [entry.get("annotations", {}).get("vnd.docker.reference.type") for entry in entries]
    assert kinds == [None, "attestation-manifest"]
    attested = json.loads(registry.crane("manifest", f"{shop.name}@{entries[1]['digest']}"))["layers"]
    by_kind = {layer["annotations"]["in-toto.io/predicate-type"]: layer["digest"] for layer in attested}
    assert any(kind.startswith("https://slsa.dev/provenance/") for kind in by_kind)
    told = json.loads(registry.crane("blob", f"{shop.name}@{by_kind['https://spdx.dev/Document']}"))
    assert {"alembic", "SQLAlchemy"} <= {package["name"] for package in told["predicate"]["packages"]}


@pytest.fixture
def private(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[Registry]:
    """A registry that asks for a password."""
    directory = tmp_path_factory.mktemp("private")
    (directory / "htpasswd").write_text(HASHED)
    auth = f"auth: {{htpasswd: {{realm: tests, path: {directory}/htpasswd}}}}\n"
    with serve_registry(directory, home, auth) as running:
        yield running


def path_without_cosign(directory: Path) -> str:
    """PATH, with a copy of each directory that holds cosign in which it is not."""
    places: list[str] = []
    for place in os.environ["PATH"].split(os.pathsep):
        if not (Path(place) / "cosign").exists():
            places.append(place)
            continue
        copy = directory / f"bin{len(places)}"
        copy.mkdir()
        for program in Path(place).iterdir():
            if program.name != "cosign":
                (copy / program.name).symlink_to(program)
        places.append(str(copy))
    return os.pathsep.join(places)


@pytest.fixture
def cosign_image(registry: Registry, tmp_path: Path) -> str:
    """An image with cosign, by its digest."""
    program = shutil.which("cosign")
    assert program
    (tmp_path / "cosign").mkdir()
    shutil.copy(program, tmp_path / "cosign" / "cosign")
    tag = f"{registry.host}/tools/cosign:3"
    build_from(tag, "FROM scratch\nCOPY cosign /usr/local/bin/cosign\n", tmp_path / "cosign")
    docker("push", "--quiet", tag)
    return f"{registry.host}/tools/cosign@{registry.digest(tag)}"


def test_a_registry_with_a_password_and_cosign_from_an_image(
    caller: Caller,
    private: Registry,
    keys: Keys,
    runner_image: str,
    cosign_image: str,
    new_database: Callable[[], Database],
    tmp_path: Path,
) -> None:
    database = new_database()
    shop = Shop(caller, private, keys, {"dev": database})
    path = ".github/workflows/with-environments.yml"
    more = "environments: dev\n      registry-username: shop\n      builder: default"
    workflow = (shop.caller.path / path).read_text().replace("builder: default", more)
    shop.caller.write(path, workflow)
    surroundings = {"PATH": path_without_cosign(tmp_path)}
    given = {"MIGRATOR_DATABASE_URL": database.url, "REGISTRY_PASSWORD": PASSWORD}

    run = shop.promote("with-environments.yml", secrets=given, env=surroundings)
    assert run.returncode != 0, run.output
    assert "no command cosign" in run.errors("image")[0]
    assert "cosign-image" in run.errors("image")[0]

    named = f"      cosign-image: {cosign_image}\n      builder:"
    shop.caller.write(path, workflow.replace("      builder:", named))
    wrong = {**given, "REGISTRY_PASSWORD": "wrong"}
    run = shop.promote("with-environments.yml", secrets=wrong, env=surroundings)
    assert run.returncode != 0, run.output
    assert "REGISTRY_PASSWORD" in run.errors("image")[0]

    run = shop.promote("with-environments.yml", secrets=given, env=surroundings)
    assert run.returncode == 0, run.output
    assert database.revisions == [ORDERS]
    assert PASSWORD not in run.output
    configuration = caller.home / ".docker" / "config.json"
    assert private.host not in configuration.read_text(), "a login was left behind"
