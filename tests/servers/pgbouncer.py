"""A real PgBouncer in front of a server, in any of its three modes."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import psycopg2

from migrator import unprivileged
from tests.harness import Server, query
from tests.servers.binaries import ServerMissing

Mode = Literal["session", "transaction", "statement"]

MODES: tuple[Mode, ...] = ("session", "transaction", "statement")

_START_TIMEOUT_SECONDS = 20.0
_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@contextlib.contextmanager
def pgbouncer(server_url: str, mode: Mode, settings: Mapping[str, str] = _NO_SETTINGS) -> Iterator[PgBouncer]:
    """Start a PgBouncer for every database of a server; at the end it is stopped and its files removed.

    Clients log in as the user of ``server_url``, with the same password.

    :param server_url: a superuser's URL with a password.
    :param settings: of the section ``[pgbouncer]``, ``{"default_pool_size": "1"}``.
    :raises ServerMissing: there is no program ``pgbouncer``.
    """
    account = unprivileged.account()
    base = unprivileged.directory_for(account)
    pooler = PgBouncer(server_url, mode, base, dict(settings))
    unprivileged.give(base, account)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.kill()
        shutil.rmtree(base, ignore_errors=True)


class PgBouncer:
    """A pooler; made by :func:`pgbouncer`.

    :ivar mode: when a server connection goes back to the pool.
    :ivar port: of 127.0.0.1, the same after a restart.
    """

    def __init__(self, server_url: str, mode: Mode, base: Path, settings: Mapping[str, str]) -> None:
        self.mode = mode
        self.port = unprivileged.free_port()
        self._log_path = base / "log"
        self._ini = base / "pgbouncer.ini"
        self._process: subprocess.Popen[bytes] | None = None
        origin = urlsplit(server_url)
        self._user, self._password = unquote(origin.username or ""), unquote(origin.password or "")
        self._server = Server(server_url)
        (base / "users").write_text(f"{_quoted(self._user)} {_quoted(self._password)}\n")
        lines = ["[databases]", f"* = host={origin.hostname} port={origin.port or 5432}", "[pgbouncer]"]
        ours = {
            "listen_addr": unprivileged.HOST,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(base / "users"),
            "admin_users": self._user,
            "pool_mode": mode,
        }
        lines += [f"{name} = {value}" for name, value in {**ours, **settings}.items()]
        self._ini.write_text("\n".join(lines) + "\n")

    @property
    def pid(self) -> int | None:
        """Process id; None while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    @property
    def server(self) -> Server:
        """The pooler as a server: databases' URLs that lead through it."""
        login = urlsplit(self._server.url).netloc.rpartition("@")[0]
        return Server(f"postgresql://{login}@{unprivileged.HOST}:{self.port}/postgres")

    def url(self, database: str) -> str:
        """URL of a database through the pooler."""
        return self.server.url_of(database)

    def admin(self, command: str) -> list[tuple[Any, ...]]:
        """Run a command of the admin console (``PAUSE``, ``RESUME``, ``SHOW POOLS``)."""
        return query(self.url("pgbouncer"), command)

    def start(self) -> None:
        """Start it and return once it answers. Running already: nothing."""
        if self.pid is not None:
            return
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise ServerMissing("no pgbouncer on this machine (Debian: apt-get install pgbouncer)")
        with self._log_path.open("ab") as log:
            self._process = unprivileged.start(
                [program, str(self._ini)], unprivileged.account(), stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while not self._answers():
            if self.pid is None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"PgBouncer did not start:\n{self.log}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it at once, with every connection."""
        # SIGTERM waits for the clients to leave from version 1.23 on, and a shell's background job ignores SIGQUIT.
        self._end(signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL. Gone already: nothing."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start on the same port; every connection is lost."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(_START_TIMEOUT_SECONDS)

    def _answers(self) -> bool:
        try:
            self.admin("SHOW VERSION")
        except psycopg2.OperationalError:
            return False
        return True


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
