"""Applications in real servers: processes of their own, real requests, and nothing left at the end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from tests.harness import Completed, Running, clean_environment, wait_until
from tests.scenarios.shapes import Copy

WAITING = "Waiting for application startup"
COMPLETE = "Application startup complete"
_ADDRESS = re.compile(r"(?:running on|Listening at:) (http://127\.0\.0\.1:\d+)")


class Served:
    """A server's process with its workers."""

    def __init__(self, running: Running) -> None:
        self.running = running

    def said(self, words: str) -> int:
        """How often it wrote these words so far."""
        return self.running.output.count(words)

    def get(self, path: str) -> Any:
        """The answer to a request on a connection of its own."""
        address = self.running.wait_for_line(_ADDRESS.pattern)[1]
        with urllib.request.urlopen(address + path, timeout=30) as answer:
            return json.load(answer)

    def workers(self, count: int) -> set[int]:
        """The process ids of as many workers, each of which has answered a request."""
        seen: set[int] = set()

        def all_seen() -> bool:
            seen.add(self.get("/health")["worker"])
            return len(seen) >= count

        wait_until(all_seen, f"{count} workers have answered", timeout=60)
        return seen

    def stop(self) -> Completed:
        """SIGTERM, as a deploy stops it, and its end."""
        self.running.send_signal(signal.SIGTERM)
        return self.running.wait(30)


@contextlib.contextmanager
def serve(copy: Copy, module: str, *arguments: str) -> Iterator[Served]:
    """``python -m MODULE ARGUMENTS`` in the project, until the block ends; then its whole session is killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=copy.path,
        env=clean_environment({"PYTHONUNBUFFERED": "1", **copy.variables}),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Served(Running(process))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def uvicorn(copy: Copy, application: str, *arguments: str) -> contextlib.AbstractContextManager[Served]:
    """``python -m uvicorn APPLICATION`` on a free port."""
    return serve(copy, "uvicorn", application, "--host", "127.0.0.1", "--port", "0", *arguments)


def gunicorn(
    copy: Copy, application: str, arguments: Sequence[str]
) -> contextlib.AbstractContextManager[Served]:
    """``python -m gunicorn APPLICATION`` on a free port."""
    return serve(copy, "gunicorn", application, "--bind", "127.0.0.1:0", *arguments)
