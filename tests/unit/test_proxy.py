"""The proxy that breaks connections in other tests does exactly what it is told."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.harness import wait_until
from tests.servers.proxy import Cut, Direction, Proxy, proxy

TIMEOUT = 10


@dataclass
class Echo:
    """A server that answers every piece with the same; ``ends``: how each of its connections ended."""

    port: int
    received: bytes = b""
    ends: list[str] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        how = "fin"
        try:
            while data := connection.recv(65536):
                self.received += data
                connection.sendall(data)
        except OSError:
            how = "rst"
        connection.close()
        self.ends.append(how)

    def ended(self, how: str) -> bool:
        """The only connection ended, and like this."""
        wait_until(lambda: self.ends, "the server sees the end")
        return self.ends == [how]


@pytest.fixture
def echo() -> Iterator[Echo]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Echo(listener.getsockname()[1])

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=server.serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(TIMEOUT)


@pytest.fixture
def between(echo: Echo) -> Iterator[Proxy]:
    with proxy("127.0.0.1", echo.port) as made:
        yield made


@pytest.fixture
def client(between: Proxy) -> Iterator[socket.socket]:
    with connected(between) as made:
        yield made


def connected(between: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", between.port), timeout=TIMEOUT)


def end_of_new(between: Proxy) -> str:
    """How a new connection ends, if it comes about at all."""
    try:
        client = connected(between)
    except ConnectionResetError:
        return "rst"
    with client:
        return end_of(client)


def asked(client: socket.socket, data: bytes) -> bytes:
    """What comes back, until as much came as was sent or the server ended it."""
    client.sendall(data)
    answer = b""
    while len(answer) < len(data) and (piece := client.recv(65536)):
        answer += piece
    return answer


def end_of(client: socket.socket) -> str:
    """How the connection ends, which is all that comes."""
    try:
        assert client.recv(1) == b""
    except ConnectionResetError:
        return "rst"
    return "fin"


def silent(client: socket.socket) -> bool:
    """Nothing comes, and no end."""
    client.settimeout(0.1)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    else:
        return False
    finally:
        client.settimeout(TIMEOUT)


def test_everything_is_passed_on_and_counted(between: Proxy, client: socket.socket, echo: Echo) -> None:
    data = bytes(range(256)) * 4096
    assert asked(client, data) == data == echo.received
    with connected(between) as second:
        assert asked(second, b"second") == b"second"
        assert (between.connections, len(between.links)) == (2, 2)
        # The last byte is here before the proxy has counted it.
        wait_until(lambda: between.received == len(data) + 6, "all that came back is counted")
        assert between.sent == len(data) + 6
        assert [link.sent for link in between.links] == [len(data), 6]
    wait_until(lambda: len(between.links) == 1, "the link of the client that left is gone")


def test_a_client_that_leaves_is_seen_to_leave(client: socket.socket, echo: Echo) -> None:
    assert asked(client, b"x") == b"x"
    client.shutdown(socket.SHUT_WR)
    assert end_of(client) == "fin"
    assert echo.ended("fin")


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_cut_ends_both_sides_in_the_way_that_was_asked_for(
    between: Proxy, client: socket.socket, echo: Echo, how: Cut
) -> None:
    assert asked(client, b"x") == b"x"
    between.cut(how)
    assert end_of(client) == how
    assert echo.ended(how)
    assert between.links == []


def test_one_of_two_connections_is_cut(between: Proxy, client: socket.socket) -> None:
    with connected(between) as second:
        assert (asked(client, b"1"), asked(second, b"2")) == (b"1", b"2")
        between.cut("rst", between.links[1])
        assert end_of(second) == "rst"
    assert asked(client, b"still") == b"still"


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_new_connection_is_cut_before_the_server_hears_of_it(between: Proxy, echo: Echo, how: Cut) -> None:
    between.cut_new(how)
    assert end_of_new(between) == how
    between.cut_new(None)
    with connected(between) as client:
        assert asked(client, b"x") == b"x"
    assert (between.connections, echo.received) == (2, b"x")


def test_a_refused_connection_is_refused_until_it_listens_again(
    between: Proxy, client: socket.socket
) -> None:
    assert asked(client, b"x") == b"x"
    between.refuse()
    with pytest.raises(ConnectionRefusedError):
        connected(between)
    assert asked(client, b"open") == b"open"
    between.listen()
    with connected(between) as second:
        assert asked(second, b"x") == b"x"


def test_a_server_that_is_not_there_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with proxy("127.0.0.1", port) as between:
        assert end_of_new(between) == "rst"


def test_the_server_stops_hearing_while_the_client_still_does(
    between: Proxy, client: socket.socket, echo: Echo
) -> None:
    assert asked(client, b"x") == b"x"
    between.half_close(Direction.TO_SERVER)
    assert echo.ended("fin")
    assert end_of(client) == "fin"  # the server's answer to it


def test_the_client_stops_hearing_while_the_server_still_does(
    between: Proxy, client: socket.socket, echo: Echo
) -> None:
    assert asked(client, b"x") == b"x"
    between.half_close(Direction.TO_CLIENT)
    assert end_of(client) == "fin"
    client.sendall(b"after")
    wait_until(lambda: echo.received == b"xafter", "the server hears it")
    assert echo.ends == []


def test_a_forsaken_server_is_not_told(between: Proxy, client: socket.socket, echo: Echo) -> None:
    assert asked(client, b"x") == b"x"
    between.forsake()
    assert end_of(client) == "rst"
    with connected(between) as second:
        assert asked(second, b"goes on") == b"goes on"
    assert "rst" not in echo.ends
    assert len(between.links) >= 1
    between.cut()
    wait_until(lambda: "rst" in echo.ends, "the server is told when the proxy ends it")


def test_silence_loses_nothing_and_closes_nothing(between: Proxy, client: socket.socket, echo: Echo) -> None:
    assert asked(client, b"x") == b"x"
    between.stall()
    client.sendall(b"kept")
    with connected(between) as second:
        second.sendall(b"new")
        assert silent(client)
        assert silent(second)
        assert (echo.received, echo.ends) == (b"x", [])
        between.resume()
        assert (client.recv(9), second.recv(9)) == (b"kept", b"new")


def test_silence_of_one_connection_leaves_the_other_alone(between: Proxy, client: socket.socket) -> None:
    with connected(between) as second:
        assert (asked(client, b"1"), asked(second, b"2")) == (b"1", b"2")
        between.stall(between.links[0])
        assert asked(second, b"goes on") == b"goes on"
        client.sendall(b"does not")
        assert silent(client)


def test_a_client_that_leaves_in_silence_is_not_seen_to_leave(
    between: Proxy, client: socket.socket, echo: Echo
) -> None:
    assert asked(client, b"x") == b"x"
    between.stall()
    client.close()
    with connected(between) as second:  # has its turn after the end of the first
        assert silent(second)
    assert echo.ends == []
    between.resume()
    wait_until(lambda: echo.ends, "the server sees it when the network is back")


def test_a_delay_holds_up_each_way(between: Proxy, client: socket.socket) -> None:
    between.slow(delay=0.1)
    began = time.monotonic()
    assert asked(client, b"late") == b"late"
    assert time.monotonic() - began >= 0.2


def test_the_bandwidth_is_limited_and_the_limit_lifted(between: Proxy, client: socket.socket) -> None:
    data = b"x" * 4096
    between.slow(bytes_per_second=16_384)
    began = time.monotonic()
    assert asked(client, data) == data
    assert time.monotonic() - began >= 0.25
    between.slow()
    assert asked(client, data * 100) == data * 100


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_trap_before_keeps_what_it_saw_from_the_server(
    between: Proxy, client: socket.socket, echo: Echo, how: Cut
) -> None:
    trap = between.trap(b"COMMIT", point="before", fault=how)
    assert asked(client, b"BEGIN") == b"BEGIN"
    client.sendall(b"COMMIT")
    assert end_of(client) == how
    trap.wait()
    assert echo.ended(how)
    assert echo.received == b"BEGIN"


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_trap_after_lets_the_server_do_it_and_loses_the_answer(
    between: Proxy, client: socket.socket, echo: Echo, how: Cut
) -> None:
    trap = between.trap(b"COMMIT", point="answered", fault=how)
    assert asked(client, b"BEGIN") == b"BEGIN"
    client.sendall(b"COMMIT")
    assert end_of(client) == how
    trap.wait()
    assert echo.received == b"BEGINCOMMIT"


def test_a_trap_is_silent_if_asked_and_springs_once_after_those_that_it_skips(
    between: Proxy, client: socket.socket, echo: Echo
) -> None:
    trap = between.trap(b"COMMIT", point="before", fault="stall", skip=1)
    assert asked(client, b"COMMIT1") == b"COMMIT1"
    client.sendall(b"COM")
    wait_until(lambda: echo.received == b"COMMIT1COM", "the half of it passes")
    assert client.recv(9) == b"COM"
    client.sendall(b"MIT2")
    trap.wait()
    assert silent(client)
    with connected(between) as second:
        assert asked(second, b"COMMIT3") == b"COMMIT3"
    assert echo.received == b"COMMIT1COMCOMMIT3"
