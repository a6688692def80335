"""Whole runs on MariaDB, with a synchronous and an asynchronous ``env.py``: what holds there, and what does not.

Where MySQL could differ, and where the promise rests on the server, the same runs on it.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from migrator.dialects import LockKey
from migrator.dialects.mysql import lock_name
from tests.harness import (
    LOGGING_SECTIONS,
    UNSET,
    Completed,
    Project,
    Revision,
    Running,
    table_revision,
    table_revisions,
    wait_until,
    write_project,
)
from tests.servers import binaries
from tests.servers.mariadb import MariaDBDatabase, MariaDBServer, mariadb
from tests.servers.mysql import mysql

DRIVERS = {"sync": "pymysql", "async": "aiomysql"}
THREE = table_revisions("a1", "b2", "c3")
# Without it MariaDB does not show who holds which metadata lock.
TELLING = {"performance_schema": "ON", "performance-schema-instrument": "wait/lock/metadata/sql/mdl=ON"}
NO_URL = "[alembic]\nscript_location = migrations\n"
IN_SQL = 'op.execute("SELECT SLEEP(300)")'
# The server looks for the client of a SLEEP every five seconds; of no other statement.
BUSY = 'op.execute("SELECT BENCHMARK(1000000000000, SHA2(1, 256))")'

# What is cancelled fails; on MySQL a SLEEP, and a BENCHMARK everywhere, ends as if nothing had happened.
COUNTING = (
    f'op.execute("SELECT COUNT(*) FROM {", ".join(f"information_schema.collations {x}" for x in "abcde")}")'
)
PRODUCTS = {"mariadb": mariadb, "mysql": mysql}
TITLES = {"mariadb": r"MariaDB 1\d\.\d+\.\d+", "mysql": r"MySQL 9\.\d+\.\d+"}

MakeProject = Callable[..., Project]

on_both = pytest.mark.parametrize("product", list(PRODUCTS))


@contextlib.contextmanager
def started(product: str, options: Mapping[str, str] = MappingProxyType({})) -> Iterator[MariaDBServer]:
    with binaries.needed(), PRODUCTS[product](options) as running:
        yield running


@pytest.fixture
def product() -> str:
    """Where a test runs that is not ``on_both``."""
    return "mariadb"


@pytest.fixture
def server(product: str, request: pytest.FixtureRequest) -> MariaDBServer:
    """One for the whole session: never stop it."""
    running: MariaDBServer = request.getfixturevalue(f"{product}_server")
    return running


@pytest.fixture
def new_database(server: MariaDBServer, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Make databases; their names begin with ``shop``."""
    numbers, made = itertools.count(1), []

    def make(name: str = "", on: MariaDBServer = server) -> MariaDBDatabase:
        database = on.create_database(name or f"shop_{abs(hash(request.node.name)) % 10**8}_{next(numbers)}")
        made.append(database)
        return database

    yield make
    for database in made:
        if database.server.pid is not None:
            database.server.drop_database(database.name)


@pytest.fixture
def database(new_database: Callable[..., MariaDBDatabase]) -> MariaDBDatabase:
    return new_database()


@pytest.fixture
def project(tmp_path: Path, database: MariaDBDatabase) -> MakeProject:
    """Write projects on ``database``, or on another one: ``project("async", revisions, on=other)``."""
    numbers = itertools.count(1)

    def make(
        env: str = "sync", revisions: Any = (), on: MariaDBDatabase = database, driver: str = "", **more: Any
    ) -> Project:
        path = tmp_path / f"project{next(numbers)}"
        driver = driver or DRIVERS.get(env, "pymysql")
        return write_project(path, on, env=env, revisions=revisions, driver=driver, **more)  # type: ignore[arg-type]

    return make


@pytest.fixture(params=["sync", "async"])
def env(request: pytest.FixtureRequest) -> str:
    return request.param


def lock_of(database: MariaDBDatabase, table: str = "alembic_version") -> str:
    return lock_name(LockKey(database.name, database.name, table))


def holder(database: MariaDBDatabase) -> int | None:
    """The connection that holds the run lock."""
    return database.query("SELECT IS_USED_LOCK(%s)", [lock_of(database)])[0][0]


def statements(database: MariaDBDatabase) -> list[str]:
    """What other sessions in the database are running now."""
    rows = database.query(
        "SELECT info FROM information_schema.processlist "
        "WHERE db = %s AND command <> 'Sleep' AND id <> CONNECTION_ID()",
        [database.name],
    )
    return [text for (text,) in rows]


def runs(database: MariaDBDatabase, words: str) -> bool:
    return any(words in (text or "") for text in statements(database))


@contextlib.contextmanager
def transaction(database: MariaDBDatabase, *texts: str) -> Iterator[int]:
    """A session that has run the statements and stays in that transaction; its number."""
    with contextlib.closing(database.server.connect(database.name, autocommit=False)) as connection:
        for text in texts:
            connection.cursor().execute(text)
        yield connection.thread_id()
        connection.rollback()


def sections(ended: Completed) -> dict[str, str]:
    """The report by label."""
    return dict(re.findall(r"^(\w+) +(.*)$", ended.stderr, re.MULTILINE))


# As on PostgreSQL


@on_both
def test_from_empty_to_head_and_back(
    project: MakeProject, database: MariaDBDatabase, env: str, product: str
) -> None:
    made = project(env, THREE)
    made.alembic("upgrade", "a1", check=True)
    first = made.migrator("upgrade", check=True)
    assert re.search(rf"target .*/shop_\w+ as root · {TITLES[product]} ·", first.stderr), first.output
    assert "plan      2 pending: a1 → c3" in first.stderr
    assert "verified  at c3, read on a new connection" in first.stderr
    assert (database.tables, database.revisions) == (["t_a1", "t_b2", "t_c3"], ["c3"])
    assert "nothing to do: at c3" in made.migrator("upgrade", check=True).stderr
    made.migrator("downgrade", "-1", check=True)
    assert database.tables == ["t_a1", "t_b2"]
    assert made.migrator("status", "--exit-code").returncode == 3
    made.migrator("stamp", "c3", check=True)
    assert "up to date · nobody holds the lock" in made.migrator("status", check=True).stdout
    made.migrator("wait", check=True)
    made.migrator("wait", "--for", "head", check=True)
    assert holder(database) is None


