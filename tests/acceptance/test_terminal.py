"""What a person sees: colours and a live line on a terminal, plain lines everywhere else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping

import pytest

from migrator.errors import ExitCode
from tests.harness import NO_VARIABLES, Project, clean_environment, parts_of, table_revisions, transaction

MakeProject = Callable[..., Project]
ERASE = "\r\x1b[2K"
COLOUR = re.compile(r"\x1b\[[\d;]*m")
ESCAPE = "\x1b"


def on_terminal(
    project: Project, *arguments: str, env: Mapping[str, str] = NO_VARIABLES, columns: int = 100
) -> tuple[int, str]:
    """(exit code, all that was written) of a run whose three streams are a terminal of that width."""
    assert project.database is not None
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    variables = {"TERM": "xterm", "MIGRATOR_DATABASE_URL": project.database.url, **env}
    process = subprocess.Popen(
        [sys.executable, "-m", "migrator", *arguments],
        cwd=project.path,
        env=clean_environment(variables),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = bytearray()
    try:
        with contextlib.suppress(OSError):  # Linux says EIO where the other side is closed.
            while block := os.read(ours, 65536):
                written += block
        return process.wait(30), written.decode().replace("\r\n", "\n")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def visible(text: str) -> list[str]:
    """The lines that are on the terminal in the end."""
    return [line.rpartition(ERASE)[2] for line in COLOUR.sub("", text).rstrip("\n").split("\n")]


@pytest.fixture
def shop(project: MakeProject) -> Project:
    return project(revisions=table_revisions("a1"))


def test_nothing_but_plain_text_goes_where_no_terminal_is(shop: Project) -> None:
    for arguments in (["upgrade"], ["status"], ["check"], ["config"], ["--help"], ["upgrade", "no-such"]):
        told = shop.migrator(*arguments)
        assert ESCAPE not in told.stdout + told.stderr, told.output
        assert "\r" not in told.stdout + told.stderr, told.output


def test_labels_are_coloured_on_a_terminal(shop: Project) -> None:
    code, text = on_terminal(shop, "upgrade")
    assert code == 0, text
    assert COLOUR.search(text)
    labels = [line.split()[0] for line in visible(text)]
    assert labels == ["target", "wait", "lock", "plan", "1/1", "verified", "done"], text


@pytest.mark.parametrize(
    ("variables", "escapes"), [({"NO_COLOR": "1"}, COLOUR), ({"TERM": "dumb"}, re.compile(ESCAPE))]
)
def test_whoever_wants_no_colours_gets_none(
    shop: Project, variables: Mapping[str, str], escapes: re.Pattern[str]
) -> None:
    code, text = on_terminal(shop, "upgrade", env=variables)
    assert code == 0, text
    assert not escapes.search(text), text


def test_colours_can_be_asked_for_where_no_terminal_is(shop: Project) -> None:
    assert COLOUR.search(shop.migrator("upgrade", env={"FORCE_COLOR": "1"}, check=True).stderr)


SLOW = """
import os

statement = "SELECT pg_sleep(2.2) /* PASSWORD '{0}', {1} */"
url = os.environ["DATABASE_URL"]
op.execute(sa.text(statement.format("unheard-of-3!", url).replace(":", "\\\\:")))
"""


def test_what_runs_long_is_a_live_line_that_the_next_line_takes_the_place_of(shop: Project) -> None:
    shop.add_revision("b2", "a1", SLOW, message="think about it")
    assert shop.database is not None
    code, text = on_terminal(shop, "upgrade", columns=90)
    assert code == 0, text
    drawn = [part.partition("\n")[0] for part in text.split(ERASE)[1:]]
    live = [COLOUR.sub("", part) for part in drawn if "running" in part]
    assert live, text
    assert all(line.startswith("  2/2     b2  running ") and "pg_sleep" in line for line in live), text
    assert all(len(line) < 90 for line in live)
    assert not any("running" in line for line in visible(text)), text
    assert any(line.startswith("  2/2     b2  think about it ") for line in visible(text)), text
    assert parts_of(shop.database.url)["password"] not in text
    assert "unheard-of-3!" not in text


def test_what_runs_long_is_told_at_growing_intervals_where_no_terminal_is(shop: Project) -> None:
    shop.add_revision("b2", "a1", 'op.execute("SELECT pg_sleep(60)")', message="think about it")
    assert shop.database is not None
    running = shop.start("upgrade")
    found = running.wait_for_line(r"2/2 +b2 +running 5(\.\d)? s: SELECT pg_sleep\(60\)")
    assert found
    shop.database.query(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
    )
    ended = running.wait()
    assert ended.returncode == ExitCode.MIGRATION_FAILED, ended.output
    assert ended.stderr.count("running") == 1, ended.output
    assert "57014: canceling statement due to user request" in ended.stderr
    assert "Somebody cancelled the statement on the server" in ended.stderr


def test_who_blocks_a_migration_is_told_while_it_waits(shop: Project) -> None:
    shop.migrator("upgrade", check=True)
    assert shop.database is not None
    shop.add_revision("b2", "a1", 'op.add_column("t_a1", sa.Column("note", sa.Text))')
    with transaction(shop.database.url, "SELECT * FROM t_a1") as blocking:
        running = shop.start("upgrade", "--lock-timeout", "300ms", "--lock-retry-timeout", "30s")
        told = running.wait_for_line(
            r"1/1 +b2 +blocked .* on t_a1 by pid (\d+) \(test, postgres, idle in transaction"
        )
        assert int(told[1]) == blocking.info.backend_pid
    done = running.wait()
    assert done.returncode == 0, done.output
    assert shop.database.revisions == ["b2"]
