"""A cluster as its users drive it: by the command ``kubectl``; what comes is watched, not polled."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.harness import REPOSITORY, Completed, Running, start, wait_until
from tests.image.engine import run

RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
PATIENCE_SECONDS = 150
"""Longest wait for what takes a few seconds on an idle machine."""

# Templates of Go: kubectl's JSONPath with a range in it silently ends a watch at its second event.
CONDITIONS = '{{range .status.conditions}}{{.type}}={{.status}} {{.reason}}{{"\\n"}}{{end}}'
ENDS = (
    "{{range .status.containerStatuses}}{{with .state.terminated}}"
    '{{.exitCode}} {{.message}}{{"\\n"}}'
    "{{end}}{{end}}"
)


def kubectl(*args: str, check: bool = True, given: object = None, timeout: float = 120) -> Completed:
    """``kubectl ARGS``; ``given`` goes in as JSON."""
    text = None if given is None else json.dumps(given)
    return run("kubectl", *args, check=check, given=text, timeout=timeout)


@dataclass(frozen=True)
class Pod:
    """A pod as it was when it was asked for."""

    object: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def disrupted(self) -> bool:
        """Whether Kubernetes itself put an end to it, as by an eviction."""
        conditions = self.object["status"].get("conditions", [])
        return any(one["type"] == "DisruptionTarget" and one["status"] == "True" for one in conditions)

    @property
    def terminated(self) -> Mapping[str, Any]:
        """How its container ended: ``exitCode``, ``message``, ``finishedAt``; empty while it runs."""
        statuses = self.object["status"].get("containerStatuses", [])
        return statuses[0]["state"].get("terminated", {}) if statuses else {}

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.terminated.get("exitCode")

    @property
    def message(self) -> dict[str, Any]:
        """The termination message, parsed."""
        message: dict[str, Any] = json.loads(self.terminated["message"])
        return message


@dataclass(frozen=True)
class Ended:
    """A Job that has ended."""

    outcome: str
    """``Complete`` or ``Failed``."""
    reason: str
    pods: list[Pod]
    """Those that are still there, in the order of their making."""

    @property
    def exit_codes(self) -> list[int | None]:
        return [pod.exit_code for pod in self.pods]


@dataclass(frozen=True)
class Namespace:
    """A namespace in which only pods of the level "restricted" may be."""

    name: str

    @classmethod
    @contextmanager
    def made(cls, name: str = "") -> Iterator[Namespace]:
        """A new one, when pods may be made in it; at the end it is deleted with all that is in it."""
        new = cls(name or f"migrator-test-{secrets.token_hex(4)}")
        metadata = {"name": new.name, "labels": RESTRICTED}
        kubectl("create", "-f", "-", given={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        try:
            wait_until(lambda: new.has("serviceaccount", "default"), "the namespace has its service account")
            yield new
        finally:
            kubectl("delete", "namespace", new.name, "--wait=false", check=False)

    def kubectl(self, *args: str, **more: Any) -> Completed:
        """``kubectl --namespace NAME ARGS``."""
        return kubectl("--namespace", self.name, *args, **more)

    def start(self, *args: str) -> Running:
        """The same in the background."""
        return start("kubectl", "--namespace", self.name, *args, env=os.environ, cwd=REPOSITORY)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """``kubectl apply`` of these objects."""
        self.kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": list(objects)})

    def has(self, kind: str, name: str) -> bool:
        return self.kubectl("get", kind, name, check=False).returncode == 0

    def get(self, kind: str, name: str) -> Any:
        """One object."""
        return json.loads(self.kubectl("get", kind, name, "--output", "json").stdout)

    def names(self, kind: str) -> list[str]:
        """The names of all of a kind, sorted."""
        found = json.loads(self.kubectl("get", kind, "--output", "json").stdout)["items"]
        return sorted(one["metadata"]["name"] for one in found)

    def secret(self, name: str, **values: str) -> None:
        """A Secret."""
        self.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(values)}
        )

    def pods(self, job: str) -> list[Pod]:
        """The pods of a Job that are still there, in the order of their making."""
        selector = f"batch.kubernetes.io/job-name={job}"
        listed = self.kubectl("get", "pods", "--selector", selector, "--output", "json")
        found = json.loads(listed.stdout)["items"]
        return [Pod(one) for one in sorted(found, key=lambda one: one["metadata"]["creationTimestamp"])]

    def watch(self, kind: str, template: str, *selection: str) -> Running:
        """Lines of a template about objects that are, or will be, there; again whenever one changes."""
        return self.start("get", kind, *selection, "--watch", "--output", f"go-template={template}")

    def await_line(self, kind: str, template: str, pattern: str, *selection: str) -> re.Match[str]:
        """The first line of a watch in which the pattern is found."""
        watching = self.watch(kind, template, *selection)
        found = watching.wait_for_line(pattern, timeout=PATIENCE_SECONDS)
        watching.kill()
        return found

    def job_ended(self, name: str) -> Ended:
        """Wait for the end of a Job, which need not be there yet."""
        match = self.await_line(
            "jobs", CONDITIONS, r"^(Complete|Failed)=True (\w*)", "--field-selector", f"metadata.name={name}"
        )
        return Ended(match[1], match[2], self.pods(name))

    def watch_ends(self, job: str) -> Running:
        """A line ``CODE MESSAGE`` for each container of a Job that has ended, of deleted pods too."""
        return self.watch("pods", ENDS, "--selector", f"batch.kubernetes.io/job-name={job}")

    def evict(self, pod: str) -> None:
        """What ``kubectl drain`` does to a pod."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        where = f"/api/v1/namespaces/{self.name}/pods/{pod}/eviction"
        kubectl("create", "--raw", where, "-f", "-", given=eviction)

    def described(self) -> str:
        """What a person would look at first, for messages of tests that failed."""
        commands = [("get", "jobs,pods"), ("events",)]
        for pod in self.names("pods"):
            commands.append(("logs", pod, "--all-containers", "--prefix", "--tail=40"))
        parts = [self.kubectl(*command, check=False) for command in commands]
        return "\n".join(part.stdout + part.stderr for part in parts)
