"""The composite action, really run by act: in images by their digest, on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from migrator.cli import cli
from tests import harness
from tests.harness import Database, Revision, table_revisions, wait_until, write_project
from tests.image.engine import Owned, docker
from tests.pipeline.act import Caller, make_caller
from tests.pipeline.action import (
    ACTION,
    DATABASE,
    DOCKERFILE,
    Cancellable,
    Ended,
    Step,
    facts,
    pushed,
    take,
    url_of,
)
from tests.pipeline.conftest import Registry

pytestmark = pytest.mark.pipeline


PASSWORD = "hunter2-of-the-shop"
DIGEST = "sha256:" + "0" * 64

A1, B2 = table_revisions("a1", "b2")
BROKEN = Revision("b2", "a1", 'op.execute("INSERT INTO nowhere VALUES (1)")', message="fill nowhere")
ORPHAN = Revision("c3", "b9", "pass", message="after nothing")
GATED = Revision(
    "b2", "a1", 'op.create_table("half", sa.Column("id", sa.Integer))\nop.execute("SELECT pg_sleep(600)")'
)

FORGED = "::error::forged\n"

CURIOUS = """\
import json, os, pathlib
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
def read_only():
    try:
        pathlib.Path('/app/x').touch()
    except OSError as error:
        return error.errno == 30
print(json.dumps({
    'variables': sorted(os.environ), 'certificate': open(os.environ['PGSSLROOTCERT']).read(),
    'user': status['Uid'].split()[0], 'capabilities': status['CapEff'].strip(), 'read_only': read_only(),
    'no_new_privileges': status['NoNewPrivs'].strip(),
}), file=__import__('sys').stderr)
"""


@dataclass(frozen=True)
class Images:
    """Images of an application's migrations, by what they hold: ``NAME@sha256:…``, and the same by its tag."""

    named: Mapping[str, str]
    tagged: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.named[name]


@pytest.fixture(scope="module")
def images(
    registry: Registry, runner_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Images]:
    """Four histories, pushed to the registry, and an image that is none of migrator's."""
    contents: dict[str, Sequence[Revision]] = {
        "good": (A1, B2),
        "older": (A1,),
        "broken": (A1, BROKEN),
        "orphan": (A1, B2, ORPHAN),
        "slow": (A1, GATED),
    }
    named, tagged = {}, {}
    with Owned() as owned:
        for name, revisions in contents.items():
            folder = tmp_path_factory.mktemp(name) / "shop"
            write_project(folder, None, revisions=revisions)
            tagged[name] = pushed(owned, registry, name, DOCKERFILE, folder)
        folder = tmp_path_factory.mktemp("others")
        others = {
            "forging": f"FROM migrator:runner\nENTRYPOINT {json.dumps(['printf', FORGED])}\n",
            "curious": f"FROM migrator:runner\nENTRYPOINT {json.dumps(['python', '-c', CURIOUS])}\n",
            "silent": 'FROM migrator:runner\nENTRYPOINT ["true"]\n',
            "bare": "FROM migrator:runner\nENTRYPOINT []\nENV PATH=/usr/bin:/bin\n",
            "unstartable": 'FROM migrator:runner\nENTRYPOINT ["/etc/passwd"]\n',
            "killed": "FROM migrator:runner\nENTRYPOINT "
            '["python", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]\n',
        }
        for name, text in others.items():
            tagged[name] = pushed(owned, registry, name, text, folder)
        for name, tag in tagged.items():
            named[name] = f"{tag.rpartition(':')[0]}@{registry.digest(tag)}"
        yield Images(named, tagged)


def line_of(words: str) -> int:
    """Where in the broken revision they are."""
    return next(number for number, line in enumerate(BROKEN.text.splitlines(), 1) if words in line)