@on_both
def test_of_five_runs_at_once_one_applies_and_the_others_wait(
    project: MakeProject, database: MariaDBDatabase, env: str
) -> None:
    made = project(env, THREE)
    ended = [run.wait() for run in [made.start("upgrade") for _ in range(5)]]
    assert [run.returncode for run in ended] == [0] * 5, [run.output for run in ended]
    assert sum("nothing to do" in run.stderr for run in ended) == 4
    assert (database.tables, database.revisions) == (["t_a1", "t_b2", "t_c3"], ["c3"])
    assert holder(database) is None


@on_both
@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql"])
def test_the_database_may_be_named_by_any_of_its_schemes(
    project: MakeProject, database: MariaDBDatabase, scheme: str, product: str
) -> None:
    name, _, driver = scheme.partition("+")
    url = database.server.url(database.name, scheme=name, driver=driver)
    made = project(revisions=THREE, ini=f"{NO_URL}{LOGGING_SECTIONS}")
    ended = made.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": url})
    assert re.search(f"· {TITLES[product]} ·", ended.stderr)
    if (product, scheme) == ("mysql", "mariadb+pymysql"):  # SQLAlchemy's word on it, in env.py
        assert ended.returncode == 2, ended.output
        assert "is not a MariaDB variant" in ended.stderr
        return
    assert ended.returncode == 0, ended.output
    assert database.revisions == ["c3"]


@on_both
def test_what_sql_renders_is_applied_by_the_client(
    project: MakeProject, database: MariaDBDatabase, tmp_path: Path
) -> None:
    client = shutil.which("mariadb")
    if client is None:
        pytest.skip("mariadb is not installed (Debian: apt-get install mariadb-client)")
    made = project(revisions=THREE)
    script = made.migrator("sql", check=True).stdout
    server = database.server
    command = [
        client,
        "--no-defaults",
        "-h",
        server.host,
        "-P",
        str(server.port),
        "-u",
        "root",
        database.name,
    ]
    subprocess.run(command, input=script, text=True, check=True, env={"MYSQL_PWD": server.password})
    assert made.migrator("status", "--exit-code").returncode == 0
    assert "nothing to do" in made.migrator("upgrade", check=True).stderr


@on_both
def test_a_batch_operation_and_other_names_work(
    project: MakeProject, new_database: Callable[..., MariaDBDatabase], env: str
) -> None:
    database = new_database(f"läden-{env}`店")
    made = project(
        env,
        [
            Revision(
                "a1",
                None,
                'op.create_table("Bücher 書", sa.Column("id", sa.Integer, primary_key=True))\n'
                'with op.batch_alter_table("Bücher 書") as batch:\n'
                '    batch.add_column(sa.Column("größe", sa.String(20), nullable=True))\n'
                '    batch.create_index("ix_größe", ["größe"])',
                message="Bücher 書",
            )
        ],
        on=database,
    )
    ended = made.migrator("upgrade", check=True)
    assert "Bücher 書" in ended.stderr
    assert database.tables == ["Bücher 書"]
    assert database.revisions == ["a1"]


def test_another_version_table_in_another_database_is_locked_as_the_same_one(
    project: MakeProject, database: MariaDBDatabase, new_database: Callable[..., MariaDBDatabase]
) -> None:
    """Two runs whose connections begin in different databases, on the version table of a third."""
    home, other = new_database(), new_database()
    tenant = """\
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, version_table="Versions", version_table_schema="HOME")
    with context.begin_transaction():
        context.run_migrations()
""".replace("HOME", home.name)
    create = f'op.execute("CREATE TABLE `{home.name}`.once (id int)")'
    made = [project(tenant, [Revision("a1", None, create)], on=one) for one in (database, other)]
    ended = [run.wait() for run in [one.start("upgrade") for one in made * 2]]
    assert [run.returncode for run in ended] == [0] * 4, [run.output for run in ended]
    assert sum("nothing to do" in run.stderr for run in ended) == 3
    assert home.query("SELECT version_num FROM `Versions`") == [("a1",)]
    assert home.tables == ["Versions", "once"]


def test_two_databases_of_one_server_migrate_at_the_same_time(
    project: MakeProject, database: MariaDBDatabase, new_database: Callable[..., MariaDBDatabase]
) -> None:
    stuck = project(revisions=[Revision("a1", None, IN_SQL)])
    run = stuck.start("upgrade")
    wait_until(lambda: runs(database, "SLEEP"), "the statement runs")
    other = new_database()
    project(revisions=THREE, on=other).migrator("upgrade", check=True)
    assert other.revisions == ["c3"]
    assert holder(database) is not None
    run.kill()


# Another database by USE


def version_table_at(database: MariaDBDatabase, revision: str) -> None:
    """Another project's version table, or that of another tenant with the same history."""
    database.query("CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY)")
    database.query(f"INSERT INTO alembic_version VALUES ('{revision}')")


@on_both
@pytest.mark.parametrize("begun_at", ["base", "a1"])
def test_a_revision_that_goes_to_another_database_leaves_the_next_and_the_bookkeeping_in_theirs(
    project: MakeProject,
    database: MariaDBDatabase,
    new_database: Callable[..., MariaDBDatabase],
    begun_at: str,
) -> None:
    other = new_database()
    version_table_at(other, "a1")
    going = f'op.execute("USE {other.name}")\nop.execute("CREATE TABLE there (id int)")'
    if begun_at == "base":
        made = project(revisions=[Revision("b2", None, going), table_revision("c3", "b2")])
    else:
        made = project(revisions=[table_revision("a1", None)])
        made.migrator("upgrade", check=True)
        made.add(Revision("b2", "a1", going), table_revision("c3", "b2"))
    done = made.migrator("upgrade")
    assert done.returncode == 0, done.output
    assert (database.revisions, other.revisions) == (["c3"], ["a1"])
    assert ("t_c3" in database.tables, other.tables) == (True, ["there"])
    assert f"b2 left the session in {other.name}; it is in {database.name} again" in done.stderr


