"""Fixtures: a registry with a password, PostgreSQL that containers reach, and the shop whose migrations go through."""

from __future__ import annotations

import json
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import Database, Role, Server, table_revisions, write_project
from tests.image.engine import Owned, Postgres
from tests.pipeline import act
from tests.pipeline.conftest import serve_registry
from tests.pipeline.other_ci.shop import (
    ENVIRONMENTS,
    HTPASSWD,
    REGISTRY_PASSWORD,
    REGISTRY_USER,
    Shop,
)

DOCKERFILE = "FROM migrator:runner\nCOPY alembic.ini /app/\nCOPY migrations /app/migrations\n"


@pytest.fixture(scope="session")
def _kept() -> Iterator[Owned]:
    with Owned() as owned:
        yield owned


@pytest.fixture(scope="session")
def postgres(_kept: Owned) -> Postgres:
    """PostgreSQL as ``db`` on a network of its own."""
    return Postgres(_kept, _kept.network(), command=("postgres", "-c", "fsync=off"))


@pytest.fixture(scope="session")
def server(postgres: Postgres) -> Server:
    """The same, for the fixtures that make databases and roles."""
    return postgres.server


@pytest.fixture(scope="session")
def locked_registry_host(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[str]:
    """``localhost:PORT`` of a registry that wants a password."""
    directory = tmp_path_factory.mktemp("registry")
    (directory / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: shop, path: {directory}/htpasswd}}}}\n"
    with serve_registry(directory, home, auth) as running:
        yield running.host


@dataclass(frozen=True)
class Keys:
    """A pair of keys, PEM texts, the private one behind a password."""

    private: str
    public: str
    password: str


@pytest.fixture(scope="session")
def new_locked_keys(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Callable[[], Keys]:
    """Make a pair of keys with a password."""

    def make() -> Keys:
        directory, password = tmp_path_factory.mktemp("keys"), secrets.token_urlsafe(12)
        act.run("cosign", "generate-key-pair", cwd=directory, home=home, env={"COSIGN_PASSWORD": password})
        return Keys((directory / "cosign.key").read_text(), (directory / "cosign.pub").read_text(), password)

    return make


@pytest.fixture(scope="session")
def locked_keys(new_locked_keys: Callable[[], Keys]) -> Keys:
    """The pair of keys of the session."""
    return new_locked_keys()


@pytest.fixture
def shop(
    tmp_path: Path,
    runner_image: str,
    postgres: Postgres,
    locked_registry_host: str,
    locked_keys: Keys,
    new_role: Callable[..., Role],
    new_database: Callable[..., Database],
) -> Shop:
    """Two revisions, committed; three empty databases, each with its own owner and a user who may only read."""
    project = write_project(tmp_path / "shop", None, revisions=table_revisions("a1", "b2"))
    (project.path / "Dockerfile").write_text(DOCKERFILE)
    databases, urls, passwords = (
        {},
        {},
        {"registry": REGISTRY_PASSWORD, "key's password": locked_keys.password},
    )
    passwords["private key"] = locked_keys.private.splitlines()[1]
    for environment in ENVIRONMENTS:
        owner, reader = new_role(), new_role()
        database = databases[environment] = new_database(owner=owner.name)
        database.query(f'GRANT pg_read_all_data TO "{reader.name}"')
        for name, role in ((environment, owner), (f"{environment}-plan", reader)):
            urls[name] = f"postgresql://{role.name}:{role.password}@db:5432/{database.name}"
            passwords[name] = role.password
    home = tmp_path / "home"
    (home / "push").mkdir(parents=True)
    login = b64encode(f"{REGISTRY_USER}:{REGISTRY_PASSWORD}".encode()).decode()
    (home / "push" / "config.json").write_text(json.dumps({"auths": {locked_registry_host: {"auth": login}}}))
    name = f"{locked_registry_host}/{databases['dev'].name}/migrate"
    variables = {
        "NAME": name,
        "ENVIRONMENTS": " ".join(ENVIRONMENTS),
        "REGISTRY_USER": REGISTRY_USER,
        "REGISTRY_PASSWORD": REGISTRY_PASSWORD,
        "COSIGN_PRIVATE_KEY": locked_keys.private,
        "COSIGN_PUBLIC_KEY": locked_keys.public,
        "COSIGN_PASSWORD": locked_keys.password,
        "NETWORK": postgres.network,
    }
    return Shop(project, name, home, databases, urls, passwords, variables)
