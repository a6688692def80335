"""The chart as Helm renders it: each version of Helm as a real process, its output as objects."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import harness

CHART = harness.REPOSITORY / "helm" / "migrator"
WAYS = sorted((CHART / "ci").glob("*-values.yaml"))
"""One values file for each supported way of use."""

DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER_DIGEST = "sha256:" + "fedcba9876543210" * 4
USUAL: Mapping[str, Any] = {
    "image": {"repository": "registry.example.com/shop", "digest": DIGEST},
    "database": {"existingSecret": "shop-database"},
}
"""The fewest values that render."""

HELM_MAJORS = ("3", "4")
_NAMES = ("helm", "helm3", "helm4")


def tool(name: str, where_from: str = "") -> str:
    """The path of a program; without it the test is skipped, which CI takes for a failure."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed{where_from and f' ({where_from})'}")
    return found


@functools.cache
def _helms() -> dict[str, str]:
    """The installed Helm of each major version, by that version."""
    found: dict[str, str] = {}
    for path in filter(None, map(shutil.which, _NAMES)):
        version = subprocess.run([path, "version", "--short"], capture_output=True, text=True, check=True)
        found.setdefault(version.stdout.lstrip("v").partition(".")[0], path)
    return found


@dataclass(frozen=True)
class Rendered:
    """What ``helm template`` said."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The objects in their order. Fails the test where there are none for an error."""
        assert self.returncode == 0, self.stderr
        return [one for one in yaml.load_all(self.stdout, yaml.CSafeLoader) if one]

    def only(self, kind: str) -> dict[str, Any]:
        """The one object of a kind."""
        found = [one for one in self.objects if one["kind"] == kind]
        assert len(found) == 1, [one["kind"] for one in self.objects]
        return found[0]

    @property
    def job(self) -> dict[str, Any]:
        return self.only("Job")

    @property
    def pod(self) -> dict[str, Any]:
        """The spec of the Job's pod."""
        return self.job["spec"]["template"]["spec"]

    @property
    def container(self) -> dict[str, Any]:
        """The Job's own container."""
        (found,) = self.pod["containers"]
        return found

    @property
    def env(self) -> dict[str, Any]:
        """Its variables: a value, or where it comes from."""
        return {one["name"]: one.get("value", one.get("valueFrom")) for one in self.container.get("env", [])}


class Helm:
    """One version of Helm."""

    def __init__(self, major: str, scratch: Path) -> None:
        if major not in _helms():
            pytest.skip(f"Helm {major} is not installed (looked for {', '.join(_NAMES)})")
        self.path = _helms()[major]
        self._home = scratch
        self._number = 0

    def run(self, *arguments: str | Path) -> Rendered:
        """Run it, without the settings and the cluster of whoever runs the tests."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self._home), "HELM_CACHE_HOME": str(self._home)}
        done = subprocess.run(
            [self.path, *map(str, arguments)], capture_output=True, text=True, env=env, check=False
        )
        return Rendered(done.returncode, done.stdout, done.stderr)

    def template(
        self,
        values: Mapping[str, Any] | Path = USUAL,
        *arguments: str,
        chart: Path = CHART,
        release: str = "shop",
    ) -> Rendered:
        """Render the chart; values in full, or a file of them."""
        return self.run(
            "template", release, chart, "--namespace", "shop", "--values", self.file(values), *arguments
        )

    def file(self, values: Mapping[str, Any] | Path) -> Path:
        """The values as a file."""
        if isinstance(values, Path):
            return values
        self._number += 1
        file = self._home / f"values{self._number}.yaml"
        # Which is YAML: Python's writer of that leaves text like 1e3 unquoted, and Helm reads a number.
        file.write_text(json.dumps(dict(values)))
        return file


def usual(*changes: Mapping[str, Any]) -> dict[str, Any]:
    """The usual values with changes: maps are joined, everything else replaced."""
    return functools.reduce(_joined, changes, dict(USUAL))


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(one)
    for key, value in other.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _joined(result[key], value) if both else value
    return result


def way_names(ways: Sequence[Path] = WAYS) -> list[str]:
    """For the names of tests: ``argocd``, ``helm-hook``."""
    return [way.name.removesuffix("-values.yaml") for way in ways]
