"""The oldest and the newest supported Alembic and SQLAlchemy, and a pair in between, each in its own interpreter.

Every declared dependency is at its lower bound where Alembic and SQLAlchemy are old. The environments are made
once, from PyPI, and kept in pytest's cache; what runs in them is the package as it ships, unpacked from a wheel.
"""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from tests.acceptance.models import RENAMED, shop
from tests.harness import (
    REPOSITORY,
    Completed,
    Database,
    Project,
    Revision,
    Running,
    checked,
    parts_of,
    start,
    table_revision,
    transaction,
)
from tests.integration.proving import SHORTEST_ENV

MakeProject = Callable[..., Project]

DECLARED = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
LATER_FLOORS: Mapping[tuple[int, int], Mapping[str, str]] = {
    (3, 13): {
        "psycopg[binary]": "3.2.2",
        "psycopg2-binary": "2.9.10",
        "pydantic": "2.8",
        "sqlalchemy": "2.0.31",
    },
}
"""By Python version: what a lower bound is where the declared one has no build for that Python, or fails on it."""

UNREACHABLE = ("Retrying (Retry(", "Could not fetch URL")
"""How pip says that it could not speak with the index at all."""

INDEX = """
with op.get_context().autocommit_block():
    op.create_index("ix_orders_note", "orders", ["note"], postgresql_concurrently=True)
"""
NO_INDEX = """
with op.get_context().autocommit_block():
    op.drop_index("ix_orders_note", "orders", postgresql_concurrently=True)
"""
NOTE = 'op.add_column("orders", sa.Column("note", sa.Text))'
HISTORY = (
    table_revision("a1", None, "orders"),
    Revision("b2", "a1", NOTE, 'op.drop_column("orders", "note")', message="add orders.note"),
    Revision("c3", "b2", INDEX, NO_INDEX, message="index orders.note, concurrently"),
)
INDEX_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_orders_note')"


@dataclass(frozen=True)
class Stack:
    """An interpreter with certain versions of everything that migrator stands on."""

    python: Path
    variables: Mapping[str, str]
    alembic: tuple[int, ...]

    def start(self, project: Project, *arguments: str) -> Running:
        """Start ``python -m migrator`` in a project, on its database."""
        if not self.variables:  # what runs the tests: as in all other tests
            return project.start(*arguments)
        url = {"MIGRATOR_DATABASE_URL": project.database.url} if project.database else {}
        variables = {**url, **project.variables, **self.variables}
        return start(str(self.python), "-m", "migrator", *arguments, env=variables, cwd=project.path)

    def run(self, project: Project, *arguments: str, code: int = 0) -> Completed:
        """Run it to its end; another exit code than ``code`` fails the test."""
        completed = self.start(project, *arguments).wait()
        assert completed.returncode == code, completed.output
        return completed

    def evaluate(self, project: Project, expressions: str) -> list[str]:
        """What some Python expressions are there, as text."""
        code = f"import importlib.metadata as metadata, migrator; print({expressions})"
        running = start(str(self.python), "-c", code, env=self.variables, cwd=project.path)
        return checked(running.wait()).stdout.split()


def lower_bounds(**instead: str) -> list[str]:
    """The declared dependencies and the psycopg extra, pinned to their lower bounds, or to what is said here."""
    later = LATER_FLOORS.get(sys.version_info[:2], {})
    bounds = []
    for declared in (*DECLARED["dependencies"], *DECLARED["optional-dependencies"]["psycopg"]):
        name, _, bound = declared.partition(">=")
        bounds.append(f"{name}=={instead.get(name) or later.get(name) or bound}")
    return bounds


REQUIREMENTS = {"oldest": lower_bounds(), "between": lower_bounds(alembic="1.16.5", sqlalchemy="2.0.44")}


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Of all processes that name this file, one is in here."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def virtual_environment(cache: Path, requirements: Sequence[str]) -> Path:
    """The interpreter of a virtual environment with the requirements, made unless it is in the cache."""
    key = "\n".join([sys.version, sys.base_prefix, *requirements])
    folder = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
    python, complete = folder / "bin" / "python", folder / "complete"
    with one_at_a_time(folder.with_suffix(".lock")):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            # What the machine says to pip (an index, certificates, a proxy) holds here, too.
            variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            for command in (
                [sys.executable, "-m", "venv", str(folder)],
                [str(python), "-m", "pip", "install", "--only-binary", ":all:", *requirements],
            ):
                made = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
                if made.returncode != 0 and any(words in made.stderr for words in UNREACHABLE):
                    pytest.skip(f"PyPI cannot be reached: {made.stderr.splitlines()[0]}")
                assert made.returncode == 0, made.stdout + made.stderr
            complete.touch()
    return python


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of migrator's wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = folder.glob("migrator-*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "content")
    compileall.compile_dir(folder / "content", quiet=2)
    return folder / "content"


