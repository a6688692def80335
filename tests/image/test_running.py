"""The image as it runs: with fewer rights than any cluster leaves it, stopped in the middle, with little room."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator import ExitCode
from tests.harness import Database, Project, Revision, table_revisions, wait_until, write_project
from tests.image.engine import HARDENED, Owned, Postgres, build_from, docker, inspect, python_in

pytestmark = pytest.mark.image

HEAD = "f2d75e1c093b"
SHOP = ["customers", "orders", "products"]
RECORDS_ITS_PROCESS = (
    "import os, pathlib\n"
    "status = pathlib.Path('/proc/self/status').read_text()\n"
    "facts = dict(line.split(':\\t', 1) for line in status.splitlines() if ':\\t' in line)\n"
    "for place in ('/app/x', '/opt/migrator/x', '/usr/x', '/x'):\n"
    "    try:\n"
    "        pathlib.Path(place).write_text('')\n"
    "        written = True\n"
    "    except OSError:\n"
    "        written = False\n"
    "    assert not written, place\n"
    "print('process', os.getpid(), os.getuid(), os.getgid(), facts['CapEff'], facts['NoNewPrivs'], flush=True)\n"
)
ANY_DRIVER = """\
import asyncpg, aiomysql, psycopg, psycopg2, pymysql
import getpass
print("all there")
"""


@pytest.fixture
def on_network(postgres: Postgres, shop_url: str) -> tuple[str, ...]:
    """Options of ``docker run`` that lead to the test's database."""
    return ("--network", postgres.network, "--env", f"MIGRATOR_DATABASE_URL={shop_url}")


