"""A TCP proxy that breaks connections on command: cut, half-closed, slow, or silent. Loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit, urlunsplit

from migrator import unprivileged

Cut = Literal["rst", "fin"]
"""How a connection ends: reset, as by a firewall or a dead machine that is back, or closed in good order."""

Fault = Literal["rst", "fin", "stall"]
"""What a trap does: a cut, or silence."""

Point = Literal["before", "answered"]
"""When a trap does it: before what was seen is passed on, or when its answer comes, which is then lost."""

Result = TypeVar("Result")

_CHUNK = 64 * 1024
_SLOW_CHUNK = 1024
_COMMAND_TIMEOUT_SECONDS = 20


class Direction(enum.Enum):
    """Which way bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


@dataclass
class Behaviour:
    """What happens to bytes on their way.

    :ivar delay: seconds that each piece waits.
    :ivar bytes_per_second: None: no limit.
    """

    delay: float = 0.0
    bytes_per_second: float | None = None


@dataclass(eq=False)
class Link:
    """A client's connection through the proxy, with the bytes passed on so far."""

    client: socket.socket
    server: socket.socket | None
    behaviour: Behaviour
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0
    received: int = 0
    waiting: Trap | None = None
    closed: set[Direction] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def ends(self, direction: Direction) -> tuple[socket.socket, socket.socket]:
        """The socket that is read and the one that is written."""
        assert self.server is not None
        return (self.client, self.server) if direction is Direction.TO_SERVER else (self.server, self.client)

    def sockets(self) -> list[socket.socket]:
        """Those that there are."""
        return [end for end in (self.client, self.server) if end is not None]


@dataclass(eq=False)
class Trap:
    """Waits for bytes that a client sends; see :meth:`Proxy.trap`."""

    pattern: bytes
    point: Point
    fault: Fault
    skip: int
    sprung: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout: float = 30) -> None:
        """Return when it did its work; not in time: the test fails."""
        assert self.sprung.wait(timeout), f"{self.pattern!r} was never seen"


