"""GitLab's pipelines on this machine: gitlab-ci-local, from npm, runs the jobs of a .gitlab-ci.yml in its shell.

It knows ``needs``, dotenv reports, manual jobs, rules and variables of one environment. It does not know resource
groups, protected variables and environments, and nobody may be asked for an approval: GitLab does that.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.harness import Completed
from tests.pipeline.other_ci.shop import Shop
from tests.servers import binaries

NODE = "22.23.3"
NODES: Mapping[str, str] = {
    "x64": "sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==",
    "arm64": "sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==",
}
RUNNER = "4.75.1"
RUNNER_INTEGRITY = (
    "sha512-ArmGX576uKqTgs4PMCH3FNPED+JhxDLb2Ocb893+aY88RA2sx9gP6L7GvpuHQJkFJRvA5KSq9fD0yyRLaLEydw=="
)
PROJECT = "gitlab.example.com/example/shop.git"


def programs() -> tuple[Path, Path]:
    """Node, of a version that the runner wants, and the runner; fetched once.

    :raises ServerMissing: they are not here and cannot be fetched, which fails the test.
    """
    architecture = {"x86_64": "x64", "aarch64": "arm64"}[platform.machine()]
    name = f"gitlab-ci-local-{RUNNER}-node-{NODE}"
    with binaries.making(name) as new:
        if new is not None:
            for part, package, version, integrity in (
                ("node", f"node-linux-{architecture}", NODE, NODES[architecture]),
                ("runner", "gitlab-ci-local", RUNNER, RUNNER_INTEGRITY),
            ):
                binaries.npm_package(package, version, integrity, new)
                (new / "package").rename(new / part)
            (new / "node" / "bin" / "node").chmod(0o755)
    place = binaries.directory() / name
    return place / "node" / "bin" / "node", place / "runner" / "dist" / "index.js"


def set_variables(shop: Shop, environments: Sequence[str]) -> None:
    """The project's CI/CD variables, as GitLab's settings would have them: URLs for these environments alone."""
    registry = shop.name.partition("/")[0]
    everywhere: dict[str, object] = {
        name: value for name, value in shop.variables.items() if name.startswith("COSIGN_")
    }
    everywhere |= {
        "CI_REGISTRY": registry,
        "CI_REGISTRY_IMAGE": shop.name.removesuffix("/migrate"),
        "CI_REGISTRY_USER": shop.variables["REGISTRY_USER"],
        "CI_REGISTRY_PASSWORD": shop.variables["REGISTRY_PASSWORD"],
        "NETWORK": shop.variables["NETWORK"],
    }
    for variable, names in (
        ("MIGRATOR_DATABASE_URL", [name for name in environments if not name.endswith("-plan")]),
        ("MIGRATOR_PLAN_DATABASE_URL", [name for name in environments if name.endswith("-plan")]),
    ):
        if names:
            everywhere[variable] = {"type": "variable", "values": {name: shop.urls[name] for name in names}}
    file = shop.home / ".gitlab-ci-local" / "variables.yml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({"project": {PROJECT: everywhere}}))


def pipeline(shop: Shop, *args: str, manual: Sequence[str] = (), check: bool = True) -> Completed:
    """Run the pipeline of the checkout: all of its jobs, manual ones only if they are named."""
    node, runner = programs()
    approved = [word for job in manual for word in ("--manual", job)]
    surroundings = {"PATH": shop.variables["PATH"], "HOME": shop.variables["HOME"], "DOCKER_BUILDKIT": "1"}
    return shop.run_alone(str(node), str(runner), *approved, *args, env=surroundings, check=check)
