"""What a fault is played on: trials, each on a database of its own, and what is counted in them."""

from __future__ import annotations

import contextlib
import re
import secrets
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from migrator.errors import ExitCode
from tests import harness
from tests.faults import history
from tests.faults.history import STAYING, History
from tests.faults.tally import Row, Tally
from tests.faults.wire import Address
from tests.harness import NO_VARIABLES, Completed, Project, Running

FREE_SECONDS = 60.0
"""The longest wait for the run lock to be free again before that is a failure."""

SETTLED = (ExitCode.OK,)
ASYNCHRONOUS = ("asyncpg", "aiomysql", "asyncmy", "aiosqlite")


class Cell:
    """One fault on one row: its project, its place, and the tally.

    :param place: the running servers of the row's kind.
    :param address: where the runs connect to: the server, or the pooler before it.
    :param path: an empty directory for projects and logs.
    :param whole: every boundary and every contender; otherwise some of them.
    """

    def __init__(self, row: Row, place: Any, address: Address, path: Path, *, whole: bool = True) -> None:
        self.row, self.place, self.address, self.path, self.whole = row, place, address, path, whole
        self.tally = Tally()
        self._projects: dict[int, Project] = {}

    @property
    def pooled(self) -> bool:
        """Runs go through a session pooler."""
        return self.row.route == "pgbouncer"

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Count the seconds; what is raised outside every trial is noted as well."""
        begun = time.monotonic()
        try:
            yield
        except Exception as error:
            self.tally.trials += 1
            self.tally.problems.append(("outside a trial", _words(error)))
        finally:
            self.tally.seconds = time.monotonic() - begun

    @contextlib.contextmanager
    def trial(
        self,
        label: str,
        *,
        revisions: History | None = None,
        database: Any = None,
        place: Any = None,
        address: Address | None = None,
    ) -> Iterator[Trial]:
        """One strike of the fault on a new database; afterwards a plain rerun has to bring it to head.

        What goes wrong is noted with the output of every run, and the next trial goes on.

        :param revisions: in the place of all of the place's.
        :param place, address: servers of the trial's own, in the place of the cell's.
        """
        place = place or self.place
        made = Trial(
            self,
            label,
            place,
            database or place.new_database(),
            revisions or place.history,
            address or (self.address if place is self.place else place.address),
        )
        self.tally.trials += 1
        try:
            yield made
            made.recover()
        except Exception as error:
            self._note(made, error)
        else:
            self.tally.passed += 1
        finally:
            made.close()

    def project(self, chosen: History) -> Project:
        """The project with that history, written once."""
        key = id(chosen)
        if key not in self._projects:
            asynchronous = self.row.driver in ASYNCHRONOUS
            path = self.path / f"project{len(self._projects) + 1}"
            env = self.place.env
            self._projects[key] = history.write(path, chosen, asynchronous=asynchronous, env=env)
        return self._projects[key]

    def _note(self, trial: Trial, error: Exception) -> None:
        what = _words(error)
        self.tally.problems.append((trial.label, what))
        slug = re.sub(r"\W+", "-", trial.label)[:60].strip("-")
        log = self.path / f"{self.tally.trials:03d}-{slug}.log"
        outputs = [f"--- run {number}\n{run.output}" for number, run in enumerate(trial.started, start=1)]
        log.write_text("\n\n".join([trial.label, what, *outputs]))


class Trial:
    """One strike of a fault. Made by :meth:`Cell.trial`."""

    def __init__(
        self, cell: Cell, label: str, place: Any, database: Any, chosen: History, address: Address
    ) -> None:
        self.cell, self.label, self.place, self.database = cell, label, place, database
        self.history, self.address = chosen, address
        self.started: list[Running] = []
        self._goals: dict[int, str] = {}
        self._recovered = self._measured = False
        self._struck: float | None = None

    # Runs

    def start(
        self,
        *options: str,
        to: str = "head",
        stay: str = "",
        address: Address | None = None,
        env: Mapping[str, str] = NO_VARIABLES,
        within: tuple[str, ...] = (),
    ) -> Running:
        """Start ``migrator upgrade`` on the trial's database.

        :param stay: where the revision ``b2`` is to stay: ``statement``, ``python``, ``loop``, or the path of
            a file that lets it go on when it appears.
        :param address: in the place of the trial's.
        :param within: a command that is to start Python (``ip netns exec …``).
        """
        variables = {**self._variables(address), **({"FAULT_STAY": stay} if stay else {}), **env}
        project = self.cell.project(self.history)
        arguments = ("upgrade", *options, to)
        if within:
            command = (*within, sys.executable, "-m", "migrator", *arguments)
            run = harness.start(*command, env=variables, cwd=project.path)
        else:
            run = harness.start_migrator(*arguments, env=variables, cwd=project.path)
        self.started.append(run)
        self._goals[run.pid] = to
        self.cell.tally.runs += 1
        return run

    def status(self) -> Completed:
        """The answer of ``migrator status --exit-code``."""
        path = self.cell.project(self.history).path
        return harness.run_migrator("status", "--exit-code", env=self._variables(), cwd=path)

    def _variables(self, address: Address | None = None) -> dict[str, str]:
        url = self.place.url(self.cell.row.driver, self.database.name, address or self.address)
        pooled = {"MIGRATOR_POOLER": "session"} if self.cell.pooled else {}
        return {"MIGRATOR_DATABASE_URL": url, "FAULT_RUN": secrets.token_hex(4), **pooled}

    def staying(self, where: str, *options: str, **more: Any) -> Running:
        """A run that holds the lock and stays in ``b2``."""
        run = self.start(*options, stay=where, **more)
        run.wait_for_line(f"^{STAYING}")
        if where == "statement":
            harness.wait_until(lambda: self.database.sleeping, "the statement is under way")
        return run

    def ended(
        self, run: Running, codes: Collection[int], *, timeout: float = 90, forced: bool = False
    ) -> Completed:
        """Wait for its end: the code has to be one of ``codes``, the screen has to explain it, 0 has to be true.

        :param forced: the process ends without unwinding, so it does not say what is true.
        """
        completed = run.wait(timeout)
        code = completed.returncode
        self.cell.tally.codes[code] += 1
        if code == 0:
            self._assert_at(self._goals[run.pid], completed)
        assert code in codes, f"exit {code}, not one of {sorted(map(int, codes))}\n{completed.output}"
        if code not in (0, -signal.SIGKILL):
            assert_explained(completed, forced=forced)
        return completed

    def move(self, place: Any) -> None:
        """From now on the database is the one of that name on other servers, and what they hold counts."""
        self.place = place
        self.database = place.at(self.database.name)

    # The fault

    def strike(self) -> None:
        """The fault begins now: seconds until the lock is free count from here."""
        self._struck = time.monotonic()

    def wait_until_free(self, *, timeout: float = FREE_SECONDS) -> float:
        """Wait until nobody holds the lock; seconds since :meth:`strike`."""
        harness.wait_until(self._is_free, "the run lock is free", timeout=timeout)
        assert self._struck is not None, "struck before"
        seconds = time.monotonic() - self._struck
        self._measured = True
        self.cell.tally.free_seconds = max(seconds, self.cell.tally.free_seconds or 0.0)
        return seconds

    def end_orphan(self) -> None:
        """Where the server goes on with a dead client's statement: another run says how that is ended."""
        if self.place.watches_clients:
            return
        (pid,) = self.database.holders
        refused = self.ended(self.start("--run-lock-timeout", "0"), {ExitCode.LOCKED_OUT})
        assert f"KILL {pid} " in refused.stderr, refused.output
        self.cell.tally.named += 1
        self.database.terminate_sessions()

    def _is_free(self) -> bool:
        try:
            return not self.database.holders
        except Exception:
            return False  # The server is away, or about to be.

    # What holds afterwards

    def recover(self) -> None:
        """A plain rerun ends at head; or it says what is left, and another does once that is removed. Once."""
        if self._recovered:
            return
        self._recovered = True
        if self._struck is not None and not self._measured:
            self.wait_until_free()
        failed = (ExitCode.MIGRATION_FAILED, ExitCode.HISTORY) if self.history.remedies else ()
        completed = self.ended(self.start(), (0, *failed))
        if completed.returncode != 0:
            remedies = [do for said, do in self.history.remedies.items() if said in completed.stderr]
            assert remedies, f"what is left is not named\n{completed.output}"
            self.cell.tally.named += 1
            self.database.query(remedies[0])
            self.ended(self.start(), SETTLED)
        self._assert_applied_once()

    def _assert_at(self, goal: str, completed: Completed) -> None:
        wanted = self.history.ids if goal == "head" else self.history.ids[: self.history.ids.index(goal) + 1]
        query, content = self.history.content
        found = [self.database.versions, sorted(set(self.database.journal))]
        expected: list[object] = [wanted[-1:], wanted]
        if goal == "head":
            found.append(self.database.query(query))
            expected.append([content])
        if found != expected:
            self.cell.tally.lost += 1
            raise AssertionError(f"exit 0, and the database holds {found}\n{completed.output}")

    def _assert_applied_once(self) -> None:
        often = {one: count for one, count in Counter(self.database.journal).items() if count > 1}
        self.cell.tally.doubled += len(often)
        assert not often, f"applied more than once: {often}"

    def close(self) -> None:
        """End what still runs, and drop the database."""
        for run in self.started:
            run.kill()
            with contextlib.suppress(AssertionError):
                run.wait(10)
            if run in harness.running:
                harness.running.remove(run)
        with contextlib.suppress(Exception):
            self.place.drop_database(self.database)


def assert_explained(completed: Completed, *, forced: bool = False) -> None:
    """A failure ends with what failed, what is true (once there was a lock), what to do, and its code."""
    code = ExitCode(completed.returncode)
    state = r"^state     .+" if "\nlock      held (pid" in completed.stderr and not forced else ""
    form = re.compile(
        rf"^failed    .+{state}^next      .+^exit      {code:d} {re.escape(code.meaning)}$\s*\Z", re.M | re.S
    )
    assert form.search(completed.stderr), f"not explained\n{completed.output}"


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, AssertionError) else "".join(traceback.format_exception(error))