def path_without(folder: Path, program: str) -> str:
    """A PATH on which everything is that a runner has, but for one program."""
    for name in (
        "bash",
        "cat",
        "dirname",
        "docker",
        "grep",
        "id",
        "jq",
        "mkdir",
        "mktemp",
        "rm",
        "sed",
        "wc",
    ):
        if name != program:
            (folder / name).symlink_to(str(shutil.which(name)))
    return str(folder)


@pytest.fixture
def programs() -> Callable[..., str]:
    """A PATH on which a program is that stands beside this Python."""

    def make(name: str) -> str:
        folder = Path(sys.executable).parent
        assert (folder / name).exists()
        return f"{folder}:{os.environ['PATH']}"

    return make


def test_an_image_by_its_digest_is_run_and_the_step_says_what_came_of_it(
    caller: Caller, images: Images, database: Database
) -> None:
    """On localhost, where the ports of service containers are; in words, outputs, report and summary."""
    status = Step(images["good"], {"command": "status", "args": "--exit-code"}, DATABASE)
    upgrade = Step(images["good"], {"report": "out/report.json"}, DATABASE)
    before, first, again, after = take(caller, status, upgrade, upgrade, status, secrets=url_of(database))

    assert before.outcome == "failure"
    assert facts(before) == {
        "current": "base", "target": "b2", "pending": "2", "applied": "0", "exit-code": "3",
    }  # fmt: skip
    assert "pending   b2  create t_b2" in before.said
    assert "exit      3 the answer to a check is no" in before.said
    assert "| b2 | create t\\_b2 | migrations/versions/b2\\_create\\_t\\_b2.py |" in before.summary

    assert first.outcome == "success"
    assert facts(first) == {
        "current": "b2", "target": "b2", "pending": "0", "applied": "2", "exit-code": "0",
    }  # fmt: skip
    assert first.outputs["report"].endswith("/out/report.json")
    assert [step["revision"] for step in first.report["targets"][0]["steps"]] == ["a1", "b2"]
    assert "verified  at b2, read on a new connection" in first.said
    rows = [line for line in first.summary.splitlines() if re.fullmatch(r"\| (a1|b2) \| .* m?s \|", line)]
    assert len(rows) == 2, first.summary

    assert facts(again) == {**facts(first), "applied": "0"}
    assert "nothing to do" in again.summary
    assert (after.outcome, facts(after)) == ("success", {**facts(again)})
    assert database.tables == ["t_a1", "t_b2"]
    password = harness.parts_of(database.url)["password"]
    assert password not in before.run.output.replace("***", "")


def test_a_migration_that_fails_is_shown_at_its_line_in_the_repository(
    caller: Caller, images: Images, database: Database
) -> None:
    """The image holds the folder backend as /app. Then an older image meets the database of a newer one."""
    backend = {"working-directory": "backend"}
    failed, newer, ahead, accepted = take(
        caller,
        Step(images["broken"], backend, {**DATABASE, "MIGRATOR_LOG_FORMAT": "json"}),
        Step(images["good"], {}, DATABASE),
        Step(images["older"], {}, DATABASE),
        Step(images["older"], {"args": "--allow-ahead"}, DATABASE),
        secrets=url_of(database),
    )
    assert failed.outcome == "failure"
    assert facts(failed) == {
        "current": "a1", "target": "b2", "pending": "1", "applied": "1", "exit-code": "20",
    }  # fmt: skip
    (annotation,) = failed.annotations
    assert annotation["kvPairs"]["file"] == "backend/migrations/versions/b2_fill_nowhere.py"
    assert int(annotation["kvPairs"]["line"]) == line_of("INSERT INTO nowhere")
    for told in (failed.said, failed.summary.replace("\\", "")):
        assert 'relation "nowhere" does not exist' in told
    assert "**Cause**" in failed.summary
    assert "**Next**" in failed.summary
    assert failed.report["error"]["sqlstate"] == "42P01"

    assert facts(newer)["current"] == "b2"
    assert facts(ahead)["exit-code"] == "23"
    assert "the database is ahead of this image: it is at b2" in ahead.error
    assert "**Next** Deploy an image that has that revision" in ahead.summary
    assert facts(accepted)["exit-code"] == "0"


