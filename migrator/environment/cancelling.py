"""Statements that ``env.py`` runs by itself, before our seam knows the connection, can be cancelled as well."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from migrator.environment.state import Supervisor

ANSWER_SECONDS = 2.0
"""For the server to answer before a cancel request is sent to it."""

# "Do you speak TLS?", which every server and pooler answers with one byte before it knows who asks
# (manual, 53.7, SSLRequest).
_QUESTION = bytes([0, 0, 0, 8, 4, 210, 22, 47])


@contextlib.contextmanager
def cancellable(supervisor: Supervisor) -> Iterator[None]:
    """While this lasts, ``supervisor`` can cancel what the connections run that this thread makes.

    By the driver's own cancel request, which needs no second connection of ours and no right: psycopg2 and
    psycopg 3 have one that any thread may call.

    Both keep the interpreter's lock while libpq waits for the end of the request. In a network that silently
    drops, that froze the whole process, deadline and signals included, for as long as the network did. So it
    is sent only to a server that has just answered something else.
    """
    ours = threading.get_ident()
    tokens: list[object] = []

    def on_connect(connection: Connection) -> None:
        if threading.get_ident() != ours:
            return  # an application's, which goes on meanwhile
        driver = connection.connection.driver_connection
        cancel = getattr(driver, "cancel", None)
        if cancel is not None and not inspect.iscoroutinefunction(cancel):
            tokens.append(token := object())
            supervisor.connected(token, functools.partial(_cancel, driver))

    event.listen(Engine, "engine_connect", on_connect)
    try:
        yield
    finally:
        event.remove(Engine, "engine_connect", on_connect)
        for token in tokens:
            supervisor.disconnected(token)


def _cancel(driver: Any) -> None:
    if _answers(driver):
        driver.cancel()


def _answers(driver: Any) -> bool:
    with socket.socket(fileno=os.dup(driver.fileno())) as ours:
        family, address = ours.family, ours.getpeername()
    with socket.socket(family) as asking:
        asking.settimeout(ANSWER_SECONDS)
        try:
            asking.connect(address)
            asking.sendall(_QUESTION)
            return bool(asking.recv(1))
        except OSError:
            return False
