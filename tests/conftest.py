"""Fixtures: a PostgreSQL for the session, a database for each test, projects on it.

The server is, in this order: the one that ``TEST_POSTGRES_URL`` names (a superuser's URL), a
container of ``postgres:17`` where ``TEST_CONTAINERS=1``, or a disposable one from the wheel.
"""

from __future__ import annotations

import compileall
import contextlib
import itertools
import os
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from tests import harness
from tests.harness import Database, Project, Revision, Role, Server

if TYPE_CHECKING:
    from tests.servers.mariadb import MariaDBServer

CONTAINER_IMAGE = "postgres:17"
CONTAINER_DATA = "/var/lib/postgresql/data"
MEMORY = "/dev/shm"
ENOUGH_MEMORY_BYTES = 4 << 30  # of each worker some hundred megabytes
# A crowd of contenders holds up to three connections each. Each connection computes its password's hash anew.
SETTINGS = {"max_connections": "200", "scram_iterations": "1"}


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    """The processes that tests start write no bytecode; without it each would compile the package again."""
    compileall.compile_dir(harness.REPOSITORY / "migrator", quiet=2)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL that outlives the test: never stop it. Tests that do so start one of their own."""
    if url := os.environ.get("TEST_POSTGRES_URL"):
        yield Server(url)
    elif os.environ.get("TEST_CONTAINERS") == "1":
        from testcontainers.community.postgres import PostgresContainer

        options = [f"-c {name}={value}" for name, value in {**SETTINGS, "fsync": "off"}.items()]
        # A password like the default, which is a word of every path here, could not be told from a leak.
        container = PostgresContainer(
            CONTAINER_IMAGE,
            username="postgres",
            password=secrets.token_urlsafe(12),
            dbname="postgres",
            driver=None,
        )
        container.with_command(f"postgres {' '.join(options)}").with_tmpfs_mount(CONTAINER_DATA)
        with container:
            yield _with_a_short_hash(Server(container.get_connection_url()))
    else:
        from migrator import embedded

        with contextlib.ExitStack() as running:
            with _in_memory():
                started = running.enter_context(embedded.postgres(options=SETTINGS))
            yield _with_a_short_hash(Server(started.url()))


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDBServer]:
    """A MariaDB as Debian starts it, performance_schema off; never stop it."""
    from tests.servers import binaries
    from tests.servers.mariadb import mariadb

    with binaries.needed(), mariadb() as running:
        yield running


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[MariaDBServer]:
    """A MySQL as it comes, performance_schema on; never stop it."""
    from tests.servers import binaries
    from tests.servers.mysql import mysql

    with binaries.needed(), mysql() as running:
        yield running


@contextlib.contextmanager
def _in_memory() -> Iterator[None]:
    """Temporary directories are made in memory, where there is enough of it: a database is three hundred files."""
    usual, tempfile.tempdir = tempfile.tempdir, _memory() or tempfile.tempdir
    try:
        yield
    finally:
        tempfile.tempdir = usual


def _memory() -> str | None:
    try:
        room = os.statvfs(MEMORY)
    except OSError:
        return None
    usable = os.access(MEMORY, os.W_OK) and not room.f_flag & os.ST_NOEXEC
    return MEMORY if usable and room.f_bavail * room.f_frsize > ENOUGH_MEMORY_BYTES else None


def _with_a_short_hash(server: Server) -> Server:
    """The same, the superuser's password hashed as often as ``SETTINGS`` say."""
    password = unquote(urlsplit(server.url).password or "")
    harness.query(server.url, "ALTER ROLE CURRENT_USER PASSWORD %s", (password,))
    return server


@pytest.fixture
def _roles(server: Server) -> Iterator[list[str]]:
    made: list[str] = []
    yield made
    for name in made:
        harness.query(server.url, f'DROP OWNED BY "{name}"')
        harness.query(server.url, f'DROP ROLE "{name}"')


@pytest.fixture
def new_role(server: Server, _roles: list[str]) -> Callable[..., Role]:
    """Make login roles without any rights: ``new_role(password)``; what they own goes with the databases."""

    def make(password: str | None = None) -> Role:
        role = Role(f"role_{secrets.token_hex(4)}", password or secrets.token_urlsafe(12))
        harness.create_role(server, role)
        _roles.append(role.name)
        return role

    return make


@pytest.fixture
def new_database(server: Server, _roles: list[str]) -> Iterator[Callable[..., Database]]:
    """Make databases: ``new_database()``, ``new_database(owner=role.name)``, ``new_database(template=other.name)``."""
    prefix, names, made = f"test_{secrets.token_hex(4)}", itertools.count(1), []

    def make(*, template: str = "template1", owner: str | None = None) -> Database:
        database = harness.create_database(server, f"{prefix}_{next(names)}", template=template, owner=owner)
        made.append(database.name)
        return database

    yield make
    for name in made:
        harness.drop_database(server, name)


@pytest.fixture
def database(new_database: Callable[..., Database]) -> Database:
    """An empty database of this test alone."""
    return new_database()


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Callable[..., Project]:
    """Write Alembic projects on ``database``; the parameters are those of ``harness.write_project``."""
    numbers = itertools.count(1)

    def make(
        env: str = "sync",
        revisions: Sequence[Revision] = (),
        ini: str | None = None,
        **more: Mapping[str, str],
    ) -> Project:
        path = tmp_path / f"project{next(numbers)}"
        return harness.write_project(path, database, env=env, revisions=revisions, ini=ini, **more)

    return make


@pytest.fixture(autouse=True)
def _no_process_left() -> Iterator[None]:
    yield
    while harness.running:
        process = harness.running.pop()
        if process.process.poll() is None:
            process.kill()
            process.wait()


def _in_ci() -> bool:
    return os.environ.get("CI", "") not in ("", "0", "false")


def _skip_is_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    if _in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"what should run here could not: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI runs the tests, one that could not run is a failure."""
    report = yield
    _skip_is_failure(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself."""
    report = yield
    _skip_is_failure(report)
    return report
