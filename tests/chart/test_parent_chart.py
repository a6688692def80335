"""An application's own chart that has this one as a dependency, and its pods' init container."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.chart.generate import GUIDE, README
from tests.chart.rendering import CHART, DIGEST, Helm, Rendered

pytestmark = pytest.mark.chart

PARENT = harness.REPOSITORY / "tests" / "chart" / "parent"


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """The application's chart with ours where ``helm dependency build`` puts it, at the path that its file names."""
    root = tmp_path / "repository"
    shutil.copytree(PARENT, root / "tests" / "chart" / "parent")
    shutil.copytree(CHART, root / "helm" / "migrator")
    return root / "tests" / "chart" / "parent"


def rendered(helm: Helm, parent: Path, migrator: dict[str, Any] | None = None) -> Rendered:
    built = helm.run("dependency", "update", parent)
    assert built.returncode == 0, built.stderr
    return helm.template({"migrator": migrator or {}}, chart=parent)


def application(of: Rendered) -> dict[str, Any]:
    return of.only("Deployment")["spec"]["template"]["spec"]


def wait(of: Rendered) -> dict[str, Any]:
    (container,) = application(of)["initContainers"]
    return container


def variables(container: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def test_the_application_waits_with_the_image_and_the_database_of_the_job(helm: Helm, parent: Path) -> None:
    both = rendered(helm, parent)
    container = wait(both)
    assert container["name"] == "wait-for-migrations"
    assert container["args"] == ["wait", "--for", "head"]
    assert container["image"] == both.container["image"] == f"registry.example.com/shop@{DIGEST}"
    assert container["image"] == application(both)["containers"][0]["image"]
    assert variables(container)["MIGRATOR_DATABASE_URL"] == both.env["MIGRATOR_DATABASE_URL"]
    assert variables(container)["MIGRATOR_WAIT_TIMEOUT"] == "5m"


def test_what_env_py_needs_is_the_same_and_the_limits_of_the_run_are_not(helm: Helm, parent: Path) -> None:
    container = wait(rendered(helm, parent, {"settings": {"wait-timeout": "7s", "config": "db/alembic.ini"}}))
    found = variables(container)
    assert found["MIGRATOR_X"] == "tenant=a"
    assert found["MIGRATOR_CONFIG"] == "db/alembic.ini"
    assert found["MIGRATOR_WAIT_TIMEOUT"] == "5m"
    assert "MIGRATOR_DEADLINE" not in found


def test_the_init_container_is_restricted_and_small(helm: Helm, parent: Path) -> None:
    both = rendered(helm, parent)
    security = wait(both)["securityContext"]
    assert security == {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert {"requests", "limits"} == wait(both)["resources"].keys()
    assert wait(both)["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert "volumeMounts" not in wait(both)
    assert "volumes" not in application(both)


def test_its_security_context_is_a_value(helm: Helm, parent: Path) -> None:
    own = {"securityContext": {"runAsUser": 1000, "seccompProfile": None, "readOnlyRootFilesystem": False}}
    assert wait(rendered(helm, parent, {"waitForHead": own}))["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_it_gets_a_tmp_of_its_own_where_it_asks_for_one(helm: Helm, parent: Path) -> None:
    both = rendered(helm, parent, {"waitForHead": {"tmpSizeLimit": "16Mi"}})
    assert wait(both)["volumeMounts"] == [{"name": "migrator-tmp", "mountPath": "/tmp"}]
    assert application(both)["volumes"] == [{"name": "migrator-tmp", "emptyDir": {"sizeLimit": "16Mi"}}]


def test_it_writes_into_a_tmp_of_the_applications(helm: Helm, parent: Path) -> None:
    mount = {"name": "tmp", "mountPath": "/tmp"}
    assert wait(rendered(helm, parent, {"waitForHead": {"extraVolumeMounts": [mount]}}))["volumeMounts"] == [
        mount
    ]


def test_two_mounts_at_one_path_are_refused(helm: Helm, parent: Path) -> None:
    mount = {"name": "url", "mountPath": "/etc/migrator/database"}
    refused = rendered(
        helm, parent, {"database": {"mountAs": "file"}, "waitForHead": {"extraVolumeMounts": [mount]}}
    )
    assert "waitForHead.extraVolumeMounts: something is mounted at /etc/migrator/database" in refused.stderr


def test_a_reader_of_its_own_and_a_newer_database_are_options(helm: Helm, parent: Path) -> None:
    own = {
        "timeout": 90,
        "allowAhead": True,
        "database": {"existingSecret": "shop-reader", "secretKey": "uri"},
    }
    found = variables(wait(rendered(helm, parent, {"waitForHead": own})))
    assert found["MIGRATOR_DATABASE_URL"] == {"secretKeyRef": {"name": "shop-reader", "key": "uri"}}
    assert found["MIGRATOR_ALLOW_AHEAD"] == "true"
    assert found["MIGRATOR_WAIT_TIMEOUT"] == "90"


def test_files_come_with_their_volumes(helm: Helm, parent: Path) -> None:
    both = rendered(helm, parent, {"database": {"mountAs": "file", "tls": {"existingConfigMap": "ca"}}})
    mounts = {mount["name"] for mount in wait(both)["volumeMounts"]}
    assert mounts == {"migrator-database", "migrator-tls"}
    assert mounts == {volume["name"] for volume in application(both)["volumes"]}


def test_the_pages_say_that_a_chart_which_is_off_brings_no_template() -> None:
    guarded = "{{- if .Values.migrator.enabled }}"
    for page in (GUIDE, README):
        before, _, _ = page.read_text().partition('include "migrator.waitForHead"')
        words = " ".join(before.rpartition("\n\n")[0].rpartition("\n\n")[2].split())
        assert f"within `{guarded}` where" in words, page
        assert "a chart that is switched off brings no template" in words, page


def test_without_the_migrations_nothing_waits_for_them(helm: Helm, parent: Path) -> None:
    without = rendered(helm, parent, {"enabled": False})
    assert [one["kind"] for one in without.objects] == ["Deployment"]
    assert "initContainers" not in application(without)


def test_the_schema_holds_below_a_parent_as_well(helm: Helm, parent: Path) -> None:
    helm.run("dependency", "update", parent)
    refused = helm.template({"migrator": {"imagee": {}}}, chart=parent)
    assert refused.returncode != 0
    assert "imagee" in refused.stderr
