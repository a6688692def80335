"""Fixtures: the image built from this tree, and a PostgreSQL on a network of the tests' own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.harness import Database, Server
from tests.image.engine import Owned, Postgres, build


@pytest.fixture(scope="session", autouse=True)
def _engine() -> None:
    try:
        answer = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("the command docker is not there")
    if answer.returncode:
        pytest.skip(f"no Docker Engine answers: {answer.stderr.strip()}")


@pytest.fixture(scope="session")
def runner(_engine: None) -> str:
    """The tool: ``migrator:runner``."""
    build("migrator:runner", "--target", "runner")
    return "migrator:runner"


@pytest.fixture(scope="session")
def job(runner: str) -> str:
    """The tool with this repository's revisions: ``migrator:job``."""
    build("migrator:job", "--target", "job")
    return "migrator:job"


@pytest.fixture(scope="session")
def _kept() -> Iterator[Owned]:
    with Owned() as owned:
        yield owned


@pytest.fixture
def owned() -> Iterator[Owned]:
    """What this test makes on the engine."""
    with Owned() as made:
        yield made


@pytest.fixture(scope="session")
def postgres(_engine: None, _kept: Owned) -> Postgres:
    """PostgreSQL as ``db`` on a network of its own."""
    return Postgres(_kept, _kept.network(), command=("postgres", "-c", "fsync=off"))


@pytest.fixture(scope="session")
def server(postgres: Postgres) -> Server:
    """The same, for the fixtures that make databases and roles."""
    return postgres.server


@pytest.fixture
def shop_url(postgres: Postgres, database: Database) -> str:
    """The URL of the test's database for containers."""
    return postgres.inside(database)
