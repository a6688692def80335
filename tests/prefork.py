"""Command lines as forks of a process that has imported what each of them imports: a third of the suite's CPU time.

A run is a process of its own all the same, with its own streams, variables and folder, to be killed like any
other. What it does not do again is import the packages of others; of the project nothing is imported before.
``TEST_SPAWN=1`` starts each from nothing, as ``make test-containers`` does.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

MESSAGE_LIMIT = 1 << 17
_AT_START = frozenset(sys.modules)
_shared: list[str] = []
# What is imported before any run, and what a run then is.
_PRELOADED = (
    "logging.config, runpy, click, dotenv, pydantic.fields, pydantic.main, pydantic.types, tenacity, mako.template, "
    "psycopg2, psycopg2.extras, asyncio, asyncpg, psycopg, pymysql, aiomysql, sqlalchemy, sqlalchemy.ext.asyncio, "
    "sqlalchemy.dialects.postgresql.psycopg2, sqlalchemy.dialects.postgresql.asyncpg, sqlalchemy.dialects.mysql, "
    "sqlalchemy.dialects.sqlite, alembic.context, alembic.config, alembic.script"
)
# Ours first, so that what it does at exit comes last.
_SERVE = f"from tests.prefork import serve\nimport {_PRELOADED}\nserve()"


class Forked:
    """As much of :class:`subprocess.Popen` as the tests use."""

    def __init__(self, program: str, arguments: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.args = [program, *arguments]
        self.returncode: int | None = None
        self._news, told = socket.socketpair()
        (out, out_end), (error, error_end) = os.pipe(), os.pipe()
        request = json.dumps({"program": program, "arguments": arguments, "env": env, "cwd": str(cwd)})
        socket.send_fds(_nursery(), [request.encode()], [out_end, error_end, told.fileno()])
        told.close()
        os.close(out_end)
        os.close(error_end)
        self.stdout, self.stderr = os.fdopen(out), os.fdopen(error)
        self.pid = int(self._news.recv(32))

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code.

        :raises subprocess.TimeoutExpired: not within ``timeout`` seconds.
        """
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is not None:
            return self.returncode
        news = select.poll()  # not select(), which refuses descriptors above 1,023
        news.register(self._news, select.POLLIN)
        if news.poll(None if timeout is None else math.ceil(timeout * 1000)):
            self.returncode = int(self._news.recv(32))
            self._news.close()
        return self.returncode


def may_fork(env: Mapping[str, str]) -> bool:
    """Whether a run in that environment may be a fork: nothing in it that Python looks at when it starts."""
    if os.environ.get("TEST_SPAWN") == "1":
        return False
    ours = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return all(ours.get(name) == env[name] for name in env if name.startswith(("PYTHON", "LC_", "LANG")))


@functools.cache
def _nursery() -> socket.socket:
    """The connection to the process that forks; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PREFORK_SOCKET": str(theirs.fileno())},
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    theirs.close()
    return ours


def serve() -> None:
    """Fork for each request. Returns in a fork, after its run, and where nobody asks any more."""
    control = socket.socket(fileno=int(os.environ["PREFORK_SOCKET"]))
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    asked = select.poll()
    asked.register(control, select.POLLIN)
    asked.register(ended, select.POLLIN)
    told: dict[int, int] = {}
    _leave_alone_at_exit()
    while True:
        ready = [descriptor for descriptor, _ in asked.poll()]
        if ended in ready:
            os.read(ended, 512)
            _tell_who_ended(told)
        if control.fileno() not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_LIMIT, 3)
        if not message:
            return
        out, error, news = descriptors
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            for descriptor in (ended, wake, news, *told.values()):
                os.close(descriptor)
            _become(json.loads(message), out, error)
            return
        told[pid] = news
        os.write(news, str(pid).encode())
        os.close(out)
        os.close(error)


def _tell_who_ended(told: dict[int, int]) -> None:
    """Each exit code to who has started that run."""
    for pid in list(told):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            news = told.pop(pid)
            with contextlib.suppress(OSError):  # who has gone wants no code
                os.write(news, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(news)


def _leave_alone_at_exit() -> None:
    """What is imported by now stays as it is in each fork that ends, which would look through it all and take it apart.

    That copied most of the memory that the forks share: 0.25 s of CPU for each. What a run itself has imported and
    made is taken apart as ever.
    """
    kept: list[object] = [sys.modules[name] for name in sys.modules]
    kept.append(kept)  # a cycle, and frozen: it is never freed
    _shared.extend(name for name in sys.modules if name not in _AT_START)
    gc.collect()
    gc.freeze()


@atexit.register
def _forget_shared() -> None:
    for name in _shared:
        sys.modules.pop(name, None)


def _become(request: dict[str, object], out: int, error: int) -> None:
    import runpy

    os.dup2(out, 1)
    os.dup2(error, 2)
    os.close(out)
    os.close(error)
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    program, arguments = str(request["program"]), list(request["arguments"])  # type: ignore[call-overload]
    sys.path[0] = os.getcwd()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "migrator")]:
        del sys.modules[name]
    sys.argv = [program, *arguments]
    if program == "alembic":
        from alembic.config import main

        main(prog="alembic")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
