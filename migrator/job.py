"""The main job: wait, run under the lock, verify, result. Deadline, signals and retries are here."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from migrator import environment
from migrator.conclusion import conclude
from migrator.environment import Again, LearnSecret, Run
from migrator.errors import DatabaseUnreachable, MigratorError
from migrator.events import Reporter, RunAgain
from migrator.preflight import check_before_connecting, check_environment_has_database
from migrator.readiness import wait_until_ready
from migrator.results import Activity, Blocker, RunResult, Step
from migrator.settings import Settings
from migrator.stopping import Stopping, StopRequested
from migrator.watch import Watch

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
"""Between two executions of ``env.py``, before jitter."""

LONGEST_LOCK_PAUSE_SECONDS = 0.5
"""The same, where another run holds the lock and may give it back at any moment."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for, in Alembic's terms.

    :ivar list_steps: from :mod:`migrator.environment`, what Alembic is to run.
    :ivar arguments: what Alembic's own command line would have got.
    """

    command: str
    revision: str
    list_steps: Callable[..., list[Any]]
    arguments: tuple[str, ...]
    purge: bool = False

    @classmethod
    def upgrade(cls, revision: str) -> Order:
        """``alembic upgrade``."""
        return cls("upgrade", revision, environment.upgrade_steps(revision), ("upgrade", revision))

    @classmethod
    def downgrade(cls, revision: str) -> Order:
        """``alembic downgrade``."""
        return cls("downgrade", revision, environment.downgrade_steps(revision), ("downgrade", revision))

    @classmethod
    def stamp(cls, revisions: tuple[str, ...], *, purge: bool = False) -> Order:
        """``alembic stamp``."""
        arguments = ("stamp", *revisions, *(["--purge"] if purge else []))
        return cls("stamp", " ".join(revisions), environment.stamp_steps(revisions), arguments, purge)


class Supervision:
    """The clock, the signals and the watch over the running step, as ``environment`` wants to see them."""

    def __init__(self, stopping: Stopping, watch: Watch) -> None:
        self._stopping = stopping
        self._watch = watch

    def sleep(self, seconds: float) -> None:
        """See :class:`migrator.environment.Supervisor`, as for all below."""
        self._stopping.sleep(seconds)

    def check(self) -> None:
        self._stopping.check()

    @property
    def stopping(self) -> bool:
        return self._stopping.reason is not None

    def entered_project(self) -> None:
        self._watch.entered_project()

    def configured(self) -> None:
        self._watch.configured()

    def left_project(self) -> None:
        self._watch.configured()
        self._stopping.disarm()

    def connected(self, token: object, cancel: Callable[[], None]) -> None:
        self._stopping.add_canceller(token, cancel)

    def disconnected(self, token: object) -> None:
        self._stopping.remove_canceller(token)

    def step_began(self, step: Step, number: int, total: int, look: Callable[[], Activity]) -> None:
        self._watch.began(step, number, total, look)

    def statement_began(self) -> None:
        self._watch.statement_began()

    def step_ended(self) -> tuple[Blocker, ...]:
        return self._watch.ended()


def run(
    order: Order,
    settings: Settings,
    report: Reporter,
    *,
    live: bool = False,
    give_up: Callable[[MigratorError], None] | None = None,
    learn_secret: LearnSecret | None = None,
) -> RunResult:
    """Do what ``order`` says under the run lock, and verify what came of it.

    :param live: events for a line that is drawn over are wanted.
    :param give_up: see :class:`migrator.stopping.Stopping`.
    :param learn_secret: told of the passwords that ``env.py`` connects with.
    :raises MigratorError: with ``result``, as far as it could be read.
    """
    begun = time.monotonic()
    check_before_connecting(settings, order.command, order.revision)
    # To connect and to ask takes longer where CPU is scarce (a pod with 100m), and nobody can be asked afterwards.
    first_look = min(0.5, settings.lock_timeout * 0.3)
    with (
        Watch(report, first_look_seconds=first_look, live=live) as watch,
        Stopping(settings.deadline, give_up) as stopping,
    ):
        return run_within(order, settings, report, stopping, watch, learn_secret=learn_secret, begun=begun)


def run_within(
    order: Order,
    settings: Settings,
    report: Reporter,
    stopping: Stopping,
    watch: Watch,
    *,
    learn_secret: LearnSecret | None = None,
    begun: float | None = None,
) -> RunResult:
    """The same as a part of a longer command, whose clock and signals are watched already.

    A stop is only noted afterwards: the caller arms ``stopping`` again.

    :param begun: the monotonic clock when the command began; None: now.
    :raises MigratorError: as :func:`run`.
    """
    begun = time.monotonic() if begun is None else begun
    state = Run(
        order.command,
        order.revision,
        settings,
        report,
        Supervision(stopping, watch),
        order.list_steps,
        order.arguments,
        order.purge,
        learn_secret,
    )
    failure: MigratorError | None = None
    with contextlib.ExitStack() as following:
        try:
            following.enter_context(settings.rotation.followed_by_engines(lambda: settings.database))
            if settings.database is not None:
                wait_until_ready(settings, report, stopping.sleep)
            execute_until_settled(state, stopping)
        except StopRequested:
            failure = stopping.reason
        except MigratorError as error:
            failure = error
        stopping.disarm()
        return conclude(state, stopping.reason or state.failure or failure, begun)


def execute_until_settled(state: Run, stopping: Stopping) -> None:
    """Run ``env.py``, and again as long as that is what helps and the budget for the reason lasts.

    :raises ConfigurationError: an environment was named that has no database.
    :raises MigratorError: the budget is spent.
    """
    settings = state.settings
    check_environment_has_database(settings)
    budgets = {
        Again.RUN_LOCK: settings.run_lock_timeout,
        Again.CONTENTION: settings.lock_retry_timeout,
        Again.UNREACHABLE: settings.wait_timeout,
    }
    since: dict[Again, float] = {}
    tries = 0
    while True:
        stopping.arm()
        stopping.check()
        environment.execute(state, environment.alembic_config(settings, state.arguments))
        again = state.again
        if again is None:
            return
        stopping.check()
        tries += 1
        now = time.monotonic()
        left = budgets[again.why] - (now - since.setdefault(again.why, now))
        locked = again.why is Again.RUN_LOCK
        longest = LONGEST_LOCK_PAUSE_SECONDS if locked else LONGEST_PAUSE_SECONDS
        pause = min(longest, FIRST_PAUSE_SECONDS * 1.5 ** min(tries, 20)) * random.uniform(0.7, 1.3)
        if pause >= left:
            raise again.error or DatabaseUnreachable(again.reason)
        if not locked:
            state.report(RunAgain(again.reason, pause, left))
        stopping.sleep(pause)
        if locked:
            state.lock_waited += time.monotonic() - now