def test_a_revision_that_fails_in_another_database_is_begun_again_in_its_own(
    project: MakeProject, database: MariaDBDatabase, new_database: Callable[..., MariaDBDatabase]
) -> None:
    """With an ``env.py`` that keeps its connection for the next time that it is run."""
    other = new_database()
    version_table_at(other, "a1")
    kept = """\
import sys
from alembic import context
from sqlalchemy import create_engine, pool

if not hasattr(sys, "kept_connection"):
    engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
    sys.kept_connection = engine.connect()
context.configure(connection=sys.kept_connection)
with context.begin_transaction():
    context.run_migrations()
"""
    database.query("CREATE TABLE mine (id int PRIMARY KEY)")
    other.query("CREATE TABLE held (id int PRIMARY KEY)")
    other.query("INSERT INTO held VALUES (1)")
    body = f"""
op.execute("INSERT INTO mine VALUES (1)")
op.execute("USE {other.name}")
op.execute("UPDATE held SET id = 2")
"""
    made = project(kept, [Revision("a1", None, "pass")])
    made.migrator("upgrade", check=True)
    made.add(Revision("b2", "a1", body))
    with transaction(other, "UPDATE held SET id = 3"):
        run = made.start("upgrade")
        run.wait_for_line("again")
    done = run.wait()
    assert done.returncode == 0, done.output
    assert (database.revisions, other.revisions) == (["b2"], ["a1"])
    assert database.query("SELECT id FROM mine") == [(1,)]


TENANTS = """\
from alembic import context
from sqlalchemy import create_engine, pool, text

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    for tenant in TENANTS:
        connection.execute(text(f"USE {tenant}"))
        connection.commit()
        context.configure(connection=connection, version_table_schema=tenant)
        with context.begin_transaction():
            context.run_migrations()
"""


def test_tenants_by_use_are_targets_of_their_own_where_version_table_schema_names_them(
    project: MakeProject, new_database: Callable[..., MariaDBDatabase]
) -> None:
    tenants = [new_database(), new_database()]
    env = TENANTS.replace("TENANTS", repr([tenant.name for tenant in tenants]))
    made = project(env, THREE, on=tenants[0])
    more = {"MIGRATOR_ALLOW_OTHER_TARGETS": "yes"}
    ended = [run.wait() for run in [made.start("upgrade", env=more) for _ in range(2)]]
    assert [run.returncode for run in ended] == [0, 0], [run.output for run in ended]
    assert sum("6 revisions" in run.stderr and "on 2 targets" in run.stderr for run in ended) == 1
    assert [(tenant.tables, tenant.revisions) for tenant in tenants] == [
        (["t_a1", "t_b2", "t_c3"], ["c3"])
    ] * 2


def test_tenants_by_use_alone_are_no_success(
    project: MakeProject, new_database: Callable[..., MariaDBDatabase]
) -> None:
    """SQLAlchemy goes on to look for the version table in the database that the engine connected to first."""
    home, other = new_database(), new_database()
    env = TENANTS.replace("TENANTS", repr([home.name, other.name])).replace(
        ", version_table_schema=tenant", ""
    )
    made = project(env, THREE, on=home)
    assert "1146" in made.alembic("upgrade", "head").stderr
    ended = made.migrator("upgrade")
    assert ended.returncode == 20, ended.output
    assert f"1146: Table '{other.name}.alembic_version' doesn't exist" in ended.stderr
    assert other.tables == []


# Sessions


@on_both
def test_session_settings_are_set_for_the_run_and_put_back(
    project: MakeProject, database: MariaDBDatabase, product: str
) -> None:
    # One that is raised or switched off, and the statement timeout; before, and during the run.
    other, its_own, limit = {
        "mariadb": ("idle_transaction_timeout", "0", ("max_statement_time", r"90\.50*")),
        "mysql": ("net_read_timeout", "600", ("max_execution_time", "90500")),
    }[product]
    names = ("lock_wait_timeout", "innodb_lock_wait_timeout", "wait_timeout", other, limit[0])
    shown = ", ".join(f"@@{name}" for name in names)
    seen = f'print("SEEN", *connection.exec_driver_sql("SELECT {shown}, @migrator_application").first())'
    env_py = """\
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
connection = engine.connect()
connection.exec_driver_sql("SET SESSION wait_timeout = 77, SESSION OTHER = 88")
connection.commit()
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
connection.close()
engine.dispose()
""".replace("OTHER", other)
    made = project(env_py, [Revision("a1", None, f"connection = op.get_bind()\n{seen}")])
    ended = made.migrator(
        "upgrade", env={"MIGRATOR_LOCK_TIMEOUT": "1100ms", "MIGRATOR_STATEMENT_TIMEOUT": "90500ms"}
    )
    assert ended.returncode == 0, ended.output
    assert re.search(rf"SEEN 2 2 28800 {its_own} {limit[1]} migrator \S+: a1", ended.stdout + ended.stderr), (
        ended.output
    )
    # What is left to the project's own connection afterwards.
    open_ = env_py.replace(
        "connection.close()\nengine.dispose()\n", "import atexit\n" + f"atexit.register(lambda: {seen})\n"
    )
    (made.path / "migrations" / "env.py").write_text(open_)
    ended = made.migrator("upgrade")
    assert re.search(r"SEEN (86400|31536000) 50 77 88 0(\.0*)? None", ended.stdout + ended.stderr), (
        ended.output
    )


def test_this_end_notices_a_server_that_is_gone(project: MakeProject, env: str) -> None:
    body = """\
import socket
driver = op.get_bind().connection.driver_connection
peer = getattr(driver, "_sock", None) or driver._writer.get_extra_info("socket")
options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
print("SEEN", *[peer.getsockopt(socket.IPPROTO_TCP, option) for option in options])
"""
    ended = project(env, [Revision("a1", None, body)]).migrator("upgrade", check=True)
    assert "SEEN 5 5 2 15000" in ended.stdout + ended.stderr


@on_both
def test_a_lock_timeout_of_the_projects_own_is_kept(project: MakeProject, database: MariaDBDatabase) -> None:
    made = project(revisions=[])
    env_py = (made.path / "migrations" / "env.py").read_text()
    own = 'connection.exec_driver_sql("SET SESSION lock_wait_timeout = 7")\n        connection.commit()\n'
    (made.path / "migrations" / "env.py").write_text(
        env_py.replace(
            "        context.configure(connection", f"        {own}        context.configure(connection"
        )
    )
    made.add_revision(
        "a1",
        None,
        'shown = "SELECT @@lock_wait_timeout, @@innodb_lock_wait_timeout"\n'
        'print("SEEN", *op.get_bind().exec_driver_sql(shown).first())',
    )
    ended = made.migrator("upgrade", check=True)
    assert "SEEN 7 1" in ended.stdout + ended.stderr
    database.query("DELETE FROM alembic_version")
    ended = made.migrator("upgrade", "--lock-timeout", "3s", check=True)
    assert "SEEN 3 3" in ended.stdout + ended.stderr


