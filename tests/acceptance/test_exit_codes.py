"""Every exit code by a way that leads to it: the real command line, a real PostgreSQL, and ``--json`` in accord."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import QUICK, explained, url_with, valid_document
from tests.harness import (
    NO_VARIABLES,
    Completed,
    Database,
    Project,
    Revision,
    Running,
    table_revision,
    table_revisions,
    transaction,
    write_project,
)
from tests.integration.proving import ENGINE, RUN, gate, nobody_holds_the_lock

AFTER_A1 = {
    ExitCode.OK,
    ExitCode.LOCKED_OUT,
    ExitCode.LOCK_TIMEOUT,
    ExitCode.CONNECTION_LOST,
    ExitCode.MIGRATION_FAILED,
    ExitCode.LOCK_LOST,
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
}
"""Where the first revision was applied, and stays; elsewhere nothing was, and nothing is."""

RESERVED = {125, 126, 127, 137}
"""Docker, the shell and the kernel own these."""

UNCOMMITTED_ENV = f"""{ENGINE}
with engine.connect() as connection:
    connection.execute(text("SELECT 1"))
    context.configure(connection=connection)
{RUN}"""

DEFECT = """\
import migrator.job


def run(*arguments, **options):
    raise ZeroDivisionError("nobody thought of this")


