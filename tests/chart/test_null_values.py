"""Null, which Helm takes for "take this value and its default away": for each value of the chart."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart import generate
from tests.chart.rendering import CHART, Helm, Rendered, usual

pytestmark = pytest.mark.chart

VALUES = {".".join(value.path): value for value in generate.values()}
EMPTY = [name for name, value in VALUES.items() if value.empty is not None]
REFUSED = [name for name, value in VALUES.items() if value.empty is None and value.default is not None]
BUSY = {"networkPolicy": {"enabled": True}, "waitForHead": {"database": {"existingSecret": "reader"}}}
"""So that more of the values are read."""


def below(path: tuple[str, ...], given: object) -> dict[str, Any]:
    """Nested maps with one thing in them."""
    for name in reversed(path):
        given = {name: given}
    assert isinstance(given, dict)
    return given


def reason(refused: Rendered) -> str:
    """What the chart said, without where its templates say so."""
    return re.sub(r"execution error at \(\S+\): ", "", refused.stderr)


@pytest.mark.parametrize("name", EMPTY)
def test_null_is_empty(helm: Helm, name: str) -> None:
    value = VALUES[name]
    null, empty = (helm.template(usual(BUSY, below(value.path, each))) for each in (None, value.empty))
    assert (null.returncode, reason(null)) == (empty.returncode, reason(empty))
    # A map that is merely empty keeps its default below it.
    if not (isinstance(value.empty, dict) and value.default):
        assert null.stdout == empty.stdout


@pytest.mark.parametrize("name", REFUSED)
def test_null_is_refused_where_nothing_is_no_answer(helm: Helm, name: str) -> None:
    refused = helm.template(usual(BUSY, below(VALUES[name].path, None)))
    assert refused.returncode != 0
    assert f"Error: {name} is null: leave it out for the default" in reason(refused)


def test_null_is_the_default_of_a_time_that_is_off_by_default(helm: Helm) -> None:
    assert [name for name, value in VALUES.items() if value.default is None] == ["ttlSecondsAfterFinished"]
    rendered = helm.template(usual({"ttlSecondsAfterFinished": None}))
    assert rendered.objects == helm.template().objects


@pytest.mark.parametrize(
    "name", sorted({*generate.schema()["properties"]["settings"]["properties"]} - {"deadline"})
)
def test_a_setting_that_is_null_is_not_there(one_helm: Helm, name: str) -> None:
    rendered = one_helm.template(usual({"settings": {name: None}}))
    assert rendered.env == one_helm.template().env


def test_an_empty_map_is_one_that_takes_all_defaults_away(helm: Helm) -> None:
    rendered = helm.template(usual({"podAnnotations": None, "podLabels": None, "resources": None}))
    metadata = rendered.job["spec"]["template"]["metadata"]
    assert "annotations" not in metadata
    assert set(metadata["labels"]) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    assert rendered.container["resources"] == {}


def test_null_is_as_clear_below_a_parent(helm: Helm, tmp_path: Path) -> None:
    parent = tmp_path / "shop"
    shutil.copytree(CHART, parent / "charts" / "migrator")
    (parent / "Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": "shop", "version": "1.0.0"})
    )
    unclear = {}
    for name in REFUSED:
        given = helm.template({"migrator": usual(BUSY, below(VALUES[name].path, None))}, chart=parent)
        told = rf"{re.escape(name)} is null|/{name.replace('.', '/')}': got null, want "
        if given.returncode == 0 or not re.search(told, given.stderr):
            unclear[name] = given.stderr
    assert not unclear
    needed = ("image.repository", "image.digest", "database.existingSecret")
    empty = [below(VALUES[name].path, None) for name in EMPTY if name not in needed]
    assert helm.template({"migrator": usual(BUSY, *empty)}, chart=parent).job
