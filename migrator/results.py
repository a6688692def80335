"""Values that a run produces: frozen, typed, the same for people, for ``--json`` and for Python."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

Revisions = tuple[str, ...]
"""Revision identifiers as the version table holds them, sorted; empty means base."""

PRODUCTS = {"postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB", "sqlite": "SQLite"}
"""Name of a dialect → how the makers of the database write it."""


class Direction(enum.Enum):
    """Which way a step goes."""

    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    STAMP = "stamp"


class Outcome(enum.Enum):
    """What became of a step, as the database told afterwards."""

    APPLIED = "applied"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Statement:
    """An SQL statement as the server got it, its parameters left out; secrets are masked on output."""

    text: str


MOST_STATEMENTS = 20
"""Of a failed step's committed statements, how many are named; where there were more, a last one says so."""


@dataclass(frozen=True, slots=True)
class Target:
    """The database and version table that a run is about. Never holds a password.

    :ivar address: ``host:port``, a socket directory or a file path.
    :ivar source: the setting that named the database (``MIGRATOR_DATABASE_URL``), or ``env.py``.
    :ivar version_table: schema-qualified where the database has schemas; None until it is known.
    """

    dialect: str
    address: str
    database: str
    user: str
    source: str
    server_version: str = ""
    version_table: str | None = None


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who holds the run lock. ``since_seconds``: since its current state began."""

    pid: int
    application: str
    user: str = ""
    state: str = ""
    since_seconds: float = 0.0
    statement: str = ""


@dataclass(frozen=True, slots=True)
class Blocker:
    """A server process that a running statement waits for (PostgreSQL: ``pg_blocking_pids``).

    :ivar state: the server's word for what it does (``active``, ``idle in transaction``).
    :ivar since_seconds: since it has been in that state.
    :ivar relation: what the waiting statement wants to lock, where known.
    """

    pid: int
    application: str
    user: str
    state: str
    since_seconds: float
    relation: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the server says that a statement is (``pg_stat_progress_*``).

    ``done`` and ``total`` count ``unit`` (``blocks``, ``tuples``, ``lockers``); total 0 means unknown.
    """

    phase: str
    done: int = 0
    total: int = 0
    unit: str = "blocks"


@dataclass(frozen=True, slots=True)
class Activity:
    """What the migration's own backend is doing, asked from another connection."""

    statement: str = ""
    statement_seconds: float = 0.0
    blockers: tuple[Blocker, ...] = ()
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One revision to be run."""

    revision: str
    message: str
    file: str
    direction: Direction = Direction.UPGRADE


@dataclass(frozen=True, slots=True)
class StepResult:
    """One revision that was planned, and what became of it.

    :ivar duration_seconds: of the last try, its COMMIT included.
    :ivar tries: how often it was begun; more than 1 after lock timeouts or deadlocks.
    :ivar autocommit: part of it ran outside a transaction and is not undone by a rollback.
    :ivar committed: of a step that failed, the statements that are not undone, in order; see
        :data:`MOST_STATEMENTS`.
    """

    step: Step
    outcome: Outcome
    duration_seconds: float = 0.0
    tries: int = 0
    autocommit: bool = False
    committed: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class InvalidIndex:
    """An index that the server keeps up to date but does not use (``indisvalid`` is false)."""

    name: str
    table: str


@dataclass(frozen=True, slots=True)
class TargetResult:
    """What a run did to one target.

    :ivar before: the version rows read under the lock; None if the run did not come that far.
    :ivar after: the version rows read on a new connection at the end; None if they could not be read.
    :ivar verified: ``after`` equals what the steps should have led to.
    """

    target: Target
    before: Revisions | None
    after: Revisions | None
    steps: tuple[StepResult, ...] = ()
    verified: bool = False
    lock_wait_seconds: float = 0.0
    invalid_indexes: tuple[InvalidIndex, ...] = ()


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did, to each target that ``env.py`` configured (nearly always one)."""

    command: str
    revision: str
    targets: tuple[TargetResult, ...] = ()
    duration_seconds: float = 0.0

    @property
    def applied(self) -> tuple[StepResult, ...]:
        """The steps that are in the database, over all targets, in order."""
        return tuple(s for t in self.targets for s in t.steps if s.outcome is Outcome.APPLIED)


