"""Fixtures: a registry on this machine, a pair of keys, the base image, and repositories that call the workflows."""

from __future__ import annotations

import itertools
import json
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import harness
from tests.harness import Server
from tests.image.engine import build, docker
from tests.image.mirror import Authority
from tests.pipeline import act, builder
from tests.pipeline.proposing import Shop, Wheels, make_shop, make_wheels

TOOLS = ("act", "cosign", "crane", "docker", "docker-registry", "git", "jq")


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    """Here a tool that is missing is a failure, as whoever asked for these tests wants them to run."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    assert not missing, f"not on PATH: {', '.join(missing)}"


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """What a script starts in the background ignores SIGINT, and so does everything below it: not here."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home directory of everything that these tests start."""
    return tmp_path_factory.mktemp("home")


@dataclass(frozen=True)
class Registry:
    """A registry on this machine, without a password and over plain HTTP."""

    host: str
    """``localhost:PORT``, as image names begin."""
    home: Path

    def digest(self, name: str) -> str:
        """The digest that a tag is at: ``NAME:TAG``; empty where there is no such tag."""
        done = act.run("crane", "digest", name, cwd=self.home, home=self.home, check=False)
        return done.stdout.strip()

    def crane(self, *args: str) -> str:
        """``crane ARGS``, what it wrote on standard output."""
        return act.run("crane", *args, cwd=self.home, home=self.home).stdout

    def another(self, image: str, name: str) -> str:
        """Make an index of other content (a label more) from one of a single platform, as ``NAME@DIGEST``."""
        entry = json.loads(self.crane("manifest", image))["manifests"][0]["digest"]
        one = f"{image.partition('@')[0]}@{entry}"
        label, tag = f"other={secrets.token_hex(4)}", f"{name}:{secrets.token_hex(4)}"
        self.crane("mutate", "--label", label, "--tag", tag, one)
        return self.index(tag)

    def push(self, image: str, name: str) -> str:
        """Push an image of the engine as ``NAME:TAG``; as ``NAME@DIGEST``."""
        tag = f"{self.host}/{name}"
        docker("tag", image, tag)
        docker("push", "--quiet", tag)
        return f"{tag.rpartition(':')[0]}@{self.digest(tag)}"

    def index(self, tag: str) -> str:
        """Replace the manifest of one platform, which a tag names, by an index of it; ``NAME@DIGEST``."""
        docker("buildx", "imagetools", "create", "--tag", tag, tag)
        return f"{tag.rpartition(':')[0]}@{self.digest(tag)}"


@contextmanager
def serve_registry(
    directory: Path, home: Path, more: str = "", authority: Authority | None = None
) -> Iterator[Registry]:
    """A registry with its files in a directory; its images leave the engine with it.

    :param more: further lines of its configuration.
    :param authority: it speaks TLS, with the certificate of that one; the engine does not verify it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tls = f", tls: {{certificate: {authority.certificate}, key: {authority.key}}}" if authority else ""
    (directory / "config.yml").write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'{tls}}}\n{more}"
    )
    host = f"localhost:{port}"
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(directory / "config.yml")], stdout=log, stderr=log
        )
    try:
        harness.wait_until(lambda: _listens(port) or process.poll() is not None, "the registry listens")
        assert process.poll() is None, (directory / "log").read_text()
        yield Registry(host, home)
    finally:
        process.terminate()
        process.wait(30)
        _remove_images(host)


def _remove_images(host: str) -> None:
    # "*" does not match the slashes of a name, and what was pulled by its digest has no tag.
    listed = docker("image", "ls", "--format", "{{.Repository}}|{{.Tag}}|{{.ID}}").stdout.split()
    images = [line.split("|") for line in listed if line.startswith(f"{host}/")]
    names = {f"{name}:{tag}" if tag != "<none>" else identity for name, tag, identity in images}
    if names:
        docker("image", "rm", "--force", *sorted(names), check=False)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[Registry]:
    """A registry of the session's own."""
    with serve_registry(tmp_path_factory.mktemp("registry"), home) as running:
        yield running


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Keys:
    """A pair of keys as cosign makes it, PEM texts; the password is empty."""

    private: str
    public: str
    password: str = ""


@pytest.fixture(scope="session")
def new_keys(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Callable[[], Keys]:
    """Make a pair of keys."""

    def make() -> Keys:
        directory = tmp_path_factory.mktemp("keys")
        act.run("cosign", "generate-key-pair", cwd=directory, home=home, env={"COSIGN_PASSWORD": ""})
        return Keys((directory / "cosign.key").read_text(), (directory / "cosign.pub").read_text())

    return make


@pytest.fixture(scope="session")
def keys(new_keys: Callable[[], Keys]) -> Keys:
    """The pair of keys of the session."""
    return new_keys()


@pytest.fixture(scope="session")
def runner_image() -> str:
    """The tool, for applications to begin FROM: ``migrator:runner``."""
    build("migrator:runner", "--target", "runner")
    return "migrator:runner"


@pytest.fixture(scope="session")
def buildkit(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Iterator[builder.BuildKit]:
    """What a builder in a container needs, in the registry."""
    image = registry.push(builder.find_image(), "base/buildkit:1")
    generator = registry.push(builder.build_generator(), "base/sbom:1")
    with builder.engine(tmp_path_factory.mktemp("engine")) as env:
        yield builder.BuildKit(image, generator, env)


@pytest.fixture
def new_caller(tmp_path: Path, home: Path) -> Callable[[], act.Caller]:
    """Make scratch repositories with copies of this repository's workflows and actions."""
    numbers = itertools.count(1)

    def make() -> act.Caller:
        return act.make_caller(tmp_path / f"repository{next(numbers)}", home)

    return make


@pytest.fixture
def caller(new_caller: Callable[[], act.Caller]) -> act.Caller:
    """A scratch repository of this test alone."""
    return new_caller()


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """The tool to install, once."""
    return make_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def tool(registry: Registry, runner_image: str) -> str:
    """The image with the tool, by its digest."""
    return registry.push(runner_image, "shop:dev")


@pytest.fixture
def locking_shop(caller: act.Caller, tmp_path: Path, server: Server) -> Shop:
    """A repository of this test alone; disposable databases are made on the server of the tests."""
    return make_shop(caller, tmp_path / "origin.git", server.url_of("postgres"))


@pytest.fixture
def shop(locking_shop: Shop, tool: str) -> Shop:
    """The same with the tool in an image: to install it takes longer than all the rest."""
    locking_shop.set(image=tool)
    locking_shop.push("The tool in an image")
    return locking_shop
