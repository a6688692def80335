"""``python -m benchmarks.waiters``: what hundreds of waiting pods do to a database, beside the usual shell loop.

Each waiter is a process of its own, and all are let go at the same moment. The migration is a change of the version
row, made when both kinds have waited for a while.
"""

from __future__ import annotations

import compileall
import contextlib
import datetime
import importlib
import os
import platform
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import psycopg2

from benchmarks.__main__ import _processor
from benchmarks.cases import _environ as environ_of
from benchmarks.cases import _execute as execute
from benchmarks.cases import _stamp as stamp
from benchmarks.histories import History, write_history
from benchmarks.measure import Case, Contender, compared
from migrator import embedded

_BEGIN, _END = "<!-- waiters -->", "<!-- /waiters -->"
PASSWORD = "waiting-room"
MAX_CONNECTIONS = 100
_LOOP = 'until [ "$(psql -XAtc "SELECT version_num FROM alembic_version" 2>/dev/null)" = "$WANTED" ]; do sleep 1; done'
_TICK = os.sysconf("SC_CLK_TCK")
_REFUSED = (b"sorry, too many clients already", b"remaining connection slots are reserved")


@dataclass
class Seen:
    """What was seen of one crowd of waiters.

    :ivar at_first: connections of waiters at one moment, the most in the first ten seconds; ``later``: afterwards.
    :ivar refused: connections that the server had no room for, all in all; ``refused_later``: in the window.
    :ivar shut_out: how often another user of the database got no connection, of ``asked``.
    :ivar server_cores: CPU seconds of the whole server a second, in the window; ``waiter_cores``: of all waiters.
    """

    at_first: int = 0
    later: int = 0
    rate: float = 0.0
    refused: int = 0
    refused_later: int = 0
    shut_out: int = 0
    asked: int = 0
    server_cores: float = 0.0
    waiter_cores: float = 0.0
    failed: int = 0
    ends: list[float] = field(default_factory=list)


Start = Callable[[], None]


