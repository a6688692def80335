"""A package index behind a mirror: HTTPS with a CA that nobody knows, and a password."""

from __future__ import annotations

import base64
import re
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from tests.image.engine import run


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own, and a certificate that it signed."""

    ca: Path
    certificate: Path
    key: Path


def make_authority(directory: Path, names: Sequence[str]) -> Authority:
    """A CA and a server's certificate for these names (``DNS:db``, ``IP:127.0.0.1``), by openssl."""
    made = Authority(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    request, ca_key = directory / "server.csr", directory / "ca.key"
    extensions = directory / "extensions"
    extensions.write_text(f"subjectAltName={','.join(names)}\nbasicConstraints=CA:FALSE\n")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("openssl", "req", "-x509", *new_key, "-keyout", str(ca_key), "-out", str(made.ca), "-days", "2",
        "-subj", "/CN=an authority of the tests", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    run("openssl", "req", *new_key, "-keyout", str(made.key), "-out", str(request), "-subj", "/CN=server")
    run("openssl", "x509", "-req", "-in", str(request), "-CA", str(made.ca), "-CAkey", str(ca_key),
        "-CAcreateserial", "-out", str(made.certificate), "-days", "2", "-extfile", str(extensions))  # fmt: skip
    return made


@dataclass
class Mirror:
    """A running index. ``served``: the paths that were handed out."""

    host: str
    login: str | None
    served: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The index's URL, with the password where one is asked for."""
        return f"https://{f'{self.login}@' if self.login else ''}{self.host}/simple/"


@contextmanager
def mirror(wheels: Path, authority: Authority, *, login: str | None = None) -> Iterator[Mirror]:
    """Serve a directory of wheels as an index (PEP 503), on a port of this machine's loopback."""
    by_project: dict[str, list[str]] = {}
    for wheel in sorted(wheels.glob("*.whl")):
        project = re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower()
        by_project.setdefault(project, []).append(wheel.name)

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            expected = f"Basic {base64.b64encode((login or '').encode()).decode()}"
            if login is not None and self.headers.get("Authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.end_headers()
                return
            parts = [part for part in self.path.split("/") if part]
            if parts[:1] == ["simple"] and len(parts) == 2 and parts[1] in by_project:
                links = (f'<a href="/wheels/{quote(name)}">{name}</a><br>' for name in by_project[parts[1]])
                self._send("text/html", f"<!DOCTYPE html><html><body>{''.join(links)}".encode())
            elif parts[:1] == ["wheels"] and len(parts) == 2 and (wheels / parts[1]).is_file():
                self._send("application/octet-stream", (wheels / parts[1]).read_bytes())
            else:
                self.send_error(404)

        def _send(self, kind: str, body: bytes) -> None:
            running.served.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    running = Mirror(f"localhost:{server.server_address[1]}", login)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
