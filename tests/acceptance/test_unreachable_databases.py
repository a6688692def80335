"""A database that does not answer, or will not let us in: the first is waited for, the second is told at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from migrator import embedded
from migrator.errors import ExitCode
from tests.acceptance.judging import QUICK, refused, url_with
from tests.harness import UNSET, Database, Project, Role, query, table_revisions, transaction, with_driver

MakeProject = Callable[..., Project]


@pytest.fixture
def shop(project: MakeProject) -> Project:
    return project(revisions=table_revisions("a1", "b2"))


@pytest.fixture
def limited(new_role: Callable[..., Role], new_database: Callable[..., Database]) -> Iterator[Role]:
    """A role that may have no more connections than it has."""
    role = new_role()
    own = new_database(owner=role.name)
    own.query(f'ALTER ROLE "{role.name}" CONNECTION LIMIT 1')
    with transaction(own.server.url_of(own.name, user=role.name, password=role.password), "SELECT 1"):
        yield role


def known_to(env_py: bool, shop: Project, url: str) -> Mapping[str, str]:
    """Variables for a database that is configured, or that only ``env.py`` knows."""
    if not env_py:
        return {"MIGRATOR_DATABASE_URL": url}
    ini = shop.path / "alembic.ini"
    before, _, after = ini.read_text().partition("sqlalchemy.url = ")
    ini.write_text(f"{before}sqlalchemy.url = {with_driver(url, 'psycopg2')}\n{after.partition(chr(10))[2]}")
    return {"MIGRATOR_DATABASE_URL": UNSET}


either_way = pytest.mark.parametrize("env_py", [False, True], ids=["configured", "only env.py knows"])


@either_way
def test_a_server_that_accepts_and_never_answers_is_not_waited_for_longer_than_was_said(
    shop: Project, database: Database, silent_port: int, env_py: bool
) -> None:
    variables = known_to(env_py, shop, url_with(database.url, host="127.0.0.1", port=silent_port))
    refused(
        shop,
        "upgrade",
        env={**QUICK, **variables},
        code=ExitCode.UNREACHABLE,
        says=[f"127.0.0.1:{silent_port}" if not env_py else "timeout expired"],
        then=["Check that the server is up"],
        timeout=20,
    )


def test_the_silence_of_a_server_is_told_with_its_limit(
    shop: Project, database: Database, silent_port: int
) -> None:
    refused(
        shop,
        "wait",
        env={**QUICK, "MIGRATOR_DATABASE_URL": url_with(database.url, host="127.0.0.1", port=silent_port)},
        code=ExitCode.UNREACHABLE,
        says=["did not answer within 800 ms", "nothing was answered within 500 ms"],
        then=["MIGRATOR_DATABASE_URL", "MIGRATOR_WAIT_TIMEOUT"],
        timeout=20,
    )


@either_way
def test_a_port_that_refuses_is_tried_again_until_the_time_is_over(
    shop: Project, database: Database, closed_port: int, env_py: bool
) -> None:
    variables = known_to(env_py, shop, url_with(database.url, port=closed_port))
    told = refused(
        shop,
        "upgrade",
        env={**QUICK, **variables},
        code=ExitCode.UNREACHABLE,
        says=["Connection refused", str(closed_port)],
        then=["Check that the server is up", "env.py" if env_py else "MIGRATOR_DATABASE_URL"],
    )
    assert "left" in told.completed.stderr  # how long it goes on, told with each try
    assert told.error["retryable"]


def test_each_try_is_told_with_its_reason_and_the_time_that_is_left(
    shop: Project, database: Database, closed_port: int
) -> None:
    told = refused(
        shop,
        "upgrade",
        env={**QUICK, "MIGRATOR_DATABASE_URL": url_with(database.url, port=closed_port)},
        code=ExitCode.UNREACHABLE,
        says=["did not answer within 800 ms"],
        then=[],
    )
    tries = [line for line in told.completed.stderr.splitlines() if line.startswith("wait ")]
    assert tries
    assert all("Connection refused" in line and "next in" in line and "left" in line for line in tries)


REFUSED = {
    "a wrong password": ({"password": "not-the-password"}, "password authentication failed"),
    "an unknown role": ({"user": "nobody_of_that_name"}, "nobody_of_that_name"),
    "an unknown database": ({"name": "no_such_database"}, 'database "no_such_database" does not exist'),
}


@either_way
@pytest.mark.parametrize(("parts", "said"), REFUSED.values(), ids=REFUSED)
def test_a_database_that_will_not_let_us_in_is_told_without_a_second_try(
    shop: Project, database: Database, parts: Mapping[str, str], said: str, env_py: bool
) -> None:
    told = refused(
        shop,
        "upgrade",
        env=known_to(env_py, shop, url_with(database.url, **parts)),
        code=ExitCode.REFUSED,
        says=[said],
        then=["user, password, database name", "env.py" if env_py else "MIGRATOR_DATABASE_URL"],
        secrets=["not-the-password"],
    )
    assert "next in" not in told.completed.stderr


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "asyncpg"])
def test_a_database_that_is_not_there_is_not_made(
    project: Callable[..., Project], database: Database, driver: str
) -> None:
    shop = project("async" if driver == "asyncpg" else "sync", revisions=table_revisions("a1"), driver=driver)
    url = with_driver(url_with(database.url, name="no_such_database"), driver)
    refused(
        shop,
        "upgrade",
        env={"MIGRATOR_DATABASE_URL": url},
        code=ExitCode.REFUSED,
        says=['database "no_such_database" does not exist'],
        then=["migrator makes no database"],
    )


def test_a_refused_password_is_tried_again_as_long_as_grace_was_given(
    shop: Project, database: Database
) -> None:
    told = refused(
        shop,
        "upgrade",
        "--auth-grace",
        "600ms",
        env={"MIGRATOR_DATABASE_URL": url_with(database.url, password="not-the-password")},
        code=ExitCode.REFUSED,
        says=["password authentication failed"],
        then=["MIGRATOR_DATABASE_URL"],
        secrets=["not-the-password"],
    )
    assert "not ready: password authentication failed" in told.completed.stderr
    assert "next in" in told.completed.stderr


def test_credentials_that_come_within_the_grace_are_used(
    shop: Project, new_role: Callable[..., Role], new_database: Callable[..., Database]
) -> None:
    role = new_role("early-days-1!")
    own = new_database(owner=role.name)
    running = shop.start(
        "upgrade",
        env={
            "MIGRATOR_DATABASE_URL": own.server.url_of(own.name, user=role.name, password="late-days-2!"),
            "MIGRATOR_AUTH_GRACE": "30s",
        },
    )
    running.wait_for_line("password authentication failed")
    own.query(f"ALTER ROLE \"{role.name}\" PASSWORD 'late-days-2!'")
    assert running.wait().returncode == 0, running.output
    assert own.revisions == ["b2"]


def test_a_server_without_a_free_connection_is_waited_for(
    shop: Project, database: Database, limited: Role
) -> None:
    url = database.server.url_of(database.name, user=limited.name, password=limited.password)
    refused(
        shop,
        "upgrade",
        env={**QUICK, "MIGRATOR_DATABASE_URL": url},
        code=ExitCode.UNREACHABLE,
        says=["too many connections for role"],
        then=["MIGRATOR_WAIT_TIMEOUT"],
        secrets=[limited.password],
    )


def test_a_server_whose_connections_are_all_taken_is_waited_for(
    project: MakeProject, new_database: Callable[..., Database], new_role: Callable[..., Role]
) -> None:
    role = new_role()
    full = new_database(owner=role.name)
    full.query(f'ALTER DATABASE "{full.name}" CONNECTION LIMIT 2')
    shop = project(revisions=table_revisions("a1"))
    url = full.server.url_of(full.name, user=role.name, password=role.password)
    variables = {"MIGRATOR_DATABASE_URL": url, "MIGRATOR_WAIT_TIMEOUT": "30s"}
    with ExitStack() as taken:
        for _ in range(2):
            taken.enter_context(transaction(url, "SELECT 1"))
        running = shop.start("upgrade", env=variables)
        running.wait_for_line("not ready: too many connections for database")
        full.query(f'ALTER DATABASE "{full.name}" CONNECTION LIMIT 20')
    assert running.wait().returncode == 0, running.output
    assert full.revisions == ["a1"]


@pytest.fixture
def standby() -> Iterator[embedded.EmbeddedPostgres]:
    """A server that follows another one which will never come; ``pg_promote()`` makes a primary of it."""
    with embedded.postgres() as server:
        server.create_database("shop")
        server.stop()
        signal_file = server.data_directory / "standby.signal"
        signal_file.touch()
        owner = server.data_directory.stat()
        os.chown(signal_file, owner.st_uid, owner.st_gid)
        server.start()
        yield server


@either_way
def test_a_standby_is_waited_for_and_not_written_to(
    shop: Project, standby: embedded.EmbeddedPostgres, env_py: bool
) -> None:
    known = known_to(env_py, shop, standby.url("shop"))
    refused(
        shop,
        "upgrade",
        env={**QUICK, "MIGRATOR_CONNECT_TIMEOUT": "5s", **known},
        code=ExitCode.UNREACHABLE,
        says=["read-only"],
        then=[],
    )
    running = shop.start("upgrade", env={"MIGRATOR_WAIT_TIMEOUT": "60s", **known})
    running.wait_for_line("read-only")
    query(standby.url(), "SELECT pg_promote()")
    ended = running.wait()
    assert ended.returncode == 0, ended.output


def test_a_database_that_a_setting_makes_read_only_is_not_waited_for(
    shop: Project, database: Database
) -> None:
    database.query(f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on')
    refused(
        shop,
        "upgrade",
        env={"MIGRATOR_WAIT_TIMEOUT": "300s"},
        code=ExitCode.REFUSED,
        says=["default_transaction_read_only is on"],
        then=["ALTER ROLE"],
    )


def test_status_and_wait_need_no_database_that_writes(shop: Project, database: Database) -> None:
    shop.migrator("upgrade", check=True)
    database.query(f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on')
    assert "at b2" in shop.migrator("status", check=True).stdout
    shop.migrator("wait", "--for", "head", check=True)


def test_an_asynchronous_env_py_that_alone_knows_its_server_waits_for_it_as_well(
    project: MakeProject, database: Database
) -> None:
    """asyncpg lets the system's own error through."""
    shop = project("async", revisions=table_revisions("a1"))
    nowhere = url_with(with_driver(database.url, "asyncpg"), port=1)
    ini = shop.path / "alembic.ini"
    ini.write_text(ini.read_text().replace(with_driver(database.url, "asyncpg"), nowhere))
    run = shop.migrator("upgrade", "--wait-timeout", "1", env={"MIGRATOR_DATABASE_URL": UNSET})
    assert run.returncode == ExitCode.UNREACHABLE, run.output
    assert "env.py runs again" in run.stderr


@pytest.mark.parametrize("command", [("upgrade",), ("wait",), ("wait", "--for", "head")], ids=" ".join)
def test_in_a_pod_localhost_is_told_as_the_pod_itself(
    shop: Project, database: Database, closed_port: int, command: tuple[str, ...]
) -> None:
    url = url_with(database.url, host="127.0.0.1", port=closed_port)
    refused(
        shop,
        *command,
        env={**QUICK, "MIGRATOR_DATABASE_URL": url, "KUBERNETES_SERVICE_HOST": "10.96.0.1"},
        code=ExitCode.UNREACHABLE,
        says=["Connection refused", "in a pod, localhost is the pod itself"],
        then=["MIGRATOR_DATABASE_URL"],
    )
