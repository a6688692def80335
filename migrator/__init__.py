"""The database-migration job: runs any Alembic project's migrations once, under a lock, and proves it.

>>> import migrator
>>> result = migrator.upgrade()                     # doctest: +SKIP
>>> [step.step.revision for step in result.applied]  # doctest: +SKIP
['9a0c12', 'b7730e']

Every function reads its settings as the command line does (environment variables, ``.env``, pyproject.toml);
keyword arguments come first. They raise :class:`MigratorError` and never exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.api import compare_models, status, upgrade, verify, wait
from migrator.errors import (
    AccessRefused,
    CheckFailed,
    ConfigurationError,
    ConnectionLost,
    DatabaseUnreachable,
    DeadlineExceeded,
    ExitCode,
    HistoryError,
    Interrupted,
    LockLost,
    LockTimeoutExhausted,
    LockUnusable,
    MigrationFailed,
    MigratorError,
    NotAtHead,
    RunLockTimeout,
    Terminated,
    VerificationFailed,
)
from migrator.results import Difference, RunResult, Status

if TYPE_CHECKING:
    from migrator import aio as aio
    from migrator.loading import load_settings
    from migrator.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "AccessRefused",
    "CheckFailed",
    "ConfigurationError",
    "ConnectionLost",
    "DatabaseUnreachable",
    "DeadlineExceeded",
    "Difference",
    "ExitCode",
    "HistoryError",
    "Interrupted",
    "LockLost",
    "LockTimeoutExhausted",
    "LockUnusable",
    "MigrationFailed",
    "MigratorError",
    "NotAtHead",
    "RunLockTimeout",
    "RunResult",
    "Settings",
    "Status",
    "Terminated",
    "VerificationFailed",
    "aio",
    "compare_models",
    "load_settings",
    "status",
    "upgrade",
    "verify",
    "wait",
]


def __getattr__(name: str) -> Any:
    # pydantic costs a tenth of a second; whoever only catches an error does not pay for it.
    if name in ("Settings", "load_settings"):
        from migrator import loading

        return getattr(loading, name)
    if name == "aio":
        import importlib

        return importlib.import_module("migrator.aio")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