@pytest.fixture(scope="session", params=["oldest", "between", "newest"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """The newest is what runs the tests: the lock file holds the newest of everything."""
    if request.param == "newest":
        return Stack(Path(sys.executable), {}, numbers(metadata.version("alembic")))
    unpacked: Path = request.getfixturevalue("unpacked")
    cache = request.config.cache
    assert cache is not None
    python = virtual_environment(cache.mkdir("versions"), REQUIREMENTS[request.param])
    return Stack(python, {"PYTHONPATH": str(unpacked)}, numbers(pinned(request.param)["alembic"]))


def pinned(stack: str) -> dict[str, str]:
    """The versions that were asked for, by distribution."""
    return dict(one.replace("[binary]", "").split("==") for one in REQUIREMENTS[stack])


def numbers(version: str) -> tuple[int, ...]:
    """``2.7`` and ``2.7.0`` are the same, and less than ``2.10``."""
    found = [int(part) for part in version.split(".")]
    return (*found, *[0] * (3 - len(found)))


@pytest.mark.parametrize("stack", REQUIREMENTS, indirect=True)
def test_an_environment_holds_what_was_asked_for_and_the_package_that_ships(
    stack: Stack, project: MakeProject, unpacked: Path, request: pytest.FixtureRequest
) -> None:
    wanted = pinned(request.node.callspec.params["stack"])
    place, own, *versions = stack.evaluate(
        project(), f"migrator.__file__, *map(metadata.version, {['migrator', *wanted]})"
    )
    assert (unpacked / "migrator" / "py.typed").is_file()
    assert (place, own) == (str(unpacked / "migrator" / "__init__.py"), DECLARED["version"])
    found = dict(zip(wanted, versions, strict=True))
    assert {one: numbers(version) for one, version in found.items()} == {
        one: numbers(version) for one, version in wanted.items()
    }


def test_what_runs_the_tests_is_newer_than_both() -> None:
    for name in ("alembic", "sqlalchemy"):
        others = [pinned(stack)[name] for stack in REQUIREMENTS]
        assert numbers(metadata.version(name)) > max(map(numbers, others))


def test_a_history_with_a_concurrent_index_is_applied_found_done_and_taken_back(
    stack: Stack, project: MakeProject, database: Database
) -> None:
    made = project(revisions=HISTORY)
    (target,) = stack.run(made, "upgrade", "--json").json["targets"]
    assert [step["outcome"] for step in target["steps"]] == ["applied"] * 3
    assert [step["autocommit"] for step in target["steps"]] == [False, False, True]
    assert target["verified"] is True
    assert (database.revisions, database.tables) == (["c3"], ["orders"])
    assert database.query(INDEX_IS_VALID) == [(True,)]
    assert "nothing to do: at c3" in stack.run(made, "upgrade").stderr
    assert "up to date" in stack.run(made, "status", "--exit-code").stdout
    stack.run(made, "downgrade", "-3")
    assert (database.revisions, database.tables) == ([], [])
    assert "3 pending" in stack.run(made, "status", "--exit-code", code=3).stdout


def test_looking_changes_nothing_in_an_empty_database(
    stack: Stack, project: MakeProject, database: Database
) -> None:
    made = project(revisions=HISTORY)
    (target,) = stack.run(made, "status", "--json").json["targets"]
    assert [one["revision"] for one in target["pending"]] == ["a1", "b2", "c3"]
    stack.run(made, "check")
    assert database.query("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []


def test_a_revision_is_generated_on_a_scratch_database(
    stack: Stack, tmp_path: Path, database: Database
) -> None:
    made = shop(tmp_path, database, RENAMED)
    made.variables["MIGRATOR_SCRATCH_URL"] = database.server.url_of("postgres")
    done = stack.run(made, "revision", "--autogenerate", "--scratch", "-m", "next", "--rev-id", "b2")
    assert done.stdout == "migrations/versions/b2_next.py\n"
    text = (made.versions / "b2_next.py").read_text()
    assert '#     op.alter_column("orders", "placed", new_column_name="placed_at")' in text
    assert "op.drop_column('orders', 'placed')" in text
    assert database.tables == []
    stack.run(made, "upgrade")
    stack.run(made, "check", "--models")


def test_a_failing_revision_ends_with_what_is_true_now(
    stack: Stack, project: MakeProject, database: Database
) -> None:
    fails = Revision("b2", "a1", 'op.execute("CREATE TABLE half (id int); SELECT 1 / 0")', message="divide")
    made = project(revisions=[HISTORY[0], fails, table_revision("c3", "b2")])
    told = stack.run(made, "upgrade", "--json", code=20)
    assert "22012: division by zero" in told.stderr
    assert "state     at a1, read on a new connection" in told.stderr
    assert "rolled back: b2 · not tried: c3" in told.stderr
    error = told.json["error"]
    assert (error["revision"], error["file"], error["line"]) == ("b2", "migrations/versions/b2_divide.py", 12)
    assert (database.revisions, database.tables) == (["a1"], ["orders"])


def test_of_two_contenders_with_psycopg_3_one_applies_and_the_other_finds_nothing_to_do(
    stack: Stack, project: MakeProject, database: Database
) -> None:
    made = project(revisions=HISTORY)
    made.variables["MIGRATOR_DATABASE_URL"] = database.sqlalchemy_url("psycopg")
    ended = [contender.wait() for contender in [stack.start(made, "upgrade") for _ in range(2)]]
    assert [one.output for one in ended if one.returncode != 0] == []
    assert len([one for one in ended if "nothing to do: at c3" in one.stderr]) == 1
    assert database.revisions == ["c3"]
    assert database.query(INDEX_IS_VALID) == [(True,)]


def test_the_first_revision_is_tried_again_with_the_version_table_that_was_rolled_back_with_it(
    stack: Stack, project: MakeProject, database: Database
) -> None:
    database.query("CREATE TABLE busy (id int)")
    alter = Revision("a1", None, 'op.add_column("busy", sa.Column("note", sa.Text))', message="note")
    made = project(revisions=[alter, table_revision("b2", "a1")])
    with transaction(database.url, "LOCK TABLE busy IN ACCESS SHARE MODE"):
        blocked = stack.start(made, "upgrade", "--lock-timeout", "200ms")
        blocked.wait_for_line("1/2 +a1 +blocked .* by pid .*; try [0-9]+")
        assert database.revisions == []
    ended = checked(blocked.wait())
    assert "tries)" in ended.stderr, ended.output
    assert (database.revisions, database.tables) == (["b2"], ["busy", "t_b2"])


def test_the_history_is_listed_and_alembics_own_commands_pass_through(
    stack: Stack, project: MakeProject, database: Database
) -> None:
    made = project(revisions=HISTORY)
    stack.run(made, "upgrade", "b2")
    lines = stack.run(made, "history", "-i").stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["pending", "applied", "applied"]
    assert lines[0].startswith("b2 -> c3 (head), index orders.note, concurrently")
    assert stack.run(made, "heads").stdout == "c3 (head)\n"
    assert stack.run(made, "alembic", "current").stdout == "b2\n"
    assert "ALTER TABLE orders ADD COLUMN note TEXT;" in stack.run(made, "sql", "a1:b2").stdout


def test_alembic_is_configured_in_pyproject_toml_from_1_16_on(
    stack: Stack, project: MakeProject, database: Database
) -> None:
    made = project(SHORTEST_ENV, HISTORY)
    (made.path / "alembic.ini").unlink()
    made.write("pyproject.toml", '[tool.alembic]\nscript_location = "%(here)s/migrations"\n')
    if stack.alembic >= (1, 16):
        stack.run(made, "upgrade")
        assert database.revisions == ["c3"]
    else:
        told = stack.run(made, "upgrade", code=2)
        assert "there is no alembic.ini" in told.stderr
        assert "Alembic 1.16 or newer" in told.stderr


def test_settings_and_waiting_work(stack: Stack, project: MakeProject, database: Database) -> None:
    made = Project(project(revisions=HISTORY).path, None)
    password = parts_of(database.url)["password"]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        made.write(".env", f"MIGRATOR_DATABASE_URL=postgresql://me:{password}@{address}/shop\n")
        told = stack.run(made, "wait", "--wait-timeout", "2s", code=10)
    assert "tries)" in told.stderr
    assert "Check that the server is up and that .env names it" in told.stderr
    assert password not in told.output
    told = stack.run(made, "upgrade", "--pooler", "maybe", "--wait-timeout", "soon", code=2)
    assert "wait-timeout (--wait-timeout): 'soon' is not" in told.stderr
    assert "pooler (--pooler): 'maybe' is not one of the choices" in told.stderr
