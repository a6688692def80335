"""``revision --autogenerate`` and the models' part of ``check``: what the models say against a database at head."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from migrator import environment
from migrator.database import on_connection_like
from migrator.dialects import RawConnection, SessionOptions, rows
from migrator.environment import Autogenerate, LearnSecret, Run
from migrator.errors import ConfigurationError
from migrator.events import DatabaseReady, Event, Notice, Reporter, TargetKnown
from migrator.inspection import look
from migrator.preflight import check_before_connecting
from migrator.results import ROWS_COUNTED, Difference, GeneratedRevision, SuspectedRename
from migrator.scratch import scratch_at_head
from migrator.settings import Settings
from migrator.stopping import GiveUp, Stopping, StopRequested

COUNT_SECONDS = 2.0
"""How long the rows of a column that looks renamed are counted at most."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What is asked for.

    :ivar arguments: of Alembic's command line, ``("revision", "--autogenerate", "-m", "taxes")``.
    :ivar scratch: compare with a disposable database at head; a revision without any operation is not written.
    :ivar fail_on_suspected_rename: write nothing where something looks renamed.
    """

    arguments: tuple[str, ...]
    scratch: bool = False
    fail_on_suspected_rename: bool = False

    @property
    def builds_on(self) -> str:
        """``head``, where there must be one; ``heads`` where the command says itself which it builds on."""
        chooses = any(argument.startswith(("--head", "--splice")) for argument in self.arguments)
        return "heads" if chooses else "head"

    def refuse_contradictions(self, options: Mapping[str, Any], *, json_output: bool) -> None:
        """Look at what was asked for before anything is read.

        :param options: of the command line, by attribute name.
        :raises ConfigurationError: two options contradict each other.
        """
        problem = ""
        if (self.scratch or self.fail_on_suspected_rename) and not options["autogenerate"]:
            name = "--scratch" if self.scratch else "--fail-on-suspected-rename"
            problem = f"{name} is for --autogenerate: without it nothing is compared"
        elif options["sql"] and options["autogenerate"]:
            problem = "--sql and --autogenerate contradict each other: SQL is written without a database"
        elif options["sql"] and json_output:
            problem = "--sql and --json contradict each other: both write to standard output"
        if problem:
            raise ConfigurationError(problem, next_step="Leave out one of the two. Nothing was changed.")


def generate(
    order: Generation,
    settings: Settings,
    report: Reporter,
    give_up: GiveUp | None = None,
    learn_secret: LearnSecret | None = None,
) -> GeneratedRevision:
    """Compare the models with the database, and write the revision file.

    :param give_up: see :class:`migrator.stopping.Stopping`.
    :raises ConfigurationError: ``env.py`` names no models; contradictory settings.
    :raises HistoryError: several heads; without ``scratch``, a database that is not at head.
    :raises MigratorError: no database, or what ``env.py``, a revision or a hook raised. Nothing was written.
    """
    check_before_connecting(settings, "upgrade", order.builds_on)
    with stoppable(settings, give_up) as stopping, contextlib.ExitStack() as cleanup:
        if order.scratch:
            settings = cleanup.enter_context(scratch_at_head(settings, report, stopping, learn_secret))
        found, state = _compared(settings, report, stopping, order.arguments, learn_secret)
        if order.scratch:
            _refuse_forgotten_models(found)
        elif found.models_are_empty and found.operations:
            report(Notice("models", "target_metadata holds no table: are the models imported in env.py?"))
        renames = found.renames()
        if not order.scratch:
            renames = tuple(_counted(rename, state) for rename in renames)
        result = GeneratedRevision(found.differences(), renames, scratch=order.scratch)
        if renames and order.fail_on_suspected_rename:
            return dataclasses.replace(result, refused=True)
        if order.scratch and not result.differences:
            return result
        _tell_what_is_overwritten(found, report, refuse=order.scratch)
        stopping.check()
        stopping.disarm()  # A file is written whole, or not at all.
        written = environment.write_revisions(found, settings)
        if stopping.reason is not None:
            stopping.reason.details = (*stopping.reason.details, *(f"written: {one.file}" for one in written))
            raise stopping.reason
        return dataclasses.replace(result, written=written)


Comparison = tuple[tuple[Difference, ...], tuple[SuspectedRename, ...]]


def compare_models(
    settings: Settings,
    report: Reporter,
    give_up: GiveUp | None = None,
    learn_secret: LearnSecret | None = None,
) -> Comparison:
    """How the models differ from what the revisions make of an empty, disposable database.

    The comparison is Alembic's own, through ``env.py`` with all of its options. The configured database is
    not connected to.

    :param give_up: see :class:`migrator.stopping.Stopping`.
    :raises MigratorError: as :func:`generate`.
    """
    with (
        stoppable(settings, give_up) as stopping,
        scratch_at_head(settings, report, stopping, learn_secret) as scratch,
    ):
        return comparison(scratch, report, stopping, learn_secret)


def comparison(
    scratch: Settings, report: Reporter, stopping: Stopping, learn_secret: LearnSecret | None
) -> Comparison:
    """The same with a disposable database that is there and at head.

    :param scratch: its settings.
    """
    found, _ = _compared(scratch, report, stopping, ("check",), learn_secret)
    _refuse_forgotten_models(found)
    return found.differences(), found.renames()


@contextlib.contextmanager
def stoppable(settings: Settings, give_up: GiveUp | None) -> Iterator[Stopping]:
    """Raises why it was stopped, once everything inside is cleaned up."""
    with Stopping(settings.deadline, give_up) as stopping:
        try:
            yield stopping
        except StopRequested:
            raise stopping.reason or AssertionError("stopped without a reason") from None


def _compared(
    settings: Settings,
    report: Reporter,
    stopping: Stopping,
    arguments: Sequence[str],
    learn_secret: LearnSecret | None,
) -> tuple[Autogenerate, Run]:
    found = Autogenerate(quiet=not settings.verbose)
    database = settings.database
    disposable = database is not None and database.disposable

    def tell(event: Event) -> None:
        if not (disposable and isinstance(event, (TargetKnown, DatabaseReady))):
            report(event)

    state = look(
        settings, tell, stopping, arguments=tuple(arguments), reading=found, learn_secret=learn_secret
    )
    stopping.rearm()
    return found, state


def _refuse_forgotten_models(found: Autogenerate) -> None:
    """No table in the models, and tables in the database: the revision would drop all of them."""
    if not (found.models_are_empty and found.operations):
        return
    raise ConfigurationError(
        "the models that env.py names hold no table, and the revisions make some",
        details=(f"it would come to this: {found.differences()[0].words}, and so on",),
        next_step="Import the modules that define the models in env.py. Nothing was changed.",
    )


def _tell_what_is_overwritten(found: Autogenerate, report: Reporter, *, refuse: bool) -> None:
    lost = tuple(f"not in it: {difference.words}" for difference in found.overwritten())
    if not lost:
        return
    problem = (
        "env.py compares several targets, and the file would hold what was found for the last of them alone"
    )
    if not refuse:
        report(Notice("lost", "\n".join((problem, *lost))))
        return
    raise ConfigurationError(
        problem,
        details=lost,
        next_step=(
            "Give each an upgrade_token and a downgrade_token in context.configure() and a function in "
            "script.py.mako (alembic init -t multidb makes such a project), or choose one with -x. "
            "Nothing was changed."
        ),
    )


def _counted(rename: SuspectedRename, state: Run) -> SuspectedRename:
    """With the number of rows that would lose a value, where that is soon known."""
    target = next(iter(state.targets.values()))
    quoted = target.engine.dialect.identifier_preparer.quote
    table = ".".join(quoted(part) for part in rename.table.split(".") if part)
    if rename.kind == "table":
        source = ".".join(filter(None, (table, quoted(rename.old))))
    else:
        source = f"{table} WHERE {quoted(rename.old)} IS NOT NULL"
    statement = f"SELECT count(*) FROM (SELECT 1 FROM {source} LIMIT {ROWS_COUNTED + 1}) AS counted"

    def count(raw: RawConnection) -> int:
        options = SessionOptions("migrator", COUNT_SECONDS, COUNT_SECONDS, keep_lock_timeout=False)
        target.dialect.apply_settings(raw, target.dialect.session(raw), options)
        return int(rows(raw, statement)[0][0])

    try:
        return dataclasses.replace(rename, rows=on_connection_like(target.engine, count, 2 * COUNT_SECONDS))
    except Exception:
        return rename  # The number is a courtesy: no right to read the table, too many rows, another search_path.
