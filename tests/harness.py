"""What tests are made of: databases, Alembic projects, and runs of the command line as real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg2
from psycopg2 import sql

from tests.prefork import Forked, may_fork

REPOSITORY = Path(__file__).parent.parent
KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "USER")
NO_VARIABLES: Mapping[str, str] = {}

running: list[Running] = []
"""Processes of the current test; those still alive at its end are killed."""


# Databases


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server; ``url`` is a superuser's."""

    url: str

    def url_of(self, database: str, *, user: str | None = None, password: str | None = None) -> str:
        """``postgresql://`` URL of a database, for the superuser or for another role."""
        parts = urlsplit(self.url)
        login = (
            parts.netloc.rpartition("@")[0]
            if user is None
            else f"{quote(user, '')}:{quote(password or '', '')}"
        )
        return urlunsplit(
            ("postgresql", f"{login}@{parts.hostname}:{parts.port or 5432}", f"/{database}", "", "")
        )


@dataclass(frozen=True)
class Database:
    """A database that only one test uses."""

    server: Server
    name: str

    @property
    def url(self) -> str:
        """``postgresql://…`` of the superuser, as libpq reads it."""
        return self.server.url_of(self.name)

    def sqlalchemy_url(self, driver: str = "psycopg2") -> str:
        """The same with a driver, as SQLAlchemy reads it."""
        return with_driver(self.url, driver)

    def query(self, statement: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """See :func:`query`."""
        return query(self.url, statement, parameters)

    @property
    def revisions(self) -> list[str]:
        """The rows of ``alembic_version``, sorted; empty where there is no such table."""
        if self.query("SELECT to_regclass('alembic_version')") == [(None,)]:
            return []
        return [row[0] for row in self.query("SELECT version_num FROM alembic_version ORDER BY 1")]

    @property
    def tables(self) -> list[str]:
        """The tables of the schema ``public``, sorted, without the version table."""
        rows = self.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return [name for (name,) in rows if name != "alembic_version"]


@dataclass(frozen=True)
class Role:
    """A login role that is no superuser."""

    name: str
    password: str


def with_driver(url: str, driver: str) -> str:
    """``postgresql://…`` as ``postgresql+driver://…``."""
    return f"postgresql+{driver}://{url.partition('://')[2]}"


def query(url: str, statement: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own, in autocommit; its rows, if it returns any."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def transaction(url: str, *statements: str) -> Iterator[Any]:
    """A psycopg2 connection that has run the statements and stays in that transaction until the block ends."""
    with closing(psycopg2.connect(url, application_name="test")) as connection:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        yield connection
        connection.rollback()


def create_database(
    server: Server, name: str, *, template: str = "template1", owner: str | None = None
) -> Database:
    """A new database: a copy of another, owned by a role or by the superuser."""
    # Copied as files: without fsync that takes half of the time of the default, which writes the log.
    _identified(server, "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, template)
    if owner is not None:
        _identified(server, "ALTER DATABASE {} OWNER TO {}", name, owner)
    return Database(server, name)


def drop_database(server: Server, name: str) -> None:
    """Drop a database with whoever is connected to it."""
    _identified(server, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


def create_role(server: Server, role: Role) -> None:
    """Create a login role."""
    with closing(psycopg2.connect(server.url)) as connection:
        connection.autocommit = True
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        connection.cursor().execute(statement.format(sql.Identifier(role.name), sql.Literal(role.password)))


def _identified(server: Server, statement: str, *names: str) -> None:
    with closing(psycopg2.connect(server.url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


# Processes


@dataclass(frozen=True)
class Completed:
    """A process that has ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Everything that it wrote, for messages of assertions."""
        return f"exit {self.returncode}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    @property
    def json(self) -> Any:
        """What it wrote on standard output, parsed."""
        return json.loads(self.stdout)


class Running:
    """A process whose output is read while it runs."""

    def __init__(self, process: subprocess.Popen[str] | Forked) -> None:
        self.process = process
        self._lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._told = threading.Condition()
        streams = {"stdout": self.process.stdout, "stderr": self.process.stderr}
        self._readers = [
            threading.Thread(target=self._read, args=item, daemon=True) for item in streams.items()
        ]
        for reader in self._readers:
            reader.start()
        running.append(self)

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def output(self) -> str:
        """What it wrote so far."""
        with self._told:
            return self._completed(
                self.process.returncode if self.process.poll() is not None else -999
            ).output

    def wait_for_line(self, pattern: str, *, timeout: float = 30) -> re.Match[str]:
        """The first line so far, of either stream, in which the pattern is found; waits for it.

        Fails at once when the process ends without such a line.
        """
        deadline = time.monotonic() + timeout
        with self._told:
            while True:
                for line in [*self._lines["stderr"], *self._lines["stdout"]]:
                    if found := re.search(pattern, line):
                        return found
                reading = any(reader.is_alive() for reader in self._readers)
                if not reading or not self._told.wait(deadline - time.monotonic()):
                    why = "did not come in time" if reading else "never came"
                    raise AssertionError(f"a line with {pattern!r} {why}\n{self._completed(-999).output}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; does nothing to a process that has ended."""
        self.process.kill()

    def wait(self, timeout: float = 60) -> Completed:
        """Wait for its end; a process that outlives ``timeout`` is killed, and the test fails."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self._join()
            raise AssertionError(f"still running after {timeout} s\n{self._completed(-9).output}") from None
        self._join()
        return self._completed(self.process.returncode)

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(5)  # a grandchild may hold the pipe open

    def _completed(self, returncode: int) -> Completed:
        return Completed(returncode, "".join(self._lines["stdout"]), "".join(self._lines["stderr"]))

    def _read(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            with self._told:
                self._lines[name].append(line)
                self._told.notify_all()
        stream.close()
        with self._told:
            self._told.notify_all()


def clean_environment(variables: Mapping[str, str] = NO_VARIABLES) -> dict[str, str]:
    """Nothing of the surrounding configuration (``MIGRATOR_*``, ``DATABASE_URL``, ``PG*``, CI's own) leaks in."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **variables}


def start(*command: str, env: Mapping[str, str] = NO_VARIABLES, cwd: Path) -> Running:
    """Start any command in the clean environment, with the variables added."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=clean_environment(env),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return Running(process)


def start_migrator(*args: str, env: Mapping[str, str] = NO_VARIABLES, cwd: Path) -> Running:
    """Start ``python -m migrator ARGS``."""
    if may_fork(whole := clean_environment(env)):
        return Running(Forked("migrator", args, whole, cwd))
    return start(sys.executable, "-m", "migrator", *args, env=env, cwd=cwd)


def run_migrator(
    *args: str, env: Mapping[str, str] = NO_VARIABLES, cwd: Path, timeout: float = 60, check: bool = False
) -> Completed:
    """Run ``python -m migrator ARGS`` to its end; ``check``: anything but exit 0 fails the test."""
    return checked(start_migrator(*args, env=env, cwd=cwd).wait(timeout), check)


def run_alembic(
    *args: str, env: Mapping[str, str] = NO_VARIABLES, cwd: Path, timeout: float = 60, check: bool = False
) -> Completed:
    """Run bare ``alembic ARGS`` to its end."""
    if may_fork(whole := clean_environment(env)):
        return checked(Running(Forked("alembic", args, whole, cwd)).wait(timeout), check)
    command = (sys.executable, "-c", "from alembic.config import main; main(prog='alembic')")
    return checked(start(*command, *args, env=env, cwd=cwd).wait(timeout), check)


def checked(completed: Completed, check: bool = True) -> Completed:
    """The same; with ``check`` an exit code other than 0 fails the test and shows what was written."""
    assert not check or completed.returncode == 0, completed.output
    return completed


def wait_until(condition: Callable[[], object], what: str, timeout: float = 30) -> None:
    """Poll until the condition is true; ``what`` names it when it never is."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.02)


# Projects

SYNC_ENV = """\
from logging.config import fileConfig

from alembic import context
from sqlalchemy import engine_from_config, pool

config = context.config
if config.config_file_name is not None:
    fileConfig(config.config_file_name)
target_metadata = None


def run_migrations_offline():
    context.configure(
        url=config.get_main_option("sqlalchemy.url"), target_metadata=target_metadata, literal_binds=True
    )
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online():
    connectable = engine_from_config(
        config.get_section(config.config_ini_section, {}), prefix="sqlalchemy.", poolclass=pool.NullPool
    )
    with connectable.connect() as connection:
        context.configure(connection=connection, target_metadata=target_metadata)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
"""

ASYNC_ENV = """\
import asyncio
from logging.config import fileConfig

from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import async_engine_from_config

config = context.config
if config.config_file_name is not None:
    fileConfig(config.config_file_name)
target_metadata = None


def do_run_migrations(connection):
    context.configure(connection=connection, target_metadata=target_metadata)
    with context.begin_transaction():
        context.run_migrations()


async def run_async_migrations():
    connectable = async_engine_from_config(
        config.get_section(config.config_ini_section, {}), prefix="sqlalchemy.", poolclass=pool.NullPool
    )
    async with connectable.connect() as connection:
        await connection.run_sync(do_run_migrations)
    await connectable.dispose()


if context.is_offline_mode():
    context.configure(url=config.get_main_option("sqlalchemy.url"), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(run_async_migrations())
"""

ENVS = {"sync": (SYNC_ENV, "psycopg2"), "async": (ASYNC_ENV, "asyncpg")}

LOGGING_SECTIONS = """
[loggers]
keys = root,sqlalchemy,alembic

[handlers]
keys = console

[formatters]
keys = generic

[logger_root]
level = WARNING
handlers = console
qualname =

[logger_sqlalchemy]
level = WARNING
handlers =
qualname = sqlalchemy.engine

[logger_alembic]
level = INFO
handlers =
qualname = alembic

[handler_console]
class = StreamHandler
args = (sys.stderr,)
level = NOTSET
formatter = generic

[formatter_generic]
format = %(levelname)-5.5s [%(name)s] %(message)s
datefmt = %H:%M:%S
"""

MAKO = '''\
"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
'''


@dataclass(frozen=True)
class Revision:
    """A revision file to write; see :meth:`Project.add_revision`."""

    id: str
    down: str | tuple[str, ...] | None
    upgrade_body: str = "pass"
    downgrade_body: str = "pass"
    message: str = ""
    header: str = ""
    depends_on: str | tuple[str, ...] | None = None
    branch_labels: tuple[str, ...] | None = None

    @property
    def file_name(self) -> str:
        """``9a0c12_add_orders.py``, as Alembic would call it."""
        slug = re.sub(r"\W+", "_", self.message.lower()).strip("_")
        return f"{self.id}_{slug}.py" if slug else f"{self.id}.py"

    @property
    def text(self) -> str:
        """The file's content."""
        return "\n".join(
            [
                f'"""{self.message or self.id}"""',
                "import sqlalchemy as sa",
                "from alembic import op",
                textwrap.dedent(self.header).strip("\n"),
                f"revision = {self.id!r}",
                f"down_revision = {self.down!r}",
                f"branch_labels = {self.branch_labels!r}",
                f"depends_on = {self.depends_on!r}",
                "",
                "",
                "def upgrade():",
                _body(self.upgrade_body),
                "",
                "",
                "def downgrade():",
                _body(self.downgrade_body),
                "",
            ]
        )


def table_revision(id: str, down: str | tuple[str, ...] | None, table: str = "") -> Revision:
    """A revision that creates one table (``t_<id>``) and drops it again."""
    name = table or f"t_{id}"
    create = f'op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True))'
    return Revision(id, down, create, f'op.drop_table("{name}")', message=f"create {name}")


def table_revisions(*ids: str) -> list[Revision]:
    """A line of revisions, the first of them the base, that create one table each."""
    return [table_revision(one, before) for one, before in zip(ids, [None, *ids], strict=False)]


@dataclass
class Project:
    """An Alembic project in a directory of its own; ``variables`` go to every process that runs in it."""

    path: Path
    database: Database | None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def versions(self) -> Path:
        """The directory of its revision files."""
        return self.path / "migrations" / "versions"

    def add_revision(
        self,
        id: str,
        down: str | tuple[str, ...] | None,
        upgrade_body: str = "pass",
        downgrade_body: str = "pass",
        *,
        message: str = "",
        header: str = "",
        depends_on: str | tuple[str, ...] | None = None,
        branch_labels: tuple[str, ...] | None = None,
    ) -> Path:
        """Write a revision file.

        :param upgrade_body: statements of ``upgrade()`` (``op`` and ``sa`` are there), indented as you like.
        :param header: module-level code before ``revision = …``.
        """
        revision = Revision(
            id, down, upgrade_body, downgrade_body, message, header, depends_on, branch_labels
        )
        return self.add(revision)

    def add(self, *revisions: Revision) -> Path:
        """Write revision files; the path of the last."""
        self.versions.mkdir(parents=True, exist_ok=True)
        for revision in revisions:
            file = self.versions / revision.file_name
            file.write_text(revision.text)
        return file

    def write(self, name: str, text: str) -> Path:
        """Write any file of the project, with the directories on its way."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    def migrator(
        self, *args: str, env: Mapping[str, str] = NO_VARIABLES, timeout: float = 60, check: bool = False
    ) -> Completed:
        """Run migrator in the project, on its database."""
        return run_migrator(*args, env=self._variables(env), cwd=self.path, timeout=timeout, check=check)

    def start(self, *args: str, env: Mapping[str, str] = NO_VARIABLES) -> Running:
        """Start migrator in the project, on its database."""
        return start_migrator(*args, env=self._variables(env), cwd=self.path)

    def alembic(self, *args: str, env: Mapping[str, str] = NO_VARIABLES, check: bool = False) -> Completed:
        """Run bare Alembic in the project."""
        return run_alembic(*args, env={**self.variables, **env}, cwd=self.path, check=check)

    def _variables(self, env: Mapping[str, str]) -> dict[str, str]:
        url = {"MIGRATOR_DATABASE_URL": self.database.url} if self.database else {}
        given = {**url, **self.variables, **env}
        return {name: value for name, value in given.items() if value != UNSET}


UNSET = "\0unset"
"""As a value in ``env``: the variable that a project would get is left out (``MIGRATOR_DATABASE_URL``)."""


def write_project(
    path: Path,
    database: Database | None,
    *,
    env: str = "sync",
    revisions: Sequence[Revision] = (),
    ini: str | None = None,
    options: Mapping[str, str] = NO_VARIABLES,
    driver: str | None = None,
) -> Project:
    """Write an Alembic project that bare Alembic runs on the database, too.

    :param env: ``sync``, ``async`` (asyncpg) or the text of ``env.py``.
    :param ini: the whole text of ``alembic.ini``; ``{url}`` in it becomes the database's URL.
    :param options: more settings for the section ``[alembic]``.
    :param driver: of SQLAlchemy, in the URL of the ini file; None: the one that goes with ``env``.
    """
    script, usual = ENVS.get(env, (env, "psycopg2"))
    url = database.sqlalchemy_url(driver or usual).replace("%", "%%") if database else ""
    project = Project(path, database)
    if ini is None:
        lines = ["[alembic]", "script_location = migrations", "prepend_sys_path = .", "path_separator = os"]
        lines += [f"sqlalchemy.url = {url}"] if url else []
        lines += [f"{name} = {value}" for name, value in options.items()]
        ini = "\n".join(lines) + "\n" + LOGGING_SECTIONS
    else:
        ini = textwrap.dedent(ini).replace("{url}", url)
    project.versions.mkdir(parents=True)
    (path / "alembic.ini").write_text(ini)
    (path / "migrations" / "script.py.mako").write_text(MAKO)
    (path / "migrations" / "env.py").write_text(textwrap.dedent(script))
    if revisions:
        project.add(*revisions)
    return project


def parts_of(url: str) -> dict[str, str]:
    """A URL's parts under libpq's and most projects' names: host, port, user, password, name."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname or "",
        "port": str(parts.port or 5432),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "name": parts.path.lstrip("/"),
    }


def _body(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text).strip("\n") or "pass", "    ")