@on_both
def test_a_transaction_of_env_py_that_is_older_than_the_lock_is_not_trusted(
    project: MakeProject, database: MariaDBDatabase
) -> None:
    """REPEATABLE READ is the default, so any SELECT before configure() keeps an old snapshot."""
    database.query("CREATE TABLE settings (id int)")
    made = project(revisions=THREE)
    env_py = (made.path / "migrations" / "env.py").read_text()
    early = 'connection.exec_driver_sql("SELECT * FROM settings").all()\n        '
    ending = "            context.run_migrations()\n        connection.commit()\n"
    (made.path / "migrations" / "env.py").write_text(
        env_py.replace("context.configure(connection", f"{early}context.configure(connection").replace(
            "            context.run_migrations()\n\n\nif", f"{ending}\n\nif"
        )
    )
    ended = [run.wait() for run in [made.start("upgrade") for _ in range(4)]]
    assert [run.returncode for run in ended] == [0] * 4, [run.output for run in ended]
    assert sum("nothing to do" in run.stderr for run in ended) == 3
    assert database.revisions == ["c3"]


@on_both
@pytest.mark.parametrize("statement", ["SELECT RELEASE_ALL_LOCKS()", "SELECT RELEASE_LOCK('{lock}')"])
def test_a_revision_that_gives_the_lock_back_ends_the_run_with_22(
    project: MakeProject, database: MariaDBDatabase, statement: str, env: str
) -> None:
    text = statement.replace("{lock}", lock_of(database))
    made = project(
        env,
        [
            THREE[0],
            Revision("b2", "a1", f'op.execute("INSERT INTO t_a1 VALUES (1)")\nop.execute("{text}")'),
            table_revision("c3", "b2"),
        ],
    )
    ended = made.migrator("upgrade")
    assert ended.returncode == 22, ended.output
    assert "RELEASE_ALL_LOCKS()" in ended.stderr
    assert database.query("SELECT * FROM t_a1") == []
    assert database.revisions == ["a1"]


@on_both
def test_ddl_after_the_lock_was_given_back_is_not_run(
    project: MakeProject, database: MariaDBDatabase
) -> None:
    body = 'op.execute("SELECT RELEASE_ALL_LOCKS()")\nop.execute("CREATE TABLE late (id int)")'
    ended = project(revisions=[Revision("a1", None, body)]).migrator("upgrade")
    assert ended.returncode == 22, ended.output
    assert database.tables == []


# Implicit commits


FAILS = """\
op.execute("INSERT INTO t_a1 VALUES (7)")
op.create_table("half", sa.Column("id", sa.Integer))
op.execute("INSERT INTO t_a1 VALUES (8)")
op.execute("INSERT INTO t_a1 VALUES (8)")
"""


@on_both
def test_what_a_failed_revision_committed_is_named_with_the_way_on(
    project: MakeProject, database: MariaDBDatabase, env: str
) -> None:
    made = project(env, [THREE[0], Revision("b2", "a1", FAILS, message="half"), table_revision("c3", "b2")])
    ended = made.migrator("upgrade", "--json")
    assert ended.returncode == 20, ended.output
    assert re.search(r"\n          1062: Duplicate entry '8' for key '(t_a1\.)?PRIMARY'", ended.stderr)
    assert "state     at a1, read on a new connection" in ended.stderr
    assert "migrator stamp" in ended.json["error"]["next"]
    [target] = ended.json["targets"]
    committed = {step["revision"]: step["committed"] for step in target["steps"]}
    left = ["INSERT INTO t_a1 VALUES (7)", "CREATE TABLE half ( id INTEGER )"]
    assert committed == {"a1": [], "b2": left, "c3": []}
    assert all(text in ended.stderr for text in left)
    # It is true: the row behind the last DDL was rolled back, what was before it was not.
    assert database.query("SELECT * FROM t_a1") == [(7,)]
    assert database.tables == ["half", "t_a1"]
    again = made.migrator("upgrade")
    assert again.returncode == 20, again.output
    database.query("DELETE FROM t_a1")
    again = made.migrator("upgrade")
    assert "1050: Table 'half' already exists" in again.stderr


@on_both
def test_a_revision_of_rows_alone_is_rolled_back_whole(
    project: MakeProject, database: MariaDBDatabase
) -> None:
    body = 'op.execute("INSERT INTO t_a1 VALUES (1)")\nop.execute("INSERT INTO t_a1 VALUES (1)")'
    ended = project(revisions=[THREE[0], Revision("b2", "a1", body)]).migrator("upgrade", "--json")
    assert ended.returncode == 20, ended.output
    assert "rolled back: b2" in ended.stderr
    assert ended.json["targets"][0]["steps"][1]["committed"] == []
    assert database.query("SELECT * FROM t_a1") == []


@on_both
def test_rows_before_ddl_that_fails_are_named_for_they_were_committed(
    project: MakeProject, database: MariaDBDatabase
) -> None:
    """The implicit commit comes before the statement, so it happens even if that fails."""
    body = 'op.execute("INSERT INTO t_a1 VALUES (1)")\nop.execute("ALTER TABLE missing ADD note text")'
    ended = project(revisions=[THREE[0], Revision("b2", "a1", body)]).migrator("upgrade", "--json")
    assert ended.returncode == 20, ended.output
    assert ended.json["targets"][0]["steps"][1]["committed"] == ["INSERT INTO t_a1 VALUES (1)"]
    assert database.query("SELECT * FROM t_a1") == [(1,)]


@on_both
def test_tables_without_transactions_and_procedures_with_ddl_are_named(
    project: MakeProject, database: MariaDBDatabase, env: str
) -> None:
    database.query("CREATE TABLE old (id int) ENGINE=MyISAM")
    database.query("CREATE TABLE new (id int) ENGINE=InnoDB")
    database.query("CREATE PROCEDURE make_one() CREATE TABLE made_one (id int)")
    for statement, left in (
        ("INSERT INTO old VALUES (1)", True),
        ("CALL make_one()", True),
        ("INSERT INTO new VALUES (1)", False),
    ):
        made = project(env, [Revision("a1", None, f'op.execute("{statement}")\nraise RuntimeError("here")')])
        ended = made.migrator("upgrade", "--json")
        assert ended.returncode == 20, ended.output
        [step] = ended.json["targets"][0]["steps"]
        assert step["committed"] == ([statement] if left else []), statement
    assert database.query("SELECT * FROM old") == [(1,)]
    assert database.query("SELECT * FROM new") == []


