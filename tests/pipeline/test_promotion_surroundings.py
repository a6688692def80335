"""The promotion with other registries and tools than the plainest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Database
from tests.image.engine import build_from, docker
from tests.pipeline.act import Caller
from tests.pipeline.conftest import Keys, Registry, serve_registry
from tests.pipeline.shop import ORDERS, Shop

pytestmark = pytest.mark.pipeline

# The registry's user "shop", and the password of the tests as bcrypt.
PASSWORD = "a password of the tests"
HASHED = "shop:$2b$05$abcdefghijklmnopqrstuuComanBKiU1JTRzmmvE2xk8ApqQhbSI.\n"


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