def test_a_revision_without_a_parent_is_shown_at_its_file(
    caller: Caller, images: Images, database: Database
) -> None:
    """By ``upgrade``, and by ``check``, which goes through every file."""
    orphan = images["orphan"]
    for ended in take(
        caller,
        Step(orphan, {"working-directory": "backend/"}, DATABASE),
        Step(orphan, {"working-directory": "./backend", "command": "check", "args": "--offline"}),
        secrets=url_of(database),
    ):
        assert ended.outcome == "failure"
        (annotation,) = ended.annotations
        assert annotation["kvPairs"]["file"] == "backend/migrations/versions/c3_after_nothing.py"
        assert "comes after b9, which no file defines" in ended.error
        assert "Add the file of b9" in ended.summary
        assert database.revisions == []


def test_what_answers_on_standard_output_stands_in_the_log(caller: Caller, images: Images) -> None:
    """And nothing connects."""
    sql, rendered, heads, config, forging = take(
        caller,
        Step(images["good"], {"command": "sql"}, SOME),
        Step(images["good"], {"args": "--sql\nb2"}, SOME),
        Step(images["good"], {"command": "heads"}),
        Step(images["good"], {"command": "config"}),
        Step(images["forging"], {"command": "history"}),
    )
    for ended in (sql, rendered):
        assert "CREATE TABLE t_b2" in ended.said, ended.run.output
        assert ended.outputs == {**dict.fromkeys(ended.outputs, ""), "exit-code": "0"}
    assert heads.said.splitlines()[1:-1] == ["b2 (head)", ""]
    assert "lock-timeout: 1 s (default)" in config.said
    assert config.report["settings"]
    # What code of the project printed is in the log, and was no command to the runner.
    (ignored,) = [line for line in forging.run.lines if line.get("command") == "ignored"]
    assert "::error::forged" in ignored["msg"]
    assert forging.annotations == []


def test_the_image_gets_the_database_what_is_named_and_nothing_else(
    caller: Caller, images: Images, tmp_path: Path
) -> None:
    certificate = tmp_path / "the CA, its certificate.pem"
    certificate.write_text("a certificate")
    env = {
        "MIGRATOR_DATABASE_URL": "${{ secrets.MIGRATOR_DATABASE_URL }}",
        "MIGRATOR_ENV": "pre-prod",
        "PRE_PROD_DATABASE_URL": "x",
        "DB_HOST": "db",
        "PGSSLROOTCERT": str(certificate),
        "SHOP_REGION": "north",
        "NEIGHBOUR_TOKEN": "x",
    }
    (ended,) = take(
        caller,
        Step(images["curious"], {"env": "SHOP_REGION\n\n"}, env),
        secrets={"MIGRATOR_DATABASE_URL": f"postgresql://shop:{PASSWORD}@db/shop"},
    )
    seen = json.loads(next(line for line in ended.said.splitlines() if line.startswith("{")))
    assert {*env} - {"NEIGHBOUR_TOKEN"} <= {*seen["variables"]}
    assert not {"NEIGHBOUR_TOKEN", "GITHUB_TOKEN", "INPUT_ENV"} & {*seen["variables"]}
    assert seen["certificate"] == "a certificate"
    assert (
        seen["user"]
        == subprocess.run(["id", "-u"], capture_output=True, text=True, check=True).stdout.strip()
    )
    assert seen["capabilities"] == "0000000000000000"
    assert seen["read_only"]
    assert seen["no_new_privileges"] == "1"
    assert PASSWORD not in ended.run.output