# Else MySQL 9 refuses rows without a transaction beside rows in one, as 8 does only where it is told to.
WITHOUT_GTIDS = {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}


@on_both
def test_rows_without_a_transaction_are_not_inserted_again_after_a_lock_timeout(
    project: MakeProject, product: str
) -> None:
    with started(product, WITHOUT_GTIDS if product == "mysql" else {}) as server:
        database = server.create_database("shop")
        database.query("CREATE TABLE old (id int) ENGINE=MyISAM")
        database.query("CREATE TABLE new (id int) ENGINE=InnoDB")
        database.query("CREATE TABLE hot (id int) ENGINE=InnoDB")
        database.query("INSERT INTO hot VALUES (1)")
        inserts = ["INSERT INTO new VALUES (2)", "INSERT INTO old VALUES (2)"]
        body = "\n".join(f'op.execute("{text}")' for text in (*inserts, "DELETE FROM hot WHERE id = 1"))
        made = project(revisions=[Revision("a1", None, body)], on=database)
        with transaction(database, "SELECT * FROM hot FOR UPDATE"):
            ended = made.migrator("upgrade", "--json")
        assert ended.returncode == 12, ended.output
        assert ended.json["targets"][0]["steps"][0]["committed"] == inserts
        assert database.query("SELECT * FROM old") == [(2,)]
        assert database.query("SELECT * FROM new") == []


