"""A front of a registry that, when it is told so, does not tell what belongs to an image: signatures, attestations."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Front:
    """Answers as the registry behind it.

    :ivar host: ``localhost:PORT``, as image names begin.
    :ivar away: whether it answers 503 where it is asked for referrers.
    """

    host: str
    away: bool = False


@contextmanager
def front_of(registry: str) -> Iterator[Front]:
    """Stand before the registry at ``HOST:PORT``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self._body()
            if front.away and "/referrers/" in self.path:
                status, headers, told = 503, [], b""
            else:
                behind = http.client.HTTPConnection(registry)
                behind.request(self.command, self.path, body, dict(self.headers.items()))
                answer = behind.getresponse()
                status, headers, told = answer.status, answer.getheaders(), answer.read()
                behind.close()
            length = str(len(told))
            self.send_response(status)
            for name, value in headers:
                if name.lower() == "content-length":
                    length = value  # of HEAD, too
                elif name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _answer

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            del self.headers["Transfer-Encoding"]
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, *_: object) -> None:
            """Nothing: what is asked for is the tests' own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    front = Front(f"localhost:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
