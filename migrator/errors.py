"""Everything that can go wrong, as one hierarchy.

Each class carries the exit code of the command that failed with it and whether the same command may
succeed when it is simply run again. The exit codes are the contract with pipelines: ``1x`` means that
trying again may help, ``2x`` that a person must look.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from migrator.results import RunResult, Statement


class ExitCode(enum.IntEnum):
    """The exit codes, each with its meaning in one line (``ExitCode.X.meaning``).

    125 to 127 and 137 are never used: Docker, the shell and the kernel own those.
    """

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "applied, or nothing to do; verified"
    BUG = 1, "a bug in migrator"
    USAGE = 2, "usage or configuration"
    CHECK_SAYS_NO = 3, "the answer to a check is no"
    UNREACHABLE = (
        10,
        "database unreachable, or the result unreadable, within the deadline (wait --for head: not at head)",
    )
    LOCKED_OUT = 11, "the run lock was not free within the deadline"
    LOCK_TIMEOUT = 12, "lock timeouts or deadlocks outlasted the retries"
    CONNECTION_LOST = 13, "the connection was lost mid-run; an open transaction rolls back"
    DEADLINE = 14, "the deadline passed; the running statement was cancelled"
    MIGRATION_FAILED = 20, "a migration failed"
    NOT_VERIFIED = 21, "verification failed: the run claimed success and the database says otherwise"
    LOCK_LOST = 22, "the lock was lost while the connection lived, or cannot work here"
    HISTORY = 23, "the history is wrong: several heads, missing parent, database ahead of the image"
    REFUSED = 24, "authentication or permission refused"
    INTERRUPTED = 130, "SIGINT, after the statement was cancelled on the server"
    TERMINATED = 143, "SIGTERM, after the statement was cancelled on the server"

    @property
    def retry_may_help(self) -> bool:
        """Whether a pipeline may simply run the same command again."""
        return 10 <= self < 20 or self in (ExitCode.INTERRUPTED, ExitCode.TERMINATED)


class MigratorError(Exception):
    """A bug in migrator.

    :param message: what happened, one line. Empty: the first line of the class's docstring.
    :param details: further facts, one a line (where it came from, the server's words).
    :param next_step: the next action, a sentence or a command that can be pasted.
    :param revision: the revision that it is about, if one.
    :param file: path of the file that it is about, relative to the working directory where possible.
    :param line: line in ``file``, from 1.
    :param statement: the SQL statement that failed.
    :param sqlstate: the server's five-character code.

    ``result`` is filled by the run: what had been done before the failure, read from the database.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(
        self,
        message: str = "",
        *,
        details: Sequence[str] = (),
        next_step: str = "",
        revision: str | None = None,
        file: str | None = None,
        line: int | None = None,
        statement: Statement | None = None,
        sqlstate: str | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0].rstrip(".")
        self.details = tuple(details)
        self.next_step = next_step
        self.revision = revision
        self.file = file
        self.line = line
        self.statement = statement
        self.sqlstate = sqlstate
        self.result: RunResult | None = None
        super().__init__(self.message)

    @property
    def retryable(self) -> bool:
        """Whether running the same command again may help."""
        return self.exit_code.retry_may_help


class ConfigurationError(MigratorError):
    """The configuration is wrong or contradictory."""

    exit_code = ExitCode.USAGE


class DatabaseUnreachable(MigratorError):
    """The database did not answer within the deadline."""

    exit_code = ExitCode.UNREACHABLE


class NotAtHead(MigratorError):
    """The database was not at head within the deadline."""

    exit_code = ExitCode.UNREACHABLE


class CheckFailed(MigratorError):
    """The answer to a check is no."""

    exit_code = ExitCode.CHECK_SAYS_NO


class RunLockTimeout(MigratorError):
    """Another run held the lock for longer than this one may wait."""

    exit_code = ExitCode.LOCKED_OUT


class LockTimeoutExhausted(MigratorError):
    """Lock timeouts or deadlocks outlasted the retries."""

    exit_code = ExitCode.LOCK_TIMEOUT


class ConnectionLost(MigratorError):
    """The connection to the database was lost during the run."""

    exit_code = ExitCode.CONNECTION_LOST


class DeadlineExceeded(MigratorError):
    """The deadline passed."""

    exit_code = ExitCode.DEADLINE


class MigrationFailed(MigratorError):
    """A migration failed."""

    exit_code = ExitCode.MIGRATION_FAILED


class VerificationFailed(MigratorError):
    """The run claimed success and the database says otherwise."""

    exit_code = ExitCode.NOT_VERIFIED


class LockLost(MigratorError):
    """The run lock was lost while the connection lived."""

    exit_code = ExitCode.LOCK_LOST


class LockUnusable(MigratorError):
    """The run lock cannot work here."""

    exit_code = ExitCode.LOCK_LOST


class HistoryError(MigratorError):
    """The revision history is wrong."""

    exit_code = ExitCode.HISTORY


class AccessRefused(MigratorError):
    """Authentication or permission was refused."""

    exit_code = ExitCode.REFUSED


class Interrupted(MigratorError):
    """Stopped by SIGINT."""

    exit_code = ExitCode.INTERRUPTED


class Terminated(MigratorError):
    """Stopped by SIGTERM."""

    exit_code = ExitCode.TERMINATED