AUTOCOMMIT_ENV = """\
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), isolation_level="AUTOCOMMIT")
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


def test_outside_a_transaction_each_statement_is_named(
    project: MakeProject, database: MariaDBDatabase
) -> None:
    insert = 'op.execute("INSERT INTO t_a1 VALUES (1)")'
    block = f"with op.get_context().autocommit_block():\n    {insert}\n{insert}"
    for env, body in ((AUTOCOMMIT_ENV, f"{insert}\n{insert}"), ("sync", block), ("async", block)):
        made = project(env, [THREE[0], Revision("b2", "a1", body)])
        made.migrator("upgrade", "a1", check=True)
        database.query("DELETE FROM t_a1")
        ended = made.migrator("upgrade", "--json")
        assert ended.returncode == 20, ended.output
        assert ended.json["targets"][0]["steps"][0]["committed"] == ["INSERT INTO t_a1 VALUES (1)"]
        assert database.query("SELECT * FROM t_a1") == [(1,)]


# Traffic


ALTER = 'op.execute("ALTER TABLE t_a1 ADD COLUMN note text")'


@on_both
def test_ddl_behind_a_reader_is_tried_again_until_it_gets_through(
    project: MakeProject, database: MariaDBDatabase, env: str
) -> None:
    made = project(env, [THREE[0]])
    made.migrator("upgrade", check=True)
    made.add_revision("b2", "a1", ALTER)
    with transaction(database, "SELECT * FROM t_a1"):
        run = made.start("upgrade")
        run.wait_for_line("1205: Lock wait timeout exceeded")
        run.wait_for_line("1205: Lock wait timeout exceeded")
        assert [name for name, *_ in database.query("SHOW COLUMNS FROM t_a1")] == ["id"]
    ended = run.wait()
    assert ended.returncode == 0, ended.output
    assert [name for name, *_ in database.query("SHOW COLUMNS FROM t_a1")] == ["id", "note"]
    assert database.revisions == ["b2"]


@on_both
def test_what_was_committed_before_a_lock_timeout_is_not_done_twice(
    project: MakeProject, database: MariaDBDatabase
) -> None:
    made = project(revisions=[THREE[0]])
    made.migrator("upgrade", check=True)
    database.query("CREATE TABLE log (id int)")
    made.add_revision("b2", "a1", f'op.execute("INSERT INTO log VALUES (1)")\n{ALTER}')
    with transaction(database, "SELECT * FROM t_a1"):
        ended = made.migrator("upgrade", "--json")
    assert ended.returncode == 12, ended.output
    assert ended.json["targets"][0]["steps"][0]["committed"] == ["INSERT INTO log VALUES (1)"]
    assert "migrator stamp" in ended.json["error"]["next"]
    assert database.query("SELECT * FROM log") == [(1,)]


@on_both
@pytest.mark.parametrize("kind", ["metadata", "row"])
def test_whoever_blocks_is_named_where_the_server_tells(
    project: MakeProject, new_database: Callable[..., MariaDBDatabase], kind: str, product: str
) -> None:
    with started(product, TELLING if product == "mariadb" else {}) as server:
        database = server.create_database("shop")
        database.query("CREATE TABLE hot (id int)")
        database.query("INSERT INTO hot VALUES (1)")
        statement = "ALTER TABLE hot ADD note text" if kind == "metadata" else "UPDATE hot SET id = 2"
        made = project(revisions=[Revision("a1", None, f'op.execute("{statement}")')], on=database)
        with transaction(database, "SELECT * FROM hot FOR UPDATE") as number:
            blocked = f"blocked by pid {number} (from 127.0.0.1, root, idle in transaction"
            run = made.start("upgrade", "--lock-timeout", "2s")
            run.wait_for_line(f"1205: .*{re.escape(blocked)}.* on hot")
            run.kill()
            run.wait()
            ended = made.migrator("upgrade", "--lock-retry-timeout", "0", "--lock-timeout", "2s")
        assert ended.returncode == 12, ended.output
        assert blocked in ended.stderr
        assert "on hot" in ended.stderr


# Ends


STUCK = [THREE[0], Revision("b2", "a1", f'op.execute("CREATE TABLE half (id int)")\n{IN_SQL}')]


def stuck(made: Project, database: MariaDBDatabase, words: str = "SLEEP") -> Running:
    run = made.start("upgrade")
    wait_until(lambda: runs(database, words), "the statement runs")
    return run


@on_both
def test_sigterm_cancels_the_statement_on_the_server(
    project: MakeProject, database: MariaDBDatabase, env: str
) -> None:
    run = stuck(project(env, STUCK), database)
    run.send_signal(signal.SIGTERM)
    ended = run.wait(9)  # before the grace of 10 s is over: nobody had to force it
    assert ended.returncode == 143, ended.output
    assert "state     at a1, read on a new connection" in ended.stderr
    assert "CREATE TABLE half (id int)" in ended.stderr
    wait_until(lambda: not statements(database), "the statement is ended")
    assert holder(database) is None


@on_both
def test_sigterm_cancels_a_table_that_is_being_rebuilt(
    project: MakeProject, database: MariaDBDatabase
) -> None:
    database.query("CREATE TABLE big (id bigint PRIMARY KEY, note varchar(200))")
    database.query("INSERT INTO big VALUES (1, REPEAT('x', 180))")
    for doubled in range(18):
        database.query(f"INSERT INTO big SELECT id + {1 << doubled}, note FROM big")
    body = 'op.execute("ALTER TABLE big FORCE, ALGORITHM=COPY")'
    run = stuck(project(revisions=[Revision("a1", None, body)]), database, "ALTER TABLE big")
    run.send_signal(signal.SIGTERM)
    ended = run.wait(9)
    assert ended.returncode == 143, ended.output
    wait_until(lambda: not statements(database), "the statement is ended")
    assert database.query("SELECT COUNT(*) FROM big") == [(1 << 18,)]
    assert database.revisions == []


@on_both
def test_the_deadline_cancels_the_statement_on_the_server(
    project: MakeProject, database: MariaDBDatabase, env: str
) -> None:
    ended = project(env, STUCK).migrator("upgrade", "--deadline", "3s")
    assert ended.returncode == 14, ended.output
    wait_until(lambda: not statements(database), "the statement is ended")
    assert holder(database) is None


@on_both
def test_after_sigkill_the_server_goes_on_and_a_rerun_says_whom_it_waits_for(
    project: MakeProject, database: MariaDBDatabase, env: str, product: str
) -> None:
    made = project(env, [THREE[0], Revision("b2", "a1", BUSY), table_revision("c3", "b2")])
    run = stuck(made, database, "BENCHMARK")
    run.kill()
    run.wait()
    orphan = holder(database)
    assert orphan is not None
    refused = made.migrator("upgrade", "--run-lock-timeout", "0")
    assert refused.returncode == 11, refused.output
    assert f"KILL {orphan} ends it" in refused.stderr
    rerun = made.start("upgrade")
    # What a session calls itself is in performance_schema.
    name = {"mariadb": r"from 127\.0\.0\.1", "mysql": r"migrator \S+: b2"}[product]
    rerun.wait_for_line(rf"lock +held by pid {orphan} \({name} for .*it runs SELECT BENCHMARK")
    # Revisions are imported when they run.
    (made.versions / "b2.py").write_text(Revision("b2", "a1").text)
    database.query(f"KILL {orphan}")
    ended = rerun.wait()
    assert ended.returncode == 0, ended.output
    assert database.revisions == ["c3"]


@on_both
def test_after_sigkill_between_ddl_and_the_version_row_a_rerun_names_what_is_there(
    project: MakeProject, database: MariaDBDatabase
) -> None:
    half = Revision("b2", "a1", f'op.execute("CREATE TABLE half (id int)")\n{BUSY}')
    made = project(revisions=[THREE[0], half])
    run = stuck(made, database, "BENCHMARK")
    run.kill()
    run.wait()
    database.query(f"KILL {holder(database)}")
    again = made.migrator("upgrade")
    assert again.returncode == 20, again.output
    assert "1050: Table 'half' already exists" in again.stderr
    assert "or by an earlier try of this revision" in again.stderr
    assert "state     at a1" in again.stderr


@on_both
def test_a_killed_connection_ends_the_run_with_13(
    project: MakeProject, database: MariaDBDatabase, env: str
) -> None:
    run = stuck(project(env, STUCK), database)
    database.query(f"KILL {holder(database)}")
    ended = run.wait()
    assert ended.returncode == 13, ended.output
    assert "state     at a1, read on a new connection" in ended.stderr
    assert "CREATE TABLE half (id int)" in ended.stderr


@on_both
def test_a_statement_that_somebody_else_cancels_fails_the_revision(
    project: MakeProject, database: MariaDBDatabase
) -> None:
    run = stuck(project(revisions=[Revision("a1", None, COUNTING)]), database, "COUNT(*)")
    database.query(f"KILL QUERY {holder(database)}")
    ended = run.wait()
    assert ended.returncode == 20, ended.output
    assert "1317: Query execution was interrupted" in ended.stderr
    assert "Somebody cancelled the statement" in ended.stderr


@on_both
def test_a_statement_timeout_is_the_servers(
    project: MakeProject, database: MariaDBDatabase, product: str
) -> None:
    made = project(revisions=[Revision("a1", None, COUNTING)])
    ended = made.migrator("upgrade", "--statement-timeout", "700ms")
    assert ended.returncode == 20, ended.output
    words = {
        "mariadb": "1969: Query execution was interrupted (max_statement_time exceeded)",
        "mysql": "3024: Query execution was interrupted, maximum statement execution time exceeded",
    }
    assert words[product] in ended.stderr


# Servers that are away, full, or read-only


@pytest.fixture
def own_server(product: str) -> Iterator[MariaDBServer]:
    """A server that the test may stop, and that has room for three users and for root."""
    with started(product, {"max_connections": "10"}) as running:
        yield running


@on_both
def test_a_server_that_comes_later_is_waited_for_and_one_that_goes_ends_the_run(
    project: MakeProject, own_server: MariaDBServer, env: str
) -> None:
    database = own_server.create_database("shop")
    made = project(env, STUCK, on=database)
    own_server.stop()
    run = made.start("upgrade")
    run.wait_for_line(r"wait +not ready: 2003: Can't connect to MySQL server")
    own_server.start()
    wait_until(lambda: runs(database, "SLEEP"), "the statement runs")
    own_server.kill()
    own_server.start()
    ended = run.wait()
    assert ended.returncode == 13, ended.output
    (made.versions / "b2.py").write_text(table_revision("b2", "a1").text)
    made.migrator("upgrade", check=True)
    assert database.revisions == ["b2"]


@on_both
def test_a_server_without_a_free_connection_is_waited_for(
    project: MakeProject, own_server: MariaDBServer
) -> None:
    database = own_server.create_database("shop")
    made = project(revisions=THREE, on=database)
    with contextlib.ExitStack() as others:
        with contextlib.suppress(Exception):
            while True:
                others.enter_context(contextlib.closing(own_server.connect()))
        run = made.start("upgrade")
        run.wait_for_line(r"wait +not ready: 1040: Too many connections")
    ended = run.wait()
    assert ended.returncode == 0, ended.output


@pytest.mark.parametrize(
    ("product", "variable"), [("mariadb", "read_only"), ("mysql", "read_only"), ("mysql", "super_read_only")]
)
def test_a_read_only_server_is_waited_for_and_not_written_to(
    project: MakeProject, own_server: MariaDBServer, variable: str
) -> None:
    database = own_server.create_database("shop")
    made = project(revisions=THREE, on=database)
    own_server.query(f"SET GLOBAL {variable} = ON")
    ended = made.migrator("upgrade", "--wait-timeout", "0")
    assert ended.returncode == 10, ended.output
    assert "read-only" in ended.stderr
    made.migrator("status", check=True)
    run = made.start("upgrade")
    run.wait_for_line("wait +not ready: .*read-only")
    own_server.query("SET GLOBAL read_only = OFF")
    assert run.wait().returncode == 0
    assert database.revisions == ["c3"]


@on_both
def test_a_server_that_becomes_read_only_during_the_run_is_no_fault_of_the_revision(
    project: MakeProject, own_server: MariaDBServer
) -> None:
    database = own_server.create_database("shop")
    own_server.create_user("app", "secret-1", "ALL ON shop.*")
    url = own_server.url("shop", user="app", password="secret-1")
    made = project(
        revisions=[
            Revision("a1", None, 'op.execute("SELECT SLEEP(1)")\nop.execute("CREATE TABLE t (id int)")')
        ],
        on=database,
    )
    run = made.start("upgrade", "--wait-timeout", "1", env={"MIGRATOR_DATABASE_URL": url})
    wait_until(lambda: runs(database, "SLEEP"), "the statement runs")
    own_server.query("SET GLOBAL read_only = ON")
    ended = run.wait()
    assert ended.returncode == 10, ended.output
    assert database.tables == []


# Access


@on_both
@pytest.mark.parametrize("known_to", ["the settings", "env.py alone"])
@pytest.mark.parametrize(
    ("user", "password", "name", "words"),
    [
        ("root", "wrong-password", "", "1045: Access denied for user 'root'"),
        ("nobody-here", "wrong-password", "", "1045: Access denied for user 'nobody-here'"),
        ("root", None, "no_such_database", "1049: Unknown database 'no_such_database'"),
    ],
)
def test_who_is_not_let_in_is_told_at_once_with_24(
    project: MakeProject,
    database: MariaDBDatabase,
    known_to: str,
    user: str,
    password: str | None,
    name: str,
    words: str,
) -> None:
    url = database.server.url(name or database.name, user=user, password=password)
    made = project(revisions=THREE, ini=f"{NO_URL}sqlalchemy.url = {url}\n{LOGGING_SECTIONS}")
    given = url if known_to == "the settings" else UNSET
    ended = made.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": given})
    assert ended.returncode == 24, ended.output
    assert words in ended.stderr
    assert (password or database.server.password) not in ended.stdout + ended.stderr


@on_both
def test_a_user_with_rights_on_its_own_database_alone_can_do_everything(
    project: MakeProject, database: MariaDBDatabase, env: str
) -> None:
    database.server.create_user(f"owner_{env}", "secret-2", f"ALL ON `{database.name}`.*")
    url = database.server.url(database.name, user=f"owner_{env}", password="secret-2", driver="")
    made = project(env, STUCK)
    run = made.start("upgrade", env={"MIGRATOR_DATABASE_URL": url})
    wait_until(lambda: runs(database, "SLEEP"), "the statement runs")
    waiter = made.start("upgrade", env={"MIGRATOR_DATABASE_URL": url})
    waiter.wait_for_line(r"lock +held by pid \d+ \(from 127\.0\.0\.1")
    waiter.send_signal(signal.SIGTERM)
    run.send_signal(signal.SIGTERM)
    assert run.wait(9).returncode == 143
    assert waiter.wait(9).returncode == 143
    wait_until(lambda: not statements(database), "the statement is ended")
    database.server.query(f"DROP USER 'owner_{env}'@'%'")


def test_the_first_login_with_a_hashed_password_needs_no_tls(
    project: MakeProject, mysql_server: MariaDBServer, env: str
) -> None:
    """The server has no hash in its cache then, and takes the password encrypted by its own key alone."""
    database, user = mysql_server.create_database(f"hashed_{env}"), f"hashed_{env}"
    url = mysql_server.url(database.name, user=user, password="secret-4", driver="")
    made = project(env, THREE, on=database)
    mysql_server.create_user(user, "secret-4", f"ALL ON {database.name}.*")
    [(plugin,)] = mysql_server.query("SELECT plugin FROM mysql.user WHERE user = %s", [user])
    assert plugin == "caching_sha2_password"
    wrong = made.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": url.replace("secret-4", "secret-5")})
    assert wrong.returncode == 24, wrong.output
    assert f"1045: Access denied for user '{user}'" in wrong.stderr
    made.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": url}, check=True)
    assert database.revisions == ["c3"]
    mysql_server.drop_database(database.name)
    mysql_server.query(f"DROP USER '{user}'@'%'")


@on_both
def test_a_missing_right_is_named_with_24(project: MakeProject, database: MariaDBDatabase) -> None:
    database.server.create_user("reader", "secret-3", f"SELECT, INSERT, CREATE ON `{database.name}`.*")
    url = database.server.url(database.name, user="reader", password="secret-3", driver="")
    made = project(revisions=[THREE[0], Revision("b2", "a1", ALTER)])
    ended = made.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": url})
    assert ended.returncode == 24, ended.output
    assert "1142: ALTER command denied to user 'reader'" in ended.stderr
    database.server.query("DROP USER 'reader'@'%'")


def test_the_password_is_masked_wherever_it_appears(project: MakeProject, database: MariaDBDatabase) -> None:
    password = database.server.password
    made = project(
        revisions=[
            Revision(
                "a1",
                None,
                "url = op.get_bind().engine.url\n"
                "print(url.password)\n"
                "raise RuntimeError(url.render_as_string(hide_password=False))",
            )
        ]
    )
    ended = made.migrator("upgrade", "--verbose")
    assert ended.returncode == 20, ended.output
    assert password not in ended.stdout + ended.stderr


def test_an_env_py_that_connects_elsewhere_is_stopped_before_any_change(
    project: MakeProject, database: MariaDBDatabase, new_database: Callable[..., MariaDBDatabase], env: str
) -> None:
    other = new_database()
    made = project(env, THREE)
    env_py = made.path / "migrations" / "env.py"
    url = database.sqlalchemy_url(DRIVERS[env])
    env_py.write_text(
        f"from alembic import context\ncontext.config.set_main_option('sqlalchemy.url', {url!r})\n"
        + env_py.read_text()
    )
    for command in ("upgrade", "status"):
        ended = made.migrator(command, env={"MIGRATOR_DATABASE_URL": other.url})
        assert ended.returncode == 2, ended.output
        assert "env.py connects to another database than the one that was configured" in ended.stderr
    assert database.tables == other.tables == []


# Clusters and proxies


def galera() -> Path:
    found = next(Path("/usr/lib/galera").glob("libgalera_smm.so"), None)
    if found is None:
        pytest.skip("Galera is not installed (Debian: apt-get install galera-4)")
    return found


def test_a_galera_node_is_refused_unless_every_run_goes_to_the_same_one(project: MakeProject) -> None:
    options = {
        "wsrep_on": "ON",
        "wsrep_provider": str(galera()),
        "wsrep_cluster_address": "gcomm://",
        "wsrep_provider_options": "gmcast.listen_addr=tcp://127.0.0.1:0;pc.bootstrap=true",
        "wsrep_node_address": "127.0.0.1",
        "binlog_format": "ROW",
        "innodb_autoinc_lock_mode": "2",
    }
    with mariadb(options) as node:
        database = node.create_database("shop")
        made = project(revisions=THREE, on=database)
        ended = made.migrator("upgrade")
        assert ended.returncode == 22, ended.output
        assert "MIGRATOR_LOCK=node" in ended.stderr
        assert database.tables == []
        made.migrator("status", check=True)
        ended = made.migrator("upgrade", "--lock", "node", check=True)
        assert "it holds on this node alone" in ended.stderr
        assert database.revisions == ["c3"]


@contextlib.contextmanager
def announcing_proxy(server: MariaDBServer) -> Iterator[int]:
    """A port that leads to the server, and counts its connections itself, as ProxySQL and MaxScale do."""
    listening = socket.create_server((server.host, 0))
    open_: list[socket.socket] = [listening]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                backend = socket.create_connection((server.host, server.port))
                open_.extend((client, backend))
                greeting = bytearray(backend.recv(4096))
                # Protocol::HandshakeV10: 4 bytes of header, 1 of version, the server's name, a zero, the number.
                at = greeting.index(0, 5) + 1
                number = int.from_bytes(greeting[at : at + 4], "little")
                greeting[at : at + 4] = (number + 100_000).to_bytes(4, "little")
                client.sendall(greeting)
                for pair in ((client, backend), (backend, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        for one in open_:
            one.close()


def test_a_proxy_that_hands_out_connections_is_refused_unless_it_is_known(
    project: MakeProject, database: MariaDBDatabase, env: str
) -> None:
    server = database.server
    with announcing_proxy(server) as port:
        behind = database.url.replace(f":{server.port}/", f":{port}/")
        made = project(env, THREE)
        ended = made.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": behind})
        assert ended.returncode == 22, ended.output
        assert re.search(r"announced backend pid 10\d{4}, and the server says \d+", ended.stderr), (
            ended.output
        )
        assert "MIGRATOR_DIRECT_DATABASE_URL" in ended.stderr
        assert database.tables == []
        made.migrator("status", env={"MIGRATOR_DATABASE_URL": behind}, check=True)
        known = {"MIGRATOR_DATABASE_URL": behind, "MIGRATOR_POOLER": "session"}
        made.migrator("upgrade", env=known, check=True)
    assert database.revisions == ["c3"]


def test_a_procedure_that_commits_is_not_called_twice_after_a_lock_timeout(
    project: MakeProject, database: MariaDBDatabase
) -> None:
    database.query("CREATE TABLE noted (id INT)")
    database.query("CREATE TABLE busy (id INT PRIMARY KEY)")
    database.query("INSERT INTO busy VALUES (1)")
    database.query(
        "CREATE PROCEDURE fill() BEGIN INSERT INTO noted VALUES (1); COMMIT; DELETE FROM busy WHERE id = 1; END"
    )
    ours = project(revisions=[Revision("a1", None, 'op.execute("CALL fill()")')])
    with transaction(database, "SELECT * FROM busy FOR UPDATE"):
        failed = ours.migrator("upgrade")
    assert failed.returncode == 12, failed.output
    assert database.query("SELECT COUNT(*) FROM noted") == [(1,)]
    assert "rolled back" not in failed.stderr
    assert "left      part of a1" in failed.stderr


def test_what_a_procedure_that_fails_has_left_is_not_said_to_be_undone(
    project: MakeProject, database: MariaDBDatabase
) -> None:
    database.query(
        "CREATE PROCEDURE fill() BEGIN CREATE TABLE half (id INT); INSERT INTO nowhere VALUES (1); END"
    )
    failed = project(revisions=[Revision("a1", None, 'op.execute("CALL fill()")')]).migrator("upgrade")
    assert failed.returncode == 20, failed.output
    assert "half" in database.tables
    assert "rolled back" not in failed.stderr


def test_rows_that_unlock_tables_commits_are_named(project: MakeProject, database: MariaDBDatabase) -> None:
    database.query("CREATE TABLE kept (id INT)")
    body = """\
op.execute("LOCK TABLES kept WRITE")
op.execute("INSERT INTO kept VALUES (1)")
op.execute("UNLOCK TABLES")
raise RuntimeError("no")
"""
    failed = project(revisions=[Revision("a1", None, body)]).migrator("upgrade")
    assert failed.returncode == 20, failed.output
    assert database.query("SELECT id FROM kept") == [(1,)]
    assert "INSERT INTO kept" in failed.stderr.split("left  ")[1]
