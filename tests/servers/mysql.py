"""A real MySQL for the tests. Debian's stable has none: it is unstable's, unpacked beside its own libraries.

apt fetches and checks the packages, in folders of its own: the machine's lists and packages stay as they are.
The server then runs by the loader and the C library that it was built with, whatever the machine has.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from migrator import unprivileged
from tests.servers import binaries
from tests.servers.binaries import ServerMissing
from tests.servers.mariadb import WATCHDOG, MariaDBServer, _start_on_a_free_port

PACKAGE = "mysql-server-core"
_ARCHITECTURES = {"x86_64": ("amd64", "x86_64-linux-gnu"), "aarch64": ("arm64", "aarch64-linux-gnu")}
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_ARCHIVE = "http://deb.debian.org/debian"
_FETCH_TIMEOUT_SECONDS = 600
_NO_OPTIONS: Mapping[str, str] = {}
# What MariaDB has and MySQL does not is left out.
_FAST_OPTIONS: Mapping[str, str] = {
    "innodb_flush_log_at_trx_commit": "2",
    "innodb_doublewrite": "OFF",
    "innodb_buffer_pool_size": "32M",
    "innodb_redo_log_capacity": "8M",
    "max_connections": "200",
    "mysqlx": "OFF",
    "log_bin": "OFF",
}


class MySQLServer(MariaDBServer):
    """A disposable MySQL; otherwise as :class:`tests.servers.mariadb.MariaDBServer`."""

    def _command(self, options: Mapping[str, str]) -> list[str]:
        given = {**_FAST_OPTIONS, **self.options, **options}
        return [
            *mysqld(),
            f"--datadir={self.data_directory}",
            f"--socket={self.socket}",
            f"--tmpdir={self._base / 'tmp'}",
            f"--port={self.port}",
            f"--bind-address={self.host}",
            f"--pid-file={self._base / 'pid'}",
            "--skip-name-resolve",
            *(f"--{name}={value}" for name, value in given.items()),
        ]

    def _init_file(self) -> Path:
        file = self._base / "init.sql"
        file.write_text(
            f"CREATE USER root@'%' IDENTIFIED BY '{self.password}';\n"
            "GRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION;\n"
            "DROP USER root@localhost;\n"
        )
        return file


@contextlib.contextmanager
def mysql(options: Mapping[str, str] = _NO_OPTIONS) -> Iterator[MySQLServer]:
    """Start a new MySQL with an empty data directory; at the end it is killed and its files removed.

    :param options: server settings; they win over ours.
    :raises ServerMissing: the programs are not here and cannot be fetched.
    """
    account = unprivileged.account()
    empty = _empty_data_directory()
    base = unprivileged.directory_for(account)
    with subprocess.Popen(
        ["/bin/sh", "-c", WATCHDOG, "sh", str(base)], stdin=subprocess.PIPE, start_new_session=True
    ):
        server = MySQLServer(base, account, options)
        try:
            shutil.copytree(empty, server.data_directory)
            (base / "tmp").mkdir()
            unprivileged.give(base, account)
            _start_on_a_free_port(server)
            yield server
        finally:
            server.kill()
            shutil.rmtree(base, ignore_errors=True)


@functools.cache
def mysqld() -> tuple[str, ...]:
    """The beginning of the server's command line. Fetched if need be, once."""
    architecture, triplet = _ARCHITECTURES.get(platform.machine(), ("", ""))
    if platform.system() != "Linux" or not architecture:
        raise ServerMissing(f"there is no MySQL for {platform.system()} on {platform.machine()}")
    with binaries.making(f"mysql-{architecture}") as new:
        if new is not None:
            _fetch(architecture, new)
    root = binaries.directory() / f"mysql-{architecture}"
    libraries = root / "usr" / "lib" / triplet
    (loader,) = libraries.glob("ld-linux-*.so.*")
    share = root / "usr" / "share" / "mysql"
    return (
        str(loader),
        "--library-path",
        str(libraries),
        str(root / "usr" / "sbin" / "mysqld"),
        "--no-defaults",
        f"--basedir={root / 'usr'}",
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}",
        "--secure-file-priv=",
        f"--plugin-dir={root / 'usr' / 'lib' / 'mysql' / 'plugin'}",
    )


def _fetch(architecture: str, into: Path) -> None:
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing or not Path(_KEYRING).is_file():
        raise ServerMissing(f"MySQL comes from Debian's archive, and there is no {(*missing, _KEYRING)[0]}")
    work = into / "apt"
    for name in ("lists/partial", "archives/partial"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(
        f"deb [arch={architecture} signed-by={_KEYRING}] {_ARCHIVE} unstable main\n"
    )
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": work,
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work,
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        # Otherwise lists that could not be fetched are a warning, and the package is not found.
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    }
    options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    for command in (["update"], ["install", "--yes", "--download-only", PACKAGE]):
        _run(["apt-get", "--quiet", *options, *command])
    for package in sorted((work / "archives").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(into)])
    shutil.rmtree(work)
    for unused in ("usr/share/doc", "usr/share/man", "usr/share/perl", "usr/share/locale"):
        shutil.rmtree(into / unused, ignore_errors=True)


def _run(command: list[str]) -> None:
    try:
        ended = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ServerMissing(
            f"no MySQL: {PACKAGE} of Debian unstable was not fetched from {_ARCHIVE} "
            f"within {_FETCH_TIMEOUT_SECONDS} s"
        ) from None
    if ended.returncode != 0:
        why = ended.stderr.strip() or ended.stdout.strip()
        raise ServerMissing(f"no MySQL: {PACKAGE} of Debian unstable, from {_ARCHIVE}: {why}")


@functools.cache
def _empty_data_directory() -> Path:
    """The data directory of a new server, made once and kept."""
    with binaries.making("mysql-data") as new:
        if new is not None:
            account = unprivileged.account()
            base = unprivileged.directory_for(account)
            try:
                unprivileged.give(base, account)
                command = [
                    *mysqld(),
                    "--initialize-insecure",
                    # Copied for each server: the default is 100 MB.
                    f"--innodb-redo-log-capacity={_FAST_OPTIONS['innodb_redo_log_capacity']}",
                    f"--datadir={base / 'data'}",
                    f"--tmpdir={base}",
                ]
                with (new / "log").open("wb") as log:
                    made = unprivileged.start(command, account, stdout=log, stderr=log).wait()
                if made != 0:
                    raise ServerMissing(f"no MySQL: {(new / 'log').read_text(errors='replace')[-2000:]}")
                shutil.copytree(base / "data", new / "data")
            finally:
                shutil.rmtree(base, ignore_errors=True)
    return binaries.directory() / "mysql-data" / "data"
