"""What the chart makes of values, with each version of Helm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from migrator.errors import ExitCode
from tests.chart.rendering import DIGEST, OTHER_DIGEST, WAYS, Helm, Rendered, usual, way_names

pytestmark = pytest.mark.chart

HOOKS_OF_HELM = "helm.sh/hook"
HOOKS_OF_ARGO = "argocd.argoproj.io/"


def annotations(one: dict[str, Any]) -> dict[str, str]:
    return one["metadata"].get("annotations") or {}


def rule(rendered: Rendered, action: str) -> tuple[int, dict[str, Any]]:
    """(its place, the rule) of podFailurePolicy with that action."""
    rules = rendered.job["spec"]["podFailurePolicy"]["rules"]
    ((place, found),) = [(place, each) for place, each in enumerate(rules) if each["action"] == action]
    return place, found


def test_the_pod_failure_policy_is_the_table_of_exit_codes(helm: Helm) -> None:
    _, found = rule(helm.template(), "FailJob")
    assert found["onExitCodes"]["containerName"] == "migrate"
    assert found["onExitCodes"]["operator"] == "In"
    assert found["onExitCodes"]["values"] == [
        int(code) for code in ExitCode if code and not code.retry_may_help
    ]


def test_an_eviction_is_looked_at_before_the_exit_code(helm: Helm) -> None:
    place, found = rule(helm.template(), "Ignore")
    assert place == 0
    assert found["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]


def test_no_second_pod_starts_before_the_first_has_ended(helm: Helm) -> None:
    job = helm.template().job["spec"]
    assert job["podReplacementPolicy"] == "Failed"
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["backoffLimit"] <= 2
    assert "ttlSecondsAfterFinished" not in job


@pytest.mark.parametrize("way", WAYS, ids=way_names())
def test_the_limits_nest_in_every_way_of_use(one_helm: Helm, way: Path) -> None:
    rendered = one_helm.template(way)
    grace = rendered.pod["terminationGracePeriodSeconds"]
    assert int(rendered.env["MIGRATOR_DEADLINE"]) + grace <= rendered.job["spec"]["activeDeadlineSeconds"]


@pytest.mark.parametrize("way", WAYS, ids=way_names())
def test_both_versions_of_helm_render_the_same(way: Path, tmp_path: Path) -> None:
    three, four = (Helm(major, tmp_path).template(way).objects for major in ("3", "4"))
    kind = lambda one: (one["kind"], one["metadata"]["name"])  # noqa: E731
    assert sorted(three, key=kind) == sorted(four, key=kind)


def test_hooks_of_helm_and_of_argo_cd_are_never_there_together(helm: Helm) -> None:
    families = {
        "helm": {HOOKS_OF_HELM},
        "argocd": {HOOKS_OF_ARGO},
        "job": set(),
    }
    for mode, family in families.items():
        for one in helm.template(usual({"mode": mode})).objects:
            if one["metadata"]["name"].endswith("-test"):
                assert mode != "argocd"
                continue
            keys = [key for key in annotations(one) if key.startswith((HOOKS_OF_HELM, HOOKS_OF_ARGO))]
            assert {next(iter(family), "") for _ in keys} <= family
            assert all(any(key.startswith(prefix) for prefix in family) for key in keys)
            assert bool(keys) == bool(family)


def test_a_hook_of_helm_stays_with_its_log_until_the_next_one(helm: Helm) -> None:
    job = helm.template().job
    assert job["metadata"]["name"] == "shop-migrator"
    assert annotations(job) == {
        "helm.sh/hook": "pre-install,pre-upgrade",
        "helm.sh/hook-weight": "0",
        "helm.sh/hook-delete-policy": "before-hook-creation",
        "helm.sh/hook-output-log-policy": "hook-failed,hook-succeeded",
    }


def test_a_rollback_runs_the_hook_only_where_that_was_asked_for(helm: Helm) -> None:
    job = helm.template(usual({"helm": {"onRollback": True}})).job
    assert annotations(job)["helm.sh/hook"] == "pre-install,pre-upgrade,pre-rollback"


def test_a_hook_of_argo_cd_keeps_its_name(helm: Helm) -> None:
    job = helm.template(usual({"mode": "argocd", "argocd": {"syncWave": 3}})).job
    assert job["metadata"]["name"] == "shop-migrator"
    assert annotations(job) == {
        "argocd.argoproj.io/hook": "PreSync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
        "argocd.argoproj.io/sync-wave": "3",
    }


@pytest.mark.parametrize("mode", ["helm", "argocd"])
def test_what_the_hook_needs_is_a_hook_that_comes_before_it(helm: Helm, mode: str) -> None:
    rendered = helm.template(usual({"mode": mode, "networkPolicy": {"enabled": True}}))
    order = "helm.sh/hook-weight" if mode == "helm" else "argocd.argoproj.io/sync-wave"
    weights = {
        one["kind"]: int(annotations(one)[order]) for one in rendered.objects if order in annotations(one)
    }
    assert weights.keys() == {"ServiceAccount", "NetworkPolicy", "Job"}
    assert max(weights["ServiceAccount"], weights["NetworkPolicy"]) < weights["Job"]


def job_name(helm: Helm, *changes: dict[str, Any], arguments: tuple[str, ...] = ()) -> str:
    return helm.template(usual({"mode": "job"}, *changes), *arguments).job["metadata"]["name"]


def test_an_ordinary_job_gets_a_new_name_with_whatever_changes_in_it(helm: Helm) -> None:
    first = job_name(helm)
    assert first == job_name(helm)
    assert first == job_name(helm, arguments=("--is-upgrade",))
    others = {
        job_name(helm, {"image": {"digest": OTHER_DIGEST}}),
        job_name(helm, {"settings": {"lock-timeout": "2s"}}),
        job_name(helm, {"podAnnotations": {"example.com/again": "1"}}),
    }
    assert len(others) == 3
    assert first not in others


def test_what_is_none_of_the_job_leaves_its_name(one_helm: Helm) -> None:
    changes = {"waitForHead": {"timeout": "1m"}, "test": {"enabled": False}, "jobAnnotations": {"a": "b"}}
    assert job_name(one_helm) == job_name(one_helm, changes)


def test_a_name_of_any_length_fits_into_the_label_of_a_pod(one_helm: Helm) -> None:
    for mode in ("helm", "job"):
        rendered = one_helm.template(usual({"mode": mode}), release="a" * 53)
        assert len(rendered.job["metadata"]["name"]) <= 63


def test_a_digest_wins_over_the_tag_beside_it(helm: Helm) -> None:
    assert helm.template().container["image"] == f"registry.example.com/shop@{DIGEST}"
    both = helm.template(usual({"image": {"tag": "1.4.2"}}))
    assert both.container["image"] == f"registry.example.com/shop:1.4.2@{DIGEST}"


def test_a_setting_is_a_variable_and_null_is_none(helm: Helm) -> None:
    env = helm.template(
        usual(
            {
                "settings": {
                    "lock-timeout": "500ms",
                    "allow-ahead": True,
                    "wait-timeout": None,
                    "deadline": 100,
                }
            }
        )
    ).env
    assert env["MIGRATOR_LOCK_TIMEOUT"] == "500ms"
    assert env["MIGRATOR_ALLOW_AHEAD"] == "true"
    assert env["MIGRATOR_DEADLINE"] == "100"
    assert "MIGRATOR_WAIT_TIMEOUT" not in env


def test_a_large_number_is_written_out(one_helm: Helm) -> None:
    times = {"settings": {"deadline": 1000000}, "activeDeadlineSeconds": 1000030}
    rendered = one_helm.template(usual(times, {"helm": {"timeoutSeconds": 1000060}}))
    assert rendered.env["MIGRATOR_DEADLINE"] == "1000000"
    from_command_line = one_helm.template(usual(times, {"mode": "job"}), "--set", "settings.deadline=1000000")
    assert from_command_line.env["MIGRATOR_DEADLINE"] == "1000000"


def test_the_url_as_a_file_is_in_no_variable(helm: Helm) -> None:
    rendered = helm.template(usual({"database": {"mountAs": "file", "secretKey": "uri"}}))
    assert rendered.env["MIGRATOR_DATABASE_URL_FILE"] == "/etc/migrator/database/url"
    assert "MIGRATOR_DATABASE_URL" not in rendered.env
    volumes = {volume["name"]: volume for volume in rendered.pod["volumes"]}
    assert volumes["migrator-database"]["secret"] == {
        "secretName": "shop-database",
        "items": [{"key": "uri", "path": "url"}],
    }
    assert {"name": "migrator-database", "mountPath": "/etc/migrator/database", "readOnly": True} in (
        rendered.container["volumeMounts"]
    )


def test_a_sidecar_is_a_native_one(helm: Helm) -> None:
    sidecar = {"name": "proxy", "image": f"proxy@{DIGEST}"}
    before = {"name": "before", "image": f"before@{DIGEST}"}
    pod = helm.template(usual({"sidecars": [sidecar], "initContainers": [before]})).pod
    assert pod["initContainers"] == [before, {**sidecar, "restartPolicy": "Always"}]
    assert [container["name"] for container in pod["containers"]] == ["migrate"]


@pytest.mark.parametrize("way", WAYS, ids=way_names())
def test_a_pod_is_allowed_where_only_restricted_ones_are(one_helm: Helm, way: Path) -> None:
    specs = [one["spec"] for one in one_helm.template(way).objects if one["kind"] == "Pod"]
    specs.append(one_helm.template(way).pod)
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"] is True
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False


def test_null_takes_a_default_away(helm: Helm) -> None:
    rendered = helm.template(usual({"podSecurityContext": {"runAsUser": None, "fsGroup": None}}))
    assert rendered.pod["securityContext"].keys() == {"runAsNonRoot", "runAsGroup", "seccompProfile"}
    neither = {"sidecar.istio.io/inject": None, "example.com/unknown": None}
    without = helm.template(
        usual({"podAnnotations": neither, "podLabels": neither, "jobAnnotations": neither})
    )
    metadata = without.job["spec"]["template"]["metadata"]
    for found in (*metadata.values(), *(one["metadata"] for one in without.objects)):
        assert not [key for key in neither if key in str(found)]


def test_the_outcome_reaches_the_termination_message_or_else_the_log_does(helm: Helm) -> None:
    container = helm.template().container
    assert container["terminationMessagePath"] == "/dev/termination-log"
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_helm_test_looks_and_changes_nothing(helm: Helm) -> None:
    pod = helm.template().only("Pod")
    assert annotations(pod)["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    assert container["args"] == ["status", "--exit-code"]


def test_a_network_policy_lets_only_dns_and_the_database_through(helm: Helm) -> None:
    peers = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    rendered = helm.template(
        usual({"networkPolicy": {"enabled": True, "databasePorts": [3306], "databasePeers": peers}})
    )
    policy = rendered.only("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == []
    assert policy["egress"] == [
        {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
        {"ports": [{"port": 3306, "protocol": "TCP"}], "to": peers},
    ]
    labels = rendered.job["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()


def test_disabled_it_renders_nothing(helm: Helm) -> None:
    assert helm.template({"enabled": False}).objects == []


def test_no_secret_is_written_into_what_is_rendered(one_helm: Helm) -> None:
    for way in WAYS:
        for one in one_helm.template(way).objects:
            assert one["kind"] != "Secret"
            assert "://" not in str(
                one.get("spec", {}).get("template", {}).get("spec", {}).get("containers", "")
            )