@pytest.fixture
def mounted(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """Options of ``docker run`` that put a project with these revisions in the place of the image's."""

    def mount(*revisions: Revision, env: str = "sync") -> tuple[str, ...]:
        project: Project = write_project(tmp_path / "project", None, env=env, revisions=revisions)
        project.path.chmod(0o755)
        return ("--volume", f"{project.path}:/app:ro")

    return mount


@pytest.mark.parametrize("user", ["65532:65532", "1000770000:0", "12345:54321"])
def test_it_runs_on_a_read_only_root_without_any_capability_under_any_user_id(
    job: str, user: str, on_network: tuple[str, ...], database: Database
) -> None:
    done = docker("run", "--rm", *HARDENED, "--user", user, *on_network, job)
    assert "verified" in done.stderr
    assert (database.revisions, database.tables) == ([HEAD], SHOP)


@pytest.mark.parametrize("env", ["sync", "async"])
def test_a_revision_finds_itself_in_process_1_without_rights_and_can_write_nowhere(
    runner: str, on_network: tuple[str, ...], mounted: Callable[..., tuple[str, ...]], env: str
) -> None:
    options = mounted(Revision("a1", None, RECORDS_ITS_PROCESS), env=env)
    done = docker("run", "--rm", *HARDENED, "--user", "4321:0", *on_network, *options, runner)
    assert f"process 1 4321 0 {0:016x} 1" in done.stdout + done.stderr, done.output


def test_it_needs_no_directory_that_can_be_written_to(
    job: str, on_network: tuple[str, ...], database: Database
) -> None:
    docker("run", "--rm", "--read-only", *on_network, job)
    assert database.revisions == [HEAD]


def test_without_a_word_it_is_not_root(runner: str) -> None:
    assert inspect(runner)["Config"]["User"] == "65532:65532"
    assert python_in(runner, "import os; print(os.getuid(), os.getgid())") == "65532 65532"


@pytest.mark.parametrize("user", ["65532:65532", "1000770000:0"])
def test_every_driver_can_be_imported_by_a_user_without_a_name(runner: str, user: str) -> None:
    assert python_in(runner, ANY_DRIVER, "--user", user) == "all there"


def test_docker_stop_during_a_migration_ends_with_143_and_rolls_back(
    runner: str,
    on_network: tuple[str, ...],
    mounted: Callable[..., tuple[str, ...]],
    owned: Owned,
    database: Database,
) -> None:
    slow = Revision("b2", "a1", "op.execute('CREATE TABLE half_done (id int); SELECT pg_sleep(600)')")
    options = mounted(*table_revisions("a1"), slow)
    name = owned.container(*HARDENED, *on_network, *options, runner)
    asleep = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()"
    wait_until(lambda: database.query(asleep), "the migration is in its statement", timeout=60)
    docker("stop", "-t", "10", name)
    ended = inspect(name)["State"]
    log = docker("logs", name)
    assert ended["ExitCode"] == ExitCode.TERMINATED == 143, log.output  # killed, it would be 137
    assert (database.revisions, database.tables) == (["a1"], ["t_a1"])
    assert "rolled back: b2" in log.stderr, log.output
    assert not database.query(asleep), "the server goes on with the statement"


def test_a_second_container_waits_for_the_first_and_applies_nothing(
    job: str, on_network: tuple[str, ...], owned: Owned, database: Database
) -> None:
    names = [owned.container(*HARDENED, *on_network, job) for _ in range(3)]
    codes = [docker("wait", name).stdout.strip() for name in names]
    logs = [docker("logs", name).stderr for name in names]
    assert codes == ["0"] * 3, logs
    assert sum("nothing to do" not in log for log in logs) == 1, logs
    assert database.revisions == [HEAD]


def test_128_mib_and_a_tenth_of_a_processor_are_enough(
    job: str,
    on_network: tuple[str, ...],
    owned: Owned,
    database: Database,
    capsys: pytest.CaptureFixture[str],
) -> None:
    limits = ("--memory", "128m", "--memory-swap", "128m", "--cpus", "0.1")
    name = owned.container(*HARDENED, *limits, *on_network, job, "upgrade", "--json")
    assert docker("wait", name).stdout.strip() == "0", docker("logs", name).output
    state = inspect(name)["State"]
    assert not state["OOMKilled"]
    assert database.revisions == [HEAD]
    seconds = json.loads(docker("logs", name).stdout)["duration_seconds"]
    with capsys.disabled():
        print(f"\n6 revisions with 128 MiB and 0.1 CPU: {seconds:.1f} s in the run")


def test_no_shell_is_needed(
    job: str, on_network: tuple[str, ...], owned: Owned, database: Database, tmp_path: Path
) -> None:
    without = owned.image("without-shell")
    build_from(
        without,
        f"FROM {job}\nUSER 0:0\n"
        "RUN [\"python\", \"-c\", \"import os, glob; [os.remove(p) for d in ('/bin', '/usr/bin', '/usr/local/bin') "
        "for n in ('sh', 'bash', 'dash', 'rbash') for p in glob.glob(f'{d}/{n}')]\"]\n"
        "USER 65532:65532\n",
        tmp_path,
    )
    no_shell = docker("run", "--rm", "--entrypoint", "/bin/sh", without, "-c", "true", check=False)
    assert no_shell.returncode == 127, no_shell.output
    docker("run", "--rm", *HARDENED, *on_network, without)
    assert database.revisions == [HEAD]
    for command in (["status", "--exit-code"], ["wait", "--for", "head"], ["check"], ["history"], ["config"]):
        docker("run", "--rm", *HARDENED, *on_network, without, *command)


def test_the_exit_code_and_the_reason_of_a_failure_leave_the_container(
    runner: str, on_network: tuple[str, ...], mounted: Callable[..., tuple[str, ...]]
) -> None:
    options = mounted(Revision("a1", None, "op.execute('SELECT 1/0')"))
    done = docker("run", "--rm", *HARDENED, *on_network, *options, runner, check=False)
    assert done.returncode == ExitCode.MIGRATION_FAILED == 20, done.output
    assert "22012: division by zero" in done.stderr
