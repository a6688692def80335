"""A network of its own for clients, that can be torn without a word: no RST, no FIN, packets are just gone.

A proxy cannot do that: the kernel goes on answering for it. Needs Linux, root and the right to make network
namespaces (in a container: ``--cap-add NET_ADMIN --cap-add SYS_ADMIN``).
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

# Nobody's address: frames to it arrive and are dropped.
_NOBODY = "02:00:00:00:00:01"


class NoNamespaces(Exception):
    """Network namespaces cannot be made here."""


@dataclass(frozen=True)
class Network:
    """Two hosts on a wire: this machine at ``server_address``, and a namespace at ``client_address``."""

    namespace: str
    interface: str
    server_address: str
    client_address: str

    def inside(self, *command: str) -> tuple[str, ...]:
        """The command line that runs a command in the namespace; the process id stays that of the command."""
        return ("ip", "netns", "exec", self.namespace, *command)

    def tear(self) -> None:
        """From now on nothing arrives, in either direction."""
        _ip(
            "neigh",
            "replace",
            self.client_address,
            "lladdr",
            _NOBODY,
            "nud",
            "permanent",
            "dev",
            self.interface,
        )
        inside = ("-n", self.namespace, "neigh", "replace", self.server_address)
        _ip(*inside, "lladdr", _NOBODY, "nud", "permanent", "dev", "wire")

    def mend(self) -> None:
        """Everything arrives again."""
        _ip("neigh", "del", self.client_address, "dev", self.interface)
        _ip("-n", self.namespace, "neigh", "del", self.server_address, "dev", "wire")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make a namespace and a wire to it; both are gone at the end.

    :raises NoNamespaces: not as this user, or not in this container.
    """
    if shutil.which("ip") is None:
        raise NoNamespaces("there is no program ip (Debian: apt-get install iproute2)")
    if os.geteuid() != 0:
        raise NoNamespaces("network namespaces need root")
    name = f"migrator-{secrets.token_hex(4)}"
    interface = f"mg{secrets.token_hex(4)}"
    prefix = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"
    made = Network(name, interface, f"{prefix}.1", f"{prefix}.2")
    _ip("netns", "add", name)
    try:
        _ip("link", "add", interface, "type", "veth", "peer", "name", "wire", "netns", name)
        _ip("address", "add", f"{made.server_address}/30", "dev", interface)
        _ip("link", "set", interface, "up")
        _ip("-n", name, "address", "add", f"{made.client_address}/30", "dev", "wire")
        _ip("-n", name, "link", "set", "wire", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield made
    finally:
        with contextlib.suppress(NoNamespaces):
            _ip("link", "delete", interface)
        _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    ended = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise NoNamespaces(f"ip {' '.join(arguments)}: {ended.stderr.strip() or ended.returncode}")
