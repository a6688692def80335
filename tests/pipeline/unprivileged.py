"""The Docker Engine of this machine, where it may not start privileged containers: those that are asked for get less.

buildx asks for a privileged container and for nothing else. An engine whose root lacks a single capability, as in some
virtual machines, refuses that, while BuildKit does with few. This is the engine's own socket a second time; only that
one wish is another by the time it arrives.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from urllib.parse import urlsplit

CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN")
"""What BuildKit needs of all those that a privileged container has."""
_CREATE = re.compile(rb"POST \S*/containers/create[? ]")


@contextmanager
def engine(directory: Path) -> Iterator[str]:
    """Serve the engine on a socket in the directory; the value of DOCKER_HOST that leads there."""
    path = directory / "docker.sock"
    with _Server(str(path), _Request) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()
            serving.join()


class _Server(ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


class _Request(StreamRequestHandler):
    """One request, as the client is told to close the connection after it; then bytes, whatever they are."""

    def handle(self) -> None:
        head = b"".join(iter(self._line, b"\r\n"))
        if not head:
            return
        body = b""
        if _CREATE.match(head):
            length = re.search(rb"(?im)^content-length: (\d+)", head)
            assert length is not None, head
            body = _unprivileged(self.rfile.read(int(length[1])))
            head = head.replace(length[0], b"Content-Length: %d" % len(body))
        if not re.search(rb"(?im)^upgrade:", head):
            head = re.sub(rb"(?im)^connection: .*\r\n", b"", head) + b"Connection: close\r\n"
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")).path)
            upstream.sendall(head + b"\r\n" + body)
            answering = threading.Thread(target=_copy, args=(upstream.makefile("rb"), self.connection))
            answering.start()
            _copy(self.rfile, upstream)
            answering.join()

    def _line(self) -> bytes:
        # An empty one ends the head, and so does a client that has gone.
        return self.rfile.readline() or b"\r\n"


def _copy(source: object, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.read1(65536):  # type: ignore[attr-defined]
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _unprivileged(wish: bytes) -> bytes:
    asked = json.loads(wish)
    given = asked.get("HostConfig") or {}
    if not given.get("Privileged"):
        return wish
    given |= {
        "Privileged": False,
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"],
    }
    return json.dumps(asked).encode()
