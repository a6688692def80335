"""A project with a package of its own that is called ``migrator``: which of the two Python takes, and what is said."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator import ExitCode
from tests.harness import Completed, Project, start, table_revision

SCRIPT = Path(sys.executable).with_name("migrator")
THEIRS = "the project's package migrator/ has the name of this tool"


@pytest.fixture
def place(project: Callable[..., Project]) -> Project:
    made = project(revisions=[table_revision("a1", None)])
    made.write("migrator/__init__.py", "print('the one of the project')\n")
    made.write("migrator/models.py", "metadata = None\n")
    return made


def run(place: Project, *command: str, **variables: str) -> Completed:
    """In the project's folder, as a shell would."""
    assert place.database is not None
    env = {"MIGRATOR_DATABASE_URL": place.database.url, **variables}
    return start(*command, env=env, cwd=place.path).wait()


def in_env_py(place: Project, statement: str) -> None:
    env_py = place.path / "migrations" / "env.py"
    env_py.write_text(f"{statement}\n{env_py.read_text()}")


def test_the_command_is_the_tool_whatever_the_working_directory_holds(place: Project) -> None:
    done = run(place, str(SCRIPT), "upgrade")
    assert done.returncode == 0, done.output
    assert "the one of the project" not in done.output


def test_python_m_is_the_tool_where_the_working_directory_is_kept_off_the_path(place: Project) -> None:
    done = run(place, sys.executable, "-P", "-m", "migrator", "upgrade")
    assert done.returncode == 0, done.output
    assert "the one of the project" not in done.output


@pytest.mark.parametrize("option", ["-m", "PYTHONPATH"])
def test_a_package_in_front_of_the_tool_ends_in_the_message_that_the_docs_name(
    place: Project, option: str
) -> None:
    if option == "-m":
        done = run(place, sys.executable, "-m", "migrator", "upgrade")
    else:
        done = run(place, str(SCRIPT), "upgrade", PYTHONPATH=str(place.path))
    assert done.returncode == 1, done.output
    assert "the one of the project" in done.stdout
    assert "migrator.__main__" in done.stderr
    assert "No module named" in done.stderr
    assert place.database is not None
    assert place.database.tables == []


def test_a_folder_that_is_no_package_is_not_in_the_way(place: Project) -> None:
    (place.path / "migrator" / "__init__.py").unlink()
    done = run(place, sys.executable, "-m", "migrator", "upgrade", PYTHONPATH=str(place.path))
    assert done.returncode == 0, done.output


@pytest.mark.parametrize(
    "statement", ["from migrator.models import metadata", "from migrator import metadata"]
)
def test_an_env_py_that_imports_its_own_is_told_of_the_name(place: Project, statement: str) -> None:
    in_env_py(place, statement)
    done = run(place, str(SCRIPT), "upgrade")
    assert done.returncode == ExitCode.USAGE, done.output
    assert THEIRS in done.stderr
    assert "migrations/env.py:1" in done.stderr


def test_a_revision_that_imports_its_own_is_told_of_the_name(place: Project) -> None:
    place.add_revision("b2", "a1", header="from migrator.models import metadata")
    done = run(place, str(SCRIPT), "upgrade")
    assert done.returncode == ExitCode.MIGRATION_FAILED, done.output
    assert THEIRS in done.stderr
    done = run(place, str(SCRIPT), "check", "--offline")
    assert done.returncode == ExitCode.CHECK_SAYS_NO, done.output
    assert THEIRS in done.output


def test_a_migration_that_imports_its_own_is_told_of_the_name(place: Project) -> None:
    place.add_revision("b2", "a1", "from migrator.models import metadata")
    done = run(place, str(SCRIPT), "upgrade")
    assert done.returncode == ExitCode.MIGRATION_FAILED, done.output
    assert THEIRS in done.stderr


def test_an_import_of_the_tool_that_is_merely_wrong_is_not_taken_for_one_of_the_project(
    project: Callable[..., Project],
) -> None:
    place = project(revisions=[table_revision("a1", None)])
    in_env_py(place, "from migrator.models import metadata")
    done = run(place, str(SCRIPT), "upgrade")
    assert done.returncode == ExitCode.USAGE, done.output
    assert THEIRS not in done.stderr
