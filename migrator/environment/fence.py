"""With a disposable database, nothing else is reached: every other connection of the project's is refused.

The identity check at ``context.configure()`` proves the same for the migration's own connection. But some
``env.py`` files run statements before that, and revisions make engines of their own; both must not meet the
database that the project is configured for.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from migrator import urls
from migrator.dialects import Dialect, RawConnection, dialect_named
from migrator.environment.state import Run
from migrator.errors import ConfigurationError

_SEEN = "migrator_disposable_database"


@contextlib.contextmanager
def fenced(run: Run) -> Iterator[None]:
    """While this lasts, SQLAlchemy's pools hand out connections to the disposable database alone.

    Connections of threads that were there before are left alone: they are an application's. Without a
    disposable database nothing changes.
    """
    database = run.settings.database
    if database is None or not database.disposable:
        yield
        return
    dialect = dialect_named(database.url.get_backend_name())
    others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
    told = f"the disposable one: {urls.describe(database.url)}"
    expected = database.url.database

    def look(raw: RawConnection, record: Any) -> None:
        if threading.get_ident() in others or record.info.get(_SEEN) == expected:
            return
        found = _where(raw, dialect)
        if found is not None and found[0] == expected:
            record.info[_SEEN] = expected
            return
        where = "it leads to no such server"
        if found is not None:
            where = "it leads to " + " as ".join(part for part in found if part)
        refusal = another_database(where, told)
        run.fail(refusal, refusal)
        raise refusal

    def on_connect(raw: RawConnection, record: Any) -> None:
        try:
            look(raw, record)
        except ConfigurationError:
            with contextlib.suppress(Exception):
                raw.close()  # SQLAlchemy 2.0 leaves it open
            raise

    def on_checkout(raw: RawConnection, record: Any, _proxy: Any) -> None:
        look(raw, record)

    with contextlib.ExitStack() as listening:
        # A new connection first of all, for a project's own listeners run statements: SET search_path, or more.
        for name, listener in (
            ("first_connect", on_connect),
            ("connect", on_connect),
            ("checkout", on_checkout),
        ):
            event.listen(Pool, name, listener, insert=True)
            listening.callback(event.remove, Pool, name, listener)
        yield


def another_database(*details: str) -> ConfigurationError:
    """The error for a connection of the project's to anything but the disposable database."""
    return ConfigurationError(
        "the project connects to another database than the disposable one",
        details=details,
        next_step=(
            "Let env.py read sqlalchemy.url or DATABASE_URL, or name the variable that it does read in "
            "MIGRATOR_EXPORT_URL_AS. A module that this process imported before keeps the URL that it read then: "
            "give such a run a process of its own. A scratch run serves one database: several cannot be compared. "
            "Nothing was changed."
        ),
    )


def _where(raw: RawConnection, dialect: Dialect) -> tuple[str, str] | None:
    """(database, user) of a connection; None where it is to another kind of database."""
    try:
        facts = dialect.facts(raw)
        raw.rollback()
    except Exception:
        return None
    return facts.database, facts.user
