"""``migrator wait --for head``, the init container: each state that it may find, what it needs and leaves alone."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import assert_keeps, refused, validate
from tests.harness import (
    NO_VARIABLES,
    SYNC_ENV,
    Completed,
    Database,
    Project,
    Revision,
    Role,
    clean_environment,
    query,
    table_revision,
    table_revisions,
    transaction,
    wait_until,
    write_project,
)
from tests.integration.proving import gate
from tests.servers import binaries
from tests.servers.mariadb import mariadb

MakeProject = Callable[..., Project]
WAIT = ("wait", "--for", "head")
LONG = ("--wait-timeout", "10m")
"""Longer than any test waits for a process: what ends nevertheless has not waited."""
BRIEFLY = ("--wait-timeout", "700ms")
# Its text leaves open where the version table is, so it has to be run.
ASKED_ENV = SYNC_ENV + "\n# It might set search_path.\n"
WAYS = {"its files say where": SYNC_ENV, "env.py says where": ASKED_ENV}


@pytest.fixture(params=WAYS)
def shop(request: pytest.FixtureRequest, project: MakeProject) -> Project:
    """A project with three revisions, either way of finding its version table."""
    return project(env=WAYS[request.param], revisions=table_revisions("a1", "b2", "c3"))


@pytest.fixture
def plain(project: MakeProject) -> Project:
    """The same, in the way of nearly every project."""
    return project(revisions=table_revisions("a1", "b2", "c3"))


def waited(shop: Project, *options: str, env: Mapping[str, str] = NO_VARIABLES) -> Completed:
    """A wait that succeeds."""
    told = shop.migrator(*WAIT, *LONG, *options, env=env)
    assert told.returncode == 0, told.output
    return told


# States


def test_not_yet_then_at_head(shop: Project) -> None:
    shop.migrator("upgrade", "a1", check=True)
    waiting = shop.start(*WAIT, *LONG)
    waiting.wait_for_line(r"at a1, wanted c3 \(2 pending\); waited .* at most 10 m")
    shop.migrator("upgrade", check=True)
    ended = waiting.wait()
    assert ended.returncode == 0, ended.output
    assert "at c3 · up to date · nobody holds the lock" in ended.stdout


def test_not_yet_when_the_time_is_over(shop: Project) -> None:
    shop.migrator("upgrade", "a1", check=True)
    told = refused(
        shop,
        *WAIT,
        *BRIEFLY,
        code=ExitCode.UNREACHABLE,
        says=["the database is not at head after", "at a1, wanted c3"],
        then=["Nobody migrates now", "Look at the migration job and its log", "MIGRATOR_WAIT_TIMEOUT"],
        harmless=False,
    )
    (target,) = json.loads(told.completed.stdout)["targets"]
    assert target["at"] == ["a1"]
    assert told.error["kind"] == "not_at_head"


def test_an_empty_database_is_waited_for(shop: Project) -> None:
    refused(
        shop,
        *WAIT,
        *BRIEFLY,
        code=ExitCode.UNREACHABLE,
        says=["at base, wanted c3", "there is no version table yet, as far as this user can see"],
        then=["migration job"],
        harmless=False,
    )
    waiting = shop.start(*WAIT, *LONG)
    waiting.wait_for_line(r"at base, wanted c3 \(3 pending\)")
    shop.migrator("upgrade", check=True)
    assert waiting.wait().returncode == 0, waiting.output


def test_a_database_without_a_version_table_is_waited_for(shop: Project, database: Database) -> None:
    database.query("CREATE TABLE something_else (id integer)")
    refused(
        shop,
        *WAIT,
        *BRIEFLY,
        code=ExitCode.UNREACHABLE,
        says=["there is no version table yet"],
        then=["migration job"],
        harmless=False,
    )


def test_a_database_that_is_ahead_is_refused_at_once(shop: Project) -> None:
    shop.migrator("upgrade", check=True)
    (shop.versions / "c3_create_t_c3.py").unlink()
    told = refused(
        shop,
        *WAIT,
        *LONG,
        code=ExitCode.HISTORY,
        says=["the database is ahead of this image: it is at c3", "newest here: b2"],
        then=["MIGRATOR_ALLOW_AHEAD=yes"],
    )
    (target,) = json.loads(told.completed.stdout)["targets"]
    assert target["at"] == ["c3"]
    assert "not in this image: c3 (the database is ahead)" in waited(shop, "--allow-ahead").stdout


def test_a_database_of_another_project_is_refused_at_once_while_one_that_is_behind_is_waited_for(
    shop: Project, database: Database
) -> None:
    shop.migrator("upgrade", "a1", check=True)
    database.query("INSERT INTO alembic_version VALUES ('f0e1d2')")
    refused(shop, *WAIT, *LONG, code=ExitCode.HISTORY, says=["it is at f0e1d2"], then=[])


def test_several_heads_are_all_wanted(project: MakeProject) -> None:
    heads = [table_revision("a1", None), table_revision("b2", "a1"), table_revision("b3", "a1")]
    for env in WAYS.values():
        shop = project(env=env, revisions=heads)
        shop.migrator("upgrade", "b2", check=True)
        refused(
            shop,
            *WAIT,
            *BRIEFLY,
            code=ExitCode.UNREACHABLE,
            says=["at b2, wanted b2, b3"],
            then=["migration job"],
            harmless=False,
        )
        shop.migrator("upgrade", "heads", check=True)
        assert "at b2, b3 · up to date" in waited(shop).stdout
        shop.migrator("downgrade", "base", check=True)


def test_a_head_that_another_revision_depends_on_is_not_missed(project: MakeProject) -> None:
    """The version table then holds fewer rows than there are heads."""
    line = [Revision("a1", None), Revision("x1", None, depends_on="a1")]
    for env in WAYS.values():
        shop = project(env=env, revisions=line)
        shop.migrator("upgrade", "heads", check=True)
        assert "up to date" in waited(shop).stdout
        shop.migrator("downgrade", "base", check=True)


def test_an_image_without_a_revision_has_nothing_to_wait_for(project: MakeProject) -> None:
    for env in WAYS.values():
        shop = project(env=env)
        refused(
            shop, *WAIT, *LONG, code=ExitCode.USAGE, says=["no revision at all"], then=["Copy the revisions"]
        )
        assert shop.migrator(*WAIT, *LONG, "--allow-empty").returncode == 0


def test_a_broken_history_is_told_before_anything_connects(shop: Project, closed_port: int) -> None:
    shop.add_revision("d4", "no_such")
    nowhere = {"MIGRATOR_DATABASE_URL": f"postgresql://shop:x@127.0.0.1:{closed_port}/shop"}
    refused(
        shop,
        *WAIT,
        *LONG,
        env=nowhere,
        code=ExitCode.HISTORY,
        says=["comes after no_such"],
        then=["Add the file"],
    )


# Where the version table is


def in_schema(schema: str | None) -> str:
    """An ``env.py`` that keeps its version table in that schema."""
    configure = "context.configure(connection=connection, target_metadata=target_metadata"
    assert configure in SYNC_ENV
    return SYNC_ENV.replace(configure, f"{configure}, version_table_schema={schema!r}")


def test_a_version_table_in_another_schema_is_found(project: MakeProject, database: Database) -> None:
    database.query("CREATE SCHEMA ops")
    by_search_path = SYNC_ENV.replace(
        "    with connectable.connect() as connection:\n",
        "    with connectable.connect() as connection:\n"
        '        connection.exec_driver_sql("SET search_path TO ops")\n'
        "        connection.commit()\n",
    )
    assert by_search_path != SYNC_ENV
    for env in (in_schema("ops"), by_search_path):
        shop = project(env=env, revisions=[Revision("a1", None)])
        shop.migrator("upgrade", check=True)
        assert database.query("SELECT version_num FROM ops.alembic_version") == [("a1",)]
        assert "at a1 · up to date" in waited(shop).stdout
        assert (
            json.loads(waited(shop, "--json").stdout)["targets"][0]["version_table"] == "ops.alembic_version"
        )
        shop.migrator("downgrade", "base", check=True)
        database.query("DROP TABLE ops.alembic_version")


def test_the_version_table_of_another_project_beside_it_is_not_taken_for_its_own(
    plain: Project, database: Database
) -> None:
    """Its own comes later, into the schema that the migration's connection leads to."""
    database.query("CREATE SCHEMA other")
    database.query("CREATE TABLE other.alembic_version AS SELECT 'c3' AS version_num")
    waiting = plain.start(*WAIT, *LONG)
    waiting.wait_for_line("at base, wanted c3")
    plain.migrator("upgrade", check=True)
    assert waiting.wait().returncode == 0, waiting.output


