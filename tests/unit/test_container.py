"""Localhost inside a container: told only there, and only where nobody listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator import urls
from migrator.container import about_localhost, about_localhost_in, kind_of_container

REFUSED = 'connection to server at "127.0.0.1", port 5432 failed: Connection refused'


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_a_container_is_known_by_what_its_engine_puts_there(tmp_path: Path, mark: str) -> None:
    assert kind_of_container({}, tmp_path) == ""
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()
    assert kind_of_container({}, tmp_path) == "container"


def test_a_pod_is_known_by_what_kubernetes_tells_it(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    assert kind_of_container({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, tmp_path) == "pod"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@localhost/shop",
        "postgresql://u@LOCALHOST:5433/shop",
        "postgresql://u@127.0.0.1/shop",
        "postgresql://u@[::1]:5432/shop",
        "postgresql://u@/shop?host=localhost",
        "mysql://u@127.0.0.1/shop",
    ],
)
def test_localhost_is_told_as_the_container_itself(url: str) -> None:
    (told,) = about_localhost(urls.parse(url, "test"), REFUSED, "container")
    assert "localhost is the container itself" in told
    assert "--network" in told
    assert "host.docker.internal" in told
    (told,) = about_localhost(urls.parse(url, "test"), REFUSED, "pod")
    assert "localhost is the pod itself" in told
    assert "service" in told
    assert "docker" not in told


@pytest.mark.parametrize(
    ("url", "reason", "kind"),
    [
        ("postgresql://u@localhost/shop", REFUSED, ""),
        ("postgresql://u@localhost/shop", "57P03: the database system is starting up", "container"),
        ("postgresql://u@db.internal/shop", REFUSED, "container"),
        ("postgresql://u@localhost.example.com/shop", REFUSED, "container"),
        ("postgresql://u@192.0.2.1/shop", REFUSED, "pod"),
        ("postgresql://u@/shop?host=/run/postgresql", REFUSED, "container"),
    ],
)
def test_elsewhere_nothing_is_said(url: str, reason: str, kind: str) -> None:
    assert about_localhost(urls.parse(url, "test"), reason, kind) == ()


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ('connection to server at "localhost" (127.0.0.1), port 5432 failed: Connection refused', True),
        ('connection to server at "::1", port 5432 failed: Connection refused', True),
        ("[Errno 111] Connect call failed ('127.0.0.1', 5432)", True),
        ("2003: Can't connect to MySQL server on 'localhost' ([Errno 111] Connection refused)", True),
        ('connection to server at "localhost.example.com" (192.0.2.1), port 5432: Connection refused', False),
        ('connection to server at "localhost", port 5432 failed: timeout expired', False),
    ],
)
def test_localhost_is_known_in_the_words_of_a_driver(reason: str, told: bool) -> None:
    assert bool(about_localhost_in(reason, "pod")) is told
    assert about_localhost_in(reason, "") == ()
