"""The whole matrix: its rows, its faults, what starts the servers of a row, and the part that CI runs."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import crowds, mariadb, postgres, servers, sqlite, sudden, surroundings
from tests.faults.stage import Cell
from tests.faults.tally import Row
from tests.faults.wire import Address
from tests.servers.postgres import VERSIONS

POSTGRESQL_DRIVERS = ("psycopg2", "psycopg", "asyncpg")
MYSQLS = {"mariadb": "MariaDB", "mysql": "MySQL"}
ROUTES = ("direct", "pgbouncer")


@dataclass(frozen=True)
class Fault:
    """One fault. Its function's docstring says what is done and, in the second paragraph, what must hold.

    :ivar name: for the command line.
    :ivar title: for people.
    :ivar play: strikes, on one cell.
    :ivar families: the kinds of database that it is about.
    :ivar lacking: why it cannot be played on this machine; empty: it can.
    """

    name: str
    title: str
    play: Callable[[Cell], None]
    families: frozenset[str] = frozenset({"postgresql"})
    lacking: Callable[[], str] = lambda: ""

    @property
    def paragraphs(self) -> tuple[str, str]:
        """What is done, and what must hold."""
        done, _, must = (inspect.getdoc(self.play) or "").partition("\n\n")
        return (" ".join(done.split()), " ".join(must.split()))


ANY = frozenset({"postgresql", "mariadb", "mysql", "sqlite"})
SERVERS = frozenset({"postgresql", "mariadb", "mysql"})

FAULTS = (
    Fault("sigterm", "SIGTERM", sudden.sigterm, ANY),
    Fault("sigkill", "SIGKILL at every statement", sudden.sigkill, ANY),
    Fault("terminated", "Session terminated at every statement", sudden.terminated, SERVERS),
    Fault("restart-fast", "Server restarts", servers.restart_fast, SERVERS),
    Fault("restart-immediate", "Server crashes", servers.restart_immediate, SERVERS),
    Fault("partition", "Silent network partition", surroundings.partition, lacking=surroundings.lacking_root),
    Fault("black-hole", "Connection that hangs", surroundings.black_hole, SERVERS),
    Fault("contenders", "50 contenders", crowds.contenders, ANY),
    Fault("frozen-holder", "Lock holder frozen", crowds.frozen_holder, ANY),
    Fault("concurrent-index", "Concurrent index under contention", crowds.concurrent_index),
    Fault("application-locks", "Application holds locks", crowds.application_locks, ANY),
    Fault("disk-full", "Disk full", surroundings.disk_full, lacking=surroundings.lacking_root),
    Fault("connections", "Connection limit reached", servers.connections_exhausted),
    Fault("clock", "Clock moved", surroundings.clock_moved, ANY, surroundings.lacking_clock),
    Fault("failover", "Fail-over", servers.failover),
)

ROWS = (
    *(
        Row(f"pg{major}", driver, route)
        for major in VERSIONS
        for route in ROUTES
        for driver in POSTGRESQL_DRIVERS
    ),
    Row("mariadb", "pymysql"),
    Row("mariadb", "aiomysql"),
    Row("mysql", "pymysql"),
    Row("mysql", "aiomysql"),
    Row("sqlite", "pysqlite"),
)


OTHERS_IN_CI = {
    ("mariadb-pymysql-direct", "sigkill"),
    ("mariadb-aiomysql-direct", "terminated"),
    ("sqlite-pysqlite-direct", "sigkill"),
    ("sqlite-pysqlite-direct", "contenders"),
}
"""Rows and faults of other databases that CI plays as well."""


@dataclass(frozen=True)
class Servers:
    """What one worker started for the rows of one kind.

    :ivar versions: names and versions of what runs, for the report.
    """

    place: Any
    pooler: Address | None
    versions: dict[str, str]

    def address(self, row: Row) -> Address:
        """Where the runs of that row connect to."""
        return self.pooler if row.route == "pgbouncer" and self.pooler else self.place.address


def family(kind: str) -> str:
    """``postgresql`` of ``pg18``."""
    return "postgresql" if kind.startswith("pg") else kind.rstrip("0123456789.")


@contextlib.contextmanager
def started(kind: str) -> Iterator[Servers]:
    """Start what the rows of that kind need."""
    if kind in MYSQLS:
        with mariadb.started(kind) as place:
            yield Servers(place, None, {MYSQLS[kind]: place.version})
        return
    if kind == "sqlite":
        with sqlite.started() as directory:
            yield Servers(directory, None, {"SQLite": directory.version})
        return
    with postgres.started(int(kind.removeprefix("pg"))) as place, place.pooler() as pooler:
        versions = {f"PostgreSQL {place.major}": place.version, "PgBouncer": postgres.pooler_version()}
        yield Servers(place, pooler, versions)


def cells(rows: tuple[Row, ...] = ROWS) -> list[tuple[Row, Fault]]:
    """Every cell that there is for these rows."""
    return [(row, fault) for row in rows for fault in FAULTS if family(row.kind) in fault.families]


def play(row: Row, fault: Fault, running: Servers, path: Path, *, whole: bool = True) -> Cell:
    """Play one cell. What went wrong is in its tally; nothing is raised for that."""
    path.mkdir(parents=True, exist_ok=True)
    cell = Cell(row, running.place, running.address(row), path, whole=whole)
    with cell.timed():
        fault.play(cell)
    return cell


def selection() -> list[tuple[Row, Fault]]:
    """For CI: the newest server, each fault once, drivers and routes in turn."""
    newest = f"pg{max(VERSIONS)}"
    rows = [row for row in ROWS if row.kind == newest]
    order = [rows[index] for index in (0, 4, 2, 3, 1, 5)]
    newest_server = [(order[number % len(order)], fault) for number, fault in enumerate(FAULTS)]
    others = [cell for cell in cells() if (cell[0].name, cell[1].name) in OTHERS_IN_CI]
    return [*newest_server, *others]
