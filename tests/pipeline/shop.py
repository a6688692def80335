"""The application of these tests: an Alembic project, its image, and the workflows of a few lines that promote it."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests import harness
from tests.harness import (
    NO_VARIABLES,
    Database,
    Project,
    Revision,
    table_revision,
    write_project,
)
from tests.pipeline import document
from tests.pipeline.act import Caller, Run, run
from tests.pipeline.conftest import Keys, Registry

DOCKERFILE = """\
FROM migrator:runner
COPY alembic.ini /app/
COPY migrations /app/migrations
RUN ["migrator", "check", "--offline"]
"""
ENVIRONMENTS = ("dev", "test", "prod")
CUSTOMERS, ORDERS = "3c9e51", "7d1f08"
REVISIONS = (table_revision(CUSTOMERS, None, "customers"), table_revision(ORDERS, CUSTOMERS, "orders"))
_PERMISSIONS = "{contents: read, packages: write, id-token: write, attestations: write}"
# The engine's own builder makes no attestations.
_HERE = """\
    with:
      builder: default
      attestations: false
"""
_WITH_A_KEY = """\
      signature: cosign
      cosign-public-key: ${{ vars.COSIGN_PUBLIC_KEY }}
"""


def as_documented(name: str) -> str:
    """A workflow of docs/pipeline.md with what the tests' surroundings need, and nothing else."""
    text = document.workflow(name).replace(document.NAME, "${{ vars.IMAGE }}").replace("    with:\n", _HERE)
    # act knows no secrets of an environment.
    text = (
        text.replace("      name:", "      shared-database: true\n      name:")
        if name == "with-environments"
        else text
    )
    text = text.replace("on:\n  push:\n    branches: [main]\n", "on: [push, pull_request]\n")
    return text if "signature: cosign" in text else text.replace("    secrets:", f"{_WITH_A_KEY}    secrets:")


DISPATCHED = f"""\
name: promote this
on:
  workflow_dispatch:
    inputs:
      name: {{type: string}}
      image: {{type: string}}
      environments: {{type: string, default: prod}}
      after: {{type: string}}
      context: {{type: string, default: .}}
      signature: {{type: string, default: cosign}}
      signer: {{type: string}}
      ref: {{type: string}}
      settings: {{type: string}}
      image-environment: {{type: string}}
      environment-runner: {{type: string}}
      helm-chart: {{type: string}}
      helm-release: {{type: string}}
      helm-namespace: {{type: string, default: default}}
      helm-values: {{type: string}}
permissions: {{}}
jobs:
  promote:
    permissions: {_PERMISSIONS}
    uses: ./.github/workflows/promote.yml
    with:
      name: ${{{{ inputs.name }}}}
      image: ${{{{ inputs.image }}}}
      environments: ${{{{ inputs.environments }}}}
      after: ${{{{ inputs.after }}}}
      context: ${{{{ inputs.context }}}}
      signature: ${{{{ inputs.signature }}}}
      signer: ${{{{ inputs.signer }}}}
      ref: ${{{{ inputs.ref }}}}
      settings: ${{{{ inputs.settings }}}}
      image-environment: ${{{{ inputs.image-environment }}}}
      environment-runner: ${{{{ inputs.environment-runner }}}}
      helm-chart: ${{{{ inputs.helm-chart }}}}
      helm-release: ${{{{ inputs.helm-release }}}}
      helm-namespace: ${{{{ inputs.helm-namespace }}}}
      helm-values: ${{{{ inputs.helm-values }}}}
      cosign-public-key: ${{{{ vars.COSIGN_PUBLIC_KEY }}}}
    secrets: inherit
"""
"""What is there already, by its digest."""
ONE_ENVIRONMENT = f"""\
name: one environment
on: push
permissions: {{}}
jobs:
  promote:
    permissions: {_PERMISSIONS}
    uses: ./.github/workflows/promote-environment.yml
    with:
      environment: prod
      signature: cosign
"""
"""As promote.yml calls it; what else it is given stands behind it."""