@contextlib.contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    """Start a proxy in front of a server; at the end every connection through it is cut."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()
    made = Proxy(loop, host, port)
    try:
        made.listen()
        yield made
    finally:
        made.refuse()
        made.cut()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def proxy_of(url: str) -> Iterator[Proxy]:
    """Start a proxy in front of the server that a URL leads to."""
    parts = urlsplit(url)
    with proxy(parts.hostname or unprivileged.HOST, parts.port or 5432) as made:
        yield made


class Proxy:
    """Made by :func:`proxy`. Commands without a link are for every connection, later ones included.

    :ivar port: of 127.0.0.1, where clients connect.
    :ivar connections: how many were accepted so far.
    :ivar links: those that are open.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        self.port = unprivileged.free_port()
        self.connections = 0
        self.links: list[Link] = []
        self._loop, self._target = loop, (host, port)
        self._behaviour = Behaviour()
        self._stalled = False
        self._cut_new: Cut | None = None
        self._traps: list[Trap] = []
        self._sent = self._received = 0
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._cutting: set[asyncio.Task[None]] = set()

    @property
    def sent(self) -> int:
        """Bytes passed on to the server, over all connections."""
        return self._sent

    @property
    def received(self) -> int:
        """Bytes passed on to clients, over all connections."""
        return self._received

    def url(self, url: str) -> str:
        """The same URL through the proxy."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@{unprivileged.HOST}:{self.port}"))

    # Commands

    def listen(self) -> None:
        """Accept connections, again after :meth:`refuse`."""
        self._do(self._listen())

    def refuse(self) -> None:
        """Nobody listens any more; open connections stay."""
        self._do(self._refuse())

    def cut_new(self, how: Cut | None) -> None:
        """End each new connection as soon as it is made; None: no longer."""
        self._cut_new = how

    def cut(self, how: Cut = "rst", link: Link | None = None) -> None:
        """End connections on both sides."""
        self._do(self._cut_all(how, link))

    def forsake(self, how: Cut = "rst") -> None:
        """End the open connections on the client's side; the server is not told, as by a balancer that forgot."""
        self._do(self._forsake_all(how))

    def half_close(self, direction: Direction, link: Link | None = None) -> None:
        """End one direction of the open connections in good order; the other goes on."""
        self._do(self._half_close_all(direction, link))

    def stall(self, link: Link | None = None) -> None:
        """Pass nothing on and close nothing, as a network that silently drops; what comes is kept."""
        self._do(self._flow(link, False))

    def resume(self, link: Link | None = None) -> None:
        """The network is back: pass on what came meanwhile."""
        self._do(self._flow(link, True))

    def slow(
        self, *, delay: float = 0.0, bytes_per_second: float | None = None, link: Link | None = None
    ) -> None:
        """Make each piece wait, and limit the bandwidth in each direction; without arguments: no longer."""
        wanted = Behaviour(delay, bytes_per_second)
        if link is None:
            self._behaviour = wanted
        for each in [link] if link else list(self.links):
            each.behaviour = replace(wanted)

    def trap(self, pattern: bytes, *, point: Point, fault: Fault, skip: int = 0) -> Trap:
        """Do something to the connection whose client sends ``pattern`` next, once.

        :param skip: how many times it passes before.
        """
        trap = Trap(pattern, point, fault, skip)
        self._traps.append(trap)
        return trap

    # In the thread of the loop

    def _do(self, command: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(command, self._loop).result(_COMMAND_TIMEOUT_SECONDS)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((unprivileged.HOST, self.port), backlog=128)
            self._listener.setblocking(False)
            self._accepting = self._loop.create_task(self._accept(self._listener))

    async def _refuse(self) -> None:
        if self._listener is not None and self._accepting is not None:
            await _cancelled({self._accepting})
            self._listener.close()
            self._listener = self._accepting = None

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            self.connections += 1
            if self._cut_new is not None:
                _end(client, self._cut_new)
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(client, None, replace(self._behaviour))
            if not self._stalled:
                link.flowing.set()
            self.links.append(link)
            self._start(link, self._connect(link))

    def _start(self, link: Link, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        link.tasks.add(task)
        task.add_done_callback(link.tasks.discard)

    async def _connect(self, link: Link) -> None:
        await link.flowing.wait()
        server = socket.socket()
        server.setblocking(False)
        try:
            await self._loop.sock_connect(server, self._target)
        except OSError:
            server.close()
            self._later(link, "rst")
            return
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.server = server
        for direction in Direction:
            self._start(link, self._pump(link, direction))

    async def _pump(self, link: Link, direction: Direction) -> None:
        source, sink = link.ends(direction)
        seen = b""
        try:
            while data := await self._loop.sock_recv(source, self._piece(link)):
                await self._on_the_way(link, len(data))
                seen = seen[-_CHUNK:] + data
                if direction is Direction.TO_SERVER and (trap := self._sees(link, seen, len(data))):
                    self._spring(link, trap)
                elif direction is Direction.TO_CLIENT and link.waiting is not None:
                    self._spring(link, link.waiting)
                await link.flowing.wait()
                if direction not in link.closed:
                    await self._loop.sock_sendall(sink, data)
                    self._count(link, direction, len(data))
            await link.flowing.wait()
            self._close_one_way(link, direction)
        except OSError:
            self._later(link, "rst")

    def _piece(self, link: Link) -> int:
        return _SLOW_CHUNK if link.behaviour.bytes_per_second else _CHUNK

    async def _on_the_way(self, link: Link, size: int) -> None:
        await link.flowing.wait()
        limit = link.behaviour.bytes_per_second
        await asyncio.sleep(link.behaviour.delay + (size / limit if limit else 0))

    def _sees(self, link: Link, seen: bytes, new: int) -> Trap | None:
        for trap in self._traps:
            # Found once: not in what was there before these bytes came.
            if trap.pattern in seen[-(new + len(trap.pattern) - 1) :]:
                if trap.skip:
                    trap.skip -= 1
                    continue
                self._traps.remove(trap)
                if trap.point == "answered":
                    link.waiting = trap
                    return None
                return trap
        return None

    def _spring(self, link: Link, trap: Trap) -> None:
        """From here on nothing is passed on in either direction."""
        link.flowing.clear()
        link.waiting = None
        if trap.fault == "stall":
            trap.sprung.set()
        else:
            self._later(link, trap.fault, trap.sprung.set)

    def _count(self, link: Link, direction: Direction, size: int) -> None:
        if direction is Direction.TO_SERVER:
            link.sent += size
            self._sent += size
        else:
            link.received += size
            self._received += size

    def _close_one_way(self, link: Link, direction: Direction) -> None:
        if direction not in link.closed:
            link.closed.add(direction)
            with contextlib.suppress(OSError):
                link.ends(direction)[1].shutdown(socket.SHUT_WR)
        if link.closed == set(Direction):
            self._later(link, "fin")

    def _later(self, link: Link, how: Cut, then: Callable[[], object] = lambda: None) -> None:
        """From a task of the link itself, which cannot wait for its own end."""

        async def work() -> None:
            await self._cut(link, how)
            then()

        task = self._loop.create_task(work())
        self._cutting.add(task)
        task.add_done_callback(self._cutting.discard)

    async def _cut(self, link: Link, how: Cut) -> None:
        if link not in self.links:
            return
        self.links.remove(link)
        await _cancelled(set(link.tasks))
        for end in link.sockets():
            _end(end, how)

    async def _cut_all(self, how: Cut, link: Link | None) -> None:
        for each in [link] if link else list(self.links):
            await self._cut(each, how)

    async def _forsake_all(self, how: Cut) -> None:
        for each in list(self.links):
            await _cancelled(set(each.tasks))
            _end(each.client, how)

    async def _half_close_all(self, direction: Direction, link: Link | None) -> None:
        for each in [link] if link else list(self.links):
            if each.server is not None:
                self._close_one_way(each, direction)

    async def _flow(self, link: Link | None, flowing: bool) -> None:
        if link is None:
            self._stalled = not flowing
        for each in [link] if link else list(self.links):
            (each.flowing.set if flowing else each.flowing.clear)()


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _end(end: socket.socket, how: Cut) -> None:
    with contextlib.suppress(OSError):
        if how == "rst":
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            end.shutdown(socket.SHUT_WR)
            # Closing with bytes unread would be a reset.
            while end.recv(_CHUNK):
                pass
    end.close()
