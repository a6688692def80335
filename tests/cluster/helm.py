"""Releases of the chart, by the command ``helm``."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chart.rendering import CHART, usual
from tests.cluster import shop
from tests.cluster.kube import Namespace
from tests.harness import REPOSITORY, Completed, Running, start
from tests.image.engine import run

SECRET = "shop-database"
PATIENT = {"settings": {"lock-timeout": "10m"}}
"""A migration that waits for a table as long as it is told to: a slow one."""


def image(tag: str) -> dict[str, Any]:
    """The values of a release's image. A cluster without a registry knows images by tag alone."""
    return {"image": {"repository": shop.REPOSITORY, "tag": tag, "digest": "", "allowTag": True}}


@dataclass(frozen=True)
class Release:
    """A Helm release of the chart in a namespace, with the Secret ``shop-database``.

    :ivar helm: the program, of whatever version.
    :ivar below: the key of the values, where the chart is a dependency of ``chart``.
    """

    namespace: Namespace
    helm: str
    scratch: Path
    name: str = "shop"
    chart: Path = CHART
    below: str = ""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def job(self) -> str:
        """The Job's name in the modes ``helm`` and ``argocd``."""
        return f"{self.name}-migrator"

    def run(self, *args: str, check: bool = True) -> Completed:
        """``helm ARGS`` in the namespace."""
        return run(self.helm, "--namespace", self.namespace.name, *args, check=check)

    def upgrade(
        self, tag: str, *changes: Mapping[str, Any], options: Sequence[str] = (), check: bool = True
    ) -> Completed:
        """``helm upgrade --install`` of a release of the application."""
        return self.run(*self._upgrade(tag, changes), *options, check=check)

    def start_upgrade(self, tag: str, *changes: Mapping[str, Any], options: Sequence[str] = ()) -> Running:
        """The same in the background."""
        command = (self.helm, "--namespace", self.namespace.name, *self._upgrade(tag, changes), *options)
        return start(*command, env=os.environ, cwd=REPOSITORY)

    def values(self, tag: str, *changes: Mapping[str, Any]) -> Path:
        """A file of values."""
        file = self.scratch / f"{self.name}{next(self._numbers)}.json"
        given = usual(image(tag), *changes)
        file.write_text(json.dumps({self.below: given} if self.below else given))
        return file

    @property
    def status(self) -> str:
        """``deployed``, ``failed`` and so on."""
        return str(json.loads(self.run("status", self.name, "--output", "json").stdout)["info"]["status"])

    def _upgrade(self, tag: str, changes: tuple[Mapping[str, Any], ...]) -> tuple[str, ...]:
        values = str(self.values(tag, *changes))
        return ("upgrade", "--install", self.name, str(self.chart), "--values", values, "--timeout", "300s")
