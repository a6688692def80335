"""What machines read: one JSON object, JSON lines, GitHub's summary and annotations, Kubernetes' message."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import ExitCode
from migrator.report import termination
from tests.acceptance.judging import assert_keeps, valid_document
from tests.harness import (
    SYNC_ENV,
    Completed,
    Project,
    clean_environment,
    parts_of,
    table_revision,
    table_revisions,
)

MakeProject = Callable[..., Project]
LOUD = "print('env.py says hello')\n" + SYNC_ENV


@pytest.fixture
def shop(project: MakeProject) -> Project:
    return project(env=LOUD, revisions=table_revisions("a1", "b2"))


def asked(project: Project, *arguments: str, code: ExitCode = ExitCode.OK, **env: str) -> Any:
    """The object that the command writes; there is nothing else on standard output, whatever ``env.py`` prints."""
    completed = project.migrator(*arguments, "--json", env=env)
    assert completed.returncode == code, completed.output
    document = valid_document(completed)
    assert (document["command"], document["exit_code"]) == (arguments[0], code)
    return document


def test_each_command_answers_with_one_object(shop: Project) -> None:
    reached = asked(shop, "wait")
    assert reached["tries"] == 1
    checked = asked(shop, "check")
    assert checked["findings"] == []
    behind = asked(shop, "status", "--exit-code", code=ExitCode.CHECK_SAYS_NO)
    assert (behind["outcome"], behind["at_head"]) == ("no", False)
    assert [pending["revision"] for pending in behind["targets"][0]["pending"]] == ["a1", "b2"]

    done = asked(shop, "upgrade")
    (target,) = done["targets"]
    assert (done["outcome"], done["requested"], done["error"]) == ("ok", "head", None)
    assert (target["before"], target["at"], target["verified"]) == ([], ["b2"], True)
    assert [(step["revision"], step["outcome"]) for step in target["steps"]] == [
        ("a1", "applied"),
        ("b2", "applied"),
    ]
    assert target["version_table"] == "public.alembic_version"
    assert shop.database is not None
    assert (target["database"], target["source"]) == (shop.database.name, "MIGRATOR_DATABASE_URL")

    assert asked(shop, "status")["at_head"]
    assert asked(shop, "wait", "--for", "head")["at_head"]
    settings = {line["name"]: line for line in asked(shop, "config", MIGRATOR_LOCK_TIMEOUT="2s")["settings"]}
    assert settings["lock-timeout"] == {
        "name": "lock-timeout",
        "value": "2 s",
        "source": "MIGRATOR_LOCK_TIMEOUT",
    }
    assert parts_of(shop.database.url)["password"] not in str(settings)


def test_a_failed_run_answers_with_what_failed_and_what_is_true(shop: Project) -> None:
    shop.add_revision("c3", "b2", 'op.execute("SELECT 1 / 0")', message="divide")
    shop.add(table_revision("d4", "c3"))
    failed = asked(shop, "upgrade", code=ExitCode.MIGRATION_FAILED)
    assert [(step["revision"], step["outcome"]) for step in failed["targets"][0]["steps"]] == [
        ("a1", "applied"),
        ("b2", "applied"),
        ("c3", "rolled back"),
        ("d4", "not tried"),
    ]
    error = failed["error"]
    assert (error["kind"], error["revision"], error["sqlstate"]) == ("migration_failed", "c3", "22012")
    assert (error["file"], error["line"]) == ("migrations/versions/c3_divide.py", 12)
    assert error["statement"] == "SELECT 1 / 0"
    assert not error["retryable"]


def test_the_settings_that_are_wrong_are_told_as_an_object_too(shop: Project) -> None:
    wrong = asked(shop, "upgrade", code=ExitCode.USAGE, MIGRATOR_DEADLINE="never")
    assert wrong["error"]["kind"] == "configuration_error"
    completed = shop.migrator("status", env={"MIGRATOR_JSON": "yes", "MIGRATOR_DEADLINE": "never"})
    assert valid_document(completed)["exit_code"] == ExitCode.USAGE


def test_what_env_py_prints_is_not_lost(shop: Project) -> None:
    assert "env.py says hello" in shop.migrator("upgrade", "--json", check=True).stderr


def lines_of(completed: Completed) -> list[Any]:
    return [json.loads(line) for line in completed.stderr.splitlines()]


def test_every_line_of_the_json_log_is_an_object_with_time_and_event(project: MakeProject) -> None:
    shop = project(revisions=table_revisions("a1", "b2"))
    lines = lines_of(shop.migrator("upgrade", "--log-format", "json", check=True))
    assert all(line["time"].endswith("Z") for line in lines)
    step = ["step_started", "step_finished"]
    before, after = ["target_known", "database_ready", "lock_held", "planned"], ["verified", "finished"]
    assert [line["event"] for line in lines] == [*before, *step, *step, *after]
    assert [line["revision"] for line in lines if line["event"] == "step_finished"] == ["a1", "b2"]


def test_the_json_log_ends_with_what_failed(project: MakeProject) -> None:
    shop = project()
    shop.add_revision("a1", None, "raise ValueError('seven')", message="count")
    failed = shop.migrator("upgrade", env={"MIGRATOR_LOG_FORMAT": "json"})
    last = lines_of(failed)[-1]
    assert (failed.returncode, last["event"], last["exit_code"]) == (20, "failed", 20)
    assert last["error"]["details"] == ["ValueError: seven"]
    wrong = shop.migrator("upgrade", env={"MIGRATOR_LOG_FORMAT": "json", "MIGRATOR_DEADLINE": "never"})
    assert lines_of(wrong)[-1]["error"]["kind"] == "configuration_error"


TALKING = """
print("::stop-commands::later")
print("  ::add-mask::a", "b##[error]c")
print("::debug::d")
raise ValueError("one ##[error]two")
"""


def test_what_a_revision_says_is_no_command_to_githubs_runner(shop: Project) -> None:
    shop.add_revision("c3", "b2", "; ".join(TALKING.strip().splitlines()), message="talk")
    failed, _ = on_github(shop, "upgrade", env={})
    for said in (": :stop-commands::later", ": :add-mask::a b## [error]c", "ValueError: one ## [error]two"):
        assert said in failed.stderr, failed.output
    commands = [line for line in failed.output.splitlines() if line.lstrip().startswith("::")]
    assert [line.split(",")[0] for line in commands] == ["::error file=migrations/versions/c3_talk.py"]
    here = shop.migrator("upgrade")
    assert "\n::stop-commands::later\n" in here.stderr


def on_github(shop: Project, *arguments: str, env: Mapping[str, str]) -> tuple[Completed, str]:
    summary = shop.path / "summary.md"
    summary.write_text("before\n")
    variables = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary), **env}
    completed = shop.migrator(*arguments, env=variables)
    return completed, summary.read_text()


def test_github_gets_a_summary_of_a_run(shop: Project) -> None:
    done, summary = on_github(shop, "upgrade", env={})
    assert done.returncode == 0, done.output
    assert summary.startswith("before\n### migrator upgrade: 2 revisions in ")
    assert "| a1 | create t\\_a1 | applied |" in summary
    assert "::error" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "options", [[], ["--json"], ["--log-format", "json"]], ids=["text", "object", "lines"]
)
def test_github_gets_an_annotation_at_the_line_that_failed(shop: Project, options: list[str]) -> None:
    shop.add_revision("c3", "b2", 'op.execute("SELECT 1 / 0")', message="divide")
    failed, summary = on_github(shop, "upgrade", *options, env={})
    assert failed.returncode == ExitCode.MIGRATION_FAILED, failed.output
    annotations = [
        line for line in (failed.stdout + failed.stderr).splitlines() if line.startswith("::error ")
    ]
    (annotation,) = annotations
    assert annotation.startswith("::error file=migrations/versions/c3_divide.py,line=12,title=migrator%3A ")
    assert "division by zero" in annotation
    assert "migrator upgrade: a migration failed (exit 20)" in summary
    assert "SELECT 1 / 0" in summary
    assert shop.database is not None
    for text in (summary, annotation):
        assert parts_of(shop.database.url)["password"] not in text
    if options == ["--json"]:
        valid_document(failed)
    if options == ["--log-format", "json"]:
        assert [json.loads(line)["event"] for line in failed.stderr.splitlines() if line.startswith("{")]


PRIVATE_DEV = """
set -e
mount -t tmpfs none "$1"
for name in null urandom; do touch "$1/$name"; mount --bind "/dev/$name" "$1/$name"; done
touch "$1/termination-log"
mount --bind "$2" "$1/termination-log"
mount --rbind "$1" /dev
shift 2
exec "$@"
"""


def in_container(project: Project, *arguments: str, log: Path) -> Completed:
    """Run migrator as in a container of Kubernetes: a file is mounted at /dev/termination-log.

    In a namespace of its own, if the machine allows that; else the file is made in /dev for this run.
    """
    assert project.database is not None
    command = [sys.executable, "-m", "migrator", *arguments]
    variables = clean_environment({"MIGRATOR_DATABASE_URL": project.database.url})
    mounts = log.parent / "dev"
    mounts.mkdir(exist_ok=True)
    private = ["unshare", "--mount", "--map-root-user", "sh", "-c", PRIVATE_DEV, "sh", str(mounts), str(log)]
    if _runs([*private, "true"]):
        command = [*private, *command]
    else:
        termination.PATH.write_bytes(log.read_bytes())
    try:
        done = subprocess.run(
            command, cwd=project.path, env=variables, capture_output=True, text=True, timeout=60, check=False
        )
        if command[0] != "unshare":
            log.write_bytes(termination.PATH.read_bytes())
    finally:
        if command[0] != "unshare":
            termination.PATH.unlink()
    return Completed(done.returncode, done.stdout, done.stderr)


def _runs(command: list[str]) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


def test_kubernetes_gets_a_termination_message(shop: Project, tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.write_text("what was there before, and is longer than nothing")
    done = in_container(shop, "upgrade", log=log)
    assert done.returncode == 0, done.output
    told = json.loads(log.read_bytes())
    assert (told["exit_code"], told["outcome"], told["at"]) == (0, "ok", ["b2"])

    statement = "SELECT 1 / 0 /* " + "a comment in many words, " * 500 + "*/"
    shop.add_revision("c3", "b2", f"op.execute({statement!r})", message="divide")
    failed = in_container(shop, "upgrade", log=log)
    assert failed.returncode == ExitCode.MIGRATION_FAILED, failed.output
    assert len(log.read_bytes()) <= 4096
    told = json.loads(log.read_bytes())
    assert (told["exit_code"], told["revision"], told["sqlstate"]) == (20, "c3", "22012")
    assert told["next"]
    assert shop.database is not None
    assert_keeps(Completed(0, log.read_text(), ""), parts_of(shop.database.url)["password"])
