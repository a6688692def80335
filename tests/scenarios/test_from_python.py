"""Migrations at the start of an application, in real servers with several workers: ``docs/from-python.md``."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Database, wait_until
from tests.integration.proving import gate
from tests.scenarios import serving
from tests.scenarios.serving import COMPLETE, WAITING
from tests.scenarios.shapes import HERE, Copy
from tests.scenarios.test_s4 import CONFIGURATION, HEAD, ROOMS

WORKERS = 4
LAST_ID = "0a7be4c2d915"
LAST = """\
from alembic import op
import sqlalchemy as sa

revision = "0a7be4c2d915"
down_revision = "f4b1d26a9e05"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("INSERT INTO rooms (name) VALUES ('Cellar')")
"""


def add(copy: Copy, file: str) -> None:
    """Add one of the files of the documentation to the project, as its user does."""
    source = HERE / "start_up" / file
    folder = copy.path / ("app" if file in ("lifespan.py", "on_event.py") else "")
    shutil.copy(source, folder / file)


@pytest.fixture
def copy(database: Database, tmp_path: Path) -> Copy:
    made = Copy("s4_three_environments", tmp_path / "rooms", {"DEV_DATABASE_URL": database.url})
    (made.path / "pyproject.toml").write_text(CONFIGURATION)
    return made


@pytest.fixture
def open_gate(database: Database, copy: Copy) -> Iterator[Callable[[], None]]:
    """The project with one more revision that stops at a gate, and what opens the gate."""
    with contextlib.ExitStack() as closed:
        body = closed.enter_context(gate(database))
        file = copy.path / "alembic/versions/2025_07_01-0a7be4c2d915_cellar.py"
        file.write_text(LAST + textwrap.indent(body, "    "))
        yield closed.close


@pytest.mark.parametrize("module", ["lifespan", "on_event"])
def test_of_four_workers_that_start_at_once_one_migrates_and_all_come_up(
    module: str, copy: Copy, database: Database, open_gate: Callable[[], None]
) -> None:
    add(copy, f"{module}.py")
    with serving.uvicorn(copy, f"app.{module}:app", "--workers", str(WORKERS)) as served:
        wait_until(lambda: served.said(WAITING) == WORKERS, "all are starting", timeout=60)
        served.running.wait_for_line("at the gate")
        assert served.said(COMPLETE) == 0, "none serves before the database is at head"
        assert database.revisions == [HEAD]
        open_gate()
        wait_until(lambda: served.said(COMPLETE) == WORKERS, "all serve", timeout=60)
        served.workers(WORKERS)
        assert served.said("at the gate") == 1
        rooms = served.get("/rooms")
        assert [room["name"] for room in rooms] == [
            "Attic",
            "Writer's den; 50 % off",
            "Küche :warm",
            "Cellar",
        ]
        assert database.revisions == [LAST_ID]
        assert '"GET /rooms HTTP/1.1" 200' in served.running.output, "its logging is as it was"
        ended = served.stop()
    assert ended.returncode == 0, ended.output
    assert "Traceback" not in ended.stderr, ended.output


def test_workers_whose_migration_fails_do_not_serve(copy: Copy, database: Database) -> None:
    add(copy, "lifespan.py")
    database.query("CREATE TABLE bookings (id int)")
    database.query("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    database.query(f"INSERT INTO alembic_version VALUES ('{ROOMS}')")
    with serving.uvicorn(copy, "app.lifespan:app") as served:
        ended = served.running.wait()
    assert ended.returncode == 3, ended.output
    told = ended.stderr[ended.stderr.index("MigrationFailed") :]
    assert "versions/2025_03_09-c8f20b6e4d17_create_bookings.py:" in told
    assert '42P07: relation "bookings" already exists' in told
    assert f"at {ROOMS}, read on a new connection" in told
    assert COMPLETE not in ended.stderr
    assert database.revisions == [ROOMS]


def test_gunicorn_migrates_once_before_its_workers_are_there(
    copy: Copy, database: Database, open_gate: Callable[[], None]
) -> None:
    add(copy, "gunicorn.conf.py")
    with serving.gunicorn(copy, "app.main:app", []) as served:
        served.running.wait_for_line("at the gate")
        assert served.said("Booting worker") == 0
        open_gate()
        pids = served.workers(WORKERS)
        assert served.running.pid not in pids
        assert database.revisions == [LAST_ID]
        ended = served.stop()
    assert ended.returncode == 0, ended.output
    assert "Traceback" not in ended.stderr, ended.output


def test_a_gunicorn_that_is_told_to_stop_while_it_migrates_stops_the_migration(
    copy: Copy, database: Database, open_gate: Callable[[], None]
) -> None:
    add(copy, "gunicorn.conf.py")
    with serving.gunicorn(copy, "app.main:app", []) as served:
        served.running.wait_for_line("at the gate")
        ended = served.stop()
    assert "Terminated" in ended.stderr
    assert "Booting worker" not in ended.stderr
    assert database.revisions == [HEAD]
    open_gate()


def test_a_worker_that_is_killed_while_it_migrates_loses_nothing_and_the_next_one_goes_on(
    copy: Copy, database: Database, open_gate: Callable[[], None]
) -> None:
    add(copy, "lifespan.py")
    worker = ("--worker-class", "uvicorn_worker.UvicornWorker")
    with serving.gunicorn(copy, "app.lifespan:app", worker) as served:
        served.running.wait_for_line("at the gate")
        os.kill(int(served.running.wait_for_line(r"Started server process \[(\d+)\]")[1]), signal.SIGKILL)
        wait_until(lambda: served.said(WAITING) == 2, "another worker is starting")
        open_gate()
        served.running.wait_for_line(COMPLETE)
        assert [room["name"] for room in served.get("/rooms")][3:] == ["Cellar"]
    assert database.revisions == [LAST_ID]


def test_an_application_that_is_told_to_stop_while_it_migrates_finishes_the_migration_first(
    copy: Copy, database: Database, open_gate: Callable[[], None]
) -> None:
    add(copy, "lifespan.py")
    with serving.uvicorn(copy, "app.lifespan:app") as served:
        served.running.wait_for_line("at the gate")
        served.running.send_signal(signal.SIGTERM)
        open_gate()
        ended = served.running.wait()
    assert ended.stderr.index("startup complete") < ended.stderr.index("Shutting down")
    assert database.revisions == [LAST_ID]
