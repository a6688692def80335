"""A network that can fail silently: a namespace joined to the machine by a pair of virtual devices (Linux, root)."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

NOBODY = "02:00:00:00:00:01"
"""A hardware address that no device has: what is sent there is dropped, and nobody is told."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Network:
    """A namespace whose processes reach the machine at ``server_address`` only.

    :ivar command: what to put before a command that is to run inside.
    """

    name: str
    server_address: str
    client_address: str
    command: tuple[str, ...]

    def partition(self) -> None:
        """From now on every packet disappears, in both directions; no device goes down, no reset is sent."""
        _ip(
            "neigh",
            "replace",
            self.client_address,
            "lladdr",
            NOBODY,
            "dev",
            f"{self.name}h",
            "nud",
            "permanent",
        )
        self._inside(
            "neigh",
            "replace",
            self.server_address,
            "lladdr",
            NOBODY,
            "dev",
            f"{self.name}c",
            "nud",
            "permanent",
        )

    def heal(self) -> None:
        """Packets arrive again."""
        _ip("neigh", "del", self.client_address, "dev", f"{self.name}h")
        self._inside("neigh", "del", self.server_address, "dev", f"{self.name}c")

    def _inside(self, *arguments: str) -> None:
        _ip("-n", self.name, *arguments)


def available() -> bool:
    """Whether this process may make namespaces."""
    return os.geteuid() == 0


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A new namespace; at the end it and its devices are gone."""
    number = next(_numbers)
    # Process ids are unique on the machine, so that two suites do not meet; device names have 15 characters.
    name = f"f{os.getpid()}n{number}"
    third = (os.getpid() * 8 + number) % 16_000
    prefix = f"10.{192 + third // 256}.{third % 256}"
    made = Network(name, f"{prefix}.1", f"{prefix}.2", ("ip", "netns", "exec", name))
    _ip("netns", "add", name)
    try:
        _ip("link", "add", f"{name}h", "type", "veth", "peer", "name", f"{name}c")
        _ip("link", "set", f"{name}c", "netns", name)
        _ip("addr", "add", f"{made.server_address}/24", "dev", f"{name}h")
        _ip("link", "set", f"{name}h", "up")
        _ip("-n", name, "addr", "add", f"{made.client_address}/24", "dev", f"{name}c")
        _ip("-n", name, "link", "set", f"{name}c", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield made
    finally:
        subprocess.run(["ip", "link", "del", f"{name}h"], check=False, capture_output=True)
        _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