@click.command()
@click.option("--waiters", default=200, show_default=True, help="How many wait.")
@click.option(
    "--seconds", default=20.0, show_default=True, help="How long they are watched once all have polled."
)
@click.option(
    "--write",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help=f"Replace what stands between {_BEGIN} and {_END} in FILE.",
)
@click.option(
    "--rounds", default=5, show_default=True, help="Of the processes that find the database at head."
)
def main(waiters: int, seconds: float, rounds: int, write: Path | None) -> None:
    """Measure migrator wait --for head against a shell loop around psql, on one server in one run."""
    compileall.compile_dir(Path(embedded.__file__).parent, quiet=2)
    options = {"max_connections": str(MAX_CONNECTIONS), "synchronous_commit": "off"}
    with (
        tempfile.TemporaryDirectory(prefix="waiters-") as directory,
        embedded.postgres(options=options) as server,
    ):
        history = write_history(Path(directory) / "project", 10)
        url = server.create_database("shop")
        for role in ("waiter", "shop_owner"):
            execute(url, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        stamp(url, history.head)
        execute(url, "GRANT SELECT ON alembic_version TO waiter")
        waiting = server.url("shop", user="waiter", password=PASSWORD)
        seen: dict[str, Seen] = {}
        for name, start in (
            ("migrator wait --for head", _ours(history, waiting)),
            ("until psql …; do sleep 1; done", _loop(server, history, waiting)),
        ):
            stamp(url, history.revisions[-2])
            print(f"{name}: {waiters} waiters", file=sys.stderr, flush=True)
            seen[name] = _watched(server, history, waiters, seconds, start)
        stamp(url, history.head)
        alone = compared(
            Case(
                "at head",
                [_process(command, history, url) for command in ("wait --for head", "status")],
                rounds,
            )
        )
    lines = [
        f"- `{name}` of a database at head: {cost.wall_seconds:.2f} s, {cost.cpu_seconds:.2f} s CPU, "
        f"{cost.peak_mib:.0f} MiB"
        for name, cost in alone.items()
    ]
    conditions = (
        f"{waiters} processes that begin at the same moment, each kind watched for {seconds:.0f} s after 10 s; "
        f"{datetime.date.today()}, PostgreSQL {server.version}, `max_connections` = {MAX_CONNECTIONS}, without TLS, "
        f"waiters and server on the same {os.cpu_count()} CPUs ({_processor()}), Python "
        f"{platform.python_version()}. `python -m benchmarks.waiters` gives these figures."
    )
    block = "\n".join([_table(seen), "", *lines, "", conditions, ""])
    print(block, end="")
    if write is not None:
        before, _, rest = write.read_text().partition(f"{_BEGIN}\n")
        write.write_text(f"{before}{_BEGIN}\n{block}{_END}{rest.partition(_END)[2]}")


def _ours(history: History, url: str) -> Start:
    def start() -> None:
        os.chdir(history.root)
        os.environ.clear()
        os.environ.update(environ_of(MIGRATOR_DATABASE_URL=url))
        from migrator.cli import main as migrator

        migrator(["wait", "--for", "head", "--wait-timeout", "30m"])

    # What each would import by itself: a process that is forked starts at the same moment as all others.
    for module in ("migrator.cli", "migrator.waiting", "sqlalchemy.dialects.postgresql.psycopg2"):
        importlib.import_module(module)
    return start


def _loop(server: embedded.EmbeddedPostgres, history: History, url: str) -> Start:
    programs = Path(server._programs)
    found = str(programs) if (programs / "psql").exists() else os.path.dirname(shutil.which("psql") or "")

    def start() -> None:
        variables = environ_of(WANTED=history.head)
        parts = {
            "PATH": f"{found}:{variables['PATH']}",
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGUSER": "waiter",
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": "shop",
        }
        os.execvpe("sh", ["sh", "-c", _LOOP], {**variables, **parts})

    return start


def _process(command: str, history: History, url: str) -> Contender:
    def nothing() -> None: ...

    line = (sys.executable, "-m", "migrator", *command.split())
    # env.py of the history reads DATABASE_URL, with a driver.
    environ = environ_of(DATABASE_URL=url.replace("postgresql://", "postgresql+psycopg2://", 1))
    return Contender(f"migrator {command}", line, history.root, environ, nothing, nothing)


def _watched(
    server: embedded.EmbeddedPostgres, history: History, waiters: int, seconds: float, start: Start
) -> Seen:
    seen = Seen()
    log_begins = server.log_path.stat().st_size
    ready, released = os.pipe()
    pids = [_forked(start, ready, released) for _ in range(waiters)]
    os.close(ready)
    with (
        contextlib.closing(psycopg2.connect(server.url("shop"))) as observer,
        _looking(seen, server) as looking,
    ):
        observer.autocommit = True
        os.close(released)  # All of them begin.
        time.sleep(10)
        looking.settled = True
        _answers(observer, "SELECT pg_stat_force_next_flush()")
        before = (_sessions(observer), _cpu([_server_pid(server)]), _cpu(pids), _refused(server, log_begins))
        begun = time.monotonic()
        time.sleep(seconds)
        lasted = time.monotonic() - begun
        after = (_sessions(observer), _cpu([_server_pid(server)]), _cpu(pids), _refused(server, log_begins))
        probes = looking.probes / seconds if seconds else 0.0
        looking.stop()
        seen.rate = (after[0] - before[0]) / lasted - probes
        seen.server_cores, seen.waiter_cores = (
            (after[1] - before[1]) / lasted,
            (after[2] - before[2]) / lasted,
        )
        seen.refused_later = after[3] - before[3]
        stamp(server.url("shop"), history.head)
        reached = time.monotonic()
        for _ in pids:
            _, status = os.wait()
            seen.ends.append(time.monotonic() - reached)
            seen.failed += os.waitstatus_to_exitcode(status) != 0
    seen.refused = _refused(server, log_begins)
    return seen


def _forked(start: Start, ready: int, released: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.close(released)
        os.read(ready, 1)
        sink = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(sink, number)
        start()
    except SystemExit as ended:
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    except BaseException:
        os._exit(1)
    os._exit(1)


class _Looking:
    """A thread that counts connections, and asks as the migration would whether there is one for it."""

    def __init__(self, seen: Seen, server: embedded.EmbeddedPostgres) -> None:
        self.settled = False
        self.probes = 0
        self._seen = seen
        self._url = server.url("shop", user="shop_owner", password=PASSWORD)
        self._counting = psycopg2.connect(server.url())
        self._counting.autocommit = True
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._counting.close()

    def _look(self) -> None:
        probed = time.monotonic()
        while not self._ended.wait(0.02):
            statement = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'waiter'"
            ((count,),) = _answers(self._counting, statement)
            if self.settled:
                self._seen.later = max(self._seen.later, count)
            else:
                self._seen.at_first = max(self._seen.at_first, count)
            if time.monotonic() - probed >= 0.5:
                probed = time.monotonic()
                self._probe()

    def _probe(self) -> None:
        self._seen.asked += 1
        try:
            psycopg2.connect(self._url).close()
            self.probes += self.settled
        except psycopg2.OperationalError:
            self._seen.shut_out += 1


@contextlib.contextmanager
def _looking(seen: Seen, server: embedded.EmbeddedPostgres) -> Iterator[_Looking]:
    looking = _Looking(seen, server)
    try:
        yield looking
    finally:
        looking._ended.set()


def _answers(connection: psycopg2.extensions.connection, statement: str) -> list[tuple[int, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def _sessions(connection: psycopg2.extensions.connection) -> int:
    ((count,),) = _answers(connection, "SELECT sessions FROM pg_stat_database WHERE datname = 'shop'")
    return count


def _refused(server: embedded.EmbeddedPostgres, begins: int) -> int:
    with server.log_path.open("rb") as log:
        log.seek(begins)
        told = log.read()
    return sum(told.count(words) for words in _REFUSED)


def _server_pid(server: embedded.EmbeddedPostgres) -> int:
    pid = server.pid
    assert pid is not None
    return pid


def _cpu(pids: Sequence[int]) -> float:
    """User and system time of the processes and of their children that have ended; 0 for one that is gone."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(fields[number]) for number in (11, 12, 13, 14))
    return total / _TICK


def _table(seen: dict[str, Seen]) -> str:
    rows: list[tuple[str, Callable[[Seen], str]]] = [
        ("connections a second", lambda one: f"{one.rate:.0f}"),
        (
            "connections at one moment: at most at first / later",
            lambda one: f"{one.at_first} / {one.later}",
        ),
        (
            "connections refused by the full server: all / while watched",
            lambda one: f"{one.refused} / {one.refused_later}",
        ),
        ("another user without a connection", lambda one: f"{one.shut_out} of {one.asked} times"),
        (
            "CPU of the server, of all waiters (cores)",
            lambda one: f"{one.server_cores:.2f}, {one.waiter_cores:.2f}",
        ),
        ("CPU of one waiter", lambda one: f"{1000 * one.waiter_cores / max(1, len(one.ends)):.1f} m"),
        (
            "from head until half of them, all of them are through",
            lambda one: f"{statistics.median(one.ends):.1f} s, {max(one.ends):.1f} s",
        ),
        ("waiters that failed", lambda one: str(one.failed)),
    ]
    lines = [f"| | {' | '.join(f'`{name}`' for name in seen)} |", f"|---|{'---|' * len(seen)}"]
    lines += [f"| {title} | {' | '.join(words(one) for one in seen.values())} |" for title, words in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.waiters")
