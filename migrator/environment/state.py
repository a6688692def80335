"""What a run knows, across one or several executions of ``env.py``."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from migrator.dialects import Dialect, LockKey, RawConnection, Session, dialect_named
from migrator.errors import MigratorError
from migrator.events import Reporter
from migrator.results import MOST_STATEMENTS, Activity, Blocker, InvalidIndex, Revisions, Step, Target

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import Engine

    from migrator.settings import Settings


_RELATIVE = re.compile(r"[+-]\d+$")


class Again(enum.Enum):
    """Why ``env.py`` must be run again as a whole; each has a time budget of its own."""

    RUN_LOCK = "the run lock is held by another run"
    CONTENTION = "lock timeout, deadlock or a race with another session"
    UNREACHABLE = "the database could not be reached"


class RunAgain(Exception):
    """Leaves ``env.py``. What counts is :attr:`Run.again`, for ``env.py`` may swallow this."""

    def __init__(self, why: Again, reason: str, error: MigratorError | None = None) -> None:
        super().__init__(reason)
        self.why = why
        self.reason = reason
        self.error = error


class LearnSecret(Protocol):
    """Told of a password that no output may show."""

    def __call__(self, secret: str, *, never: Collection[str] = ()) -> None:
        """``never``: names that the password may equal, and that must stay readable."""


class Supervisor(Protocol):
    """Who watches over a run: the clock, the signals, the running step."""

    def sleep(self, seconds: float) -> None:
        """Sleep; raises when a stop is asked for."""

    def check(self) -> None:
        """Raise if a stop was asked for."""

    @property
    def stopping(self) -> bool:
        """A stop was asked for."""

    def entered_project(self) -> None:
        """``env.py`` begins."""

    def configured(self) -> None:
        """``env.py`` has called ``context.configure(connection=…)``."""

    def left_project(self) -> None:
        """``env.py`` has ended: a stop no longer interrupts, it is noted."""

    def connected(self, token: object, cancel: Callable[[], None]) -> None:
        """A backend works for us; ``cancel`` ends its statement from another connection."""

    def disconnected(self, token: object) -> None:
        """It does not any more."""

    def step_began(self, step: Step, number: int, total: int, look: Callable[[], Activity]) -> None:
        """A try of a step begins."""

    def statement_began(self) -> None:
        """The step sends a statement to the server."""

    def step_ended(self) -> tuple[Blocker, ...]:
        """It ended; who was last seen to block it."""


class Notes(Protocol):
    """Who keeps what is seen on the connection while a step runs."""

    def failed(self, error: BaseException) -> None:
        """The run lock was lost; told before that is raised."""

    def left_transaction(self) -> None:
        """A statement ran outside a transaction, or ended it: no rollback undoes it."""

    def noted(self, statement: str) -> None:
        """A statement that changes something succeeded."""

    def committed(self) -> None:
        """The transaction was committed, or is about to be."""

    def rolls_back(self) -> None:
        """The transaction is about to be rolled back."""

    def commits_implicitly(self) -> None:
        """A statement begins that commits what stands before it in the transaction, even if it fails itself."""


class Reading(Protocol):
    """Looks at a database where ``env.py`` runs its migrations, instead of running any."""

    def begin(self, config: Config, script: ScriptDirectory) -> dict[str, Any]:
        """``env.py`` is about to run, once more perhaps; further options for Alembic's EnvironmentContext."""

    def read(self, current: Revisions, context: MigrationContext) -> None:
        """Called in ``context.run_migrations()`` with the version rows; may raise."""


@dataclass(slots=True)
class Noted:
    """A statement that was run, so many times in a row."""

    text: str
    times: int = 1


def _add(noted: list[Noted], more: Noted) -> None:
    """A backfill in batches is one line, and not as many as there were batches."""
    if noted and noted[-1].text == more.text:
        noted[-1].times += more.times
    else:
        noted.append(Noted(more.text, more.times))


