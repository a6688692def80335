"""What can be known to be wrong before anything connects: the configuration and the revision graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from migrator.environment import ScriptLocations, alembic_config, relative, script_locations
from migrator.errors import ConfigurationError
from migrator.revisions import Graph, ProblemKind, history_error, read_graph
from migrator.settings import Settings
from migrator.sources import environment_url_name


def check_before_connecting(settings: Settings, command: str, revision: str) -> None:
    """Read the configuration and the heads of the revision files; import nothing, connect to nothing.

    Where ``env.py`` itself chooses the folders of the revisions, the graph is left to Alembic. A history
    without any revision is left to the run as well: what is wrong then depends on the database.

    :raises ConfigurationError: no configuration, or no ``env.py``.
    :raises HistoryError: a missing parent, a duplicate id, a cycle; several heads for ``upgrade head``.
    """
    locations = script_locations(alembic_config(settings, ["heads"]))
    if locations.chosen_by_environment:
        return
    graph = _graph_in(locations)
    for problem in graph.problems():
        if problem.kind is ProblemKind.NO_REVISIONS:
            continue
        if problem.kind is ProblemKind.SEVERAL_HEADS and not (command == "upgrade" and revision == "head"):
            continue
        raise history_error(problem)


def check_new_revision(settings: Settings, options: Mapping[str, Any]) -> None:
    """Refuse what Alembic would write all the same, and could not read any more; or would call a wrong history.

    :param options: ``rev_id`` and ``version_path`` of the command line, where given.
    :raises ConfigurationError: the id is taken; the folder is none of the project's.
    """
    identifier, folder = options.get("rev_id"), options.get("version_path")
    if not (identifier or folder):
        return
    locations = script_locations(alembic_config(settings, ["heads"]))
    if locations.chosen_by_environment:
        return
    versions = [location.resolve() for location in locations.versions]
    if folder and not locations.recursive and Path(folder).resolve() not in versions:
        raise ConfigurationError(
            f"--version-path {folder} is none of the folders that revisions are read from",
            details=(f"they are: {', '.join(relative(location) for location in locations.versions)}",),
            next_step="Name one of these, or add the folder to version_locations. Nothing was changed.",
        )
    graph = _graph_in(locations)
    taken = graph.files.get(identifier or "")
    if taken is not None:
        raise ConfigurationError(
            f"there is a revision {identifier} already",
            details=(relative(taken.path),),
            next_step="Choose another --rev-id, or leave it out. Nothing was changed.",
        )


def _graph_in(locations: ScriptLocations) -> Graph:
    return read_graph(locations.versions, recursive=locations.recursive, sourceless=locations.sourceless)


def check_environment_has_database(settings: Settings) -> None:
    """Refuse an environment that was named and has no database: ``env.py`` would take that of another one.

    :raises ConfigurationError: names the variable and the file that were looked for.
    """
    if settings.env is None or settings.database is not None:
        return
    variable = environment_url_name(settings.env)
    raise ConfigurationError(
        f"no database is configured for the environment {settings.env} (from {settings.sources['env']})",
        details=(f"neither {variable} nor DATABASE_URL is set, there or in .env.{settings.env}",),
        next_step=f"Set {variable}, in the environment or in .env.{settings.env}. Nothing was changed.",
    )
