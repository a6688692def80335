"""The end of a history: its heads, and what lies right below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.script import ScriptDirectory
from alembic.util import CommandError

from migrator.environment.config import alembic_config
from migrator.environment.script import install_lazy_revision_map
from migrator.errors import HistoryError
from migrator.results import Revisions

if TYPE_CHECKING:
    from migrator.settings import Settings


def heads_of(settings: Settings) -> Revisions:
    """The newest revisions, usually one."""
    return tuple(sorted(_scripts(settings).get_heads()))


def revisions_below(settings: Settings, revision: str | None) -> Revisions:
    """The one that is named; with None what the newest builds on, several if it is a merge. Empty: base.

    :raises HistoryError: there is no such revision.
    """
    script = _scripts(settings)
    try:
        if revision is not None:
            found = script.get_revisions(revision)
            return tuple(one.revision for one in found if one is not None)
        newest = script.get_revisions("head")
        return tuple(below for one in newest if one is not None for below in one._versioned_down_revisions)
    except CommandError as error:
        raise HistoryError(
            f"--reversible={revision}: {error}",
            next_step="migrator history lists what there is; base is below them all. Nothing was changed.",
        ) from error


def _scripts(settings: Settings) -> ScriptDirectory:
    script = ScriptDirectory.from_config(alembic_config(settings, ["heads"]))
    install_lazy_revision_map(script)
    return script