@dataclass(slots=True)
class StepRun:
    """One planned step: what was tried and what came of it.

    :ivar autocommit: a part of it is not undone by a rollback: the statements ``committed``, as far as they
        were seen; ``open_statements``: those of the transaction that is still open.
    :ivar blockers: who was last seen to block a try that failed.
    """

    step: Step
    number: int
    total: int
    tries: int = 0
    autocommit: bool = False
    running: bool = False
    committed: list[Noted] = field(default_factory=list)
    open_statements: list[Noted] = field(default_factory=list)
    blockers: tuple[Blocker, ...] = ()
    began: float = 0.0
    duration: float = 0.0
    finished: bool = False

    def begin_try(self) -> None:
        """A try begins, or begins anew."""
        self.tries += 1
        self.running = True
        self.autocommit = False
        self.blockers = ()
        self.committed.clear()
        self.open_statements.clear()

    def note(self, statement: str) -> None:
        """``statement`` succeeded; one more than can be named is kept, to tell that there were more."""
        if self.running and len(self.committed) + len(self.open_statements) <= MOST_STATEMENTS:
            _add(self.open_statements, Noted(statement))

    def commit(self) -> None:
        """What was open is committed."""
        for noted in self.open_statements:
            _add(self.committed, noted)
        self.open_statements.clear()


@dataclass(slots=True)
class TargetRun:
    """One database and version table that ``env.py`` configured."""

    key: LockKey
    target: Target
    engine: Engine
    dialect: Dialect
    session: Session
    version_table: tuple[str, str] | None = None
    before: Revisions | None = None
    goal: Revisions = ()
    steps: dict[str, StepRun] = field(default_factory=dict)
    lock_wait: float = 0.0
    invalid_before: tuple[InvalidIndex, ...] = ()

    @property
    def resolved_key(self) -> LockKey:
        """The version table by the schema that it was found in; before that, by the one that was expected."""
        if self.version_table is None:
            return self.key
        return LockKey(self.key.database, *self.version_table)


@dataclass(slots=True)
class Run:
    """A run of one command.

    :ivar command: ``upgrade``, ``downgrade``, ``stamp``, or ``status`` (which locks and changes nothing).
    :ivar arguments: what Alembic's command line would have got, for ``config.cmd_opts``.
    :ivar failure: the first failure that was seen, whatever ``env.py`` made of it.
    :ivar reading: looks instead of running anything; the command then locks and changes nothing, as ``status``.
    :ivar lock_waited: seconds, over all executions; ``lock_told``: of them, when that was last reported.
    :ivar again: set when this execution of ``env.py`` must be followed by another.
    """

    command: str
    revision: str
    settings: Settings
    report: Reporter
    supervisor: Supervisor
    list_steps: Callable[[ScriptDirectory, Any], list[Any]]
    arguments: tuple[str, ...]
    purge: bool = False
    learn_secret: LearnSecret | None = None
    reading: Reading | None = None
    targets: dict[LockKey, TargetRun] = field(default_factory=dict)
    failure: MigratorError | None = None
    cause: BaseException | None = None
    again: RunAgain | None = None
    lock_waited: float = 0.0
    lock_told: float = -1.0
    configured: bool = False
    announced: set[LockKey] = field(default_factory=set)
    script: Any = None
    changed: bool = False
    ends_transaction_itself: bool = False

    def dialect_named(self, name: str) -> Dialect:
        """See :func:`migrator.dialects.dialect_named`; without a lock where that was asked for."""
        return dialect_named(name, without_lock=self.settings.lock == "none")

    @property
    def relative(self) -> bool:
        """The target is so many steps from where the database is (``+1``, ``-2``, ``label@-1``)."""
        return _RELATIVE.search(self.revision) is not None

    @property
    def reads_only(self) -> bool:
        """Nothing is locked or changed."""
        return self.command == "status" or self.reading is not None

    def fail(self, failure: MigratorError, cause: BaseException | None) -> None:
        """Keep the first failure."""
        if self.failure is None:
            self.failure = failure
            self.cause = cause


@dataclass(slots=True)
class Held:
    """A connection of ``env.py`` that was prepared, with the locks that it holds.

    :ivar began_outside: a transaction of ``env.py``'s own was open; ``old_snapshot``: with a snapshot that is
        older than the run lock, so that it does not see what was committed in between.
    """

    raw: RawConnection
    connection: Any
    session: Session
    dialect: Dialect
    engine: Engine
    began_outside: bool
    old_snapshot: bool = False
    lock_timeout: str = ""
    locks: dict[LockKey, Any] = field(default_factory=dict)
    returned: bool = False
    index_timeout_set: bool = False
    undo: list[Callable[[], None]] = field(default_factory=list)

    def restore_lock_timeout(self) -> None:
        """After a concurrent index build, the session's ordinary lock timeout again."""
        if self.index_timeout_set and self.dialect.is_autocommit(self.raw):
            self.index_timeout_set = False
            self.dialect.set_lock_timeout(self.raw, self.lock_timeout)
