"""``migrator demo``: the main job on a disposable PostgreSQL, with the project in the current folder.

Two runners start together, one applies, the other waits and finds nothing to do. In the example shop there is
more to see: orders to backfill, and an application whose open transaction is in the way for a while.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from migrator import embedded
from migrator.errors import ConfigurationError

_OWNER, _DATABASE = "shop_owner", "shop"
_ORDERS = 50_000
# The example's revision at which orders exist and have no total yet.
_BEFORE_BACKFILL = "7d1f08b2c6e9"
_LOAD = f"""
INSERT INTO customers (email, name)
SELECT format('customer%s@example.com', n), format('Customer %s', n) FROM generate_series(1, 500) AS n;
INSERT INTO orders (customer_id, product_id, quantity, placed_at)
SELECT 1 + n % 500, 1 + n % 5, 1 + n % 4, timestamptz '2026-01-01 00:00Z' + n * interval '1 minute'
FROM generate_series(1, {_ORDERS}) AS n;
"""
# Long enough for a slow machine to show what there is to see; the run goes on in any case.
_LONGEST_BLOCK_SECONDS = 20.0
_HOLDS = re.compile(r"^lock\s+held \(pid")
_WAITS = re.compile(r"^lock\s+held by pid")
_IS_BLOCKED = re.compile(r"\bblocked\b.*\bby pid")
# What else would name a database, or change how the runs go.
_FOREIGN = re.compile(r"^(MIGRATOR_.*|(.*_)?DATABASE_URL|DB_(HOST|PORT|USER|PASSWORD|NAME)|PG[A-Z]+)$")


def run_demo(out: TextIO) -> int:
    """Show two runners migrate one new database, and its status; 0 if every command exited with 0.

    Everything that is started runs on this machine, as real processes, and is gone at the end.

    :param out: gets the commands, after ``$``, and all that they write.
    :raises ConfigurationError: no Alembic project here, or no PostgreSQL to start.
    """
    project = Path.cwd()
    if not (project / "alembic.ini").is_file():
        raise ConfigurationError(
            f"no alembic.ini in {project}: the demo runs the migrations of the project in the current folder",
            next_step="Change to the folder of an Alembic project, or to a checkout of migrator, and repeat.",
        )
    with embedded.postgres() as server:
        stage = Stage(server, out)
        stage.say(f"PostgreSQL {server.version}, made for this and removed at the end")
        stage.show_command(f"export MIGRATOR_DATABASE_URL={stage.url.replace(server.password, '***')}")
        return _example(stage) if _is_example(project) else _two_runners_and_status(stage)


class Stage:
    """The database, and where everything is shown."""

    def __init__(self, server: embedded.EmbeddedPostgres, out: TextIO) -> None:
        import psycopg2

        with contextlib.closing(psycopg2.connect(server.url())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE ROLE {_OWNER} LOGIN PASSWORD %s", [server.password])
                cursor.execute(f"CREATE DATABASE {_DATABASE} OWNER {_OWNER}")
        self.url = server.url(_DATABASE, user=_OWNER)
        self._out = out
        kept = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
        # No secrets from elsewhere either: a folder without any.
        secrets_directory = str(server.socket_directory)
        self._environment = {
            **kept,
            "MIGRATOR_DATABASE_URL": self.url,
            "MIGRATOR_SECRETS_DIR": secrets_directory,
        }

    def say(self, text: str) -> None:
        """A line of the demo's own."""
        self.write(f"{'demo':<10}{text}\n")

    def show_command(self, command: str) -> None:
        """A line as it would be typed."""
        self.write(f"\n$ {command}\n")

    def write(self, text: str) -> None:
        """Write and flush, for it is watched while it happens."""
        self._out.write(text)
        self._out.flush()

    def run(self, *arguments: str) -> int:
        """Run a command of migrator and show what it writes; its exit code."""
        self.show_command(" ".join(("migrator", *arguments)))
        with self.started(*arguments) as process:
            assert process.stdout is not None
            for line in process.stdout:
                self.write(line)
            return process.wait()

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command of migrator, running; it does not outlive the block."""
        command = [sys.executable, "-m", "migrator", *arguments]
        process = subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


def _is_example(project: Path) -> bool:
    return any((project / "migrations" / "versions").glob(f"{_BEFORE_BACKFILL}_*.py"))


def _example(stage: Stage) -> int:
    """The shop as it was some revisions ago, filled, with an application at work; then the new release."""
    import psycopg2

    if code := stage.run("upgrade", _BEFORE_BACKFILL):
        return code
    with contextlib.closing(psycopg2.connect(stage.url, application_name="shop backend")) as application:
        with application.cursor() as cursor:
            cursor.execute(_LOAD)
            application.commit()
            cursor.execute("SELECT count(*) FROM orders")
        stage.write("\n")
        stage.say(f"the shop took {_ORDERS:,} orders; one transaction of its backend is still open on them")
        return _two_runners_and_status(stage, application.rollback)


def _two_runners_and_status(stage: Stage, release: Callable[[], None] | None = None) -> int:
    codes = _two_runners(stage, release)
    return max(*codes, stage.run("status"))


def _two_runners(stage: Stage, release: Callable[[], None] | None) -> tuple[int, int]:
    """Two runs of ``upgrade``; the second starts as soon as the first holds the lock.

    :param release: ends what blocks the first; called once the second has been seen waiting.
    """
    stage.show_command("migrator upgrade & migrator upgrade & wait")
    heard: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
    with contextlib.ExitStack() as processes:
        running = {"first": processes.enter_context(_runner(stage, "first", heard))}
        seen: set[str] = set()
        ended: set[str] = set()
        deadline = time.monotonic() + _LONGEST_BLOCK_SECONDS
        while len(ended) < 2:
            with contextlib.suppress(queue.Empty):
                name, line = heard.get(timeout=1.0)
                if line is None:
                    ended.add(name)
                else:
                    stage.write(f"{name:<6} | {line}")
                    seen |= _what_it_shows(name, line)
            if "second" not in running and (ended or "first holds" in seen):
                running["second"] = processes.enter_context(_runner(stage, "second", heard))
            shown = seen >= {"second waits", "first is blocked"}
            if release and (shown or ended or time.monotonic() > deadline):
                release()
                release = None
        return running["first"].wait(), running["second"].wait()


@contextlib.contextmanager
def _runner(
    stage: Stage, name: str, heard: queue.SimpleQueue[tuple[str, str | None]]
) -> Iterator[subprocess.Popen[str]]:
    """A running ``upgrade`` that tells its lines under ``name``, and None after the last."""

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            heard.put((name, line))
        heard.put((name, None))

    with stage.started("upgrade") as process:
        listener = threading.Thread(target=listen, name=f"{name} runner's output", daemon=True)
        listener.start()
        yield process


def _what_it_shows(name: str, line: str) -> set[str]:
    patterns = {"holds": _HOLDS, "waits": _WAITS, "is blocked": _IS_BLOCKED}
    return {f"{name} {what}" for what, pattern in patterns.items() if pattern.search(line)}
