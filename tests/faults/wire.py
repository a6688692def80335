"""A TCP relay in front of a server: it counts the requests of clients, and stops the one that a fault is about.

What it holds, a driver has sent and the server has not got (or has answered, and the driver has not heard):
the moments between two statements, found where they are, whatever the driver and its protocol's mode.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

Address = tuple[str, int]


class Boundary(NamedTuple):
    """A request that was stopped: its number, from 1, and the statement."""

    number: int
    text: str


class Reader(Protocol):
    """Reads what one client sends, as far as a fault needs it."""

    def statement(self, data: bytes) -> str | None:
        """The statement that the server is told to run; None for whatever else these bytes are."""


class PostgresReader:
    """PostgreSQL's protocol, version 3 (53.7): simple queries, and prepared statements that are executed."""

    def __init__(self) -> None:
        self._prepared: dict[bytes, str] = {}

    def statement(self, data: bytes) -> str | None:
        found = None
        bound = ""
        while len(data) > 5 and 65 <= data[0] <= 122:
            kind, length = data[:1], int.from_bytes(data[1:5], "big")
            body, data = data[5 : length + 1], data[length + 1 :]
            if kind == b"Q":
                found = _words(body)
            elif kind == b"P":
                name, _, rest = body.partition(b"\0")
                self._prepared[name] = _words(rest.partition(b"\0")[0])
            elif kind == b"B":
                bound = self._prepared.get(body.split(b"\0", 2)[1], "")
            elif kind == b"E":
                found = bound or "(execute)"
        return found


class MySQLReader:
    """MySQL's protocol: packet number 0 is a command, 3 a query, 22 and 23 prepare a statement and execute it."""

    def statement(self, data: bytes) -> str | None:
        if len(data) > 4 and data[3] == 0 and data[4] in (3, 23):
            return _words(data[5:]) if data[4] == 3 else "(execute)"
        return None


def _words(data: bytes) -> str:
    return " ".join(data.decode("utf-8", "replace").replace("\0", " ").split())


class Wire:
    """A relay to ``upstream``; a context manager. Every method may be called from any thread.

    :ivar address: where it listens.
    """

    def __init__(self, upstream: Address, reader: Callable[[], Reader] = PostgresReader) -> None:
        self.upstream = upstream
        self.new_reader = reader
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.address: Address = self._listening.getsockname()[:2]
        self._changed = threading.Condition()
        self._requests: list[str] = []
        self._hold: int | None = None
        self._answered = False
        self._held: Boundary | None = None
        self._frozen = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        _shut(self._listening)  # a thread that waits in accept() is not woken by close()
        self.cut()

    @property
    def requests(self) -> list[str]:
        """The statements so far, of every connection."""
        with self._changed:
            return list(self._requests)

    @property
    def held(self) -> Boundary | None:
        """The request that is stopped."""
        with self._changed:
            return self._held

    def hold(self, number: int, *, answered: bool = False) -> None:
        """Stop request ``number`` when it comes; with ``answered`` the server gets it, and its answer stops."""
        with self._changed:
            self._hold, self._answered = number, answered

    def release(self) -> None:
        """Let what is stopped go on."""
        with self._changed:
            self._hold = self._held = None
            self._changed.notify_all()

    def freeze(self) -> None:
        """From now on nothing passes, and nobody is told: the other end's kernel goes on acknowledging."""
        with self._changed:
            self._frozen = True

    def cut(self) -> None:
        """Close every connection, and drop what is stopped."""
        with self._changed:
            pairs, self._pairs = self._pairs, []
            self._hold = self._held = None
            self._frozen = False
            for pair in pairs:
                for end in pair:
                    _shut(end)
            self._changed.notify_all()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.upstream, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self._pairs.append((client, server))
            connection = _Connection(self, client, server)
            for work in (connection.upward, connection.downward):
                threading.Thread(target=work, daemon=True).start()

    def pass_request(self, statement: str | None) -> bool:
        """Note what a client sent, and wait while it is to be stopped. True: its answer is to be stopped."""
        with self._changed:
            mine = False
            if statement is not None:
                self._requests.append(statement)
                mine = len(self._requests) == self._hold
            if mine and not self._answered:
                self._held = Boundary(len(self._requests), self._requests[-1])
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._held is None)
            self._changed.wait_for(lambda: not self._frozen)
            return mine and self._answered

    def stop_answer(self) -> None:
        """An answer that is to be stopped has come: wait until it may pass."""
        with self._changed:
            if self._hold is None:
                return
            self._held = Boundary(self._hold, self._requests[self._hold - 1])
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._held is None)

    def pass_answer(self) -> None:
        """Wait while nothing passes."""
        with self._changed:
            self._changed.wait_for(lambda: not self._frozen)


class _Connection:
    """One client's connection: two threads, one for each direction."""

    def __init__(self, wire: Wire, client: socket.socket, server: socket.socket) -> None:
        self._wire, self._client, self._server = wire, client, server
        self._reader = wire.new_reader()
        self._stop_answer = False

    def upward(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(1 << 16):
                self._stop_answer = self._wire.pass_request(self._reader.statement(data))
                self._server.sendall(data)
        _shut(self._server)

    def downward(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(1 << 16):
                if self._stop_answer:
                    self._stop_answer = False
                    self._wire.stop_answer()
                self._wire.pass_answer()
                self._client.sendall(data)
        _shut(self._client)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
