"""Standard streams that are closed, full, not read to the end, or of another encoding."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable

import pytest

from migrator.errors import ExitCode
from tests.harness import Completed, Database, Project, Revision, start, table_revisions

MakeProject = Callable[..., Project]


@pytest.fixture
def shop(project: MakeProject) -> Project:
    return project(revisions=table_revisions("a1", "b2"))


def shell(shop: Project, command: str, **variables: str) -> Completed:
    """A shell's line, in which ``migrator`` is the command."""
    assert shop.database is not None
    function = f'migrator() {{ {shlex.quote(sys.executable)} -m migrator "$@"; }}; '
    env = {"MIGRATOR_DATABASE_URL": shop.database.url, **variables}
    return start("bash", "-c", function + command, env=env, cwd=shop.path).wait()


@pytest.mark.parametrize("closing", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_closed_stream_keeps_nothing_from_being_migrated(
    shop: Project, database: Database, closing: str
) -> None:
    done = shell(shop, f"migrator upgrade --json {closing}")
    assert done.returncode == 0, done.output
    assert database.revisions == ["b2"]


def test_an_answer_that_is_not_read_to_its_end_is_no_failure(shop: Project) -> None:
    for command in ("history", "sql", "heads", "alembic history", "config"):
        done = shell(shop, f"set -o pipefail; migrator {command} | true")
        assert done.returncode == 0, done.output
        assert done.stderr == ""


def test_an_answer_that_cannot_be_written_is_one(shop: Project, database: Database) -> None:
    for command in ("history", "sql", "heads"):
        failed = shell(shop, f"migrator {command} > /dev/full")
        assert failed.returncode not in (0, ExitCode.BUG), failed.output
    assert shell(shop, "migrator upgrade --json > /dev/full").returncode == 0
    assert database.revisions == ["b2"]


def test_an_encoding_without_the_characters_of_a_message_is_no_failure(shop: Project) -> None:
    shop.add(Revision("c3", "b2", message="añadir señal"))
    for command in ("history", "check --offline", "upgrade", "status", "config", "alembic history"):
        done = shell(shop, f"migrator {command}", PYTHONIOENCODING="ascii", LC_ALL="C")
        assert done.returncode == 0, done.output
        assert done.output.isascii()


PROGRAM = "import subprocess; subprocess.run(['echo', 'told by a program'], check=True)"


def test_what_programs_of_a_revision_print_does_not_get_into_the_answer(
    project: MakeProject, database: Database
) -> None:
    loud = project(revisions=[Revision("a1", None, upgrade_body=PROGRAM)])
    done = loud.migrator("upgrade", "--json", check=True)
    assert done.json["exit_code"] == 0
    assert "told by a program" in done.stderr
    assert database.revisions == ["a1"]


def test_the_answer_of_a_run_that_is_ended_by_force_is_whole(project: MakeProject) -> None:
    deaf = "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); time.sleep(60)"
    stuck = project(revisions=[Revision("a1", None, upgrade_body=PROGRAM + "; " + deaf)])
    done = stuck.migrator("upgrade", "--json", "--deadline", "1s", timeout=40)
    assert done.returncode == ExitCode.DEADLINE, done.output
    assert done.json["exit_code"] == ExitCode.DEADLINE
    assert "told by a program" in done.stderr
