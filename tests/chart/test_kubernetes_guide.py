"""What docs/kubernetes.md shows and names is what the chart has."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from migrator.report import termination
from tests import harness
from tests.chart import generate
from tests.chart.rendering import CHART, Helm

GUIDE = generate.GUIDE.read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```\n", GUIDE, re.DOTALL)
VALUES = [yaml.safe_load(block) for block in BLOCKS if block.startswith("# values of the chart\n")]


@pytest.mark.chart
@pytest.mark.parametrize("values", VALUES, ids="-".join)
def test_the_values_of_the_guide_render(one_helm: Helm, values: dict[str, Any]) -> None:
    assert one_helm.template(values).job


@pytest.mark.chart
def test_the_values_of_an_application_with_this_chart_below_it_render(one_helm: Helm, tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if block.startswith("# values.yaml of the application\n")]
    parent = tmp_path / "shop"
    shutil.copytree(CHART, parent / "charts" / "migrator")
    (parent / "Chart.yaml").write_text("{apiVersion: v2, name: shop, version: 1.0.0}\n")
    values = yaml.safe_load(block)
    assert one_helm.template(values, chart=parent).job
    assert not set(values) & {value.path[0] for value in generate.values()}


@pytest.mark.chart
def test_the_guide_lints_with_values(one_helm: Helm, tmp_path: Path) -> None:
    (command,) = re.findall(r"^\$ helm (lint .*)$", GUIDE, re.MULTILINE)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(VALUES[-1]))
    command = command.partition("#")[0]
    given = {"helm/migrator": CHART, "values.yaml": tmp_path / "values.yaml"}
    linted = one_helm.run(*(given.get(word, word) for word in command.split()))
    assert linted.returncode == 0, linted.stdout + linted.stderr


def dockerfile(document: Path) -> list[str]:
    """The first Dockerfile that a document shows, without its first line: where the tool's image is differs."""
    shown = re.search(r"```dockerfile\nFROM \S*migrator\S*\n(.*?)```", document.read_text(), re.DOTALL)
    assert shown
    return shown[1].splitlines()


def test_every_page_makes_an_applications_image_in_one_way() -> None:
    docs = harness.REPOSITORY / "docs"
    usual = dockerfile(docs / "docker.md")
    assert dockerfile(docs / "kubernetes.md") == usual
    for example in (harness.REPOSITORY / "examples").glob("*/Dockerfile"):
        lines = example.read_text().splitlines()
        assert [line for line in lines if line in usual] == usual, example


@pytest.mark.chart
def test_the_ten_lines_of_plain_yaml_are_the_init_container_of_the_template(
    helm: Helm, tmp_path: Path
) -> None:
    (block,) = [block for block in BLOCKS if "name: wait-for-migrations" in block]
    lines = block.splitlines()
    assert len(lines) <= 11
    chart = tmp_path / "migrator"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "wait.yaml").write_text(
        'kind: Wait\nmetadata: {name: wait}\ninitContainers: {{ include "migrator.waitForHead" . | nindent 2 }}\n'
    )
    ((rendered,), (plain,)) = (
        one["initContainers"] for one in (helm.template(chart=chart).only("Wait"), yaml.safe_load(block))
    )
    defaults_of_kubernetes = {
        "imagePullPolicy": "IfNotPresent",
        "terminationMessagePath": "/dev/termination-log",
    }
    assert {**defaults_of_kubernetes, **plain} == rendered


def test_every_value_that_the_guide_names_exists() -> None:
    known = {".".join(value.path): value for value in generate.values()}
    settings = generate.schema()["properties"]["settings"]["properties"]
    roots = {name.partition(".")[0] for name in known if "." in name}
    named = set(re.findall(rf"`((?:{'|'.join(sorted(roots))})\.[\w.-]+?)(?:=\S+?)?`", GUIDE))
    assert len(named) > 15
    missing = {name for name in named if name not in known and name.removeprefix("settings.") not in settings}
    assert not {name for name in missing if name.partition(".")[0] not in ("podSecurityContext",)}


def test_the_defaults_in_the_table_of_limits_are_the_defaults() -> None:
    from migrator.durations import format_duration
    from migrator.settings import Settings

    defaults = {".".join(value.path): value.default for value in generate.values()}
    rows = re.findall(r"^\| [^|]+ \| `([\w.-]+)`[^|]* \| ([^|]+) \|", GUIDE, re.MULTILINE)
    assert len(rows) == 9
    for name, shown in rows:
        setting = name.removeprefix("settings.").replace("-", "_")
        seconds = defaults.get(name)
        expected = f"{seconds} s" if seconds else format_duration(Settings.model_fields[setting].default)
        assert shown.strip() == expected, name


def test_what_an_older_image_says_of_a_newer_database_is_what_it_says(tmp_path: Path) -> None:
    project = harness.write_project(
        tmp_path / "shop", None, revisions=harness.table_revisions("8f2e1a", "9a0c12")
    )
    project.variables["MIGRATOR_DATABASE_URL"] = f"sqlite:///{tmp_path}/shop.db"
    project.migrator("upgrade", check=True)
    next(project.versions.glob("9a0c12*")).unlink()
    waited = project.migrator("wait", "--for", "head", "--json")
    assert waited.returncode == 23, waited.output
    shown = re.search(r"<!-- ahead -->\s+```json\n\s*(.*?)\n", GUIDE)
    assert shown
    assert json.loads(shown[1]) == json.loads(termination.message(waited.json))