@dataclass
class Shop:
    """The repository of an application, its three databases, and its image in the registry."""

    caller: Caller
    registry: Registry
    keys: Keys
    databases: dict[str, Database]
    name: str = field(default_factory=lambda: f"shop-{secrets.token_hex(4)}/migrate")

    def __post_init__(self) -> None:
        self.name = f"{self.registry.host}/{self.name}"
        self.project: Project = write_project(self.caller.path, None, revisions=REVISIONS)
        self.caller.write("Dockerfile", DOCKERFILE)
        self.caller.write(".dockerignore", ".git\n.github\n")
        for name in ("one-by-one", "by-hand", "with-environments"):
            self.caller.write(f".github/workflows/{name}.yml", as_documented(name))
        self.caller.write(".github/workflows/dispatched.yml", DISPATCHED)
        self.caller.commit("the shop")

    def add(self, *revisions: Revision) -> None:
        """Add revisions and commit them."""
        self.project.add(*revisions)
        self.caller.commit("a migration")

    def promote(
        self,
        workflow: str = "one-by-one.yml",
        *,
        event: str = "push",
        secrets: Mapping[str, str] = NO_VARIABLES,
        variables: Mapping[str, str] = NO_VARIABLES,
        inputs: Mapping[str, str] = NO_VARIABLES,
        **more: Any,
    ) -> Run:
        """Run a workflow of the shop; a secret or variable given as an empty text is not there."""
        given = {"COSIGN_PRIVATE_KEY": self.keys.private, "COSIGN_PASSWORD": self.keys.password}
        for environment, database in self.databases.items():
            given[f"{environment.upper()}_DATABASE_URL"] = database.url
            given[f"{environment.upper()}_PLAN_DATABASE_URL"] = database.url
        known = {"IMAGE": self.name, "COSIGN_PUBLIC_KEY": self.keys.public}
        return self.caller.act(
            workflow,
            event=event,
            secrets={name: value for name, value in {**given, **secrets}.items() if value},
            variables={name: value for name, value in {**known, **variables}.items() if value},
            inputs=inputs,
            **more,
        )

    def promote_this(self, inputs: Mapping[str, str], environment: str = "prod", **more: Any) -> Run:
        """Run the workflow that is dispatched by a person; the secrets are those of one environment."""
        url = self.databases[environment].url
        given = {"MIGRATOR_DATABASE_URL": url, "MIGRATOR_PLAN_DATABASE_URL": url, **more.pop("secrets", {})}
        return self.promote("dispatched.yml", event="workflow_dispatch", inputs=inputs, secrets=given, **more)

    # What a test puts into the registry itself, to be fast, or to be an attacker

    def publish(self, image: str) -> str:
        """Copy an index (``NAME@DIGEST``) to the shop's image, without signatures; its digest."""
        digest = image.partition("@")[2]
        self.registry.crane("copy", image, f"{self.name}:published")
        assert self.digest("published") == digest
        return digest

    def another(self, image: str) -> str:
        """Put an index into the shop's image that differs from the given one; its digest."""
        made = self.registry.another(image, self.name)
        return self.publish(made)

    def sign(self, digest: str, keys: Keys | None = None, *, name: str = "", commit: str = "") -> None:
        """What the workflow leaves behind when it has built a digest, under this name unless another is given."""
        definition = {
            "buildType": "urn:migrator:promote:1",
            "externalParameters": {"image": name or self.name},
            "resolvedDependencies": [{"digest": {"gitCommit": commit}}],
        }
        self._attest("slsaprovenance1", {"buildDefinition": definition, "runDetails": {}}, digest, keys)

    def record(self, digest: str, environment: str, keys: Keys | None = None, *, name: str = "") -> None:
        """What the workflow leaves behind when a digest has run in an environment."""
        record = {"environment": environment, "image": f"{name or self.name}@{digest}"}
        self._attest("urn:migrator:deployment:1", record, digest, keys)
        self.move(environment, digest)

    def _attest(self, kind: str, predicate: dict[str, Any], digest: str, keys: Keys | None) -> None:
        file = self.caller.home / f"{secrets.token_hex(4)}.json"
        file.write_text(json.dumps(predicate))
        self._cosign("attest", digest, keys or self.keys, "--type", kind, "--predicate", str(file))

    def move(self, tag: str, digest: str) -> None:
        """Move a tag, as anybody with the registry's password can."""
        self.registry.crane("tag", f"{self.name}@{digest}", tag)

    def _cosign(self, command: str, digest: str, keys: Keys, *more: str) -> None:
        home = self.caller.home
        config = home / "signing-config.json"
        if not config.exists():
            run("cosign", "signing-config", "create", "--out", str(config), cwd=home, home=home)
        env = {"COSIGN_PRIVATE_KEY": keys.private, "COSIGN_PASSWORD": keys.password}
        options = ("--yes", "--key", "env://COSIGN_PRIVATE_KEY", "--signing-config", str(config), *more)
        run("cosign", command, *options, f"{self.name}@{digest}", cwd=home, home=home, env=env)

    def predicates(self, digest: str, kind: str) -> list[dict[str, Any]]:
        """The attestations of that type on a digest which the shop's key has signed."""
        options = ("--key", "env://COSIGN_PUBLIC_KEY", "--insecure-ignore-tlog=true", "--type", kind)
        told = run(
            *("cosign", "verify-attestation", *options, f"{self.name}@{digest}"),
            cwd=self.caller.home,
            home=self.caller.home,
            env={"COSIGN_PUBLIC_KEY": self.keys.public},
        ).stdout
        payloads = [base64.b64decode(json.loads(line)["payload"]) for line in told.splitlines()]
        return [json.loads(payload)["predicate"] for payload in payloads]

    def digest(self, tag: str) -> str:
        """The digest that a tag of its image is at; empty where there is none."""
        return self.registry.digest(f"{self.name}:{tag}")

    def visits(self, environment: str) -> int:
        """How many sessions a database has seen, as its server counts them."""
        database = self.databases[environment]
        query = "SELECT sessions FROM pg_stat_database WHERE datname = %s"
        ((sessions,),) = harness.query(database.server.url, query, [database.name])
        return int(sessions)

    def revisions(self) -> dict[str, list[str]]:
        """Where each database stands."""
        return {environment: database.revisions for environment, database in self.databases.items()}
