"""What a builder in a container is made of here: an image of BuildKit and a generator of SBOMs, in a registry.

``TEST_BUILDKIT_IMAGE`` names the image, such as moby/buildkit:buildx-stable-1. Without it, one is made once, by Go
(``buildkit/make.sh``). The generator is always the one of ``sbom/``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.image.engine import PYTHON_IMAGE, docker, run
from tests.pipeline import unprivileged
from tests.pipeline.act import Run

HERE = Path(__file__).parent
KNOWN_GENERATOR = "docker/buildkit-syft-scanner:stable-1"
"""What BuildKit takes without being told another."""
GENERATOR = "migrator-test-sbom:1"
"""The one that is made here."""


@dataclass(frozen=True)
class BuildKit:
    """Images, by their digests, in a registry that a builder on the network of this machine can reach."""

    image: str
    generator: str
    env: Mapping[str, str]
    """Variables with which ``docker`` can start the builder."""


def mirroring(host: str, ca: str = "") -> str:
    """A buildkitd.toml with a registry on this machine as the mirror of Docker Hub.

    :param ca: a file with the authority of its certificate; without one, it speaks plain HTTP.
    """
    # Of localhost alone BuildKit supposes plain HTTP.
    spoken = f'http = false\nca = ["{ca}"]' if ca else "http = true"
    return f'[registry."docker.io"]\nmirrors = ["{host}"]\n[registry."{host}"]\n{spoken}\n'


def find_image() -> str:
    """The image of BuildKit: the given one, or one that is made here."""
    if given := os.environ.get("TEST_BUILDKIT_IMAGE"):
        if docker("image", "inspect", given, check=False).returncode:
            docker("pull", "--quiet", given)
        return given
    content = b"".join(file.read_bytes() for file in sorted((HERE / "buildkit").iterdir()))
    tag = f"migrator-test-buildkit:{hashlib.sha256(content).hexdigest()[:12]}"
    # Once, also where several processes run the tests.
    with (Path(tempfile.gettempdir()) / "migrator-test-buildkit.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if docker("image", "inspect", tag, check=False).returncode:
            path = f"{os.environ.get('PATH', os.defpath)}:/usr/local/go/bin"
            if not shutil.which("go", path=path):
                pytest.fail(
                    "no image of BuildKit: set TEST_BUILDKIT_IMAGE, for instance to moby/buildkit:buildx-stable-1, "
                    "or put go on PATH to make one"
                )
            base = f"PYTHON_IMAGE={PYTHON_IMAGE}"
            run(str(HERE / "buildkit" / "make.sh"), tag, "--build-arg", base, timeout=1800)
    return tag


def build_generator() -> str:
    """Build :data:`GENERATOR`."""
    docker("build", "--build-arg", f"PYTHON_IMAGE={PYTHON_IMAGE}", "--tag", GENERATOR, str(HERE / "sbom"))
    return GENERATOR


@contextmanager
def engine(directory: Path) -> Iterator[Mapping[str, str]]:
    """Variables with which ``docker`` can start a container that is to be privileged."""
    refused = docker("run", "--rm", "--privileged", PYTHON_IMAGE, "true", check=False).returncode
    if not refused:
        yield {}
        return
    with unprivileged.engine(directory) as host:
        yield {"DOCKER_HOST": host}


def removed(run: Run, prefix: str) -> bool:
    """Whether the engine has no container and no volume of the builder that a run made, which must be one."""
    (name,) = set(re.findall(rf"\b{prefix}-1-1-\d+", run.said("image")))
    whose = ("--filter", f"name=buildx_buildkit_{name}")
    containers = docker("ps", "--all", "--quiet", *whose).stdout
    return not containers + docker("volume", "ls", "--quiet", *whose).stdout


def attested(image: str, what: str) -> Any:
    """What hangs on an image, read as docs/pipeline.md says: ``SBOM.SPDX`` or ``Provenance.SLSA``."""
    told = docker("buildx", "imagetools", "inspect", image, "--format", f"{{{{json .{what}}}}}")
    return json.loads(told.stdout)
