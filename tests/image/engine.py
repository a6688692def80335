"""The Docker Engine as its users drive it: by the command ``docker``, with real images, networks and containers."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from tests.harness import REPOSITORY, Completed, Database, Server, checked, query, wait_until

POSTGRES_IMAGE = "postgres:17"
PYTHON_IMAGE = os.environ.get("TEST_PYTHON_IMAGE", "python:3.13-slim-trixie")
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
NO_VARIABLES: Mapping[str, str] = {}
# An attestation says when it was made, so two of them are never the same.
BUILDING = {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


def unique(what: str) -> str:
    """A name that nobody else on this engine has."""
    return f"migrator-test-{what}-{secrets.token_hex(4)}"


def run(
    *command: str,
    check: bool = True,
    cwd: Path = REPOSITORY,
    env: Mapping[str, str] = NO_VARIABLES,
    given: str | None = None,
    timeout: float = 600,
) -> Completed:
    """Run a command to its end; unless told otherwise it has to exit with 0."""
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        env={**os.environ, **BUILDING, **env},
        input=given,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return checked(Completed(done.returncode, done.stdout, done.stderr), check)


def docker(*args: str, check: bool = True, **more: Any) -> Completed:
    """``docker ARGS``; see :func:`run`."""
    return run("docker", *args, check=check, **more)


def build(
    tag: str, *args: str, context: Path | str = REPOSITORY, check: bool = True, **more: Any
) -> Completed:
    """``docker build --tag TAG ARGS CONTEXT``."""
    return docker("build", "--tag", tag, *args, str(context), check=check, **more)


def build_from(tag: str, text: str, context: Path, **more: Any) -> Completed:
    """Build from the text of a Dockerfile."""
    (context / "Dockerfile").write_text(text)
    return build(tag, context=context, **more)


def inspect(name: str) -> Any:
    """``docker inspect NAME``, parsed."""
    return json.loads(docker("inspect", name).stdout)[0]


def python_in(image: str, code: str, *options: str) -> str:
    """What Python code prints in an image."""
    return docker("run", "--rm", *options, "--entrypoint", "python", image, "-c", code).stdout.strip()


class Owned(ExitStack, AbstractContextManager["Owned"]):
    """What was made on the engine and is removed again, the last first."""

    def image(self, what: str) -> str:
        """A tag for an image that will be built."""
        tag = unique(what)
        self.callback(docker, "image", "rm", "--force", tag, check=False)
        return tag

    def network(self) -> str:
        """A network."""
        name = unique("network")
        docker("network", "create", name)
        self.callback(docker, "network", "rm", name, check=False)
        return name

    def container(self, *args: str, start: bool = True) -> str:
        """A container that runs in the background: ``docker run --detach ARGS``."""
        name = unique("container")
        self.callback(docker, "rm", "--force", "--volumes", name, check=False)
        docker(*(("run", "--detach") if start else ("create",)), "--name", name, *args)
        return name


class Postgres:
    """PostgreSQL in a container: ``db`` on its network, and a port of this machine for the tests."""

    def __init__(
        self, owned: Owned, network: str, *args: str, command: Sequence[str] = ("postgres",)
    ) -> None:
        self.network = network
        self.password = secrets.token_urlsafe(12)
        self.name = owned.container(
            *("--network", network, "--network-alias", "db", "--publish", "127.0.0.1::5432"),
            *("--env", f"POSTGRES_PASSWORD={self.password}"),
            *args,
            POSTGRES_IMAGE,
            *command,
        )
        port = docker("port", self.name, "5432/tcp").stdout.strip().rpartition(":")[2]
        self.server = Server(f"postgresql://postgres:{self.password}@127.0.0.1:{port}/postgres")
        wait_until(self._answers, "PostgreSQL answers", timeout=120)

    def inside(self, database: Database) -> str:
        """The URL of a database for containers on the network."""
        return f"postgresql://postgres:{self.password}@db:5432/{database.name}"

    def _answers(self) -> bool:
        # The official image starts once for itself first, on a socket alone.
        try:
            query(self.server.url, "SELECT 1")
        except Exception:
            return False
        return True