def test_installed_in_the_job_it_runs_in_the_projects_folder(
    caller: Caller, database: Database, programs: Callable[..., str]
) -> None:
    write_project(caller.path / "backend", None, revisions=(A1, BROKEN))
    here = {"working-directory": "backend"}
    failed, written = take(
        caller,
        Step("local", here, DATABASE),
        Step("local", {**here, "command": "revision", "args": "-m\nadd a column", "report": "r.json"}),
        secrets=url_of(database),
        env={"PATH": programs("migrator")},
    )
    assert facts(failed)["exit-code"] == "20", failed.run.output
    (annotation,) = failed.annotations
    assert annotation["kvPairs"]["file"] == "backend/migrations/versions/b2_fill_nowhere.py"
    assert "fill nowhere" in failed.summary
    assert database.revisions == ["a1"]
    assert (written.outcome, written.report["command"]) == ("success", "revision")
    assert "add_a_column.py" in written.said


# What is refused, and what did not come as far as migrator

URL = f"postgresql://shop:{PASSWORD}@db/shop"
NO_DATABASE = "postgresql://nobody:nothing@127.0.0.1:1/none"
SOME = {"DATABASE_URL": NO_DATABASE}


@dataclass(frozen=True)
class Bad:
    """A step that ends badly.

    :ivar image: ``=NAME``: one of :class:`Images`; ``:NAME``, by its tag.
    :ivar says: what annotation and summary hold, cause and next action.
    :ivar without: a program that is not on PATH.
    """

    image: str
    says: tuple[str, ...]
    given: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=lambda: SOME)
    exit_code: int = 2
    without: str = ""


BAD = {
    "no digest": Bad(":good", ("is not named by its digest", "NAME@sha256:", "allow-tag: true")),
    "half a digest": Bad("shop@sha256:123", ("is not named by its digest",)),
    "an option for docker": Bad("--privileged", ("the input image is '--privileged'",)),
    "no image": Bad("", ("the input image is empty", "is it in needs?")),
    "no url": Bad("=good", ("neither MIGRATOR_DATABASE_URL nor DATABASE_URL is set", "secrets."), env={}),
    "no secret": Bad(
        "=good",
        ("MIGRATOR_DATABASE_URL is empty: the secret", "Settings, Environments"),
        env={"MIGRATOR_DATABASE_URL": "${{ secrets.NOT_THERE }}"},
    ),
    "unknown command": Bad(
        "=good", ("migrator has no command 'upgrad'", "upgrade downgrade"), {"command": "upgrad"}
    ),
    "two words": Bad("=good", ("has no command 'upgrade head'", "to args"), {"command": "upgrade head"}),
    "two lines": Bad("=good", ("the input network holds a line break",), {"network": "host\n::error::x"}),
    "url in args": Bad("=good", ("the input args holds", "not shown"), {"args": f"head\n{URL}"}),
    "url as image": Bad(URL, ("the input image holds", "MIGRATOR_DATABASE_URL: ${{ secrets.")),
    "password in args": Bad("=good", ("the input args holds",), {"args": f"-x\nPASSWORD={PASSWORD}"}),
    "value in env": Bad("=good", ("names alone",), {"env": f"SHOP_KEY={PASSWORD}"}),
    "unset in env": Bad("=good", ("env names SHOP_KEY, which is not set",), {"env": "SHOP_KEY"}),
    "allow-tag": Bad("=good", ("allow-tag is 'yes'",), {"allow-tag": "yes"}),
    "outside": Bad("=good", ("working-directory is '../other'",), {"working-directory": "../other"}),
    "absolute": Bad("=good", ("working-directory is '/app'",), {"working-directory": "/app"}),
    "writes": Bad("=good", ("revision writes a file", "image to local"), {"command": "revision"}),
    "report": Bad("=good", ("cannot be written to '/proc/x/y.json'",), {"report": "/proc/x/y.json"}),
    "not installed": Bad("local", ("the command migrator is not there", "Install"), without="migrator"),
    "nowhere": Bad("local", ("which is not there", "actions/checkout"), {"working-directory": "none"}),
    "no docker": Bad("=good", ("the command docker is not there", "ubuntu-latest"), without="docker"),
    "no jq": Bad("=good", ("the command jq is not there", "Install jq"), without="jq"),
    "not migrator": Bad("=silent", ("exit code 0 and without the report", "FROM migrator:runner")),
    "not pulled": Bad(
        "=missing", ("could not pull the image", "docker login", "packages: read"), exit_code=125
    ),
    "no engine": Bad(
        "=good",
        ("no Docker Engine answers",),
        env={**SOME, "DOCKER_HOST": "tcp://127.0.0.1:1"},
        exit_code=125,
    ),
    "no network": Bad(
        "=good", ("Docker could not start", "stands above"), {"network": "nobody-made-this"}, exit_code=125
    ),
    "no program": Bad("=unstartable", ("entry point cannot be run", "FROM migrator:runner"), exit_code=126),
    "no migrator": Bad("=bare", ("there is no migrator in the image",), exit_code=127),
    "killed": Bad("=killed", ("out of memory", "rolls an open transaction back"), exit_code=137),
    "wrong option": Bad("=good", ("--not-there", "--help lists"), {"args": "--not-there"}),
    "unknown setting": Bad(
        "=good", ("Did you mean MIGRATOR_WAIT_TIMEOUT?",), env={**SOME, "MIGRATOR_WAIT_TIMEUOT": "1s"}
    ),
    "unreachable": Bad("=good", ("127.0.0.1:1",), {"args": "--wait-timeout\n0"}, exit_code=10),
}


