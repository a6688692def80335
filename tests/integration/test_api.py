"""The functions for Python programs: from any thread, inside event loops; they return or raise and leave no trace."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.resources
import json
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

import migrator
from migrator import errors
from migrator.events import DatabaseReady, Event, Planned, StepFinished, StepStarted, Verified
from tests.harness import (
    REPOSITORY,
    Database,
    Project,
    Revision,
    checked,
    parts_of,
    start,
    table_revisions,
    wait_until,
    write_project,
)
from tests.integration.proving import RUN, SHORTEST_ENV, gate, run_locks

Result = TypeVar("Result")
MakeProject = Callable[..., Project]

ASYNC_ENV = """\
import asyncio

from alembic import context
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine


def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    url = make_url(context.config.get_main_option("sqlalchemy.url"))
    engine = create_async_engine(url.set(drivername="postgresql+psycopg"))
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(main())
"""
VARIABLE_ENV = f"""\
import os
import time

from alembic import context
from sqlalchemy import create_engine, pool

folder = os.path.dirname(__file__)
if os.path.exists(folder + "/closed"):
    open(folder + "/reached", "w").close()
while os.path.exists(folder + "/closed"):
    time.sleep(0.02)
engine = create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
{RUN}"""
"""Reads a variable that is only there while it runs; stops before that as long as there is a file ``closed``."""

EXIT_ENV = f"import sys\n\nsys.exit('no luck')\n{SHORTEST_ENV}"
FOREIGN = ("MIGRATOR_", "DB_", "PG", "DATABASE_URL", "ALEMBIC_")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """These tests run in the process of pytest: nothing of its configuration leaks in, no search path out."""
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shop(project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with two revisions, in whose folder the test runs."""
    made = project(SHORTEST_ENV, table_revisions("a1", "b2"))
    monkeypatch.chdir(made.path)
    return made


def revisions_of(steps: Sequence[migrator.results.StepResult]) -> list[str]:
    return [one.step.revision for one in steps]


def at_once(work: Callable[[], Result]) -> Result:
    return work()


