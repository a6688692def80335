"""The end of a history: its heads, and what lies right below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.util import CommandError

from migrator.environment.config import alembic_config
from migrator.environment.failures import no_such_revision
from migrator.environment.script import open_scripts
from migrator.errors import ConfigurationError, HistoryError
from migrator.results import Revisions

if TYPE_CHECKING:
    from migrator.settings import Settings


def heads_of(settings: Settings) -> Revisions:
    """The newest revisions, usually one."""
    return tuple(sorted(open_scripts(alembic_config(settings, ["heads"])).get_heads()))


def revisions_below(settings: Settings, revision: str | None) -> Revisions:
    """The one that is named; with None what the newest builds on, several if it is a merge. Empty: base.

    :raises HistoryError: there is no such revision.
    :raises ConfigurationError: it is a head, with nothing above it.
    """
    script = open_scripts(alembic_config(settings, ["heads"]))
    try:
        if revision is not None:
            found = tuple(one.revision for one in script.get_revisions(revision) if one is not None)
            _refuse_heads(revision, found, script.get_heads())
            return found
        newest = script.get_revisions("head")
        return tuple(below for one in newest if one is not None for below in one._versioned_down_revisions)
    except CommandError as error:
        known = [str(name) for name in script.revision_map._revision_map if name]
        said, details = no_such_revision(error, known) or (str(error), ())
        raise HistoryError(
            f"--reversible={revision}: {said}",
            details=details,
            next_step="migrator history lists what there is; base is below them all. Nothing was changed.",
        ) from error


def _refuse_heads(asked: str, found: Revisions, heads: list[str]) -> None:
    newest = [one for one in found if one in heads]
    if newest:
        raise ConfigurationError(
            f"--reversible={asked}: nothing is above {', '.join(newest)}, so nothing would be undone",
            next_step="Name the revision to go down to, or base; --reversible alone undoes the newest one. "
            "Nothing was changed.",
        )
