"""Text that YAML could take for something else, and names that meet those of the chart."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from migrator.durations import UnacceptableValue, parse_duration
from tests.chart.rendering import CHART, Helm, usual

pytestmark = pytest.mark.chart

LIKE_A_NUMBER = ["123", "1e3", "0x1f", "012", "1.0"]
LIKE_SOMETHING = [*LIKE_A_NUMBER, "true", "no", "null", "~", "1_000", "2026-01-01", "a: b", "#", "- a"]


@pytest.fixture(scope="module")
def chart_as_read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with its objects as Helm and Kubernetes read their YAML, which Python's reader takes otherwise."""
    chart = tmp_path_factory.mktemp("read") / "migrator"
    shutil.copytree(CHART, chart)
    for name in ("job.yaml", "networkpolicy.yaml", "serviceaccount.yaml", "tests/at-head.yaml"):
        template = chart / "templates" / name
        template.rename(chart / "files" / template.name)
        read = f'{{{{ tpl (.Files.Get "files/{template.name}") . | fromYaml | toJson }}}}\n'
        template.write_text(f"---\n{read}")
    wait = '{{ include "migrator.waitForHead" . | fromYamlArray | toJson }}'
    volumes = '{{ include "migrator.waitForHeadVolumes" . | fromYamlArray | toJson }}'
    (chart / "templates" / "wait.yaml").write_text(
        f'{{"kind": "Wait", "metadata": {{"name": "wait"}}, "initContainers": {wait}, "volumes": {volumes}}}\n'
    )
    return chart


def read(helm: Helm, chart: Path, values: dict[str, Any], release: str = "shop") -> dict[str, dict[str, Any]]:
    rendered = helm.template(values, chart=chart, release=release)
    assert rendered.returncode == 0, rendered.stderr
    lines = [line for line in rendered.stdout.splitlines() if line.startswith('{"')]
    return {one["kind"]: one for one in map(json.loads, lines)}


def names_of_text(name: str) -> dict[str, Any]:
    tls = {"existingSecret": name, "caKey": name, "certKey": name, "keyKey": name}
    return usual(
        {
            "image": {"tag": "123"},
            "imagePullSecrets": [{"name": name}],
            "args": ["upgrade", name],
            "database": {
                "existingSecret": name,
                "secretKey": name,
                "mountAs": "file",
                "direct": {"existingSecret": name, "secretKey": name},
                "tls": tls,
            },
            "serviceAccount": {"name": name},
            "networkPolicy": {"enabled": True},
            "waitForHead": {"database": {"existingSecret": name, "secretKey": name}},
            "priorityClassName": name,
            "runtimeClassName": name,
        }
    )


