"""What can be known to be wrong before anything connects: the configuration and the revision graph."""

from __future__ import annotations

from migrator.environment import alembic_config, script_locations
from migrator.errors import ConfigurationError
from migrator.revisions import ProblemKind, history_error, read_graph
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
    graph = read_graph(locations.versions, recursive=locations.recursive, sourceless=locations.sourceless)
    for problem in graph.problems():
        if problem.kind is ProblemKind.NO_REVISIONS:
            continue
        if problem.kind is ProblemKind.SEVERAL_HEADS and not (command == "upgrade" and revision == "head"):
            continue
        raise history_error(problem)


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
