"""The promotion with other registries and tools than the plainest."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Database
from tests.image.engine import build_from, docker
from tests.pipeline.act import Caller
from tests.pipeline.conftest import Keys, Registry, serve_registry
from tests.pipeline.shop import ORDERS, Shop
from tests.pipeline.test_promotion_attacks import instead_of
from tests.pipeline.test_promotion_refused import path_without

pytestmark = pytest.mark.pipeline

# The registry's user "shop", and the password of the tests as bcrypt.
PASSWORD = "a password of the tests"
HASHED = "shop:$2b$05$abcdefghijklmnopqrstuuComanBKiU1JTRzmmvE2xk8ApqQhbSI.\n"
# After each call of docker: is the configuration of the machine's user as it was?
WATCH = """\
#!/usr/bin/env bash
REAL "$@"
code=$?
echo "$1" >>DIRECTORY/calls
cmp --silent "$HOME/.docker/config.json" DIRECTORY/config.json || echo "$*" >>DIRECTORY/changed
exit "$code"
"""


@pytest.fixture
def private(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[Registry]:
    """A registry that asks for a password."""
    directory = tmp_path_factory.mktemp("private")
    (directory / "htpasswd").write_text(HASHED)
    auth = f"auth: {{htpasswd: {{realm: tests, path: {directory}/htpasswd}}}}\n"
    with serve_registry(directory, home, auth) as running:
        yield running


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
    watched = tmp_path / "watched"
    (tmp_path / "home" / ".docker").mkdir(parents=True)
    instead_of("docker", WATCH.replace("DIRECTORY", str(watched)), watched)
    others = path_without("cosign", tmp_path / "tools")["PATH"]
    surroundings = {"PATH": f"{watched}:{others}", "HOME": str(tmp_path / "home")}

    def of_the_machine(auths: dict[str, dict[str, str]]) -> None:
        for file in (watched / "config.json", tmp_path / "home" / ".docker" / "config.json"):
            file.write_text(json.dumps({"auths": auths}))

    of_the_machine({"elsewhere.example.com": {"auth": "c2hvcDpwYXNzd29yZA=="}})
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
    assert "login" in (watched / "calls").read_text()
    assert not (watched / "changed").exists(), (watched / "changed").read_text()

    # Without the secret it is the machine's own login that counts, and it stays.
    of_the_machine({private.host: {"auth": base64.b64encode(f"shop:{PASSWORD}".encode()).decode()}})
    again = shop.promote(
        "with-environments.yml", secrets={**given, "REGISTRY_PASSWORD": ""}, env=surroundings
    )
    assert again.returncode == 0, again.output
    assert "is used without a login" in again.said("image")
    assert not (watched / "changed").exists(), (watched / "changed").read_text()
