"""Whether this runs in a container, where some words mean another thing: ``localhost`` is the container itself."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from migrator import urls

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_MARKS = (".dockerenv", "run/.containerenv")
"""Files that Docker and Podman put into each container."""

_ABOUT = {
    "pod": "in a pod, localhost is the pod itself: only its own sidecars listen there. A database elsewhere is named "
    "by its service (NAME.NAMESPACE.svc)",
    "container": "in a container, localhost is the container itself. Another container is named by its name, with "
    "docker run --network; the machine is host.docker.internal (on Linux with --add-host "
    "host.docker.internal:host-gateway), or localhost with --network host",
}


def kind_of_container(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> str:
    """``pod`` where Kubernetes announces itself, ``container`` for other engines, empty outside of any."""
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "pod"
    return "container" if any((root / mark).exists() for mark in _MARKS) else ""


def about_localhost(url: URL, reason: str, kind: str) -> tuple[str, ...]:
    """What to know where nobody listens on the loopback of a container; empty: it is not that.

    :param reason: why there was no connection, in the words of the driver.
    :param kind: see :func:`kind_of_container`.
    """
    if not kind or "refused" not in reason or not any(_is_loopback(host) for host in urls.named_hosts(url)):
        return ()
    return (_ABOUT[kind],)


def about_localhost_in(reason: str, kind: str) -> tuple[str, ...]:
    """The same where only the driver's words say at which address nobody listens."""
    if not kind or not any(words in reason for words in _NOBODY_LISTENS) or not _LOOPBACK.search(reason):
        return ()
    return (_ABOUT[kind],)


_NOBODY_LISTENS = ("refused", "Connect call failed")
_LOOPBACK = re.compile(r"(?<![\w.:-])(?:localhost|127(?:\.\d+){3}|::1)(?![\w.-])", re.IGNORECASE)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
