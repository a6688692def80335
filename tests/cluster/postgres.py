"""A PostgreSQL in the cluster, under the level "restricted", and the tests' way to it."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from tests.cluster.kube import CONDITIONS, Namespace
from tests.harness import Database, Server, query, wait_until
from tests.image.engine import docker

IMAGE = os.environ.get("TEST_CLUSTER_POSTGRES_IMAGE", "postgres:17")
FASTER = ("-c", "fsync=off", "-c", "max_connections=200")


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL in a namespace of its own.

    :ivar server: as the tests reach it, through a forwarded port.
    """

    namespace: Namespace
    password: str
    server: Server

    def inside(self, database: Database, *, password: str | None = None) -> str:
        """The URL of a database for pods of any namespace."""
        host = f"postgres.{self.namespace.name}.svc"
        return f"postgresql://postgres:{password or self.password}@{host}:5432/{database.name}"


@contextmanager
def started(scratch: Path) -> Iterator[Postgres]:
    """Start one, and remove it with its namespace."""
    password = secrets.token_urlsafe(12)
    with Namespace.made() as namespace:
        namespace.secret("postgres", password=password)
        namespace.apply(pod(*_user_of(IMAGE)), SERVICE)
        namespace.await_line("pods", CONDITIONS, "^Ready=True")
        with _forwarded(namespace, scratch / "port-forward.log") as port:
            server = Server(f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres")
            wait_until(lambda: _answers(server), "PostgreSQL answers through the forwarded port")
            yield Postgres(namespace, password, server)


@contextmanager
def _forwarded(namespace: Namespace, said: Path) -> Iterator[str]:
    """The port on this machine. kubectl ends at the first connection that it loses: then another takes its place."""
    command = ["kubectl", "--namespace", namespace.name, "port-forward", "pod/postgres"]
    with said.open("a") as output:  # a line for each connection: a pipe that nobody reads would fill up

        def start(ports: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen([*command, ports], stdout=output, stderr=output, stdin=subprocess.DEVNULL)

        running = [start(":5432")]
        wait_until(lambda: "\n" in said.read_text(), "a port is forwarded")
        match = re.search(r"127\.0\.0\.1:(\d+)", said.read_text())
        assert match, said.read_text()
        port, over = match[1], threading.Event()

        def go_on() -> None:
            while not over.wait(0.2):
                if running[-1].poll() is not None:
                    running.append(start(f"{port}:5432"))

        keeper = threading.Thread(target=go_on, daemon=True)
        keeper.start()
        try:
            yield port
        finally:
            over.set()
            keeper.join()
            running[-1].kill()
            running[-1].wait()


def _answers(server: Server) -> bool:
    with suppress(psycopg2.OperationalError):
        return bool(query(server.url, "SELECT 1"))
    return False


def pod(user: int, group: int) -> dict[str, Any]:
    """The pod, as the user that the image has for the server."""
    probe = ["pg_isready", "--host=127.0.0.1", "--username=postgres"]
    container = {
        "name": "postgres",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["postgres", *FASTER],
        "env": [
            {
                "name": "POSTGRES_PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": "postgres", "key": "password"}},
            },
            {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
        ],
        "readinessProbe": {"exec": {"command": probe}, "periodSeconds": 1, "timeoutSeconds": 10},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data"}],
    }
    security = {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "postgres", "labels": {"app": "postgres"}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": security,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "postgres"},
    "spec": {"selector": {"app": "postgres"}, "ports": [{"port": 5432}]},
}


def _user_of(image: str) -> tuple[int, int]:
    """The ids of the user ``postgres``, which are not the same in every image of PostgreSQL."""
    told = docker("run", "--rm", "--entrypoint", "id", image, "postgres").stdout
    user, group = re.findall(r"(?:uid|gid)=(\d+)", told)
    return int(user), int(group)