@pytest.mark.parametrize("name", LIKE_A_NUMBER)
def test_a_name_that_looks_like_a_number_stays_a_name(helm: Helm, chart_as_read: Path, name: str) -> None:
    objects = read(helm, chart_as_read, names_of_text(name))
    pod = objects["Job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}
    assert env["MIGRATOR_DIRECT_DATABASE_URL"] == {"secretKeyRef": {"name": name, "key": name}}
    assert env["PGSSLCERT"] == f"/etc/migrator/tls/{name}"
    assert container["args"] == ["upgrade", name]
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert volumes["migrator-database"]["secret"]["secretName"] == name
    assert volumes["migrator-database"]["secret"]["items"] == [{"key": name, "path": "url"}]
    assert volumes["migrator-tls"]["secret"]["secretName"] == name
    assert pod["serviceAccountName"] == pod["priorityClassName"] == pod["runtimeClassName"] == name
    assert objects["ServiceAccount"]["metadata"]["name"] == name
    waits = {one["name"]: one for one in objects["Wait"]["volumes"]}
    assert waits["migrator-database"]["secret"]["items"] == [{"key": name, "path": "url"}]


@pytest.mark.parametrize("mode", ["helm", "job"])
@pytest.mark.parametrize("name", ["123", "1e3", "0x1f", "012"])
def test_an_object_called_like_a_number_has_a_text_for_a_name(
    helm: Helm, chart_as_read: Path, name: str, mode: str
) -> None:
    values = usual({"mode": mode, "fullnameOverride": name, "networkPolicy": {"enabled": True}})
    objects = read(helm, chart_as_read, values)
    assert objects["Job"]["metadata"]["name"].split("-")[0] == name
    assert objects["NetworkPolicy"]["metadata"]["name"] == name
    assert objects["Pod"]["metadata"]["name"] == f"{name}-test"
    named = read(helm, chart_as_read, usual({"nameOverride": name}), release=name)
    labels = named["Job"]["metadata"]["labels"]
    assert (labels["app.kubernetes.io/name"], labels["app.kubernetes.io/instance"]) == (name, name)


def test_an_annotation_a_label_and_a_variable_stay_text(helm: Helm, chart_as_read: Path) -> None:
    texts = {f"a{number}": text for number, text in enumerate(LIKE_SOMETHING)}
    values = usual(
        {
            "podAnnotations": texts,
            "jobAnnotations": texts,
            "podLabels": texts,
            "nodeSelector": texts,
            "serviceAccount": {"annotations": texts},
            "extraEnv": [{"name": name, "value": text} for name, text in texts.items()],
            "settings": {"x": "1e3", "name": "012", "config": "0x1f"},
        }
    )
    objects = read(helm, chart_as_read, values)
    template = objects["Job"]["spec"]["template"]
    found = [one["metadata"]["annotations"] for one in (objects["Job"], template, objects["ServiceAccount"])]
    found += [template["metadata"]["labels"], template["spec"]["nodeSelector"]]
    env = {one["name"]: one.get("value") for one in template["spec"]["containers"][0]["env"]}
    assert [each | texts for each in [*found, env]] == [*found, env]
    assert [env[f"MIGRATOR_{name}"] for name in ("X", "NAME", "CONFIG")] == ["1e3", "012", "0x1f"]


def test_a_name_that_is_cut_ends_with_a_letter_or_a_digit(one_helm: Helm) -> None:
    release = "a" * 50 + ".b"
    assert one_helm.template(release=release).job["metadata"]["name"] == "a" * 50 + ".b"
    longer = "a" * 51 + ".b"
    assert one_helm.template(release=longer).job["metadata"]["name"] == "a" * 51


DURATIONS = ["210", "1.5", ".5", "500ms", "90s", "3m", "3m30s", "1m 30s", "1h", "1h0.5m", "0.5 m", "1s1ms"]
NO_DURATIONS = ["30s1m", "1m1m", "1.2.3", "..", "ms5", "5 5", "2d", "-1s", "1e3", "s", "0ms"]


@pytest.mark.parametrize("text", DURATIONS)
def test_a_deadline_lasts_in_the_chart_as_long_as_in_the_tool(one_helm: Helm, text: str) -> None:
    whole_seconds = -int(-parse_duration(text) // 1)
    fits = {"mode": "job", "settings": {"deadline": text}, "activeDeadlineSeconds": whole_seconds + 30}
    assert one_helm.template(usual(fits)).env["MIGRATOR_DEADLINE"] == text
    too_short = {**fits, "activeDeadlineSeconds": whole_seconds + 29}
    assert f"settings.deadline ({text}) + " in one_helm.template(usual(too_short)).stderr


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_what_is_no_duration_for_the_tool_is_none_for_the_chart(one_helm: Helm, text: str) -> None:
    with contextlib.suppress(UnacceptableValue):
        assert parse_duration(text) == 0
    refused = one_helm.template(usual({"settings": {"deadline": text}}))
    assert refused.returncode != 0
    assert "deadline" in refused.stderr


def test_a_volume_called_tmp_takes_the_place_of_the_charts(helm: Helm) -> None:
    own = {"name": "tmp", "emptyDir": {"medium": "Memory"}}
    rendered = helm.template(usual({"extraVolumes": [own]}))
    assert rendered.pod["volumes"] == [own]
    assert rendered.container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


@pytest.mark.parametrize("path", ["/tmp", "/tmp/"])
def test_a_mount_at_tmp_takes_the_place_of_the_charts(helm: Helm, path: str) -> None:
    mount = {"name": "scratch", "mountPath": path}
    values = {"extraVolumes": [{"name": "scratch", "emptyDir": {}}], "extraVolumeMounts": [mount]}
    assert helm.template(usual(values)).container["volumeMounts"] == [mount]


def test_the_volume_and_the_mount_that_every_other_chart_wants_are_taken(helm: Helm) -> None:
    volume, mount = {"name": "tmp", "emptyDir": {}}, {"name": "tmp", "mountPath": "/tmp"}
    rendered = helm.template(usual({"extraVolumes": [volume], "extraVolumeMounts": [mount]}))
    assert rendered.pod["volumes"] == [volume]
    assert rendered.container["volumeMounts"] == [mount]
