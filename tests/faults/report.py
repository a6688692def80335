"""What was counted, as one page; the page holds its own data, so that a test can write it again and compare."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from migrator.durations import format_duration
from tests.faults import crowds, matrix, sudden
from tests.faults.matrix import Fault
from tests.faults.tally import Row, Tally

PACKAGES = (
    "alembic",
    "sqlalchemy",
    "psycopg2-binary",
    "psycopg",
    "asyncpg",
    "pymysql",
    "aiomysql",
    "asyncmy",
)
DATA = "<!-- data\n"

INTRODUCTION = (
    "What happens to a run when something breaks, counted. Written by `make faults`, never by hand."
)
METHOD = """\
In each trial the fault strikes a real run on a real server. Afterwards the same command is simply run again, and must
bring the database to head, or say what is left (an index whose build was interrupted) so that it does once that is
removed. Revisions write a row each into a journal: one that is applied twice shows, whatever its DDL hides. An exit
code 0 is checked against the database, each other one against the codes that are right for the fault, and the screen
must end with what failed, what is true, what to do, and the code.

`54/54` is trials that were as they must be, of trials; the time is the longest from the fault until the run lock was
free again, as polled from outside. Through a pooler every third statement is struck, and each that commits. Where a
guarantee cannot be given: [guarantees](docs/guarantees.md)."""
QUICK = f"This was a quick play: one of {sudden.EACH} boundaries, and {crowds.FEWER} contenders."
AGAIN = """\
`make faults ARGS="--write FAULTS.md"` plays the whole matrix and writes this page;
`make faults ARGS="--only pg17-psycopg2-direct --fault sigkill"` plays one cell, with `--update FAULTS.md` into this
page; `make faults ARGS=--list` names them.
Root on Linux is needed for network namespaces and small disks."""
KINDS = {"pg": "PostgreSQL ", "mariadb": "MariaDB ", "mysql": "MySQL ", "sqlite": "SQLite "}


@dataclass(frozen=True)
class Count:
    """The tally of one cell, without the words."""

    row: str
    fault: str
    trials: int
    passed: int
    runs: int
    doubled: int
    lost: int
    named: int
    free_seconds: float | None
    seconds: float
    codes: Mapping[str, int]


@dataclass(frozen=True)
class Played:
    """A play of the matrix.

    :ivar missing: kinds whose servers could not be had, with the reason.
    :ivar whole: every boundary and contender; otherwise some.
    """

    counts: tuple[Count, ...]
    versions: Mapping[str, str]
    missing: Mapping[str, str]
    seconds: float
    date: str
    machine: str
    whole: bool

    @property
    def clean(self) -> bool:
        """Every trial of every cell passed."""
        return all(c.passed == c.trials and c.doubled == c.lost == 0 for c in self.counts)

    @classmethod
    def from_page(cls, page: str) -> Played:
        """What a written page was made of."""
        data: dict[str, Any] = json.loads(page.partition(DATA)[2].partition("\n-->")[0])
        return cls(**{**data, "counts": tuple(Count(**count) for count in data["counts"])})


def played(
    tallies: Mapping[tuple[Row, Fault], Tally],
    versions: Mapping[str, str],
    missing: Mapping[str, str],
    seconds: float,
    *,
    whole: bool,
) -> Played:
    """What was counted, with the versions of everything."""
    counts = tuple(
        Count(
            row.name,
            fault.name,
            tally.trials,
            tally.passed,
            tally.runs,
            tally.doubled,
            tally.lost,
            tally.named,
            None if tally.free_seconds is None else round(tally.free_seconds, 2),
            round(tally.seconds, 1),
            {str(code): count for code, count in sorted(tally.codes.items())},
        )
        for (row, fault), tally in tallies.items()
    )
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    cpus = os.cpu_count() or 1
    machine = f"{cpus} CPU{'s' if cpus > 1 else ''}, {platform.system()} {platform.release().split('-')[0]}"
    everything = {**dict(sorted(versions.items())), "Python": platform.python_version(), **installed}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Played(counts, everything, dict(sorted(missing.items())), round(seconds), today, machine, whole)


def updated(page: Played, anew: Played) -> Played:
    """``page`` with the cells that were played anew in the place of what it had of them.

    :raises ValueError: one was a quick play and the other was not; their counts are no one table.
    """
    if page.whole != anew.whole:
        raise ValueError("the page is of a quick play, or this one was, and the other was not")
    counts = {(c.row, c.fault): c for c in (*page.counts, *anew.counts)}
    order = [(row.name, fault.name) for row, fault in matrix.cells()]
    kinds = {row.partition("-")[0] for row, _ in counts}
    missing = {kind: why for kind, why in {**page.missing, **anew.missing}.items() if kind not in kinds}
    return dataclasses.replace(
        anew,
        counts=tuple(counts[cell] for cell in order if cell in counts),
        versions={**page.versions, **anew.versions},
        missing=missing,
        seconds=page.seconds + anew.seconds,
    )


def summary(result: Played) -> str:
    """One sentence."""
    counts = result.counts
    trials, passed = sum(c.trials for c in counts), sum(c.passed for c in counts)
    doubled, lost = sum(c.doubled for c in counts), sum(c.lost for c in counts)
    rows = len({c.row for c in counts})
    return (
        f"{trials:,} trials of {len({c.fault for c in counts})} faults on {rows} combinations of server, driver and "
        f"route, {sum(c.runs for c in counts):,} runs: {passed:,} of {trials:,} trials as they must be, "
        f"{doubled} revisions applied twice, {lost} silent losses."
    )


def line(row: Row, fault: Fault, tally: Tally) -> str:
    """One cell, as it is told while the matrix is played."""
    free = "" if tally.free_seconds is None else f"lock free in {tally.free_seconds:.2f} s"
    verdict = "ok    " if tally.passed == tally.trials else "FAILED"
    return f"{verdict} {row.name:26} {fault.name:18} {tally.passed:3}/{tally.trials:<3} {tally.seconds:6.1f} s  {free}"


def render(result: Played) -> str:
    """The page."""
    parts = ["# Faults", "", INTRODUCTION, "", f"**{summary(result)}**", "", METHOD, ""]
    if not result.whole:
        parts += [QUICK, ""]
    parts += _faults(result)
    for kind in dict.fromkeys(count.row.split("-")[0] for count in result.counts):
        parts += _table(kind, result)
    for kind, reason in result.missing.items():
        parts += [f"Not played: {_named(kind)} ({reason}).", ""]
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    made = f"{result.date}, {result.machine}, in {format_duration(result.seconds)}: {versions}."
    data = json.dumps(asdict(result), separators=(",", ":")).replace('{"row"', '\n{"row"')
    return "\n".join([*parts, "## How this was made", "", made, "", AGAIN, "", DATA + data, "-->", ""])


def _faults(result: Played) -> list[str]:
    present = {count.fault for count in result.counts}
    lines = ["| fault | what is done | what must hold |", "|---|---|---|"]
    for fault in matrix.FAULTS:
        if fault.name in present:
            done, must = fault.paragraphs
            lines.append(f"| {fault.title} | {done} | {must} |")
    return [*lines, ""]


def _table(kind: str, result: Played) -> list[str]:
    counts = [count for count in result.counts if count.row.split("-")[0] == kind]
    rows = list(dict.fromkeys(count.row for count in counts))
    heads = [
        row.removeprefix(f"{kind}-").replace("-direct", "").replace("-pgbouncer", " by PgBouncer")
        for row in rows
    ]
    lines = [f"## {_named(kind)}", "", f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(rows)}"]
    for fault in matrix.FAULTS:
        cells = {count.row: count for count in counts if count.fault == fault.name}
        if cells:
            words = [_cell(cells[row]) if row in cells else "" for row in rows]
            lines.append(f"| {fault.title} | {' | '.join(words)} |")
    return [*lines, ""]


def _cell(count: Count) -> str:
    words = f"{count.passed}/{count.trials}"
    if count.free_seconds is not None:
        words += f" · {count.free_seconds:.1f} s"
    if count.doubled or count.lost:
        words += f" · **{count.doubled} applied twice, {count.lost} lost**"
    return words if count.passed == count.trials else f"**{words}**"


def _named(kind: str) -> str:
    letters = kind.rstrip("0123456789.")
    return (KINDS.get(letters, letters) + kind.removeprefix(letters)).strip()
