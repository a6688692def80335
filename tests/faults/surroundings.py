"""The machine around a run: its network, its disk and its clock."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from migrator import unprivileged
from migrator.errors import ExitCode
from tests.faults.stage import Cell
from tests.faults.sudden import wire
from tests.servers.network import Network, network

POOLER_KEEPALIVES = {
    "tcp_keepalive": "1",
    "tcp_keepidle": "5",
    "tcp_keepintvl": "5",
    "tcp_keepcnt": "2",
    "tcp_user_timeout": "15000",
}
"""As for the migration's own connection: a pooler's defaults are the kernel's, two hours; and a quarter of an
hour while an answer is not acknowledged."""

SIZE, LARGER_SIZE = "32m", "256m"


def partition(cell: Cell) -> None:
    """The network loses every packet without a word, while a statement runs and while none does.

    Exit 13; the server ends the session by itself, and the lock is free within about 15 s.
    """
    quick = ("--connect-timeout", "1s")
    with (
        network() as net,
        cell.place.another(listen_addresses=f"127.0.0.1,{net.server_address}") as place,
        _seen_from(cell, place, net) as address,
        cell.trial("in a statement", place=place, revisions=place.ordinary) as busy,
        cell.trial("idle in a transaction", place=place, revisions=place.ordinary) as idle,
    ):
        go_on = cell.path / "partition"
        runs = {
            busy: busy.staying("statement", *quick, address=address, within=net.inside()),
            idle: idle.staying(str(go_on), *quick, address=address, within=net.inside()),
        }
        net.tear()
        for trial in runs:
            trial.strike()
        for trial in runs:
            trial.wait_until_free(timeout=30)
        go_on.touch()
        for trial, run in runs.items():
            trial.ended(run, {ExitCode.CONNECTION_LOST})
        net.mend()


def black_hole(cell: Cell) -> None:
    """Everything is acknowledged and nothing arrives (a relay that hangs), so that no keepalive helps; SIGTERM.

    Exit 143 when the grace of 10 s is over. The lock is free once that connection is closed.
    """
    with wire(cell) as relay, cell.trial("in a statement", revisions=cell.place.ordinary) as trial:
        run = trial.staying("statement", "--connect-timeout", "1s", address=relay.address)
        relay.freeze()
        run.send_signal(signal.SIGTERM)
        trial.ended(run, {ExitCode.TERMINATED}, timeout=30, forced=True)
        trial.strike()
        relay.cut()
        trial.end_orphan()
        trial.wait_until_free()


@contextlib.contextmanager
def _seen_from(cell: Cell, place: Any, net: Network) -> Iterator[tuple[str, int]]:
    """The address, inside the namespace, of the server or of a pooler before it."""
    if cell.pooled:
        with place.pooler(listen_addr=f"127.0.0.1,{net.server_address}", **POOLER_KEEPALIVES) as (_, port):
            yield (net.server_address, port)
    else:
        place.server.admit(net.client_address)
        yield (net.server_address, place.address[1])


def disk_full(cell: Cell) -> None:
    """The tablespace of the database is full in the middle of a revision.

    Exit 20 with the server's words, the revision rolled back; with more space a rerun ends at head.
    """
    with _small_disk(cell) as disk:
        filling = cell.place.filling
        with cell.trial(
            "in a revision", database=cell.place.new_database(tablespace="small"), revisions=filling
        ) as trial:
            trial.strike()
            ended = trial.ended(trial.start(), {ExitCode.MIGRATION_FAILED})
            assert "53100" in ended.stderr, ended.output
            trial.wait_until_free()
            _mount(disk, "remount", LARGER_SIZE)


@contextlib.contextmanager
def _small_disk(cell: Cell) -> Iterator[Path]:
    disk = Path(tempfile.mkdtemp(prefix="faults-disk-", dir="/tmp"))
    _mount(disk, "", SIZE)
    try:
        unprivileged.give(disk, unprivileged.account())
        disk.chmod(0o700)
        cell.place.make_tablespace("small", disk)
        yield disk
    finally:
        cell.place.drop_tablespace("small")
        subprocess.run(["umount", "--lazy", disk], check=True)
        disk.rmdir()


def _mount(disk: Path, how: str, size: str) -> None:
    options = ",".join(filter(None, (how, f"size={size}")))
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)


class Clock:
    """The wall clock of a process, moved by libfaketime; the monotonic clock stays the machine's."""

    def __init__(self, path: Path) -> None:
        self._file = path
        self.set("+0")
        self.variables = {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """Move it to ``+86400`` or ``-86400`` seconds from the true time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.rename(self._file)


def library() -> Path | None:
    """libfaketime, where Debian installs it."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def lacking_clock() -> str:
    """Why the clock cannot be moved here."""
    return "" if library() else "libfaketime is missing (Debian: apt-get install libfaketime)"


def lacking_root() -> str:
    """Why no network and no disk can be made here."""
    root = platform.system() == "Linux" and os.geteuid() == 0
    return "" if root else "network namespaces and disks of its own need Linux and root"


def clock_moved(cell: Cell) -> None:
    """The wall clock jumps by a day, forward and back, while a run works and while it waits for the lock.

    No timeout comes early or late: the run ends with 0, a waiter exits 11 at its limit.
    """
    with cell.trial("while a revision runs", revisions=cell.place.ordinary) as trial:
        clock, go_on = Clock(cell.path / "clock1"), cell.path / "go-on1"
        limits = ("--deadline", "10m", "--statement-timeout", "10m")
        run = trial.staying(str(go_on), *limits, env=clock.variables, within=("env",))
        clock.set("+86400")
        go_on.touch()
        trial.ended(run, {0})
    with cell.trial("while two wait for the lock", revisions=cell.place.ordinary) as trial:
        forward, back = Clock(cell.path / "clock2"), Clock(cell.path / "clock3")
        go_on = cell.path / "go-on2"
        holder = trial.staying(str(go_on))
        patient = trial.start("--run-lock-timeout", "10m", env=forward.variables, within=("env",))
        hasty = trial.start("--run-lock-timeout", "3s", env=back.variables, within=("env",))
        for run, clock, offset in ((patient, forward, "+86400"), (hasty, back, "-86400")):
            run.wait_for_line("lock +held by pid")
            clock.set(offset)
        trial.ended(hasty, {ExitCode.LOCKED_OUT}, timeout=20)
        # It asked on with its clock a day ahead: the hasty one's limit is longer than its longest pause.
        assert patient.process.poll() is None, patient.output
        go_on.touch()
        trial.ended(holder, {0})
        trial.ended(patient, {0})
