"""The tests' own machinery, where a mistake in it would make other tests pass for nothing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.harness import REPOSITORY, Completed, Revision, clean_environment, start, table_revisions

TESTS = """
import pytest

@pytest.mark.skip(reason="no server")
def test_that_skips_itself(): ...

def test_that_is_skipped_on_the_way():
    pytest.skip("no engine")

@pytest.mark.xfail(reason="known", strict=True)
def test_that_is_known_to_fail():
    assert False

def test_that_passes(): ...
"""


def run_tests(directory: Path, text: str, **variables: str) -> Completed:
    (directory / "test_inner.py").write_text(text)
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "--rootdir=.",
    )
    env = {"PYTHONPATH": str(REPOSITORY), **variables}
    return start(*command, "-c", "/dev/null", "test_inner.py", env=env, cwd=directory).wait()


def test_a_skip_is_a_failure_in_ci_and_a_skip_at_home(tmp_path: Path) -> None:
    at_home = run_tests(tmp_path, TESTS)
    assert re.search(r"1 passed, 2 skipped, 1 xfailed", at_home.stdout), at_home.output
    assert at_home.returncode == 0
    in_ci = run_tests(tmp_path, TESTS, CI="true")
    assert re.search(r"1 failed, 1 passed, 1 xfailed, 1 error", in_ci.stdout), in_ci.output
    assert "what should run here could not: Skipped: no engine" in in_ci.stdout
    assert in_ci.returncode == 1


def test_a_module_that_skips_itself_is_a_failure_in_ci(tmp_path: Path) -> None:
    whole = 'import pytest\npytest.importorskip("no_such_module")\ndef test_inside(): ...\n'
    in_ci = run_tests(tmp_path, whole, CI="true")
    assert in_ci.returncode != 0, in_ci.output
    assert "no_such_module" in in_ci.stdout


def test_nothing_of_the_surrounding_configuration_leaks_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "MIGRATOR_POOLER",
        "DATABASE_URL",
        "TEST_DATABASE_URL",
        "DB_HOST",
        "PGHOST",
        "GITHUB_ACTIONS",
        "CI",
    ):
        monkeypatch.setenv(name, "surrounding")
    assert "surrounding" not in clean_environment().values()


def test_a_line_that_never_comes_fails_at_once_with_what_was_written(tmp_path: Path) -> None:
    process = start(
        sys.executable, "-c", "import sys; print('spoken'); sys.stderr.write('told\\n')", cwd=tmp_path
    )
    assert process.wait_for_line(r"to(l)d")[1] == "l"
    with pytest.raises(AssertionError, match=r"(?s)never came.*spoken.*told"):
        process.wait_for_line("unheard")


def test_a_process_that_does_not_end_fails_and_is_killed(tmp_path: Path) -> None:
    process = start(
        sys.executable,
        "-c",
        "import sys; print('up', flush=True); sys.stdin = open(0); input()",
        cwd=tmp_path,
    )
    assert process.wait().returncode == 1  # standard input is empty, nothing can hang on it
    endless = start(sys.executable, "-c", "while True: pass", cwd=tmp_path)
    with pytest.raises(AssertionError, match="still running"):
        endless.wait(timeout=0.1)
    assert endless.process.returncode == -9


def test_revision_files_hold_what_they_were_given() -> None:
    first, second = table_revisions("a1", "b2")
    assert (first.down, second.down, second.file_name) == (None, "a1", "b2_create_t_b2.py")
    text = Revision(
        "c3", ("a1", "b2"), "\n    x = 1\n    y = 2\n", header="import time", message="Join, both"
    ).text
    names: dict[str, object] = {}
    exec(compile(text, "c3", "exec"), names)
    assert (names["revision"], names["down_revision"], names["__doc__"]) == ("c3", ("a1", "b2"), "Join, both")
    assert "time" in names
