"""Fixtures: a cluster, a PostgreSQL in it, the application's images, a namespace for each test.

``KUBECONFIG`` names the cluster. ``TEST_CLUSTER_LOAD`` is a command that makes an image of the Docker Engine known
to it (``kind load docker-image``, ``minikube image load``, ``docker push``); unset: it sees them by itself.
``TEST_CLUSTER_REPOSITORY`` is where the application's images go (``migrator-test``), ``TEST_CLUSTER_RUNNER_IMAGE``
what they are built on (made from this tree), ``TEST_CLUSTER_POSTGRES_IMAGE`` the database's (``postgres:17``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.chart.rendering import Helm
from tests.cluster import shop
from tests.cluster.helm import SECRET, Release
from tests.cluster.kube import Namespace, kubectl
from tests.cluster.postgres import Postgres, started
from tests.harness import Database, Server, run_migrator, write_project

FOUND = pytest.StashKey[str]()


@pytest.fixture(scope="session", autouse=True)
def _cluster() -> None:
    for program in ("kubectl", "docker"):
        if shutil.which(program) is None:
            pytest.skip(f"the command {program} is not there")
    if not os.environ.get("KUBECONFIG"):
        # Never the cluster that kubectl happens to know: whoever runs the tests names one for them.
        pytest.skip("KUBECONFIG names no cluster: set it to the kubeconfig of one that tests may use")
    answer = kubectl("get", "--raw", "/readyz", check=False)
    assert answer.returncode == 0, f"the cluster that KUBECONFIG names does not answer\n{answer.output}"


@pytest.fixture(scope="session", autouse=True)
def _releases(_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    together = tmp_path_factory.getbasetemp().parent  # the same for all workers of pytest-xdist
    shop.make_releases(tmp_path_factory.mktemp("releases"), together / "releases.lock")


@pytest.fixture(scope="session")
def postgres(_releases: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """The PostgreSQL of this worker."""
    with started(tmp_path_factory.mktemp("postgres")) as one:
        yield one


@pytest.fixture(scope="session")
def server(postgres: Postgres) -> Server:
    """The same, for the fixtures that make databases and roles."""
    return postgres.server


@pytest.fixture
def namespace(postgres: Postgres, database: Database, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of this test alone, with the Secret of its empty database."""
    with Namespace.made() as made:
        request.node.stash[FOUND] = made.name
        made.secret(SECRET, url=postgres.inside(database))
        yield made


@pytest.fixture
def at_v1(database: Database, tmp_path: Path) -> Database:
    """The database as the application's first release left it."""
    project = write_project(tmp_path / "v1", None, revisions=shop.RELEASES["v1"])
    run_migrator("upgrade", env={"MIGRATOR_DATABASE_URL": database.url}, cwd=project.path, check=True)
    return database


@pytest.fixture
def new_release(namespace: Namespace, tmp_path: Path) -> Callable[..., Release]:
    """Name releases of the newest Helm in the namespace: ``new_release("blue")``."""
    program = Helm("4", tmp_path).path
    return lambda name="shop", **more: Release(namespace, program, tmp_path, name, **more)


@pytest.fixture
def release(new_release: Callable[..., Release]) -> Release:
    """The release ``shop``, by the newest Helm."""
    return new_release()


@pytest.fixture(params=["3", "4"], ids=lambda major: f"helm{major}")
def any_release(request: pytest.FixtureRequest, namespace: Namespace, tmp_path: Path) -> Release:
    """The same by each supported version of Helm."""
    return Release(namespace, Helm(request.param, tmp_path).path, tmp_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Beside a failure, what was in the test's namespace."""
    report = yield
    if report.when == "call" and report.failed and (name := item.stash.get(FOUND, None)):
        report.sections.append((f"namespace {name}", Namespace(name).described()))
    return report