def in_a_thread(work: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(work).result(60)


def inside_an_event_loop(work: Callable[[], Result]) -> Result:
    async def main() -> Result:
        return work()

    return asyncio.run(main())


CALLERS = {"main thread": at_once, "thread": in_a_thread, "event loop": inside_an_event_loop}


# From where


@pytest.mark.parametrize("call", CALLERS.values(), ids=CALLERS)
@pytest.mark.parametrize("env", [SHORTEST_ENV, ASYNC_ENV], ids=["env.py", "asynchronous env.py"])
def test_every_function_may_be_called_from_everywhere(
    shop: Project, database: Database, env: str, call: Callable[[Callable[[], Any]], Any]
) -> None:
    shop.write("migrations/env.py", env)
    pending = call(lambda: migrator.status(database_url=database.url))
    assert [one.revision for one in pending.targets[0].pending] == ["a1", "b2"]
    assert database.query("SELECT to_regclass('alembic_version')") == [(None,)]
    assert call(lambda: migrator.wait(database_url=database.url)) is None
    assert revisions_of(call(lambda: migrator.upgrade(database_url=database.url)).applied) == ["a1", "b2"]
    assert call(lambda: migrator.upgrade(database_url=database.url)).applied == ()
    assert call(lambda: migrator.wait("head", database_url=database.url)) is None
    assert call(lambda: migrator.verify(database_url=database.url)).at_head
    assert (database.revisions, database.tables) == (["b2"], ["t_a1", "t_b2"])


def test_every_function_can_be_awaited(shop: Project, database: Database) -> None:
    async def main() -> tuple[bool, list[str], bool]:
        before = await migrator.aio.status(database_url=database.url)
        await migrator.aio.wait(database_url=database.url)
        result = await migrator.aio.upgrade("a1", database_url=database.url)
        result = await migrator.aio.upgrade(database_url=database.url)
        await migrator.aio.wait("head", database_url=database.url)
        return (
            before.at_head,
            revisions_of(result.applied),
            (await migrator.aio.verify(database_url=database.url)).at_head,
        )

    assert asyncio.run(main()) == (False, ["b2"], True)
    assert database.revisions == ["b2"]


async def task_in_its_revision(database: Database) -> asyncio.Task[migrator.RunResult]:
    """A task that upgrades, and is inside its first revision."""
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def note(event: Event) -> None:
        if isinstance(event, StepStarted):
            loop.call_soon_threadsafe(begun.set)

    run = asyncio.create_task(migrator.aio.upgrade(database_url=database.url, deadline=20, on_event=note))
    await asyncio.wait_for(begun.wait(), 15)
    return run


def test_an_event_loop_goes_on_while_an_upgrade_is_awaited(
    project: MakeProject, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop itself lets the revision pass: were it blocked, the deadline would end the run."""

    async def main() -> list[str]:
        with gate(database) as wait_at_gate:
            monkeypatch.chdir(project(SHORTEST_ENV, [Revision("a1", None, wait_at_gate)]).path)
            run = await task_in_its_revision(database)
            assert not run.done()
        return revisions_of((await run).applied)

    assert asyncio.run(main()) == ["a1"]


def test_a_task_that_is_cancelled_does_not_stop_its_upgrade(
    project: MakeProject, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with gate(database) as wait_at_gate:
            monkeypatch.chdir(project(SHORTEST_ENV, [Revision("a1", None, wait_at_gate)]).path)
            run = await task_in_its_revision(database)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert database.revisions == []

    asyncio.run(main())  # its end waits for the thread
    assert database.revisions == ["a1"]


# Several at once


def test_of_two_threads_on_one_database_one_applies_and_the_other_finds_nothing_to_do(
    shop: Project, database: Database
) -> None:
    together = threading.Barrier(2)

    def upgrade() -> list[str]:
        together.wait(10)
        return revisions_of(migrator.upgrade(database_url=database.url).applied)

    with ThreadPoolExecutor(2) as executor:
        both = [executor.submit(upgrade) for _ in range(2)]
    assert sorted(one.result() for one in both) == [[], ["a1", "b2"]]
    assert database.tables == ["t_a1", "t_b2"]


@dataclasses.dataclass(frozen=True)
class Turn:
    """A project that knows its database only by ``DATABASE_URL``, to be upgraded in a thread of its own."""

    project: Project
    database: Database

    def upgrade(self, **options: Any) -> list[str]:
        config = self.project.path / "alembic.ini"
        return revisions_of(
            migrator.upgrade(database_url=self.database.url, config=config, **options).applied
        )

    @property
    def closed(self) -> Path:
        return self.project.path / "migrations" / "closed"

    @property
    def reached(self) -> bool:
        return (self.project.path / "migrations" / "reached").exists()


@pytest.fixture
def turns(tmp_path: Path, new_database: Callable[..., Database]) -> tuple[Turn, Turn]:
    made = []
    for name in ("first", "second"):
        database = new_database()
        ini = "[alembic]\nscript_location = %(here)s/migrations\n"
        project = write_project(
            tmp_path / name, database, env=VARIABLE_ENV, revisions=table_revisions("a1", "b2"), ini=ini
        )
        made.append(Turn(project, database))
    return made[0], made[1]


@contextmanager
def standing_in_env_py(turn: Turn) -> Iterator[Future[list[str]]]:
    """An upgrade in another thread, in the middle of its ``env.py`` until the block ends."""
    turn.closed.touch()
    with ThreadPoolExecutor(1) as executor:
        try:
            running = executor.submit(turn.upgrade)
            wait_until(lambda: turn.reached or running.done(), "env.py runs")
            yield running
        finally:
            turn.closed.unlink()


def test_two_threads_with_two_databases_take_turns_and_each_migrates_its_own(
    turns: tuple[Turn, Turn],
) -> None:
    first, second = turns
    before, ready = dict(os.environ), threading.Event()

    def note(event: Event) -> None:
        if isinstance(event, DatabaseReady):
            ready.set()

    with ThreadPoolExecutor(1) as executor:
        with standing_in_env_py(first) as one:
            other = executor.submit(second.upgrade, on_event=note)
            assert ready.wait(20)
        assert (one.result(), other.result()) == (["a1", "b2"], ["a1", "b2"])
    assert (first.database.tables, second.database.tables) == (["t_a1", "t_b2"], ["t_a1", "t_b2"])
    assert dict(os.environ) == before


def test_who_waits_for_a_turn_in_a_thread_leaves_when_the_deadline_passes(turns: tuple[Turn, Turn]) -> None:
    first, second = turns
    before = dict(os.environ)
    with ThreadPoolExecutor(1) as executor, standing_in_env_py(first) as one:
        other = executor.submit(second.upgrade, deadline="1s")
        with pytest.raises(migrator.DeadlineExceeded):
            other.result(20)
        assert not one.done()
    assert one.result() == ["a1", "b2"]
    assert second.database.tables == []
    assert dict(os.environ) == before
    assert second.upgrade() == ["a1", "b2"]


def test_settings_that_are_read_meanwhile_know_nothing_of_another_threads_run(
    turns: tuple[Turn, Turn],
) -> None:
    with standing_in_env_py(turns[0]) as running:
        assert not running.done()
        assert migrator.load_settings().database is None
    assert running.result() == ["a1", "b2"]


# What stays as it was

STATE = """\
import json, logging, os, signal, sys, threading
import migrator

def mine(number, frame):
    raise AssertionError("nobody sent the program a signal")

class Handler(logging.Handler):
    def emit(self, record):
        print("logged", record.name, record.getMessage())

signal.signal(signal.SIGTERM, mine)
logging.getLogger().addHandler(Handler())
logging.getLogger().addHandler(logging.FileHandler("log.txt", mode="w"))
logging.getLogger().setLevel(logging.INFO)
logging.getLogger("shop.orders").setLevel(logging.DEBUG)

def state():
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return {
        "handlers": [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "wakeup": [wakeup, signal.set_wakeup_fd.__name__],
        "environment": dict(os.environ),
        "streams": [id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "directory": os.getcwd(),
        "logging": [
            [name, logger.level, logger.disabled, logger.propagate, *map(repr, logger.handlers), *logger.filters]
            for name in ("", "shop.orders", "alembic.runtime.migration", "migrator")
            for logger in (logging.getLogger(name),)
        ],
    }

before = state()
try:
    ended = ["returned", [step.step.revision for step in migrator.upgrade().applied]]
except migrator.MigratorError as error:
    applied = [step.step.revision for step in error.result.applied] if error.result else None
    ended = [type(error).__name__, int(error.exit_code), applied]
after = state()
logging.getLogger("shop.orders").debug("still here")
changed = {name: [before[name], after[name]] for name in before if before[name] != after[name]}
print(json.dumps([ended, changed]))
"""
DIVIDE = Revision("c3", "b2", 'op.execute("SELECT 1 / 0")')
LEAVE = Revision("c3", "b2", "import sys\nsys.exit(0)")
ENDS: Mapping[str, tuple[list[Revision], str, list[object]]] = {
    "success": ([], "", ["returned", ["a1", "b2"]]),
    "a failure": ([DIVIDE], "", ["MigrationFailed", 20, ["a1", "b2"]]),
    "sys.exit in a revision": ([LEAVE], "", ["MigrationFailed", 20, ["a1", "b2"]]),
    "sys.exit in env.py": ([], "import sys\nsys.exit(1)\n", ["ConfigurationError", 2, []]),
    "a quiet sys.exit in env.py": ([], "import sys\nsys.exit(0)\n", ["VerificationFailed", 21, []]),
}


@pytest.mark.parametrize(("more", "in_env", "ended"), ENDS.values(), ids=ENDS)
def test_whatever_the_end_a_program_lives_on_with_everything_as_it_was(
    project: MakeProject, database: Database, more: list[Revision], in_env: str, ended: list[object]
) -> None:
    """``env.py`` configures logging as Alembic's own template does, which takes the program's away."""
    made = project(revisions=[*table_revisions("a1", "b2"), *more])
    env = made.path / "migrations" / "env.py"
    env.write_text(
        env.read_text().replace("target_metadata = None\n", f"target_metadata = None\n{in_env}", 1)
    )
    program = start(
        sys.executable, "-c", STATE, env={"MIGRATOR_DATABASE_URL": database.url}, cwd=made.path
    ).wait()
    assert program.returncode == 0, program.output
    *_, logged, last = program.stdout.splitlines()
    assert json.loads(last) == [ended, {}], program.output
    assert logged == "logged shop.orders still here", program.output
    assert (made.path / "log.txt").read_text().endswith("still here\n")


def test_a_program_that_is_told_to_stop_gets_an_error_and_goes_on(
    project: MakeProject, database: Database
) -> None:
    with gate(database) as wait_at_gate:
        made = project(revisions=[*table_revisions("a1"), Revision("b2", "a1", wait_at_gate)])
        program = start(
            sys.executable, "-c", STATE, env={"MIGRATOR_DATABASE_URL": database.url}, cwd=made.path
        )
        program.wait_for_line("at the gate")
        program.send_signal(signal.SIGTERM)
        ended = checked(program.wait())
    assert json.loads(ended.stdout.splitlines()[-1]) == [["Terminated", 143, ["a1"]], {}], ended.output
    assert database.revisions == ["a1"]


@pytest.mark.parametrize("call", CALLERS.values(), ids=CALLERS)
def test_nothing_of_a_run_stays_in_the_process(
    shop: Project, database: Database, call: Callable[[Callable[[], Any]], Any]
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    environment, streams = dict(os.environ), (sys.stdout, sys.stderr)
    shop.add(DIVIDE)
    with pytest.raises(migrator.MigrationFailed):
        call(lambda: migrator.upgrade(database_url=database.url))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert dict(os.environ) == environment
    assert (sys.stdout, sys.stderr) == streams
    wait_until(lambda: not of_migrator(threading.enumerate()), "its threads end", timeout=10)
    assert run_locks(database) == 0


def of_migrator(threads: Sequence[threading.Thread]) -> list[str]:
    return [thread.name for thread in threads if thread.name.startswith("migrator")]


def test_nothing_is_printed(shop: Project, database: Database, capfd: pytest.CaptureFixture[str]) -> None:
    migrator.upgrade(database_url=database.url)
    migrator.status(database_url=database.url)
    shop.add(DIVIDE)
    with pytest.raises(migrator.MigrationFailed):
        migrator.upgrade(database_url=database.url)
    assert capfd.readouterr() == ("", "")


def test_the_pool_of_an_application_goes_on_working_and_keeps_no_lock(
    shop: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = types.ModuleType("shop_application")
    engine = create_engine(database.sqlalchemy_url(), pool_size=2, max_overflow=0, pool_timeout=10)
    monkeypatch.setattr(application, "engine", engine, raising=False)
    monkeypatch.setitem(sys.modules, "shop_application", application)
    env = "from alembic import context\nfrom shop_application import engine\n\n"
    connect = "with engine.connect() as connection:\n    context.configure(connection=connection)\n"
    shop.write("migrations/env.py", f"{env}{connect}{RUN}")
    locks = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
    served: list[int] = []

    def serve(event: Event) -> None:
        """A request of the application in the middle of the run, on the pool's other connection."""
        if isinstance(event, StepFinished):
            with engine.begin() as connection:
                served.append(connection.execute(text("SELECT count(*) FROM t_a1")).scalar_one())

    try:
        assert revisions_of(migrator.upgrade(on_event=serve).applied) == ["a1", "b2"]
        assert served == [0, 0]
        with engine.connect() as one, engine.connect() as other:
            for connection in (one, other):
                assert connection.execute(locks).scalar_one() == 0
                assert connection.execute(text("SHOW lock_timeout")).scalar_one() == "0"
                connection.execute(text("INSERT INTO t_a1 DEFAULT VALUES"))
                connection.commit()
        assert run_locks(database) == 0
    finally:
        engine.dispose()


# Errors


def test_each_kind_of_failure_is_a_class_of_its_own_with_an_exit_code() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    failures = {kind for kind in classes if issubclass(kind, errors.MigratorError)} - {errors.MigratorError}
    assert {kind.__name__ for kind in failures} <= set(migrator.__all__)
    # The answer to a check is returned, and a bug has no class of its own.
    raised_codes = {int(kind.exit_code) for kind in failures}
    assert raised_codes | {0, 1, migrator.ExitCode.CHECK_SAYS_NO} == set(migrator.ExitCode)
    for kind in failures:
        assert kind.__base__ is migrator.MigratorError
        raised = kind()
        assert str(raised) == raised.message != ""
        again = 10 <= kind.exit_code < 20 or kind.exit_code > 128
        assert (raised.retryable, raised.result) == (again, None)


def test_a_failure_says_where_it_was_and_carries_what_was_done_before_it(
    shop: Project, database: Database
) -> None:
    shop.add(DIVIDE, Revision("d4", "c3"))
    with pytest.raises(migrator.MigrationFailed) as caught:
        migrator.upgrade(database_url=database.url)
    error = caught.value
    assert (error.exit_code, error.retryable) == (20, False)
    assert (error.revision, error.file, error.sqlstate) == ("c3", "migrations/versions/c3.py", "22012")
    assert error.statement is not None
    assert error.statement.text == "SELECT 1 / 0"
    assert error.result is not None
    assert revisions_of(error.result.applied) == ["a1", "b2"]
    (target,) = error.result.targets
    assert [step.outcome.value for step in target.steps] == ["applied"] * 2 + ["rolled back", "not tried"]
    assert (target.before, target.after, target.verified) == ((), ("b2",), False)


def test_verify_raises_where_the_database_is_not_at_head(shop: Project, database: Database) -> None:
    migrator.upgrade("a1", database_url=database.url)
    with pytest.raises(migrator.VerificationFailed, match="at a1 and not at b2") as caught:
        migrator.verify(database_url=database.url)
    assert caught.value.details == ("pending: b2",)
    assert "migrator upgrade" in caught.value.next_step


def test_verify_of_a_database_that_is_ahead_advises_no_upgrade(shop: Project, database: Database) -> None:
    shop.add(Revision("c3", "b2"))
    migrator.upgrade(database_url=database.url)
    (shop.versions / "c3.py").unlink()
    with pytest.raises(migrator.MigratorError, match="c3") as caught:
        migrator.verify(database_url=database.url)
    assert "migrator upgrade applies" not in caught.value.next_step
    assert migrator.verify(database_url=database.url, allow_ahead=True).targets[0].unknown == ("c3",)


def test_wait_raises_when_the_time_is_over(shop: Project, database: Database) -> None:
    with pytest.raises(migrator.NotAtHead, match="not at head"):
        migrator.wait("head", database_url=database.url, wait_timeout="300ms")
    with pytest.raises(migrator.AccessRefused):
        migrator.wait(database_url=database.server.url_of(database.name, user="nobody", password="none"))


def test_wait_for_something_else_is_refused(shop: Project, database: Database) -> None:
    mistyped: Any = "haed"
    with pytest.raises(ValueError, match=r"haed.*head"):
        migrator.wait(mistyped, database_url=database.url)


def test_sys_exit_in_env_py_is_an_error_for_whoever_only_looks(shop: Project, database: Database) -> None:
    shop.write("migrations/env.py", EXIT_ENV)
    for look in (migrator.status, migrator.verify):
        with pytest.raises(migrator.ConfigurationError, match="no luck"):
            look(database_url=database.url)


# Settings


def test_single_settings_are_keywords_and_may_be_values_of_python(
    shop: Project, database: Database, tmp_path: Path
) -> None:
    urls = [
        database.url,
        pydantic.SecretStr(database.url),
        make_url(database.url),
        make_url(database.sqlalchemy_url("psycopg")),
    ]
    for url in urls:
        assert migrator.status(database_url=url, config=shop.path / "alembic.ini").targets
    file = tmp_path / "url"
    file.write_text(f"{database.url}\n")
    assert migrator.status(database_url_file=file).targets


def test_the_settings_of_the_command_line_count_and_keywords_come_first(
    shop: Project, database: Database, new_database: Callable[..., Database]
) -> None:
    other = new_database()
    shop.write(".env", f"DATABASE_URL={database.url}\nMIGRATOR_LOCK_TIMEOUT=3s\n")
    migrator.upgrade("a1")
    migrator.upgrade("a1", database_url=other.url)
    assert (database.revisions, other.revisions) == (["a1"], ["a1"])
    assert migrator.load_settings({"lock_timeout": 2}).sources["lock-timeout"] == "--lock-timeout"
    assert migrator.load_settings().lock_timeout == 3


def test_settings_that_were_made_by_hand_read_nothing_else(
    shop: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    settings = migrator.Settings(database_url=pydantic.SecretStr(database.url))
    assert revisions_of(migrator.upgrade(settings=settings).applied) == ["a1", "b2"]
    assert migrator.verify(settings=settings).at_head
    with pytest.raises(TypeError, match="not both"):
        migrator.upgrade(settings=settings, wait_timeout=1)


WRONG: Mapping[str, tuple[dict[str, object], str, str]] = {
    "an unknown name": ({"wait_timeot": 3}, "wait_timeot", "wait_timeout"),
    "no duration": ({"wait_timeout": "soon"}, "(wait_timeout=)", "seconds"),
    "a negative duration": ({"deadline": -1}, "(deadline=)", "0 up"),
    "none of the choices": ({"pooler": "maybe"}, "(pooler=)", "'refuse' or 'session'"),
    "no truth": ({"allow_ahead": "perhaps"}, "(allow_ahead=)", "yes or no"),
    "no text": ({"name": 7}, "(name=)", "text"),
    "no URL": ({"database_url": "shop"}, "database_url=", "postgresql://"),
    "two of one": (
        {"database_url": "postgresql://h/d", "database_url_file": "/nowhere"},
        "database_url_file=",
        "Remove one",
    ),
}


@pytest.mark.parametrize(("options", "named", "advised"), WRONG.values(), ids=WRONG)
def test_a_wrong_keyword_is_told_by_its_own_name(
    shop: Project, options: dict[str, Any], named: str, advised: str
) -> None:
    for call in (migrator.upgrade, migrator.wait, migrator.status, migrator.verify):
        with pytest.raises(migrator.ConfigurationError) as caught:
            call(**options)
        assert named in str(caught.value)
        assert advised in caught.value.next_step
        assert caught.value.exit_code == 2


# Passwords

LEAKING_ENV = (
    "import os\n\nraise RuntimeError('no luck with ' + context.config.get_main_option('sqlalchemy.url'))\n"
)
TELLING_EXIT = "import sys\n\nsys.exit('no luck with ' + context.config.get_main_option('sqlalchemy.url'))\n"
IMPORT = "from alembic import context\n\n"
LEAKING_REVISION = (
    "raise RuntimeError('no luck with ' + op.get_context().config.get_main_option('sqlalchemy.url'))"
)
SQL_PASSWORD = "op.execute(\"ALTER ROLE nobody_of_this_name PASSWORD 'told-to-nobody-7'\")"
LEAKS: Mapping[str, tuple[str, Revision | None]] = {
    "env.py raises it": (IMPORT + LEAKING_ENV, None),
    "env.py exits with it": (IMPORT + TELLING_EXIT, None),
    "a revision raises it": (SHORTEST_ENV, Revision("c3", "b2", LEAKING_REVISION)),
    "a statement has one": (SHORTEST_ENV, Revision("c3", "b2", SQL_PASSWORD)),
}


@pytest.mark.parametrize(("env", "more"), LEAKS.values(), ids=LEAKS)
def test_an_error_shows_no_password_whatever_the_project_puts_into_it(
    shop: Project, database: Database, env: str, more: Revision | None
) -> None:
    shop.write("migrations/env.py", env)
    if more:
        shop.add(more)
    with pytest.raises(migrator.MigratorError) as caught:
        migrator.upgrade(database_url=database.url)
    error = caught.value
    for shown in (str(error), repr(error), repr(vars(error)), repr(error.args)):
        assert parts_of(database.url)["password"] not in shown
        assert "told-to-nobody-7" not in shown
    assert "no luck with postgresql" in repr(vars(error)) or error.sqlstate == "42704"


def test_a_password_that_is_refused_is_not_shown(shop: Project, database: Database) -> None:
    url = database.server.url_of(database.name, user="nobody", password="told-to-nobody-7")
    for call in (migrator.upgrade, migrator.wait, migrator.status, migrator.verify):
        with pytest.raises(migrator.AccessRefused) as caught:
            call(database_url=url)
        assert "told-to-nobody-7" not in str(caught.value) + repr(caught.value) + repr(vars(caught.value))


def test_neither_settings_nor_results_nor_events_show_the_password(shop: Project, database: Database) -> None:
    password = parts_of(database.url)["password"]
    seen: list[Event] = []
    settings = migrator.load_settings({"database_url": database.url, "x": f"url={database.url}"})
    result = migrator.upgrade(settings=settings, on_event=seen.append)
    status = migrator.status(settings=settings, on_event=seen.append)
    for value in (settings, settings.database, settings.describe(), settings.sources, result, status, seen):
        assert password not in repr(value) + str(value)
    assert {Planned, StepStarted, StepFinished, Verified} <= {type(event) for event in seen}


# Types


def parts(value: object) -> Iterator[object]:
    """The value and everything in it."""
    yield value
    if isinstance(value, tuple):
        for one in value:
            yield from parts(one)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from parts(getattr(value, field.name))


def test_what_is_returned_can_be_changed_by_nobody(shop: Project, database: Database) -> None:
    status = migrator.status(database_url=database.url)
    result = migrator.upgrade(database_url=database.url)
    assert (type(status), type(result)) == (migrator.Status, migrator.RunResult)
    values = [*parts(status), *parts(result)]
    assert {"Target", "TargetStatus", "Pending", "StepResult", "Step"} <= {
        type(one).__name__ for one in values
    }
    for one in values:
        assert not isinstance(one, (list, dict, set)), one
        if dataclasses.is_dataclass(one):
            name = dataclasses.fields(one)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(one, name, None)
    assert hash(result) == hash(dataclasses.replace(result))
    with pytest.raises(pydantic.ValidationError):
        migrator.Settings().wait_timeout = 3.0  # type: ignore[misc]


PROGRAM = """\
import migrator
from typing import assert_type


async def main() -> None:
    assert_type(await migrator.aio.upgrade(), migrator.RunResult)
    assert_type(await migrator.aio.status(), migrator.Status)
    assert_type(await migrator.aio.verify(), migrator.Status)
    await migrator.aio.wait("head")


result = migrator.upgrade("head", wait_timeout=30, on_event=print)
assert_type(result, migrator.RunResult)
assert_type(result.applied[0].step.revision, str)
assert_type(migrator.status().targets[0].pending[0].file, str)
assert_type(migrator.verify(settings=migrator.load_settings()), migrator.Status)
assert_type(migrator.load_settings().wait_timeout, float)
migrator.wait("connection")
try:
    migrator.upgrade()
except migrator.MigrationFailed as error:
    assert_type(error.exit_code, migrator.ExitCode)
    assert_type(error.result, migrator.RunResult | None)
"""
MISTAKES = """\
import migrator

migrator.wait("haed")
migrator.upgrade(3)
migrator.upgrade().applied.append(3)
migrator.status().targets[0].current = ()
migrator.upgrade().nothing
"""


def test_a_type_checker_knows_what_is_promised_and_finds_mistakes(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "mistakes.py").write_text(MISTAKES)
    assert request.config.cache is not None
    cache = str(request.config.cache.mkdir("mypy"))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", cache]
    told = subprocess.run(
        [*command, "--no-error-summary", str(tmp_path / "program.py"), str(tmp_path / "mistakes.py")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line.split(":")[:2] for line in told.stdout.splitlines() if ": error:" in line]
    assert [(Path(file).name, int(line)) for file, line in found] == [
        ("mistakes.py", number) for number in range(3, 8)
    ], told.stdout + told.stderr


def test_the_package_says_that_it_is_typed_and_has_all_that_it_names() -> None:
    assert importlib.resources.files("migrator").joinpath("py.typed").is_file()
    assert [name for name in migrator.__all__ if not hasattr(migrator, name)] == []
    assert migrator.__all__ == sorted(migrator.__all__)
    for name in ("status", "upgrade", "verify", "wait"):
        awaited: Callable[..., Awaitable[object]] = getattr(migrator.aio, name)
        assert asyncio.iscoroutinefunction(awaited)