@pytest.fixture(scope="module")
def bad(
    images: Images, registry: Registry, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Ended]:
    """Every bad step, one after the other in one job."""

    def image(name: str) -> str:
        if name == "=missing":
            return f"{registry.host}/missing@{DIGEST}"
        return {"=": images.named, ":": images.tagged}.get(name[:1], {}).get(name[1:], name)

    steps = []
    for number, one in enumerate(BAD.values()):
        path = (
            {"PATH": path_without(tmp_path_factory.mktemp(f"bin{number}"), one.without)}
            if one.without
            else {}
        )
        steps.append(Step(image(one.image), one.given, {**one.env, **path}))
    caller = make_caller(tmp_path_factory.mktemp("bad") / "repository", home)
    return dict(zip(BAD, take(caller, *steps), strict=True))


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_early_and_says_what_to_do(bad: Mapping[str, Ended], name: str) -> None:
    expected, ended = BAD[name], bad[name]
    assert ended.outcome == "failure"
    assert ended.outputs["exit-code"] == str(expected.exit_code), ended.said
    for words in expected.says:
        assert words in ended.error, ended.said
        assert words in ended.summary.replace("\\", ""), ended.summary
    assert PASSWORD not in ended.run.output
    assert "**Next**" in ended.summary


def test_a_tag_is_taken_where_that_was_asked_for(caller: Caller, images: Images, database: Database) -> None:
    (ended,) = take(
        caller, Step(images.tagged["good"], {"allow-tag": "true"}, DATABASE), secrets=url_of(database)
    )
    assert (ended.outcome, ended.outputs["current"]) == ("success", "b2")


def test_a_tag_that_moved_in_the_registry_is_pulled_again(
    caller: Caller, images: Images, database: Database, registry: Registry
) -> None:
    older, newer = images.named["older"], images.named["good"]
    tag = f"{registry.host}/moved:main"
    registry.crane("copy", older, tag)
    docker("pull", "--quiet", tag)
    registry.crane("copy", newer, tag)
    (ended,) = take(caller, Step(tag, {"allow-tag": "true"}, DATABASE), secrets=url_of(database))
    assert (ended.outcome, ended.outputs["current"]) == ("success", "b2"), ended.said
    assert re.search(rf"^image +{registry.host}/moved@{newer.rpartition('@')[2]}$", ended.said, re.MULTILINE)


