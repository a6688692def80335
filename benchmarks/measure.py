"""Whole processes, measured by the kernel: wall time, CPU time and peak memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process cost, or the medians of several.

    :ivar cpu_seconds: user and system time, of the children that it waited for as well.
    :ivar peak_mib: largest resident set; what is below 9 MiB is told as 9.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Contender:
    """A command to measure; its first word is an absolute path.

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


# The kernel counts into a process's peak what its parent held when it started it. So what is measured is
# started by a Python of 9 MiB that does nothing else, and not by this process.
_LAUNCHER = """
import os, sys, time
started = time.perf_counter()
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(process, 0)
wall_seconds = time.perf_counter() - started
print(os.waitstatus_to_exitcode(status), wall_seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
"""


def measured(contender: Contender) -> Cost:
    """Run the contender's command once.

    :raises CommandFailed: its exit code was not 0.
    """
    with tempfile.TemporaryFile() as output:
        launcher = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, *contender.command],
            cwd=contender.directory,
            env=contender.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            check=True,
        )
        exit_code, wall_seconds, cpu_seconds, peak_mib = launcher.stdout.split()
        if int(exit_code) != 0:
            output.seek(0)
            text = output.read().decode(errors="replace")
            raise CommandFailed(f"{contender.name}: exit code {int(exit_code)}\n{text[-3000:]}")
    return Cost(float(wall_seconds), float(cpu_seconds), float(peak_mib))


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
