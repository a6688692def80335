"""What to add to a failure of ``env.py`` where nobody told migrator of a database: that may be all that it misses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from migrator.container import about_localhost_in, kind_of_container
from migrator.errors import DatabaseUnreachable, MigratorError
from migrator.sources import SECRETS_DIRECTORY

if TYPE_CHECKING:
    from migrator.settings import Settings

_NONE = (
    "no database is configured for migrator (by MIGRATOR_DATABASE_URL, DATABASE_URL, DB_*, PG* or a secret file), so "
    "env.py has to know one by itself"
)
_SET_ONE = "If a database is what it misses, set MIGRATOR_DATABASE_URL: env.py gets it as DATABASE_URL, too. "


_SET_ANOTHER = (
    "If another database is meant, set MIGRATOR_DATABASE_URL: env.py gets it as DATABASE_URL, too. "
)


def say_if_unconfigured(failure: MigratorError, settings: Settings, *, advise: bool) -> MigratorError:
    """``failure`` with what is true of the configuration, where no database is configured.

    :param advise: the failure may come of that.
    """
    if settings.database is not None:
        return failure
    closed = closed_secrets_directory()
    failure.details = (*failure.details, _NONE, *closed)
    if isinstance(failure, DatabaseUnreachable):
        failure.details += about_localhost_in(" ".join(failure.details), kind_of_container())
        failure.next_step = _SET_ANOTHER + failure.next_step
    if advise:
        failure.next_step = _SET_ONE + failure.next_step
    if closed:
        failure.next_step = f"Let that user read the secrets, or run as one who may. {failure.next_step}"
    return failure


def closed_secrets_directory() -> tuple[str, ...]:
    """That the secrets directory is there and this user is shut out, in one sentence; empty: it is not so.

    One that was named in ``MIGRATOR_SECRETS_DIR`` is refused when the settings are read.
    """
    may_not = [
        deed
        for deed, right in (("read", os.R_OK), ("enter", os.X_OK))
        if not os.access(SECRETS_DIRECTORY, right)
    ]
    if not may_not or not SECRETS_DIRECTORY.is_dir():
        return ()
    return (f"{SECRETS_DIRECTORY} is there, and user {os.geteuid()} may not {' or '.join(may_not)} it",)
