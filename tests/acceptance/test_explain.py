"""``migrator explain``: what a message in a pod's log names can be read with the image alone."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from migrator import explaining
from migrator.errors import ExitCode
from tests.harness import REPOSITORY, clean_environment, run_migrator


def test_a_topic_is_printed_as_the_page_has_it_without_a_project(tmp_path: Path) -> None:
    shown = run_migrator("explain", "not-null", cwd=tmp_path, check=True)
    assert shown.stderr == ""
    assert shown.stdout.startswith("## NOT NULL\n")
    assert "postgresql_not_valid=True" in shown.stdout
    assert "# 4, in the next revision" in shown.stdout  # no heading: it stands in a block of code
    assert "## Unique" not in shown.stdout
    page = (REPOSITORY / "docs" / "recipes.md").read_text()
    assert shown.stdout.strip() in page


def test_a_link_to_another_section_is_the_command_that_prints_it(tmp_path: Path) -> None:
    shown = run_migrator("explain", "already-there", cwd=tmp_path, check=True)
    assert "troubleshooting (migrator explain tables-without-a-version-table)" in shown.stdout
    assert "](" not in shown.stdout


def test_a_section_has_those_below_it(tmp_path: Path) -> None:
    every = explaining.sections()
    assert every["after-a-failure"] in every["what-implicit-commits-leave-behind"]
    assert every["after-a-failure"].startswith("### After a failure")


def test_no_link_is_left_as_the_page_writes_it() -> None:
    assert [name for name, text in explaining.sections().items() if re.search(r"\]\(\S*\.md", text)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"MIGRATOR_WAIT_TIMEOUT": "soon"},
        {"MIGRATOR_WAIT_TIMEOT": "5s"},
        {"MIGRATOR_DATABASE_URL_FILE": "/none"},
    ],
)
def test_a_setting_that_is_wrong_keeps_nobody_from_reading(tmp_path: Path, wrong: dict[str, str]) -> None:
    """Who reads has a run that fails, perhaps because of that very setting."""
    shown = run_migrator("explain", "not-null", cwd=tmp_path, env=wrong, check=True)
    assert shown.stdout.startswith("## NOT NULL\n")
    assert run_migrator("explain", "not-null", "--log-format=xml", cwd=tmp_path).returncode == ExitCode.USAGE
    assert run_migrator("config", cwd=tmp_path, env=wrong).returncode == ExitCode.USAGE


@pytest.mark.parametrize("topic", ["#not-null", "docs/recipes.md#not-null", "NOT-NULL", " not-null\n"])
def test_a_topic_may_be_given_as_the_page_or_a_reader_writes_it(tmp_path: Path, topic: str) -> None:
    assert run_migrator("explain", topic, cwd=tmp_path, check=True).stdout.startswith("## NOT NULL\n")


def test_without_a_topic_all_are_listed(tmp_path: Path) -> None:
    shown = run_migrator("explain", cwd=tmp_path, check=True)
    listed = shown.stdout.split()
    assert {"not-null", "concurrent-index", "nothing-ran", "not-verified", "after-a-failure"} <= set(listed)


def test_an_unknown_topic_is_told_with_those_that_are_near(tmp_path: Path) -> None:
    shown = run_migrator("explain", "notnull", cwd=tmp_path)
    assert shown.returncode == ExitCode.USAGE
    assert "nothing to explain about notnull" in shown.stderr
    assert "not-null" in shown.stderr


def test_the_pages_are_in_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "content")
    command = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import migrator.__main__ as m; m.main()",
    ]
    done = subprocess.run(
        [*command, str(tmp_path / "content"), "explain", "not-null"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("## NOT NULL\n"), done.stderr
    for page in explaining.PAGES:
        assert (tmp_path / "content" / "migrator" / "pages" / page).is_file()
