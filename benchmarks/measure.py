"""Whole processes, measured by the kernel: wall time, CPU time and peak memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process cost, or the medians of several.

    :ivar cpu_seconds: user and system time, of the children that it waited for as well.
    :ivar peak_mib: largest resident set. Never less than this process had when it started that one.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Contender:
    """A command to measure.

    :ivar before: called before each run, and not measured.
    :ivar after: called after each run, not measured; raises if the command did not do its work.
    """

    name: str
    command: Sequence[str]
    directory: Path
    environ: Mapping[str, str]
    before: Callable[[], None]
    after: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Case:
    """Something that each contender does ``rounds`` times, in turn; a first round may not count."""

    title: str
    contenders: Sequence[Contender]
    rounds: int
    warm_up: bool = True


class CommandFailed(Exception):
    """A measured command did not exit with 0: what it printed."""


def measured(contender: Contender) -> Cost:
    """Run the contender's command once.

    :raises CommandFailed: its exit code was not 0.
    """
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            contender.command,
            cwd=contender.directory,
            env=contender.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            text = output.read().decode(errors="replace")
            raise CommandFailed(f"{contender.name}: exit code {process.returncode}\n{text[-3000:]}")
    return Cost(wall_seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compared(case: Case) -> dict[str, Cost]:
    """The medians of each contender, by name. They take turns, so that a slow minute slows all of them."""
    costs: dict[str, list[Cost]] = {contender.name: [] for contender in case.contenders}
    for number in range(case.rounds + case.warm_up):
        for contender in case.contenders:
            contender.before()
            cost = measured(contender)
            contender.after()
            if number or not case.warm_up:
                costs[contender.name].append(cost)
    return {name: _medians(samples) for name, samples in costs.items()}


def _medians(samples: Sequence[Cost]) -> Cost:
    return Cost(
        median(sample.wall_seconds for sample in samples),
        median(sample.cpu_seconds for sample in samples),
        median(sample.peak_mib for sample in samples),
    )
