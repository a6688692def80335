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
from collections.abc import Sequence
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
    played = Playing(wanted, asked.jobs, whole=not asked.quick).play()
    if asked.write:
        Path(asked.write).write_text(report.render(played))
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
    parser.add_argument("--rewrite", metavar="FILE", help="write a report anew from its own counts")
    parser.add_argument("--list", action="store_true", help="name the cells and do nothing")
    return parser


class Playing:
    """Workers that take cells one after the other, each with servers of its own for one kind at a time."""

    def __init__(self, cells: Sequence[tuple[Row, Fault]], workers: int, *, whole: bool) -> None:
        self._whole = whole
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
        begun = time.monotonic()
        threads = [threading.Thread(target=self._work) for _ in range(self._workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tallies = {cell: self._tallies[cell] for cell in self._all if cell in self._tallies}
        seconds = time.monotonic() - begun
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
        self._tallies[(row, fault)] = cell.tally
        if not cell.tally.problems:
            shutil.rmtree(path, ignore_errors=True)
        print(report.line(row, fault, cell.tally), flush=True)
        for label, what in cell.tally.problems:
            print(f"  {label}\n    {what.strip().splitlines()[0]}", flush=True)


if __name__ == "__main__":
    sys.stdout.flush()
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads of abandoned relays may still wait for bytes