migrator.job.run = run
"""


@dataclass(frozen=True)
class Place:
    """Where a way begins: a database that is empty, and a folder for projects."""

    path: Path
    database: Database
    closed_port: int

    def project(self, *revisions: Revision, env: str = "sync") -> Project:
        return write_project(self.path / "shop", self.database, env=env, revisions=revisions)

    def upgrade(
        self,
        *more: Revision,
        options: tuple[str, ...] = (),
        env: Mapping[str, str] = NO_VARIABLES,
        env_py: str = "sync",
    ) -> Completed:
        """``migrator upgrade --json`` of a project with one good revision, ``a1``, and ``more``."""
        project = self.project(*table_revisions("a1"), *more, env=env_py)
        return project.migrator("upgrade", "--json", *options, env=env)


Way = Callable[[Place], Completed]
WAYS: dict[ExitCode, Way] = {}


def leads_to(code: ExitCode) -> Callable[[Way], Way]:
    """Decorator: the way to an exit code."""

    def note(way: Way) -> Way:
        assert code not in WAYS
        WAYS[code] = way
        return way

    return note


def failing(statement: str) -> Revision:
    """A revision after ``a1`` that is one SQL statement."""
    return Revision("b2", "a1", f'op.execute("{statement}")')


@leads_to(ExitCode.OK)
def applied(place: Place) -> Completed:
    return place.upgrade()


@leads_to(ExitCode.BUG)
def a_function_of_the_package_raises(place: Place) -> Completed:
    """Python imports ``sitecustomize`` at its start, here one that breaks the package."""
    defect = place.path / "defect"
    defect.mkdir()
    (defect / "sitecustomize.py").write_text(DEFECT)
    return place.upgrade(env={"PYTHONPATH": str(defect)})


@leads_to(ExitCode.USAGE)
def a_setting_is_wrong(place: Place) -> Completed:
    return place.upgrade(env={"MIGRATOR_DEADLINE": "soon"})


@leads_to(ExitCode.CHECK_SAYS_NO)
def a_revision_is_pending(place: Place) -> Completed:
    return place.project(*table_revisions("a1")).migrator("status", "--exit-code", "--json")


@leads_to(ExitCode.UNREACHABLE)
def nobody_listens(place: Place) -> Completed:
    url = url_with(place.database.url, port=place.closed_port)
    return place.upgrade(env={**QUICK, "MIGRATOR_DATABASE_URL": url})


@leads_to(ExitCode.LOCKED_OUT)
def another_run_holds_the_lock(place: Place) -> Completed:
    with gate(place.database) as wait_at_gate:
        project = place.project(Revision("a1", None, wait_at_gate))
        holder = at_the_gate(project)
        locked_out = project.migrator("upgrade", "--json", "--run-lock-timeout", "300ms")
    assert holder.wait().returncode == 0, holder.output
    return locked_out


@leads_to(ExitCode.LOCK_TIMEOUT)
def an_application_holds_a_table(place: Place) -> Completed:
    place.database.query("CREATE TABLE busy (id int)")
    with transaction(place.database.url, "LOCK TABLE busy"):
        return place.upgrade(
            failing("ALTER TABLE busy ADD note text"),
            options=("--lock-timeout", "100ms", "--lock-retry-timeout", "0"),
        )


@leads_to(ExitCode.CONNECTION_LOST)
def the_server_ends_the_session(place: Place) -> Completed:
    return place.upgrade(failing("SELECT pg_terminate_backend(pg_backend_pid())"))


@leads_to(ExitCode.DEADLINE)
def a_statement_takes_too_long(place: Place) -> Completed:
    project = place.project(Revision("a1", None, 'op.execute("SELECT pg_sleep(300)")'))
    return project.migrator("upgrade", "--json", "--deadline", "1s")


@leads_to(ExitCode.MIGRATION_FAILED)
def a_statement_fails(place: Place) -> Completed:
    return place.upgrade(failing("SELECT 1 / 0"))


@leads_to(ExitCode.NOT_VERIFIED)
def nobody_commits(place: Place) -> Completed:
    return place.upgrade(env_py=UNCOMMITTED_ENV)


@leads_to(ExitCode.LOCK_LOST)
def a_revision_gives_the_lock_away(place: Place) -> Completed:
    return place.upgrade(failing("SELECT pg_advisory_unlock_all()"))


@leads_to(ExitCode.HISTORY)
def there_are_two_heads(place: Place) -> Completed:
    return place.upgrade(table_revision("b2", "a1"), table_revision("c3", "a1"))


@leads_to(ExitCode.REFUSED)
def the_password_is_wrong(place: Place) -> Completed:
    return place.upgrade(env={"MIGRATOR_DATABASE_URL": url_with(place.database.url, password="not this one")})


@leads_to(ExitCode.INTERRUPTED)
def somebody_presses_control_c(place: Place) -> Completed:
    return stopped(place, signal.SIGINT)


@leads_to(ExitCode.TERMINATED)
def a_supervisor_says_stop(place: Place) -> Completed:
    return stopped(place, signal.SIGTERM)


def stopped(place: Place, number: signal.Signals) -> Completed:
    """A run that is in the middle of a revision when the signal comes."""
    with gate(place.database) as wait_at_gate:
        run = at_the_gate(place.project(*table_revisions("a1"), Revision("b2", "a1", wait_at_gate)))
        run.send_signal(number)
        return run.wait()


def at_the_gate(project: Project) -> Running:
    run = project.start("upgrade", "--json")
    run.wait_for_line("at the gate")
    return run


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: f"{code:d} {code.name}")
def test_every_exit_code_is_reached_and_told_alike_by_text_and_json(
    code: ExitCode, tmp_path: Path, database: Database, closed_port: int
) -> None:
    assert code in WAYS, f"nothing here leads to {code!r}: add a way"
    completed = WAYS[code](Place(tmp_path, database, closed_port))
    assert completed.returncode == code, completed.output
    document = valid_document(completed)
    assert document["exit_code"] == completed.returncode, completed.output
    if code not in (ExitCode.OK, ExitCode.CHECK_SAYS_NO):
        explained(completed, code)
        assert document["error"]["message"], completed.output
    assert (database.revisions == ["a1"]) is (code in AFTER_A1), completed.output
    assert nobody_holds_the_lock(database)


def test_no_exit_code_is_one_that_others_own_and_none_leads_nowhere() -> None:
    assert RESERVED.isdisjoint(ExitCode)
    assert set(WAYS) == set(ExitCode)
