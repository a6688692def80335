"""The only importer of Alembic's runtime: runs an ``env.py`` that it has never seen, with our seam in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import alembic.context  # noqa: F401  (its proxies must exist before an EnvironmentContext is entered)
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import load_python_file

from migrator.collection import resume_collection
from migrator.environment.autogenerate import Autogenerate, revisions_in
from migrator.environment.cancelling import cancellable
from migrator.environment.config import ScriptLocations, alembic_config, project_scheme, script_locations
from migrator.environment.entering import classify, translate
from migrator.environment.failures import place_in
from migrator.environment.fence import fenced
from migrator.environment.flask_application import application_context
from migrator.environment.identity import obstacles
from migrator.environment.imports import MissingImport, missing_imports
from migrator.environment.listing import ancestors, pending, relative, unknown_revisions
from migrator.environment.namesake import advice_on_namesake
from migrator.environment.newest import heads_of, revisions_below
from migrator.environment.script import graph_of, open_scripts
from migrator.environment.seam import Seam
from migrator.environment.snapshots import Since, Snapshot
from migrator.environment.state import (
    Again,
    LearnSecret,
    Noted,
    Reading,
    Run,
    RunAgain,
    Supervisor,
    TargetRun,
)
from migrator.environment.surroundings import alone, turn
from migrator.errors import MigratorError
from migrator.results import WrittenRevision
from migrator.revisions import database_ahead, list_files

if TYPE_CHECKING:
    from migrator.settings import Settings


def execute(run: Run, config: Config) -> None:
    """Run ``env.py`` once, with the seam. What came of it is in ``run``: failure, again, targets.

    Raises only what is no failure of the run: the stop that was asked for, and bugs.
    """
    run.again = None
    run.configured = False
    script = open_scripts(config)
    seam: Seam

    def steps_of_seam(current: tuple[str, ...], context: MigrationContext) -> Any:
        return seam.steps.list(current, context)

    environment = EnvironmentContext(
        config,
        script,
        fn=steps_of_seam,
        as_sql=False,
        starting_rev=None,
        destination_rev=run.revision,
        **({"dont_mutate": True} if run.reads_only else {}),
        **({"purge": True} if run.purge else {}),
        **(run.reading.begin(config, script) if run.reading is not None else {}),
    )
    resume_collection()
    with (
        alone(run.settings, run.supervisor.check, autogenerates=run.reading is not None),
        cancellable(run.supervisor),
        fenced(run),
    ):
        seam = Seam(environment, run)
        run.supervisor.entered_project()
        try:
            # The application first: one that runs an upgrade itself would take Alembic's proxies away.
            with application_context(config, Path(script.dir, "env.py")), environment:
                script.run_env()
        except BaseException as error:
            if run.supervisor.stopping and not isinstance(error, Exception):
                raise
            if run.again is None and run.failure is None and not _ends_well(error, run):
                classify(error, run, config)
        finally:
            run.supervisor.left_project()
            seam.leave()


def _ends_well(error: BaseException, run: Run) -> bool:
    """A stop is told by what asked for it; what ``sys.exit(0)`` leaves behind is for the verdict to judge."""
    return run.supervisor.stopping or (isinstance(error, SystemExit) and error.code in (None, 0))


def render_sql(settings: Settings, revision: str, direction: str, output: TextIO) -> None:
    """Write the SQL of ``revision`` (``base:head``, ``a:b``, or where to) to ``output``. Nothing connects.

    :raises MigratorError: what ``env.py``, a revision or Alembic said.
    """
    from alembic import command

    config = alembic_config(settings, [direction, "--sql", revision], output_buffer=output)
    with _translated(config, settings), alone(settings), _application(config):
        getattr(command, direction)(config, revision, sql=True)


def run_alembic(settings: Settings, arguments: Sequence[str], output: TextIO) -> Any:
    """Alembic's own command line, in this process, with our settings and the configured database.

    :return: what Alembic's function for the command returns.
    :raises MigratorError: what ``env.py``, a revision or Alembic said.
    """
    config = alembic_config(settings, list(arguments) or ["--help"], stdout=output, output_buffer=output)
    options: Any = config.cmd_opts
    function, positional, named = options.cmd
    with _translated(config, settings), alone(settings), _application(config):
        return function(
            config,
            *[getattr(options, name, None) for name in positional],
            **{name: getattr(options, name, None) for name in named},
        )


def history_lines(
    settings: Settings, rev_range: str | None, current: Sequence[str] | None, *, long: bool
) -> Iterator[str]:
    """The revisions, newest first, as ``alembic history`` lists them; nothing is imported.

    :param current: the database's version rows, to mark what is applied; None: unknown.
    :raises MigratorError: the range or the history makes no sense.
    """
    config = alembic_config(settings, ["history"])
    script = open_scripts(config)
    base, _, head = (rev_range or "base:heads").partition(":")
    with _translated(config, settings):
        start, end = base or "base", head or "heads"
        if current is not None:
            start, end = (",".join(current) if end_ == "current" else end_ for end_ in (start, end))
        have = ancestors(script, current) if current is not None else set()
        for found in script.walk_revisions(start, end):
            text = found.cmd_format(long, include_branches=True, include_doc=True, include_parents=True)
            mark = "" if current is None else ("  applied" if found.revision in have else "  pending")
            yield text + mark


def write_revisions(found: Autogenerate, settings: Settings) -> tuple[WrittenRevision, ...]:
    """Write the revision files that ``env.py`` has left over of what was found; usually one.

    :raises MigratorError: what Alembic, the template or a hook of the project said; the files that are there all
        the same, for hooks run after the writing, are among its details.
    """
    before = set(_files(found.config))
    with alone(settings):
        try:
            return found.write()
        except (Exception, SystemExit) as error:
            failure = translate(error, found.config, settings)
            written = [relative(file) for file in _files(found.config) if file not in before]
            if written:
                failure.details = (
                    failure.message,
                    *failure.details,
                    *(f"written: {file}" for file in written),
                )
                failure.message = "the revision was written, and what comes after the writing failed"
                failure.next_step = (
                    "Correct that (a post-write hook?); delete the file before it is generated again."
                )
            raise failure from error


@contextlib.contextmanager
def _translated(config: Config, settings: Settings) -> Iterator[None]:
    """Whatever Alembic, ``env.py`` or a revision raises, as one of our errors."""
    try:
        yield
    except (MigratorError, BrokenPipeError):
        raise
    except (Exception, SystemExit) as error:
        raise translate(error, config, settings) from error


def _application(config: Config) -> contextlib.AbstractContextManager[None]:
    try:
        folder = ScriptDirectory.from_config(config).dir
    except Exception:  # alembic init comes before there is one; any other command says so itself
        return contextlib.nullcontext()
    return application_context(config, Path(folder, "env.py"))


@dataclass(frozen=True, slots=True)
class ImportFailure:
    """A revision file that does not import, and where in it."""

    file: str
    line: int | None
    error: BaseException


def import_all(config: Config) -> list[ImportFailure]:
    """Import every revision file as Alembic would; those that fail."""
    failures = []
    for location in _files(config):
        path = Path(location)
        try:
            load_python_file(path.parent, path.name)
        except (Exception, SystemExit) as error:
            place = place_in(error, [str(path)])
            line = place[1] if place else None
            if isinstance(error, SyntaxError):
                line = error.lineno
            failures.append(ImportFailure(relative(path), line, error))
    return failures


def _files(config: Config) -> list[str]:
    locations = script_locations(config)
    return list_files(locations.versions, recursive=locations.recursive, sourceless=locations.sourceless)


def upgrade_steps(revision: str) -> Callable[[ScriptDirectory, Any], list[Any]]:
    """Lists the steps of ``upgrade revision``."""
    return lambda script, current: script._upgrade_revs(revision, current)


def downgrade_steps(revision: str) -> Callable[[ScriptDirectory, Any], list[Any]]:
    """Lists the steps of ``downgrade revision``."""
    return lambda script, current: script._downgrade_revs(revision, current)


def stamp_steps(revisions: tuple[str, ...]) -> Callable[[ScriptDirectory, Any], list[Any]]:
    """Lists the steps of ``stamp revisions``."""
    return lambda script, current: script._stamp_revs(revisions, current)


def no_steps(_script: ScriptDirectory, _current: Any) -> list[Any]:
    """Lists no steps: for commands that only look."""
    return []


__all__ = [
    "Again",
    "Autogenerate",
    "Config",
    "ImportFailure",
    "LearnSecret",
    "MissingImport",
    "Noted",
    "Reading",
    "Run",
    "RunAgain",
    "ScriptLocations",
    "Since",
    "Snapshot",
    "Supervisor",
    "TargetRun",
    "advice_on_namesake",
    "alembic_config",
    "alone",
    "ancestors",
    "database_ahead",
    "downgrade_steps",
    "execute",
    "graph_of",
    "heads_of",
    "history_lines",
    "import_all",
    "missing_imports",
    "no_steps",
    "obstacles",
    "open_scripts",
    "pending",
    "project_scheme",
    "relative",
    "render_sql",
    "revisions_below",
    "revisions_in",
    "run_alembic",
    "script_locations",
    "stamp_steps",
    "turn",
    "unknown_revisions",
    "upgrade_steps",
    "write_revisions",
]
