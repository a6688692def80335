"""The application's own pods: the init container lets none of them start before the database is at head."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator import ExitCode
from tests.chart.rendering import CHART
from tests.cluster.helm import PATIENT, Release
from tests.cluster.kube import Namespace
from tests.cluster.shop import DEPLOY, journal, manifest, orders_in_use, wait_until_altering
from tests.harness import Database
from tests.image.engine import run

pytestmark = pytest.mark.cluster

JOB = {"mode": "job"}
WAITING = (
    '{{range .status.initContainerStatuses}}{{.image}} {{with .state.running}}runs{{end}}{{"\\n"}}{{end}}'
)
REFUSED = (
    "{{range .status.initContainerStatuses}}{{with .lastState.terminated}}"
    '{{.exitCode}} {{.message}}{{"\\n"}}'
    "{{end}}{{end}}"
)
OF_THE_APPLICATION = ("--selector", "app=application")


@pytest.fixture
def application(new_release: Callable[..., Release], tmp_path: Path) -> Release:
    """An application whose chart has migrator's as its dependency."""
    chart = Path(shutil.copytree(Path(__file__).parent / "application", tmp_path / "application"))
    release = new_release("shop", chart=chart, below="migrator")
    run(release.helm, "package", str(CHART), "--destination", str(chart / "charts"))
    return release


def started(namespace: Namespace, *selection: str) -> list[tuple[str, int]]:
    """The image and the restarts of each of the application's containers that has started."""
    listed = json.loads(namespace.kubectl("get", "pods", *selection, "--output", "json").stdout)["items"]
    statuses = [status for pod in listed for status in pod["status"].get("containerStatuses", [])]
    return [(one["image"].rpartition(":")[2], one["restartCount"]) for one in statuses if one["started"]]


def test_new_pods_start_only_after_head_and_the_old_ones_go_on_until_then(
    application: Release, database: Database
) -> None:
    namespace = application.namespace
    application.upgrade("v1", JOB, options=["--wait"])
    with orders_in_use(database):
        helm = application.start_upgrade("v2", JOB, PATIENT, options=["--wait"])
        wait_until_altering(database)
        namespace.await_line("pods", WAITING, ":v2 runs$", *OF_THE_APPLICATION)
        assert started(namespace, *OF_THE_APPLICATION) == [("v1", 0), ("v1", 0)]
        assert helm.process.poll() is None, helm.output
    assert helm.wait(300).returncode == 0, helm.output
    after = set(started(namespace, *OF_THE_APPLICATION))
    assert ("v2", 0) in after, "one that started too early would have been restarted"
    assert journal(database) == ["a1", "b2"]


def test_pods_start_with_files_and_a_tmp_for_their_init_container(
    application: Release, database: Database
) -> None:
    files = {"database": {"mountAs": "file"}, "waitForHead": {"tmpSizeLimit": "16Mi"}}
    application.upgrade("v1", JOB, files, options=["--wait", "--set", "ready=true"])
    listed = application.namespace.kubectl("get", "pods", *OF_THE_APPLICATION, "--output", "json").stdout
    mounts = [
        {mount["mountPath"] for mount in pod["spec"]["initContainers"][0]["volumeMounts"]}
        for pod in json.loads(listed)["items"]
    ]
    assert mounts == [{"/tmp", "/etc/migrator/database"}] * 2
    assert database.revisions == ["a1"]


def test_pods_of_an_image_older_than_the_database_say_so_or_start_where_that_is_allowed(
    application: Release, database: Database
) -> None:
    namespace = application.namespace
    application.upgrade("v2", JOB, options=["--wait"])
    application.upgrade("v1", JOB)
    told = namespace.await_line("pods", REFUSED, r"^(\d+) (.+)", *OF_THE_APPLICATION)
    assert int(told[1]) == ExitCode.HISTORY == 23
    assert "b2" in json.loads(told[2])["message"]
    allowed = {"waitForHead": {"allowAhead": True}, "settings": {"allow-ahead": True}}
    application.upgrade("v1", JOB, allowed, options=["--wait", "--set", "ready=true"])
    assert database.revisions == ["b2"]


def test_the_plain_init_container_waits_for_the_plain_job(namespace: Namespace, database: Database) -> None:
    (deployment,) = manifest(DEPLOY / "init-container.yaml", "v1")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["command"] = ["python", "-m", "http.server", "8000"]
    namespace.apply(deployment)
    namespace.await_line("pods", WAITING, ":v1 runs$")
    assert not started(namespace)
    namespace.apply(*manifest(DEPLOY / "job.yaml", "v1"))
    namespace.kubectl("rollout", "status", "deployment/shop", "--timeout=150s", timeout=160)
    assert started(namespace, "--selector", "app.kubernetes.io/name=shop") == [("v1", 0)] * 3
    assert database.revisions == ["a1"]
