"""The cluster that images are promoted to: a namespace for each environment, an account with rights in them alone."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests import readme
from tests.cluster.helm import SECRET
from tests.cluster.kube import Namespace, kubectl
from tests.cluster.postgres import Postgres
from tests.harness import REPOSITORY, Database, Running, start
from tests.image.engine import run
from tests.pipeline import document
from tests.pipeline.act import WORKFLOWS, Run
from tests.pipeline.conftest import Registry
from tests.pipeline.shop import Shop

ACCOUNT = "promotion"
RELEASE = "shop-migrate"
CHART = REPOSITORY / "helm" / "migrator"
VALUES_FILE = "deploy/values-{environment}.yaml"
VALUES = {"database": {"existingSecret": SECRET}}


def role() -> dict[str, Any]:
    """The Role of docs/pipeline.md."""
    text = readme.unfenced(readme.written_blocks(document.DOCUMENT)["role"], "yaml")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@dataclass(frozen=True)
class Place:
    """Where an environment's migrations run.

    :ivar kubeconfig: of an account with the documented Role here and in the places beside it, on one line.
    """

    namespace: Namespace
    database: Database
    kubeconfig: str

    def pods(self, container: str) -> list[dict[str, Any]]:
        """The pods with a container of that name, in the order of their making."""
        found = json.loads(self.namespace.kubectl("get", "pods", "--output", "json").stdout)["items"]
        wanted = [pod for pod in found if pod["spec"]["containers"][0]["name"] == container]
        return sorted(wanted, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def images(self) -> set[str]:
        """What its pods really ran, as the cluster resolved it: ``NAME@DIGEST``."""
        pods = [*self.pods("migrate"), *self.pods("status")]
        return {pod["status"]["containerStatuses"][0]["imageID"] for pod in pods}

    def release_status(self, helm: str) -> str:
        """``deployed``, ``failed``, ``pending-install`` and so on; empty where there is no release."""
        asked = ("--namespace", self.namespace.name, "status", RELEASE, "--output", "json")
        told = run(helm, *asked, check=False)
        return str(json.loads(told.stdout)["info"]["status"]) if told.returncode == 0 else ""


@contextmanager
def places(postgres: Postgres, databases: Mapping[str, Database]) -> Iterator[dict[str, Place]]:
    """A namespace for each environment, called ``PREFIX-ENVIRONMENT``."""
    prefix = f"migrator-test-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        made = {}
        for environment, database in databases.items():
            namespace = stack.enter_context(Namespace.made(f"{prefix}-{environment}"))
            namespace.secret(SECRET, url=postgres.inside(database))
            made[environment] = namespace
        kubeconfig = account(list(made.values()))
        yield {name: Place(one, databases[name], kubeconfig) for name, one in made.items()}


def account(namespaces: Sequence[Namespace]) -> str:
    """Make an account with the documented Role in these namespaces; its kubeconfig."""
    home = namespaces[0]
    home.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}})
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": home.name}
    for namespace in namespaces:
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": ACCOUNT},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": role()["metadata"]["name"],
            },
            "subjects": [subject],
        }
        namespace.apply(role(), binding)
    token = home.kubectl("create", "token", ACCOUNT, "--duration=1h").stdout.strip()
    whole = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "--output", "json").stdout)
    (user,) = whole["users"]
    user["user"] = {"token": token}
    return json.dumps(whole)


@contextmanager
def pulled_from(host: str) -> Iterator[None]:
    """Make a registry of this machine known to the cluster's nodes, as containerd reads it (hosts.toml)."""
    folder = os.environ.get("TEST_CLUSTER_REGISTRIES") or str(
        Path(os.environ["KUBECONFIG"]).parent / "registries"
    )
    if not Path(folder).is_dir():  # then they pull from localhost by themselves, or a test says what they say
        yield
        return
    own = Path(folder) / host
    own.mkdir()
    (own / "hosts.toml").write_text(f'server = "http://{host}"\n')
    try:
        yield
    finally:
        (own / "hosts.toml").unlink()
        own.rmdir()


# One step of promote-environment.yml by itself, as a runner starts it