def test_of_two_version_tables_env_py_says_which_is_meant(project: MakeProject, database: Database) -> None:
    """What the URL leads to is at head, and is not what this project's migrations run on."""
    database.query("CREATE SCHEMA tenant")
    database.query("CREATE TABLE alembic_version AS SELECT 'c3'::text AS version_num")
    database.query("CREATE TABLE tenant.alembic_version AS SELECT 'a1'::text AS version_num")
    imports = "from sqlalchemy import engine_from_config, pool"
    assert imports in SYNC_ENV
    env = SYNC_ENV.replace(imports, "from engines import engine_from_config\nfrom sqlalchemy import pool")
    shop = project(env=env, revisions=table_revisions("a1", "b2", "c3"))
    shop.write(
        "engines.py",
        """\
        import sqlalchemy
        from sqlalchemy import event

        def engine_from_config(*given, **options):
            engine = sqlalchemy.engine_from_config(*given, **options)

            @event.listens_for(engine, "connect")
            def lead(connection, record):
                with connection.cursor() as cursor:
                    cursor.execute("SET search_path TO tenant")
                connection.commit()

            return engine
        """,
    )
    refused(
        shop, *WAIT, *BRIEFLY, code=ExitCode.UNREACHABLE, says=["at a1, wanted c3"], then=[], harmless=False
    )