@dataclass(frozen=True, slots=True)
class Pending:
    """A revision of this image that the database does not have yet."""

    revision: str
    message: str
    file: str


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """Where one database stands against the revisions of this image.

    :ivar unknown: version rows that this image has no revision for (the database is ahead).
    :ivar tables: tables in the schema besides the version table; only counted if that is missing.
    """

    target: Target
    current: Revisions
    heads: Revisions
    pending: tuple[Pending, ...] = ()
    unknown: Revisions = ()
    version_table_exists: bool = True
    tables: int = 0
    lock_holder: LockHolder | None = None
    invalid_indexes: tuple[InvalidIndex, ...] = ()

    @property
    def at_head(self) -> bool:
        """The database has every revision of this image, and no other; an image without any is no head."""
        return bool(self.heads) and not self.pending and not self.unknown


@dataclass(frozen=True, slots=True)
class Status:
    """The answer of ``status``: one entry for each target that ``env.py`` configured."""

    targets: tuple[TargetStatus, ...]

    @property
    def at_head(self) -> bool:
        """Every target is at head."""
        return bool(self.targets) and all(target.at_head for target in self.targets)

    @property
    def at_head_or_ahead(self) -> bool:
        """Every target is at head, or has a revision that this image does not have."""
        return bool(self.targets) and all(target.at_head or target.unknown for target in self.targets)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which the models differ from the database, as what a revision would do about it.

    :ivar operation: in Alembic's words: ``add_column``.
    :ivar words: for people: ``added column orders.placed_at (TIMESTAMP)``.
    :ivar table: with its schema where the models name one; empty where it is about no table.
    :ivar risk: what the operation may cost, data or a run that fails: ``deletes every value in it``; None: nothing.
    """

    operation: str
    words: str
    table: str = ""
    risk: str | None = None


@dataclass(frozen=True, slots=True)
class SuspectedRename:
    """A dropped and an added column (or table) that look like one thing under a new name.

    :ivar kind: ``column`` or ``table``.
    :ivar table: the table of the columns, with its schema; of a table its schema alone, or nothing.
    :ivar why: what makes them alike.
    :ivar code: to be written into ``upgrade()`` in place of the two operations, line by line.
    :ivar undo: the same for ``downgrade()``.
    :ivar rows: rows that would lose a value, counted up to :data:`ROWS_COUNTED`; None: nobody was asked.
    """

    kind: str
    table: str
    old: str
    new: str
    why: str
    code: tuple[str, ...]
    undo: tuple[str, ...]
    rows: int | None = None

    @property
    def old_name(self) -> str:
        """``orders.placed``, ``shop.orders``."""
        return f"{self.table}.{self.old}" if self.table else self.old

    @property
    def new_name(self) -> str:
        """``orders.placed_at``, ``shop.purchases``."""
        return f"{self.table}.{self.new}" if self.table else self.new

    @property
    def in_own_block(self) -> bool:
        """The code is a batch of its own: inside another of the same table it would be run apart from that.

        What follows it there would be lost, for both are called ``batch_op``; and an index of the new name is
        refused in one batch with the rename.
        """
        return self.code[0].startswith("with ")


ROWS_COUNTED = 100_000
"""More rows than that are not counted."""


@dataclass(frozen=True, slots=True)
class WrittenRevision:
    """A revision file that was written; the path is relative to the working directory where it lies below it.

    :ivar down_revisions: what it builds on; several where it is a merge, none where it is the first.
    """

    revision: str
    file: str
    down_revisions: Revisions = ()


@dataclass(frozen=True, slots=True)
class GeneratedRevision:
    """What was found between the models and the database, and the files that were written of it.

    :ivar scratch: compared with a disposable database at head.
    :ivar compared: models were compared with a database; otherwise a file was asked for, whatever the models say.
    :ivar refused: nothing was written because of the renames.
    """

    differences: tuple[Difference, ...] = ()
    renames: tuple[SuspectedRename, ...] = ()
    written: tuple[WrittenRevision, ...] = ()
    scratch: bool = False
    refused: bool = False
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that ``check`` found wrong: what, where and the next action."""

    check: str
    message: str
    file: str | None = None
    line: int | None = None
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The answer of ``check``: what was looked at, and what is wrong.

    :ivar differences: between the models and what the revisions make; each is a finding as well.
    :ivar notes: what is good to know and no fault.
    """

    checked: tuple[str, ...]
    findings: tuple[Finding, ...] = field(default=())
    differences: tuple[Difference, ...] = ()
    renames: tuple[SuspectedRename, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Nothing was found."""
        return not self.findings
