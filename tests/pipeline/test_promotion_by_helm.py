"""The promotion by Helm on a real cluster, by an account with the documented rights and no others.

The nodes pull the image from the registry of these tests, ``localhost:PORT``, by its digest. Where they do not by
themselves, ``TEST_CLUSTER_REGISTRIES`` is the directory of ``hosts.toml`` files that their containerd reads
(``config_path``); unset, that is ``registries`` beside the kubeconfig, if there is such a directory.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chart.rendering import Helm
from tests.cluster import shop as application
from tests.cluster.kube import kubectl
from tests.cluster.postgres import IMAGE, Postgres, started
from tests.harness import REPOSITORY, Database, Server, start, transaction, wait_until
from tests.image.engine import run as command
from tests.pipeline import by_helm, document
from tests.pipeline.act import Caller
from tests.pipeline.by_helm import CHART, RELEASE, VALUES, VALUES_FILE, Place, Promoting, chart_in
from tests.pipeline.conftest import Keys, Registry
from tests.pipeline.shop import CUSTOMERS, ORDERS, Shop, as_documented
from tests.pipeline.test_promotion import image, migrated, stopped

pytestmark = pytest.mark.cluster

__all__ = ["image"]  # the fixture
APPLICATION = REPOSITORY / "tests" / "cluster" / "application"
TALKING = "a4e27c"


@pytest.fixture(scope="session", autouse=True)
def _cluster(_tools: None) -> None:
    missing = [tool for tool in ("helm", "kubectl") if shutil.which(tool) is None]
    assert not missing, f"not on PATH: {', '.join(missing)}"
    assert os.environ.get("KUBECONFIG"), "set KUBECONFIG to the kubeconfig of a cluster that tests may use"
    assert kubectl("get", "--raw", "/readyz", check=False).returncode == 0, "the cluster does not answer"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory, _cluster: None) -> Iterator[Postgres]:
    """The PostgreSQL in the cluster."""
    if application.LOAD:
        command(*application.LOAD, IMAGE)
    with started(tmp_path_factory.mktemp("postgres")) as one:
        yield one


@pytest.fixture(scope="session")
def server(postgres: Postgres) -> Server:
    """The same, for the fixtures that make databases."""
    return postgres.server


@pytest.fixture(scope="session")
def _pulled(registry: Registry, _cluster: None) -> Iterator[None]:
    with by_helm.pulled_from(registry.host):
        yield


@pytest.fixture
def new_promoting(
    caller: Caller,
    registry: Registry,
    keys: Keys,
    runner_image: str,
    postgres: Postgres,
    new_database: Callable[..., Database],
    tmp_path: Path,
    _pulled: None,
) -> Iterator[Callable[..., Promoting]]:
    """Set up a shop, its namespaces and a version of Helm: ``new_promoting("4", "dev", "test")``."""
    with ExitStack() as stack:

        def make(major: str, *environments: str) -> Promoting:
            databases = {name: new_database() for name in environments}
            shop = Shop(caller, registry, keys, databases)
            places = stack.enter_context(by_helm.places(postgres, databases))
            shutil.copytree(CHART, caller.path / "chart")
            for name in environments:
                caller.write(VALUES_FILE.replace("{environment}", name), json.dumps(VALUES))
            (tmp_path / "bin").mkdir()
            helm = Helm(major, tmp_path).path
            (tmp_path / "bin" / "helm").symlink_to(helm)
            return Promoting(shop, places, helm, tmp_path / "bin")

        yield make


def records(shop: Shop, digest: str) -> dict[str, list[str]]:
    """The revisions that the signed records say, by their environments."""
    found = shop.predicates(digest, "urn:migrator:deployment:1")
    return {record["environment"]: record["revisions"] for record in found}


def test_a_digest_goes_from_namespace_to_namespace_a_failure_stops_it_and_a_rerun_goes_on(
    new_promoting: Callable[..., Promoting], registry: Registry, tmp_path: Path
) -> None:
    # Helm 3: of a registry without TLS on this machine, Helm 4 takes no chart.
    this = new_promoting("3", "dev", "test")
    shop, places = this.shop, this.places
    prefix = places["dev"].namespace.name.removesuffix("-dev")
    workflow = as_documented("by-helm").replace("shop-{environment}", f"{prefix}-{{environment}}")
    workflow = re.sub(r"oci://\S+", chart_in(registry, this.helm, tmp_path), workflow)
    workflow = workflow.replace("      helm-chart:", "      environments: dev, test\n      helm-chart:")
    shop.caller.write(".github/workflows/by-helm.yml", workflow)
    shop.project.add_revision(TALKING, ORDERS, 'print("::error::forged by a migration")', message="talking")
    shop.caller.commit("by Helm")
    places["test"].database.query("CREATE TABLE orders (id int)")

    run = this.promote("by-helm.yml")
    assert run.returncode != 0, run.output
    assert migrated(run) == ["dev-1", "test-2"], run.output
    assert "::error::forged by a migration" in run.output
    assert run.errors("dev") == []
    (error,) = run.errors("test")
    assert 'relation "orders" already exists' in error
    for told in (run.said("test"), run.summary("test")):
        assert "failed    7d1f08" in told
        assert "next      " in told
    block = document.summary_block(
        run, "test-2/promote to one environment/migrate", shop.name, shop.databases
    )
    block = re.sub(r"postgres\.migrator-test-\w+\.svc", "db.shop-test.svc", block.replace(prefix, "shop"))
    document.shown("stopped-by-helm", block)
    digest = shop.digest("dev")
    assert digest
    assert shop.digest("test") == ""
    assert records(shop, digest) == {"dev": [TALKING]}
    assert places["test"].release_status(this.helm) == "failed"
    assert shop.revisions() == {"dev": [TALKING], "test": [CUSTOMERS]}

    places["test"].database.query("DROP TABLE orders")
    again = this.promote("by-helm.yml")
    assert again.returncode == 0, again.output
    assert "It is not built again" in again.said("image")
    assert "nothing to do: at a4e27c" in again.said("dev")
    assert [shop.digest(name) for name in places] == [digest] * 2
    assert records(shop, digest) == {"dev": [TALKING], "test": [TALKING]}
    assert shop.revisions() == {"dev": [TALKING], "test": [TALKING]}
    for place in places.values():
        assert place.images() == {f"{shop.name}@{digest}"}
        assert place.release_status(this.helm) == "deployed"


def kill_midway(this: Promoting, place: Place, digest: str) -> None:
    """Kill Helm in the middle of an upgrade, as a runner that dies does."""
    helm = start(*this.upgrade(place, digest), env={"KUBECONFIG": os.environ["KUBECONFIG"]}, cwd=CHART)
    wait_until(lambda: place.release_status(this.helm).startswith("pending"), "Helm is at work", timeout=60)
    helm.kill()
    helm.wait()


def follow(this: Promoting, message: str) -> None:
    """Run the command that a message names."""
    named = re.search(r"If none is: helm (.+?) \(it undoes no migration\)", message)
    assert named, message
    command(this.helm, *shlex.split(named[1]))


def test_a_release_that_a_killed_helm_left_pending_is_told_with_the_command_that_mends_it(
    new_promoting: Callable[..., Promoting], image: str, tmp_path: Path
) -> None:
    this = new_promoting("4", "dev")
    shop, place = this.shop, this.places["dev"]
    digest = shop.publish(image)
    shop.sign(digest)

    kill_midway(this, place, digest)
    told = this.step("Look at the release and the chart", place, digest, tmp_path).wait(60)
    assert told.returncode == 2, told.output
    assert "is pending-install" in told.stdout
    follow(this, told.stdout)
    command(*this.upgrade(place, digest))

    kill_midway(this, place, digest)
    run = this.promote_this(digest)
    message = stopped(
        run, "migrate", "is pending-upgrade", "Nothing was changed", f"helm rollback {RELEASE} 1"
    )
    assert shop.digest("dev") == ""
    follow(this, message)
    again = this.promote_this(digest)
    assert again.returncode == 0, again.output
    assert shop.digest("dev") == digest
    assert place.release_status(this.helm) == "deployed"


def test_a_cancelled_job_leaves_no_pending_release_and_its_migration_ends_by_itself(
    new_promoting: Callable[..., Promoting], image: str, tmp_path: Path
) -> None:
    this = new_promoting("4", "dev")
    place = this.places["dev"]
    digest = this.shop.publish(image)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%CREATE TABLE customers%'"
    with transaction(place.database.url, "CREATE TABLE customers (id int)"):
        step = this.step("Migrate by Helm", place, digest, tmp_path)
        wait_until(lambda: place.database.query(waiting), "the migration stands before customers", timeout=60)
        step.send_signal(signal.SIGINT)  # to bash alone, as GitHub's runner sends it
        ended = step.wait(60)
        assert ended.returncode == 130, ended.output
        assert place.release_status(this.helm) == "failed"
    assert f"kubectl --namespace {place.namespace.name} delete jobs" in ended.stdout
    assert place.namespace.job_ended(f"{RELEASE}-migrator").outcome == "Complete"
    assert place.database.revisions == [ORDERS]


def test_a_chart_that_would_run_another_image_and_a_cluster_that_says_no_are_told_before_anything(
    new_promoting: Callable[..., Promoting], tmp_path: Path
) -> None:
    this = new_promoting("4", "dev")
    place, look = this.places["dev"], "Look at the release and the chart"
    parent = Path(shutil.copytree(APPLICATION, tmp_path / "application"))
    command(this.helm, "package", str(CHART), "--destination", str(parent / "charts"))
    digest, other = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
    pinned = {"migrator": {**VALUES, "image": {"repository": "registry.example.com/shop", "digest": other}}}
    this.shop.caller.write(VALUES_FILE.replace("{environment}", "dev"), json.dumps(pinned))

    # Of the documented rights none is for an application's own objects.
    own = {"CHART": str(parent), "CONFIGURATION": Path(os.environ["KUBECONFIG"]).read_text()}
    told = this.step(look, place, digest, tmp_path, **own).wait(60)
    assert told.returncode == 2, told.output
    assert f"has no Job that would migrate by {this.shop.name}@{digest}" in told.stdout
    assert "helm-image-keys" in told.stdout
    right = this.step(look, place, digest, tmp_path, **own, KEYS="image, migrator.image").wait(60)
    assert right.returncode == 0, right.output

    refused = this.step(look, place, digest, tmp_path, NAMESPACE="default").wait(60)
    assert refused.returncode == 2, refused.output
    assert "does not tell about the release" in refused.stdout
    assert "cannot list resource" in refused.stderr
    assert not place.namespace.names("jobs")


def test_an_image_that_the_cluster_cannot_pull_is_told_by_its_events(
    new_promoting: Callable[..., Promoting], tmp_path: Path
) -> None:
    this = new_promoting("4", "dev")
    place, missing = this.places["dev"], f"sha256:{'0' * 64}"
    soon = {"settings": {"deadline": 1}, "terminationGracePeriodSeconds": 15, "activeDeadlineSeconds": 16}
    this.shop.caller.write(VALUES_FILE.replace("{environment}", "dev"), json.dumps(VALUES | soon))
    ended = this.step("Migrate by Helm", place, missing, tmp_path).wait(120)
    assert ended.returncode == 1, ended.output
    for told in (ended.stdout, (tmp_path / "summary.md").read_text()):
        assert f'Failed to pull image "{this.shop.name}@{missing}"' in told
