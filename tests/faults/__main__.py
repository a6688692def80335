"""``python -m tests.faults``: play the matrix, or some cells of it, and write what was counted."""

from __future__ import annotations

import argparse
import fnmatch
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults import matrix, report
from tests.faults.matrix import Fault
from tests.faults.tally import Row, Tally

WORKERS = 2
LOGS = Path("build/faults")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: every cell that was asked for was played, and nothing was wrong in any."""
    asked = _parser().parse_args(arguments)
    if asked.rewrite:
        page = Path(asked.rewrite)
        page.write_text(report.render(report.Played.from_page(page.read_text())))
        return 0
    wanted = [
        (row, fault)
        for row, fault in matrix.cells()
        if any(fnmatch.fnmatch(row.name, f"*{pattern}*") for pattern in asked.only or ["*"])
        and fault.name in (asked.fault or [fault.name])
    ]
    if not wanted:
        print("no such cell: --list shows all", file=sys.stderr)
        return 2
    if asked.list:
        print("\n".join(f"{row.name:30} {fault.name}" for row, fault in wanted))
        return 0
    page = Page(asked.write or asked.update, anew=bool(asked.write))
    played = page.with_these(Playing(wanted, asked.jobs, page.write, whole=not asked.quick).play())
    print(report.summary(played))
    return 0 if played.clean and not played.missing else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        metavar="ROW",
        help="rows with this in the name (pg17, psycopg2-direct, pg1[78]*)",
    )
    parser.add_argument("--fault", action="append", choices=[fault.name for fault in matrix.FAULTS])
    parser.add_argument(
        "--jobs", type=int, default=WORKERS, help="cells at a time, each with servers of its own"
    )
    parser.add_argument("--quick", action="store_true", help="some boundaries and contenders, as in CI")
    parser.add_argument("--write", metavar="FILE", help="write the report (FAULTS.md)")
    parser.add_argument("--update", metavar="FILE", help="put the counts of these cells into that report")
    parser.add_argument("--rewrite", metavar="FILE", help="write a report anew from its own counts")
    parser.add_argument("--list", action="store_true", help="name the cells and do nothing")
    return parser


class Page:
    """The report in a file, written again after each cell: a play that is ended half-way has not been for nothing.

    :param anew: what is in the file goes; otherwise it is kept but for the cells that are played.
    """

    def __init__(self, file: str | None, *, anew: bool) -> None:
        self._path = Path(file) if file else None
        self._before = None
        if self._path is not None and not anew:
            self._before = report.Played.from_page(self._path.read_text())

    def with_these(self, played: report.Played) -> report.Played:
        """What was played, and what the page has of the other cells."""
        return report.updated(self._before, played) if self._before is not None else played

    def write(self, played: report.Played) -> None:
        """Write the page with what has been played so far."""
        if self._path is not None:
            self._path.write_text(report.render(self.with_these(played)))


class Playing:
    """Workers that take cells one after the other, each with servers of its own for one kind at a time."""

    def __init__(
        self,
        cells: Sequence[tuple[Row, Fault]],
        workers: int,
        tell: Callable[[report.Played], None],
        *,
        whole: bool,
    ) -> None:
        self._tell = tell
        self._whole = whole
        self._begun = time.monotonic()
        playable = [cell for cell in cells if not cell[1].lacking()]
        self._cells = deque(sorted(playable, key=lambda cell: cell[0].kind))
        self._all = tuple(cells)
        self._workers = workers
        self._lock = threading.Lock()
        self._tallies: dict[tuple[Row, Fault], Tally] = {}
        self._versions: dict[str, str] = {}
        self._missing = {fault.title: why for _, fault in cells if (why := fault.lacking())}

    def play(self) -> report.Played:
        """Play every cell."""
        threads = [threading.Thread(target=self._work) for _ in range(self._workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self._so_far()

    def _so_far(self) -> report.Played:
        tallies = {cell: self._tallies[cell] for cell in self._all if cell in self._tallies}
        seconds = time.monotonic() - self._begun
        return report.played(tallies, self._versions, self._missing, seconds, whole=self._whole)

    def _work(self) -> None:
        while self._cells:
            kind = self._cells[0][0].kind
            try:
                with matrix.started(kind) as running:
                    self._versions.update(running.versions)
                    while cell := self._next(kind):
                        self._play(*cell, running)
            except Exception as error:
                # Servers that cannot be had cost their rows, never those of others.
                self._missing[kind] = f"{type(error).__name__}: {error}"
                print(f"{kind}: {self._missing[kind]}", file=sys.stderr, flush=True)
                while self._next(kind):
                    pass

    def _next(self, kind: str) -> tuple[Row, Fault] | None:
        with self._lock:
            if self._cells and self._cells[0][0].kind == kind:
                return self._cells.popleft()
        return None

    def _play(self, row: Row, fault: Fault, running: matrix.Servers) -> None:
        path = (LOGS / row.name / fault.name).resolve()
        shutil.rmtree(path, ignore_errors=True)
        cell = matrix.play(row, fault, running, path, whole=self._whole)
        with self._lock:
            self._tallies[(row, fault)] = cell.tally
            self._tell(self._so_far())
        if not cell.tally.problems:
            shutil.rmtree(path, ignore_errors=True)
        print(report.line(row, fault, cell.tally), flush=True)
        for label, what in cell.tally.problems:
            lines = what.strip().splitlines()
            print(f"  {label}\n    {lines[-1 if lines[0].startswith('Traceback') else 0]}", flush=True)


if __name__ == "__main__":
    sys.stdout.flush()
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads of abandoned relays may still wait for bytes