def test_a_tag_that_no_registry_answers_for_is_taken_from_this_machine_with_a_warning(
    caller: Caller, images: Images, database: Database
) -> None:
    tag = "localhost:1/shop:main"
    docker("tag", images.tagged["good"], tag)
    try:
        (ended,) = take(caller, Step(tag, {"allow-tag": "true"}, DATABASE), secrets=url_of(database))
    finally:
        docker("image", "rm", tag)
    assert (ended.outcome, ended.outputs["current"]) == ("success", "b2"), ended.said
    warnings = [line["arg"] for line in ended.run.lines if line.get("command") == "warning"]
    assert any("could not pull" in warning and "may be an older one" in warning for warning in warnings)


def test_a_forks_pull_request_is_told_that_it_gets_no_secrets(caller: Caller) -> None:
    def repository(name: str) -> dict[str, Any]:
        return {"repo": {"full_name": name}, "ref": "main", "sha": "0" * 40}

    payload = {"pull_request": {"head": repository("stranger/shop"), "base": repository("example/shop")}}
    (ended,) = take(
        caller, Step(f"shop@{DIGEST}", {}, DATABASE), event="pull_request", payload=payload, secrets={}
    )
    assert ended.outputs["exit-code"] == "2"
    assert "GitHub gives no secrets to the pull request of a fork" in ended.error
    assert "head.repo.full_name == github.repository" in ended.error


def test_the_action_knows_every_command_and_which_of_them_have_a_report() -> None:
    script = (ACTION / "migrate.sh").read_text()

    def listed(name: str) -> set[str]:
        found = re.search(rf"^{name}='(.*)'$", script, re.MULTILINE)
        assert found
        return set(found[1].split())

    def takes(option: str) -> set[str]:
        return {name for name, one in cli.commands.items() if any(each.name == option for each in one.params)}

    assert listed("REPORTING") | listed("ANSWERING") | listed("WRITING") == set(cli.commands)
    assert listed("REPORTING") == takes("json_output") - listed("WRITING")
    assert listed("CONNECTING") < listed("REPORTING")


# Cancelled


@pytest.mark.parametrize("where", ["image", "local"])
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_cancelled_step_stops_the_migration_and_rolls_it_back(
    images: Images,
    tmp_path: Path,
    database: Database,
    programs: Callable[..., str],
    where: str,
    sent: signal.Signals,
    code: int,
) -> None:
    """A runner sends SIGINT to the step's process alone, and SIGTERM seven seconds later."""
    write_project(tmp_path / "shop", None, revisions=(A1, GATED))
    image = images["slow"] if where == "image" else "local"
    env = {"MIGRATOR_DATABASE_URL": database.url, "PATH": programs("migrator")}
    if where == "local":
        env["INPUT_WORKING_DIRECTORY"] = "shop"
    step = Cancellable(tmp_path, image, env)
    asleep = (
        "SELECT application_name FROM pg_stat_activity "
        "WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    wait_until(lambda: database.query(asleep), "the revision sleeps", timeout=60)
    ((holder,),) = database.query(asleep)
    assert where == "local" or holder == f"migrator github-run-{step.run_id}: b2"
    step.process.send_signal(sent)
    ended = step.process.wait(30)
    assert ended.returncode == code, ended.output
    assert (database.revisions, database.tables) == (["a1"], ["t_a1"])
    assert database.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    assert step.outputs["exit-code"] == str(code)
    assert {name: step.outputs[name] for name in ("current", "target", "pending", "applied")} == {
        "current": "a1", "target": "b2", "pending": "1", "applied": "1",
    }  # fmt: skip
    assert "rolled back: b2" in step.summary
    assert "SIGINT" in ended.stderr or "SIGTERM" in ended.stderr


def test_a_step_that_is_cancelled_while_it_pulls_ends_at_once(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(60)
        name = f"localhost:{silent.getsockname()[1]}/shop@{DIGEST}"
        step = Cancellable(tmp_path, name, SOME)
        asked, _ = silent.accept()
        with asked:
            step.process.send_signal(signal.SIGINT)
            ended = step.process.wait(30)
    assert ended.returncode == 130, ended.output
    assert "stopped while the image was pulled" in ended.stdout
    assert step.outputs == {"exit-code": "130"}
