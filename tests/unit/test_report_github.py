"""What a GitHub workflow sees: an annotation and a summary, with everything escaped."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import MigratorError
from migrator.report import github
from migrator.report.document import (
    check_document,
    error_document,
    generated_document,
    run_document,
    status_document,
)
from migrator.results import (
    CheckResult,
    Finding,
    Outcome,
    Pending,
    RunResult,
    Statement,
    Status,
    Step,
    StepResult,
    TargetResult,
    TargetStatus,
)
from tests.unit.report_examples import (
    ADD,
    GENERATED,
    INVALID,
    RENAME,
    TARGET,
    applied_result,
    failed_result,
    migration_failed,
    nothing_result,
    two_heads_error,
)

STATUS = TargetStatus(
    TARGET, ("8f2e1a",), ("c41b77",), (Pending("c41b77", "index", "versions/c41b77.py"),), ("8f2e1a",)
)
AT_HEAD = TargetStatus(TARGET, ("c41b77",), ("c41b77",))


def test_the_annotation_marks_the_line_and_says_all_that_the_screen_says() -> None:
    assert github.annotation(migration_failed(failed_result())) == (
        "::error file=migrations/versions/9a0c12_add_placed_at.py,line=14,"
        "title=migrator%3A a migration failed::"
        "9a0c12 add orders.placed_at%0A"
        "migrations/versions/9a0c12_add_placed_at.py:14%0A"
        "ALTER TABLE orders ADD COLUMN placed_at timestamptz NOT NULL%0A"
        '23502: column "placed_at" of relation "orders" contains null values%0A'
        "at 8f2e1a, read on a new connection · rolled back: 9a0c12 · not tried: b7730e, c41b77%0A"
        "The same image will fail again. Add the column nullable, fill it, then set NOT NULL "
        "(migrator explain not-null)."
    )


def parsed(command: str) -> tuple[dict[str, str], str]:
    """A workflow command as the runner reads it: properties up to the second ``::``, the rest is the message."""
    assert "\n" not in command
    assert "\r" not in command
    head, _, message = command.removeprefix("::error ").partition("::")
    properties = dict(item.split("=", 1) for item in head.split(","))

    def unescaped(text: str, *more: tuple[str, str]) -> str:
        for code, char in (("%0D", "\r"), ("%0A", "\n"), *more, ("%25", "%")):
            text = text.replace(code, char)
        return text

    return {k: unescaped(v, ("%3A", ":"), ("%2C", ",")) for k, v in properties.items()}, unescaped(message)


def test_whatever_is_in_names_and_messages_comes_out_as_it_went_in() -> None:
    error = MigratorError(
        "100 % of a,b:c::warning::d%0A\nsecond", file="odd,name: 5%::x\r\n.py", line=3, next_step="none"
    )
    command = github.annotation(error)
    properties, message = parsed(command)
    assert properties == {
        "file": "odd,name: 5%::x\r\n.py",
        "line": "3",
        "title": "migrator: a bug in migrator",
    }
    assert message.splitlines()[:2] == ["100 % of a,b:c::warning::d%0A", "odd,name: 5%::x .py:3"]
    assert command.count("::error") == 1


def test_an_annotation_without_a_file_has_no_line_either() -> None:
    assert github.annotation(MigratorError("x", line=3, next_step="y")) == (
        "::error title=migrator%3A a bug in migrator::x%0Ay"
    )


def test_the_summary_of_a_run_is_a_table_of_its_steps() -> None:
    assert github.step_summary(run_document(applied_result())) == (
        "### migrator upgrade: 3 revisions in 54.6 s\n\n"
        "**Target** db.internal:5432/shop as shop\\_owner  \n"
        "**State** at c41b77, read on a new connection · applied: 9a0c12, b7730e, c41b77\n\n"
        "| revision | message | outcome | duration |\n"
        "| --- | --- | --- | ---: |\n"
        "| 9a0c12 | add orders.placed\\_at | applied | 0.04 s |\n"
        "| b7730e | backfill orders.placed\\_at | applied | 12.8 s |\n"
        "| c41b77 | index orders.placed\\_at, concurrently | applied | 41.2 s |\n"
    )


def test_the_summary_of_a_failure_has_cause_state_and_next_action() -> None:
    result = failed_result(
        outcomes=(Outcome.FAILED, Outcome.NOT_TRIED, Outcome.NOT_TRIED), autocommit=True, indexes=(INVALID,)
    )
    assert github.step_summary(error_document("upgrade", migration_failed(result))) == (
        "### migrator upgrade: a migration failed (exit 20)\n\n"
        "**Target** db.internal:5432/shop as shop\\_owner  \n"
        "**State** at 8f2e1a, read on a new connection · failed: 9a0c12 · not tried: b7730e, c41b77\n\n"
        "| revision | message | outcome | duration |\n"
        "| --- | --- | --- | ---: |\n"
        "| 9a0c12 | add orders.placed\\_at | failed |  |\n"
        "| b7730e | backfill orders.placed\\_at | not tried |  |\n"
        "| c41b77 | index orders.placed\\_at, concurrently | not tried |  |\n\n"
        "**Cause** 9a0c12: add orders.placed\\_at  \n"
        "migrations/versions/9a0c12\\_add\\_placed\\_at.py:14  \n"
        '23502: column "placed\\_at" of relation "orders" contains null values\n\n'
        "```sql\nALTER TABLE orders\n  ADD COLUMN placed_at timestamptz NOT NULL\n```\n\n"
        "**Left** part of 9a0c12 ran outside a transaction and was not undone  \n"
        "**Left** INVALID index ix\\_orders\\_placed\\_at on orders\n\n"
        "**Next** The same image will fail again. Add the column nullable, fill it, then set NOT NULL "
        "\\(migrator explain not-null\\).\n"
    )


@pytest.mark.parametrize(
    ("document", "headline"),
    [
        (run_document(nothing_result()), "### migrator upgrade: nothing to do"),
        (
            error_document("check", two_heads_error()),
            (
                "### migrator check: the history is wrong: several heads, missing parent, "
                "database ahead of the image (exit 23)"
            ),
        ),
        (check_document(CheckResult(("heads",))), "### migrator check: nothing is wrong"),
        (status_document(Status((STATUS,))), "### migrator status: 1 pending, the database is ahead"),
        (status_document(Status((AT_HEAD,))), "### migrator status: up to date"),
    ],
)
def test_the_headline_says_how_it_ended(document: Any, headline: str) -> None:
    assert github.step_summary(document).splitlines()[0] == headline


def test_the_summary_of_a_status_says_what_is_pending_and_what_is_not_in_the_image() -> None:
    assert github.step_summary(status_document(Status((STATUS,)))).splitlines()[2:] == [
        "**Target** db.internal:5432/shop as shop\\_owner  ",
        "**State** 8f2e1a, wanted c41b77  ",
        "**Not in this image** 8f2e1a",
        "",
        "| pending | message | file |",
        "| --- | --- | --- |",
        "| c41b77 | index | versions/c41b77.py |",
    ]


def test_findings_are_a_table_too() -> None:
    result = CheckResult(
        ("imports",), (Finding("imports", "a | b", "a.py", 3, "Correct it."), Finding("x", "y"))
    )
    assert github.step_summary(check_document(result)).splitlines()[2:] == [
        "**Checked** imports",
        "",
        "| check | finding | place | next |",
        "| --- | --- | --- | --- |",
        "| imports | a \\| b | a.py:3 | Correct it. |",
        "| x | y |  |  |",
    ]


def test_a_table_cell_cannot_break_out_of_its_cell() -> None:
    step = Step("9a|0c", "x | y\n\n<img src=x onerror=y> [link](http://e) `code` \\| **b**\x1b", "f.py")
    target = TargetResult(TARGET, (), ("9a",), (StepResult(step, Outcome.APPLIED, 12.8),))
    row = github.step_summary(run_document(RunResult("upgrade", "head", (target,)))).splitlines()[7]
    assert row == (
        r"| 9a\|0c | x \| y \<img src=x onerror=y\> \[link\]\(http://e\) \`code\` \\\| \*\*b\*\*\\x1b"
        r" | applied | 12.8 s |"
    )


def test_a_statement_cannot_end_its_code_block() -> None:
    error = migration_failed(failed_result())
    error.statement = Statement("SELECT '\n```\n# heading\n````'")
    lines = github.step_summary(error_document("upgrade", error)).splitlines()
    assert lines[lines.index("`````sql") :][:6] == [
        "`````sql", "SELECT '", "```", "# heading", "````'", "`````",
    ]  # fmt: skip


def test_a_summary_of_thousands_of_steps_stays_far_below_githubs_limit() -> None:
    step = StepResult(dataclasses.replace(ADD, message="m" * 1000), Outcome.APPLIED, 0.04)
    target = TargetResult(TARGET, (), ("9a",), (step,) * 5000)
    summary = github.step_summary(run_document(RunResult("upgrade", "head", (target,))))
    assert len(summary.encode()) < 512 * 1024
    assert "… and 4,800 more" in summary


ON_GITHUB = {"GITHUB_ACTIONS": "true"}


def test_summary_and_annotation_are_written_on_github(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    stream = io.StringIO()
    error = migration_failed(failed_result())
    document = error_document("upgrade", error)
    github.write(document, error, {**ON_GITHUB, "GITHUB_STEP_SUMMARY": str(path)}, stream)
    assert path.read_text(encoding="utf-8") == "before\n" + github.step_summary(document) + "\n"
    assert stream.getvalue() == github.annotation(error) + "\n"


@pytest.mark.parametrize("environ", [{}, {"GITHUB_ACTIONS": "false"}, {"GITHUB_ACTIONS": ""}])
def test_nothing_is_written_elsewhere(tmp_path: Path, environ: dict[str, str]) -> None:
    path = tmp_path / "summary.md"
    stream = io.StringIO()
    error = migration_failed()
    github.write(
        error_document("upgrade", error), error, {**environ, "GITHUB_STEP_SUMMARY": str(path)}, stream
    )
    assert not path.exists()
    assert stream.getvalue() == ""


def test_a_run_that_ended_well_has_no_annotation() -> None:
    stream = io.StringIO()
    github.write(run_document(applied_result()), None, ON_GITHUB, stream)
    assert stream.getvalue() == ""


def test_a_summary_file_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    error = migration_failed()
    stream = io.StringIO()
    for path in (str(tmp_path), str(tmp_path / "missing" / "summary.md"), "nul\0byte"):
        environ = {**ON_GITHUB, "GITHUB_STEP_SUMMARY": path}
        github.write(error_document("upgrade", error), error, environ, stream)
    assert stream.getvalue().count("::error") == 3


def test_the_annotation_names_the_file_as_the_workspace_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = tmp_path / "backend"
    backend.mkdir()
    monkeypatch.chdir(backend)
    error = migration_failed(failed_result())
    named = github.annotation(error, github.Repository(str(tmp_path)))
    assert "file=backend/migrations/versions/9a0c12_add_placed_at.py,line=14" in named
    elsewhere = github.annotation(error, github.Repository(str(tmp_path / "other")))
    assert "file=migrations/versions/9a0c12_add_placed_at.py,line=14" in elsewhere


@pytest.mark.parametrize("folder", ["backend", "./backend", "backend/"])
def test_the_annotation_of_an_image_names_the_file_below_the_folder_that_was_copied_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = {"GITHUB_WORKSPACE": str(tmp_path), "GITHUB_WORKING_DIRECTORY": folder}
    named = github.annotation(migration_failed(failed_result()), github.Repository.of(variables))
    assert "file=backend/migrations/versions/9a0c12_add_placed_at.py,line=14" in named


def test_what_a_check_found_is_marked_at_its_line() -> None:
    finding = Finding("imports", "100 % wrong\n::x", "a,b.py", 3, "Correct it.")
    assert github.finding_error(finding) == (
        "::error file=a%2Cb.py,line=3,title=migrator check%3A imports::100 %25 wrong%0A::x%0ACorrect it."
    )
    assert github.finding_error(Finding("heads", "two")) == "::error title=migrator check%3A heads::two"


def test_a_suspected_rename_is_a_warning_at_the_file_that_was_written() -> None:
    line = github.rename_warning(RENAME, "db/versions/9a0c12_placed_at.py")
    properties, message = parsed(line.replace("::warning", "::error", 1))
    assert properties == {"file": "db/versions/9a0c12_placed_at.py", "title": "migrator: suspected rename"}
    assert message.startswith("column orders.placed → orders.placed_at")
    assert 'op.alter_column("orders", "placed", new_column_name="placed_at")' in message
    assert github.rename_warning(RENAME, None).startswith("::warning title=")


def test_the_summary_of_a_generated_revision_names_file_differences_and_renames() -> None:
    text = github.step_summary(generated_document(GENERATED))
    assert "a revision was written" in text
    assert "9a0c12" in text
    assert "added column orders.placed" in text
    assert "> - dropped column orders.placed: deletes every value in it" in text
    assert text.count("> - ") == 1
    assert "| suspected rename | in | old | new | write instead |" in text
