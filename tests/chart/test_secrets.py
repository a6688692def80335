"""What mode `helm` looks for in the cluster before it makes a hook. That it does is shown on one (tests/cluster)."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import CHART, Helm

pytestmark = pytest.mark.chart

FOUND: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "none": ({}, r"there is no Secret shop-database in the namespace shop: .* Make it first"),
    "one of this release": (
        {"metadata": {"annotations": {"meta.helm.sh/release-name": "shop"}}, "data": {"url": "eA=="}},
        r"the Secret shop-database belongs to this release: .* or set mode=job",
    ),
    "another key": (
        {"metadata": {}, "data": {"uri": "c2VjcmV0", "password": "c2VjcmV0"}},
        r"the Secret shop-database has no key url, which database\.secretKey names; it has: password, uri\. Set",
    ),
    "no key at all": ({"metadata": {}}, r"has no key url, .* it has: none\."),
    "that key": (
        {"metadata": {"annotations": {"meta.helm.sh/release-name": "other"}}, "data": {"url": "eA=="}},
        "",
    ),
    "that key in bytes": ({"metadata": {}, "binaryData": {"url": "eA=="}}, ""),
}
"""Secrets that Helm finds in a cluster, and what the chart says of them."""


@pytest.mark.parametrize(("found", "message"), FOUND.values(), ids=FOUND.keys())
def test_a_secret_is_looked_at_before_a_hook_needs_it(
    helm: Helm, tmp_path: Path, found: Mapping[str, Any], message: str
) -> None:
    chart = tmp_path / "migrator"
    shutil.copytree(CHART, chart)
    asked = (
        'dict "root" . "kind" "Secret" "name" "shop-database" "found" (.Files.Get "files/found.json" | fromJson) '
        '"keys" (dict "database.secretKey" "url" "database.tls.certKey" "")'
    )
    (chart / "files" / "found.json").write_text(json.dumps(found))
    (chart / "templates" / "found.yaml").write_text(f'{{{{ include "migrator.validateFound" ({asked}) }}}}')
    rendered = helm.template(chart=chart)
    assert bool(rendered.returncode) == bool(message), rendered.stderr
    assert re.search(message, rendered.stderr.replace("\n", " ")), rendered.stderr
    assert "c2VjcmV0" not in rendered.stderr