def start_step(name: str, place: Place, scratch: Path, checkout: Path, **env: str) -> Running:
    """Start a step in a checkout, after those before it."""
    jobs = yaml.safe_load((WORKFLOWS / "workflows" / "promote-environment.yml").read_text())["jobs"]
    (step,) = [one for one in jobs["migrate"]["steps"] if one.get("name") == name]
    script = scratch / "step.sh"
    script.write_text(step["run"])
    (scratch / "kubeconfig").write_text(place.kubeconfig)
    options = ("--set-string", f"image.repository={env['NAME']},image.digest={env['DIGEST']}")
    options += (
        "--values",
        env["VALUES"].replace("{environment}", env["ENVIRONMENT"]),
        "--wait",
        "--wait-for-jobs",
    )
    (scratch / "helm-options").write_text("".join(f"{option}\n" for option in options))
    files = {"GITHUB_OUTPUT": scratch / "output", "GITHUB_STEP_SUMMARY": scratch / "summary.md"}
    given = {
        "RUNNER_TEMP": str(scratch),
        "KUBECONFIG": str(scratch / "kubeconfig"),
        "NAMESPACE": place.namespace.name,
        "RELEASE": RELEASE,
        **{name: str(path) for name, path in files.items()},
        **env,
    }
    missing = set(step["env"]) - set(given)
    assert not missing, f"{name} needs {missing}"
    command = ("bash", "--noprofile", "--norc", "-eo", "pipefail", str(script))
    return start(*command, env=given, cwd=checkout)


@dataclass(frozen=True)
class Promoting:
    """The shop, each of whose environments is a namespace with a database.

    :ivar helm: the program, of whatever version.
    """

    shop: Shop
    places: dict[str, Place]
    helm: str
    bin: Path

    def promote(self, workflow: str, **more: Any) -> Run:
        """Run a workflow of the shop with access to the cluster, and with no database's URL."""
        nothing = {f"{name.upper()}_{kind}DATABASE_URL": "" for name in self.places for kind in ("", "PLAN_")}
        given = {**nothing, "KUBECONFIG": next(iter(self.places.values())).kubeconfig}
        path = {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}
        return self.shop.promote(workflow, secrets=given, env=path, **more)

    def upgrade(self, place: Place, digest: str) -> tuple[str, ...]:
        """The command of an upgrade by hand."""
        image = f"image.repository={self.shop.name},image.digest={digest},database.existingSecret={SECRET}"
        options = ("--namespace", place.namespace.name, "--set-string", image)
        return (self.helm, "upgrade", "--install", RELEASE, str(CHART), *options)

    def step(self, name: str, place: Place, digest: str, scratch: Path, **env: str) -> Running:
        """Start a step of the job migrate by itself; unless told otherwise, with the chart of this tree."""
        usual = {"NAME": self.shop.name, "DIGEST": digest, "ENVIRONMENT": "dev", "CHART": str(CHART)}
        given = {"KEYS": "image", "VALUES": VALUES_FILE, "TIMEOUT": "5m", "CONFIGURATION": place.kubeconfig}
        path = {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}
        return start_step(name, place, scratch, self.shop.caller.path, **(usual | given | path | env))

    def promote_this(self, digest: str, environment: str = "dev") -> Run:
        """Promote what is there, as a person does: to one environment, with the chart of the repository."""
        place = self.places[environment]
        chosen = {"image": f"{self.shop.name}@{digest}", "environments": environment, "helm-chart": "chart"}
        more = {"helm-release": RELEASE, "helm-namespace": place.namespace.name, "helm-values": VALUES_FILE}
        return self.promote("dispatched.yml", event="workflow_dispatch", inputs=chosen | more)


def chart_in(registry: Registry, helm: str, scratch: Path) -> str:
    """Push the chart; as ``oci://NAME@DIGEST``."""
    run(helm, "package", str(CHART), "--destination", str(scratch))
    (package,) = scratch.glob("migrator-*.tgz")
    run(helm, "push", "--plain-http", str(package), f"oci://{registry.host}/charts")
    name, version = f"{registry.host}/charts/migrator", package.stem.removeprefix("migrator-")
    return f"oci://{name}@{registry.digest(f'{name}:{version}')}"