# Rights


def url_of(database: Database, role: Role) -> str:
    return database.server.url_of(database.name, user=role.name, password=role.password)


@pytest.fixture
def reader(shop: Project, database: Database, new_role: Callable[..., Role]) -> Iterator[Role]:
    """A role that may connect, and nothing else; the database is at head."""
    shop.migrator("upgrade", check=True)
    role = new_role()
    database.query(f'REVOKE ALL ON DATABASE "{database.name}" FROM PUBLIC')
    database.query("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    database.query(f'GRANT CONNECT ON DATABASE "{database.name}" TO "{role.name}"')
    yield role
    database.query(f'REVOKE ALL ON SCHEMA public FROM "{role.name}"')


def test_select_on_the_version_table_is_enough(shop: Project, database: Database, reader: Role) -> None:
    database.query(f'GRANT USAGE ON SCHEMA public TO "{reader.name}"')
    database.query(f'GRANT SELECT ON alembic_version TO "{reader.name}"')
    with pytest.raises(Exception, match="permission denied"):
        query(url_of(database, reader), "SELECT * FROM t_a1")
    told = waited(shop, env={"MIGRATOR_DATABASE_URL": url_of(database, reader)})
    assert_keeps(told, reader.password)


@pytest.mark.parametrize("missing", ["SELECT", "SELECT and USAGE"])
def test_who_may_not_read_the_version_table_is_told_what_to_grant(
    plain: Project, database: Database, new_role: Callable[..., Role], missing: str
) -> None:
    plain.migrator("upgrade", check=True)
    role = new_role()
    database.query("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    if missing == "SELECT":
        database.query(f'GRANT USAGE ON SCHEMA public TO "{role.name}"')
    env = {"MIGRATOR_DATABASE_URL": url_of(database, role)}
    told = refused(
        plain,
        *WAIT,
        *LONG,
        env=env,
        code=ExitCode.REFUSED,
        says=[f"{role.name} may not read the version table public.alembic_version"],
        then=[f'GRANT SELECT ON "public"."alembic_version" TO "{role.name}";', "needs no other right"],
        secrets=[role.password],
    )
    grants = re.findall(r"GRANT [^;]+;", told.next)
    assert len(grants) == len(missing.split(" and ")), told.next
    for grant in grants:
        database.query(grant)
    waited(plain, env=env)


def test_a_grant_on_its_way_is_waited_for(
    plain: Project, database: Database, new_role: Callable[..., Role]
) -> None:
    plain.migrator("upgrade", check=True)
    role = new_role()
    env = {"MIGRATOR_DATABASE_URL": url_of(database, role), "MIGRATOR_AUTH_GRACE": "10m"}
    waiting = plain.start(*WAIT, *LONG, env=env)
    waiting.wait_for_line("not ready: 42501: permission denied for table alembic_version")
    database.query(f'GRANT SELECT ON alembic_version TO "{role.name}"')
    assert waiting.wait().returncode == 0, waiting.output


# Waiting


def test_no_connection_being_free_is_waited_out(
    plain: Project, database: Database, new_role: Callable[..., Role]
) -> None:
    plain.migrator("upgrade", check=True)
    role = new_role()
    database.query(f'GRANT SELECT ON alembic_version TO "{role.name}"')
    database.query(f'ALTER ROLE "{role.name}" CONNECTION LIMIT 1')
    url = url_of(database, role)
    with transaction(url, "SELECT 1"):
        waiting = plain.start(*WAIT, *LONG, env={"MIGRATOR_DATABASE_URL": url})
        waiting.wait_for_line("not ready: too many connections for role")
    assert waiting.wait().returncode == 0, waiting.output


def test_a_server_that_does_not_answer_is_told_as_such(plain: Project, closed_port: int) -> None:
    refused(
        plain,
        *WAIT,
        *BRIEFLY,
        env={"MIGRATOR_DATABASE_URL": f"postgresql://shop:secret-word@127.0.0.1:{closed_port}/shop"},
        code=ExitCode.UNREACHABLE,
        says=["the database did not answer within", f"127.0.0.1:{closed_port}/shop as shop", "refused"],
        then=["Check that the server is up", "MIGRATOR_DATABASE_URL"],
        secrets=["secret-word"],
    )


def test_a_refused_password_is_told_at_once(
    shop: Project, database: Database, new_role: Callable[..., Role]
) -> None:
    url = database.server.url_of(database.name, user=new_role().name, password="not-the-password")
    refused(
        shop,
        *WAIT,
        *LONG,
        env={"MIGRATOR_DATABASE_URL": url},
        code=ExitCode.REFUSED,
        says=["the server refused the connection", "password authentication failed"],
        then=["MIGRATOR_AUTH_GRACE"],
        secrets=["not-the-password"],
    )


def test_who_migrates_is_shown_while_it_takes_long_and_when_the_time_is_over(
    plain: Project, database: Database, new_role: Callable[..., Role]
) -> None:
    plain.migrator("upgrade", check=True)
    role = new_role()
    database.query(f'GRANT SELECT ON alembic_version TO "{role.name}"')
    env = {"MIGRATOR_DATABASE_URL": url_of(database, role)}
    with gate(database) as body:
        plain.add_revision("d4", "c3", body)
        running = plain.start("upgrade")
        running.wait_for_line("at the gate")
        waiting = plain.start(*WAIT, *LONG, env=env)
        shown = waiting.wait_for_line(
            r"at c3, wanted d4 \(1 pending\); pid (\d+) \(migrator .*: d4.*\) migrates"
        )
        told = refused(
            plain,
            *WAIT,
            *BRIEFLY,
            env=env,
            code=ExitCode.UNREACHABLE,
            says=["at c3, wanted d4", f"pid {shown[1]} (migrator ", "holds the run lock"],
            then=["A migration is running still", "MIGRATOR_WAIT_TIMEOUT"],
            harmless=False,
        )
        assert "Nobody migrates" not in told.next
    assert waiting.wait().returncode == 0, waiting.output
    assert running.wait().returncode == 0, running.output


def test_a_failed_migration_is_not_the_waiters_to_tell_but_where_to_look_is(plain: Project) -> None:
    plain.add_revision("d4", "c3", 'op.execute("SELECT 1 / 0")')
    assert plain.migrator("upgrade").returncode == ExitCode.MIGRATION_FAILED
    refused(
        plain,
        *WAIT,
        *BRIEFLY,
        code=ExitCode.UNREACHABLE,
        says=["at c3, wanted d4"],
        then=["Nobody migrates now", "has it failed, or not been started?"],
        harmless=False,
    )


def test_not_every_poll_is_told(plain: Project, database: Database) -> None:
    plain.migrator("upgrade", "a1", check=True)
    with transaction(database.url, "SELECT 1"):
        before = sessions(database)
        told = plain.migrator(*WAIT, "--wait-timeout", "4s")
        wait_until(lambda: sessions(database) - before >= 3, "several polls were made")
    assert told.stderr.count("wanted c3") == 2, told.output  # at first, and in the failure


def test_one_look_is_one_connection(plain: Project, database: Database) -> None:
    plain.migrator("upgrade", check=True)
    wait_until(lambda: not connected(database), "the upgrade's sessions have ended")
    before = sessions(database)
    waited(plain)
    wait_until(lambda: not connected(database), "the waiter's session has ended")
    wait_until(lambda: sessions(database) > before, "it was counted")
    assert sessions(database) == before + 1


def sessions(database: Database) -> int:
    """How many there were in the database, as far as their ends have been counted."""
    statement = "SELECT sessions FROM pg_stat_database WHERE datname = %s"
    ((count,),) = query(database.server.url, statement, [database.name])
    return int(count)


def connected(database: Database) -> list[tuple[object, ...]]:
    return query(database.server.url, "SELECT pid FROM pg_stat_activity WHERE datname = %s", [database.name])


def test_nothing_is_connected_between_two_polls(shop: Project, database: Database) -> None:
    shop.migrator("upgrade", "a1", check=True)
    waiting = shop.start(*WAIT, *LONG)
    waiting.wait_for_line("at a1, wanted c3")
    wait_until(lambda: not connected(database), "the connection was given back")
    assert waiting.process.poll() is None, waiting.output
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait().returncode == ExitCode.TERMINATED, waiting.output


def test_a_version_table_that_a_migration_has_locked_is_waited_for_and_leaves_nobody_behind(
    plain: Project, database: Database
) -> None:
    plain.migrator("upgrade", check=True)
    env = {"MIGRATOR_CONNECT_TIMEOUT": "3s"}
    with transaction(database.url, "LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"):
        waiting = plain.start(*WAIT, *LONG, env=env)
        waiting.wait_for_line("not ready: 55P03: canceling statement due to lock timeout")
        wait_until(lambda: len(connected(database)) == 1, "only the one that holds the lock is there")
    assert waiting.wait().returncode == 0, waiting.output


def test_a_signal_ends_a_wait(shop: Project) -> None:
    for number, code in ((signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGINT, ExitCode.INTERRUPTED)):
        waiting = shop.start(*WAIT, *LONG)
        waiting.wait_for_line("at base, wanted c3")
        waiting.send_signal(number)
        assert waiting.wait().returncode == code, waiting.output


def test_json_lines_have_where_it_is_and_what_is_wanted(plain: Project) -> None:
    plain.migrator("upgrade", "a1", check=True)
    told = plain.migrator(*WAIT, *BRIEFLY, "--json", "--log-format", "json")
    lines = [json.loads(line) for line in told.stderr.splitlines()]
    # Told again where the time is nearly over.
    awaited = next(line for line in lines if line["event"] == "head_awaited")
    assert (awaited["at"], awaited["wanted"], awaited["pending"]) == (["a1"], ["c3"], 2)
    validate(json.loads(told.stdout))


# Start-up


def test_a_plain_project_is_neither_run_nor_is_alembic_imported(plain: Project) -> None:
    plain.migrator("upgrade", check=True)
    (plain.path / "migrations" / "env.py").write_text(f"raise SystemExit('env.py ran')\n{SYNC_ENV}")
    environment = clean_environment({"MIGRATOR_DATABASE_URL": plain.database.url if plain.database else ""})
    command = [sys.executable, "-X", "importtime", "-m", "migrator", *WAIT]
    told = subprocess.run(
        command, cwd=plain.path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert told.returncode == 0, told.stderr[-3000:]
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", told.stderr, re.MULTILINE))
    assert "sqlalchemy" in imported
    assert "alembic" not in imported


# Other databases


def test_mariadb(tmp_path: Path) -> None:
    with binaries.needed(), mariadb() as server:
        database = server.create_database("shop")
        server.create_user("waiter", "a-good-password")
        shop = write_project(tmp_path / "shop", None, revisions=table_revisions("a1", "b2"))
        shop.variables["MIGRATOR_DATABASE_URL"] = database.url
        shop.migrator("upgrade", "a1", check=True)
        url = server.url("shop", user="waiter", password="a-good-password", driver="")
        server.query("GRANT INSERT ON shop.alembic_version TO waiter@'%'")
        told = shop.migrator(*WAIT, *LONG, env={"MIGRATOR_DATABASE_URL": url})
        assert told.returncode == ExitCode.REFUSED, told.output
        grant = "GRANT SELECT ON `shop`.`alembic_version` TO 'waiter'@'%';"
        assert grant in told.stderr, told.output
        server.query(grant)
        waiting = shop.start(*WAIT, *LONG, env={"MIGRATOR_DATABASE_URL": url})
        waiting.wait_for_line(r"at a1, wanted b2 \(1 pending\)")
        shop.migrator("upgrade", check=True)
        ended = waiting.wait()
        assert ended.returncode == 0, ended.output
        assert "at b2 · up to date · nobody holds the lock" in ended.stdout
        (shop.versions / "b2_create_t_b2.py").unlink()
        assert shop.migrator(*WAIT, *LONG, env={"MIGRATOR_DATABASE_URL": url}).returncode == ExitCode.HISTORY


def test_sqlite(tmp_path: Path) -> None:
    shop = write_project(tmp_path / "shop", None, revisions=table_revisions("a1", "b2"))
    shop.variables["MIGRATOR_DATABASE_URL"] = f"sqlite:///{tmp_path}/shop.db"
    shop.migrator("upgrade", "a1", check=True)
    waiting = shop.start(*WAIT, *LONG)
    waiting.wait_for_line(r"at a1, wanted b2 \(1 pending\)")
    shop.migrator("upgrade", check=True)
    ended = waiting.wait()
    assert ended.returncode == 0, ended.output
    assert "at b2 · up to date" in ended.stdout
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("b2",)]


# What Kubernetes is told


def with_termination_log(shop: Project, *command: str) -> tuple[int, str]:
    """(exit code, what is in ``/dev/termination-log``) of a run whose ``/dev`` is its own, as in a container."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1), which gives a process a /dev of its own")
    nodes = "null zero random urandom"
    script = f"""\
        mount -t tmpfs none "$1" || exit 77
        for node in {nodes}; do touch "$1/$node" && mount --bind "/dev/$node" "$1/$node" || exit 77; done
        touch "$1/termination-log" && mount --rbind "$1" /dev || exit 77
        shift
        "$@" >/dev/null 2>&1
        code=$?
        cat /dev/termination-log
        exit $code
    """
    folder = shop.path.parent / "dev"
    folder.mkdir()
    url = shop.database.url if shop.database else ""
    ran = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(folder), *command],
        cwd=shop.path,
        env=clean_environment({"MIGRATOR_DATABASE_URL": url, **shop.variables}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if (ran.returncode in (1, 77) and "unshare" in ran.stderr + ran.stdout) or ran.returncode == 77:
        pytest.skip(f"no mount namespace here: {ran.stderr.strip()}")
    return ran.returncode, ran.stdout


@pytest.mark.parametrize("command", [("upgrade",), (*WAIT, *LONG)], ids=["upgrade", "wait"])
def test_an_older_image_on_a_newer_database_ends_at_once_and_says_so_to_kubernetes(
    plain: Project, command: tuple[str, ...]
) -> None:
    plain.migrator("upgrade", check=True)
    (plain.versions / "c3_create_t_c3.py").unlink()
    code, told = with_termination_log(plain, sys.executable, "-m", "migrator", *command)
    assert code == ExitCode.HISTORY, told
    assert told.count("\n") == 0
    message = json.loads(told)
    assert message["exit_code"] == ExitCode.HISTORY
    assert message["message"].startswith("the database is ahead of this image: it is at c3")
    assert "MIGRATOR_ALLOW_AHEAD=yes" in message["next"]
    assert message["at"] == ["c3"]


def test_kubernetes_is_told_where_the_database_was_when_the_time_was_over(plain: Project) -> None:
    plain.migrator("upgrade", "a1", check=True)
    code, told = with_termination_log(plain, sys.executable, "-m", "migrator", *WAIT, *BRIEFLY)
    assert code == ExitCode.UNREACHABLE, told
    message = json.loads(told)
    assert message["message"].startswith("the database is not at head after")
    assert message["at"] == ["a1"]
    assert "migration job" in message["next"]
