"""Statements that ``env.py`` runs by itself, before our seam knows the connection, can be cancelled as well."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterator

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from migrator.environment.state import Supervisor


@contextlib.contextmanager
def cancellable(supervisor: Supervisor) -> Iterator[None]:
    """While this lasts, ``supervisor`` can cancel what the connections run that this thread makes.

    By the driver's own cancel request, which needs no second connection of ours and no right: psycopg2 and
    psycopg 3 have one that any thread may call.
    """
    ours = threading.get_ident()
    tokens: list[object] = []

    def on_connect(connection: Connection) -> None:
        if threading.get_ident() != ours:
            return  # an application's, which goes on meanwhile
        cancel = getattr(connection.connection.driver_connection, "cancel", None)
        if cancel is not None and not inspect.iscoroutinefunction(cancel):
            tokens.append(token := object())
            supervisor.connected(token, cancel)

    event.listen(Engine, "engine_connect", on_connect)
    try:
        yield
    finally:
        event.remove(Engine, "engine_connect", on_connect)
        for token in tokens:
            supervisor.disconnected(token)
