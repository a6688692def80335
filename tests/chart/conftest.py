"""Fixtures of the chart's tests: each version of Helm that is supported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chart.rendering import HELM_MAJORS, Helm


@pytest.fixture(params=HELM_MAJORS, ids=lambda major: f"helm{major}")
def helm(request: pytest.FixtureRequest, tmp_path: Path) -> Helm:
    """Each of the supported versions in turn."""
    return Helm(request.param, tmp_path)


@pytest.fixture
def one_helm(tmp_path: Path) -> Helm:
    """The newest of them, where the version cannot matter."""
    return Helm(HELM_MAJORS[-1], tmp_path)
