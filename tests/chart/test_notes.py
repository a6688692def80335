"""What Helm prints after an install, and again whenever it is asked for the notes of a release."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import ExitCode
from tests.chart.generate import GUIDE, README
from tests.chart.rendering import CHART, Helm, usual

pytestmark = pytest.mark.chart


@pytest.fixture(scope="module")
def chart_of_notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with its notes as a ConfigMap: without a cluster, Helm shows them in no other way."""
    chart = tmp_path_factory.mktemp("notes") / "migrator"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "NOTES.txt").rename(chart / "files" / "NOTES.txt")
    template = '{kind: ConfigMap, data: {notes: {{ tpl (.Files.Get "files/NOTES.txt") . | toJson }}}}'
    (chart / "templates" / "notes.yaml").write_text(template)
    return chart


@pytest.mark.parametrize("mode", ["helm", "argocd", "job"])
def test_the_notes_say_how_to_read_the_log_and_what_each_exit_code_asks_for(
    helm: Helm, chart_of_notes: Path, mode: str
) -> None:
    notes = helm.template(usual({"mode": mode}), chart=chart_of_notes).only("ConfigMap")["data"]["notes"]
    assert "kubectl --namespace shop logs" in notes
    for code in ExitCode:
        asks_for = "tried again" if code.retry_may_help else "a person looks" if code else "done"
        assert f"{int(code):>5}  {asks_for:<14}  {code.meaning}" in notes


def test_the_notes_of_a_hook_say_what_does_not_exist_yet(helm: Helm, chart_of_notes: Path) -> None:
    notes = helm.template(chart=chart_of_notes).only("ConfigMap")["data"]["notes"]
    assert "does not exist yet when a hook runs" in notes


ROLLBACKS = {
    "helm": ({"mode": "helm"}, "runs no migrations: the Job above stays that of the last install or upgrade"),
    "helm, hook": ({"helm": {"onRollback": True}}, "runs its hook first, which ends with exit 23 if"),
    "job": ({"mode": "job"}, "makes its Job anew, which ends with exit 23 if the database is newer"),
    "job, ahead": (
        {"mode": "job", "settings": {"allow-ahead": True}},
        "which accepts that, as settings.allow-ahead",
    ),
    "argocd": ({"mode": "argocd"}, "The sync of an older image runs its hook, which ends with exit 23."),
}
"""What Helm shows of a release again after a rollback to it: it was written when that was installed."""


@pytest.mark.parametrize(("values", "told"), ROLLBACKS.values(), ids=ROLLBACKS.keys())
def test_the_notes_are_true_after_a_rollback(
    one_helm: Helm, chart_of_notes: Path, values: dict[str, Any], told: str
) -> None:
    notes = one_helm.template(usual(values), chart=chart_of_notes).only("ConfigMap")["data"]["notes"]
    assert "A rollback undoes no migration: the database stays where the newest image brought it." in notes
    assert told in notes
    assert "ran " not in notes


@pytest.mark.parametrize("page", [GUIDE, README], ids=["guide", "readme"])
def test_the_line_that_the_pages_show_brings_the_notes_of_a_dependency(
    one_helm: Helm, tmp_path: Path, page: Path
) -> None:
    (line,) = [line for line in page.read_text().splitlines() if 'include "migrator.notes"' in line]
    parent = tmp_path / "shop"
    shutil.copytree(CHART, parent / "charts" / "migrator")
    (parent / "Chart.yaml").write_text("{apiVersion: v2, name: shop, version: 1.0.0}")
    (parent / "files").mkdir()
    (parent / "files" / "NOTES.txt").write_text(line)
    (parent / "templates").mkdir()
    (parent / "templates" / "notes.yaml").write_text(
        '{kind: ConfigMap, data: {notes: {{ tpl (.Files.Get "files/NOTES.txt") . | toJson }}}}'
    )
    notes = one_helm.template({"migrator": usual()}, chart=parent).only("ConfigMap")["data"]["notes"]
    assert "kubectl --namespace shop logs job/shop-migrator" in notes
