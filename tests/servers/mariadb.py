"""A real MariaDB for the tests, from the programs that the machine has; nothing of it outlives the caller."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql
import pytest

from migrator import unprivileged

START_TIMEOUT_SECONDS = 60.0
NO_OPTIONS: Mapping[str, str] = {}
FAST_OPTIONS: Mapping[str, str] = {
    # 2: written at each commit, synced each second; a crash of the server alone loses nothing.
    "innodb_flush_log_at_trx_commit": "2",
    "innodb_doublewrite": "OFF",
    "innodb_buffer_pool_size": "32M",
    "innodb_log_file_size": "8M",
    "innodb_data_file_path": "ibdata1:4M:autoextend",
    "key_buffer_size": "1M",
    "aria_pagecache_buffer_size": "1M",
    "aria_log_file_size": "8M",
    "max_connections": "200",
}
# Reads until the process that started it is gone, by whatever signal, and clears up after it.
WATCHDOG = """
cat >/dev/null
[ ! -s "$1/pid" ] || kill -9 "$(cat "$1/pid")"
rm -rf -- "$1"
"""


@dataclass(frozen=True)
class MariaDBDatabase:
    """A database (a schema) of a MariaDB or MySQL server, as the tests' projects use one."""

    server: MariaDBServer
    name: str

    @property
    def url(self) -> str:
        """``mysql://…`` of root."""
        return self.server.url(self.name, driver="")

    def sqlalchemy_url(self, driver: str = "pymysql") -> str:
        """The same with another driver."""
        return self.server.url(self.name, driver=driver)

    def query(self, statement: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own, in autocommit; its rows."""
        return self.server.query(statement, parameters, database=self.name)

    @property
    def revisions(self) -> list[str]:
        """The rows of ``alembic_version``, sorted; empty where there is no such table."""
        if not self.query("SHOW TABLES LIKE 'alembic\\_version'"):
            return []
        return [row[0] for row in self.query("SELECT version_num FROM alembic_version ORDER BY 1")]

    @property
    def tables(self) -> list[str]:
        """Its tables, sorted, without the version table."""
        return sorted(name for (name,) in self.query("SHOW TABLES") if name != "alembic_version")


class MariaDBServer:
    """A disposable MariaDB; made by :func:`mariadb`. Root has a random password, over TCP and on the socket.

    :ivar port: TCP port of 127.0.0.1, the same after a restart.
    :ivar socket: path of the Unix socket.
    :ivar log_path: file with the server's log.
    """

    def __init__(self, base: Path, account: pwd.struct_passwd | None, options: Mapping[str, str]) -> None:
        self.host = unprivileged.HOST
        self.port = 0
        self.socket = base / "socket"
        self.log_path = base / "log"
        self.data_directory = base / "data"
        self.password = secrets.token_urlsafe(12)
        self.options = dict(options)
        self._base = base
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server; None while it is stopped."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def url(
        self,
        database: str = "",
        *,
        user: str = "root",
        password: str | None = None,
        driver: str = "pymysql",
        scheme: str = "mysql",
    ) -> str:
        """``mysql+pymysql://user:password@127.0.0.1:port/database``; a password not given is root's.

        :param driver: empty: none is named.
        """
        login = f"{quote(user, safe='')}:{quote(self.password if password is None else password, safe='')}"
        scheme += f"+{driver}" if driver else ""
        # As it is: SQLAlchemy 2.0 does not decode the name of the database, 2.1 does.
        return f"{scheme}://{login}@{self.host}:{self.port}/{database}"

    def connect(self, database: str | None = None, **more: Any) -> Any:
        """A PyMySQL connection of root's, in autocommit."""
        arguments: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": "root",
            "password": self.password,
            "database": database,
            "autocommit": True,
        }
        return pymysql.connect(**{**arguments, **more})

    def query(
        self, statement: str, parameters: Sequence[object] | None = None, *, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own, in autocommit; its rows."""
        with contextlib.closing(self.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())

    def create_database(self, name: str) -> MariaDBDatabase:
        """A new, empty database."""
        self.query(f"CREATE DATABASE `{name.replace('`', '``')}` CHARACTER SET utf8mb4")
        return MariaDBDatabase(self, name)

    def drop_database(self, name: str) -> None:
        """Drop a database; whoever has locked its tables is ended first."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            # Waits for their locks to be gone; a lock of somebody idle would be waited for a whole day.
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
            for (number,) in cursor.fetchall():
                with contextlib.suppress(pymysql.Error):
                    cursor.execute(f"KILL {int(number)}")
            cursor.execute(f"DROP DATABASE IF EXISTS `{name.replace('`', '``')}`")

    def create_user(self, name: str, password: str, *grants: str) -> None:
        """Create a user with ``GRANT <each of grants> TO`` it."""
        self.query(f"CREATE USER '{name}'@'%%' IDENTIFIED BY %s", (password,))
        for grant in grants:
            self.query(f"GRANT {grant} TO '{name}'@'%'")

    def start(self, **options: str) -> None:
        """Start the server on its port, and return once it answers.

        :param options: settings for this start alone: ``start(read_only="ON")``.
        """
        command = self._command(options)
        if not (self._base / "password-set").exists():
            command.append(f"--init-file={self._init_file()}")
        with self.log_path.open("ab") as log:
            self._process = unprivileged.start(command, self._account, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server did not start:\n{self.log_path.read_text()[-3000:]}")
            time.sleep(0.02)
        (self._base / "password-set").touch()

    def _command(self, options: Mapping[str, str]) -> list[str]:
        given = {**FAST_OPTIONS, **self.options, **options}
        return [
            _program("mariadbd"),
            "--no-defaults",
            f"--datadir={self.data_directory}",
            f"--socket={self.socket}",
            # Its own: a server that starts removes the temporary tables of every other one from /tmp.
            f"--tmpdir={self._base / 'tmp'}",
            f"--port={self.port}",
            f"--bind-address={self.host}",
            f"--pid-file={self._base / 'pid'}",
            "--skip-name-resolve",
            *(f"--{name}={value}" for name, value in given.items()),
        ]

    def stop(self) -> None:
        """Shut the server down in order, and return once it is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: a crash of the server."""
        self._end(signal.SIGKILL)

    def restart(self, **options: str) -> None:
        """Stop and start; port, password and data stay."""
        self.stop()
        self.start(**options)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's process, as SIGSTOP and SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(60)
            (self._base / "pid").unlink(missing_ok=True)

    def _init_file(self) -> Path:
        file = self._base / "init.sql"
        file.write_text(
            "DELETE FROM mysql.global_priv WHERE user IN ('', 'root');\n"
            "FLUSH PRIVILEGES;\n"
            f"CREATE USER root@'%' IDENTIFIED BY '{self.password}';\n"
            "GRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION;\n"
        )
        return file

    def _answers(self) -> bool:
        try:
            self.connect(connect_timeout=2).close()
        except pymysql.Error:
            return False
        return True


@contextlib.contextmanager
def mariadb(options: Mapping[str, str] = NO_OPTIONS) -> Iterator[MariaDBServer]:
    """Start a new MariaDB with an empty data directory; at the end it is killed and its files removed.

    That also holds when this process is killed: a small shell waits for its end.

    :param options: server settings (``{"performance_schema": "ON"}``); they win over ours.
    """
    account = unprivileged.account()
    base = unprivileged.directory_for(account)
    with subprocess.Popen(
        ["/bin/sh", "-c", WATCHDOG, "sh", str(base)], stdin=subprocess.PIPE, start_new_session=True
    ):
        server = MariaDBServer(base, account, options)
        try:
            shutil.copytree(_empty_data_directory(), server.data_directory)
            (base / "tmp").mkdir()
            unprivileged.give(base, account)
            _start_on_a_free_port(server)
            yield server
        finally:
            server.kill()
            shutil.rmtree(base, ignore_errors=True)


def _start_on_a_free_port(server: MariaDBServer) -> None:
    for left in reversed(range(10)):
        server.port = unprivileged.free_port()
        try:
            return server.start()
        except AssertionError as error:
            # Someone else can take the port between our look and the server's.
            if not left or "Address already in use" not in str(error):
                raise
    return None


@functools.cache
def _empty_data_directory() -> Path:
    """The data directory of a new server, made once in a process."""
    account = unprivileged.account()
    base = unprivileged.directory_for(account)
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    (base / "tmp").mkdir()
    unprivileged.give(base, account)
    made = subprocess.run(
        [
            _program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={base / 'data'}",
            f"--tmpdir={base / 'tmp'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            *(f"--{name}={value}" for name, value in FAST_OPTIONS.items() if "_" in name),
            *([f"--user={account.pw_name}"] if account else []),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return base / "data"


def _program(name: str) -> str:
    """The path of a program of MariaDB; without it the test is skipped, which CI takes for a failure."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install mariadb-server)")
    return found
