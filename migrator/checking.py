"""``check``: everything that can be known to be wrong, at once and without changing anything."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from migrator import environment
from migrator.environment import LearnSecret
from migrator.errors import ConfigurationError, HistoryError, MigrationFailed, MigratorError
from migrator.events import Notice, Reporter
from migrator.inspection import status_and_obstacles
from migrator.results import CheckResult, Difference, Finding, SuspectedRename
from migrator.revisions import history_error, syntax_problem
from migrator.settings import Settings
from migrator.stopping import GiveUp


def check(
    settings: Settings,
    report: Reporter,
    *,
    offline: bool,
    models: bool = False,
    reversible: str | None = None,
    give_up: GiveUp | None = None,
    learn_secret: LearnSecret | None = None,
) -> CheckResult:
    """Look at the configuration, the revision graph, every revision file and, unless ``offline``, the database.

    :param models: compare the models with what the revisions make of a disposable database, once nothing else
        is wrong. The configured database is not looked at then: a module of the project that reads the URL
        when it is imported does so once, and would lead the comparison there.
    :param reversible: undo the revisions above this one there and apply them again, and compare the schema;
        :data:`migrator.reversing.NEWEST`: the newest alone. With it, too, the configured database is not looked at.
    :param give_up: see :class:`migrator.stopping.Stopping`.
    :raises ConfigurationError: there is no Alembic configuration to look at.
    :raises MigratorError: the database cannot be reached.
    """
    config = environment.alembic_config(settings, ["heads"])
    locations = environment.script_locations(config)
    checked = [
        "configuration",
        "revision graph",
        "revisions import",
        "env.py compiles",
        "env.py finds its imports",
    ]
    history, syntax = _history(config), _syntax(locations.environment)
    # After the history, the reading of which puts prepend_sys_path in force; before the revisions are imported.
    syntax += _missing_imports(locations.environment, report)
    on_scratch: CheckResult | MigratorError | None = None
    if (models or reversible) and not history and not syntax:
        # Before any module of the project is imported: one that reads the database's URL does so only once.
        on_scratch = _on_scratch(models, reversible, settings, report, give_up, learn_secret)
    findings = [*history, *_imports(config), *syntax]
    if on_scratch is not None and not findings:
        if isinstance(on_scratch, MigratorError):
            raise on_scratch
        return dataclasses.replace(on_scratch, checked=(*checked, *on_scratch.checked))
    if not offline and not models and not reversible:
        if settings.database is None:
            report(Notice("database", "not looked at: none is configured"))
        elif not findings:
            checked += ["version table readable", "indexes valid"]
            findings += _database(settings, report, give_up)
    return CheckResult(tuple(checked), tuple(findings))


def _on_scratch(
    models: bool,
    reversible: str | None,
    settings: Settings,
    report: Reporter,
    give_up: GiveUp | None,
    learn_secret: LearnSecret | None,
) -> CheckResult | MigratorError:
    """What a disposable database shows; or why a revision failed, which the other checks may say better."""
    from migrator.generating import Comparison, comparison, stoppable
    from migrator.reversing import Reversed, RoundTrip, refuse_several_heads
    from migrator.scratch import scratch_at_head

    compared: Comparison = ((), ())
    came_back = Reversed()
    checked = ["models against the revisions"] if models else []
    try:
        if reversible:
            refuse_several_heads(settings)
        with stoppable(settings, give_up) as stopping:
            trip = RoundTrip(reversible, settings, report, stopping, learn_secret) if reversible else None
            stopover = trip.stopover if trip else None
            with scratch_at_head(settings, report, stopping, learn_secret, stopover) as scratch:
                if models:
                    compared = comparison(scratch, report, stopping, learn_secret)
                if trip:
                    came_back = trip.run(scratch)
                    checked.append("down and up again")
    except (HistoryError, MigrationFailed) as error:
        return error
    findings = (*_models(*compared), *came_back.findings)
    return CheckResult(tuple(checked), findings, *compared, came_back.notes)


def _syntax(env_py: Path) -> list[Finding]:
    problem = syntax_problem(env_py)
    if problem is None:
        return []
    line, text = problem
    return [
        Finding("env.py", f"syntax error: {text}", environment.relative(env_py), line, "Correct the file.")
    ]


def _missing_imports(env_py: Path, report: Reporter) -> list[Finding]:
    """What is certainly missing is wrong; what may be found after all, once code of the project has run, is told."""
    findings = []
    place = environment.relative(env_py)
    for missing in environment.missing_imports(env_py):
        if missing.certain:
            message = (
                f"it imports {missing.module}, which is neither installed nor where modules are looked for"
            )
            findings.append(Finding("env.py", message, place, missing.line, _bring(missing.module)))
        else:
            report(
                Notice(
                    "env.py",
                    f"{place}:{missing.line} imports {missing.module}, which is not found; code that changes sys.path "
                    "may find it",
                )
            )
    return findings


def _bring(module: str) -> str:
    if "." in module:
        return "Install it, or copy it beside what prepend_sys_path names; every run would fail."
    return (
        f"Install it, or copy it beside what prepend_sys_path names (in an image: COPY {module} ./{module}); every run "
        "would fail."
    )


def _models(differences: tuple[Difference, ...], renames: tuple[SuspectedRename, ...]) -> tuple[Finding, ...]:
    """A finding for each difference; what to do about all of them stands at the last one."""
    findings = [Finding("models", _difference(difference)) for difference in differences]
    if findings:
        findings[-1] = dataclasses.replace(findings[-1], next_step=_WRITE_A_REVISION)
    for rename in renames:
        code = " ".join(line.strip() for line in rename.code)
        place = "in place of the drop and the add"
        if rename.in_own_block:
            place = "before the block with the drop and the add, and take these out"
        findings.append(
            Finding(
                "models",
                f"{rename.kind} {rename.old_name} looks renamed to {rename.new_name} ({rename.why})",
                next_step=f"If it was, write {code} into the revision, {place}.",
            )
        )
    return tuple(findings)


_WRITE_A_REVISION = (
    "migrator revision --autogenerate --scratch -m MESSAGE writes a revision of it; or correct the models."
)
_SIDES = {"added": "only in the models", "dropped": "only in the revisions", "changed": "different"}


def _difference(difference: Difference) -> str:
    """The difference as a state; its own words tell what a revision would do about it."""
    deed, _, thing = difference.words.partition(" ")
    return f"{_SIDES[deed]}: {thing}" if deed in _SIDES else difference.words


def _history(config: environment.Config) -> list[Finding]:
    try:
        graph = environment.graph_of(environment.open_scripts(config))
    except Exception:
        return []  # A file that does not import is named by the check of the imports.
    return [_finding("history", history_error(problem)) for problem in graph.problems()]


def _imports(config: environment.Config) -> list[Finding]:
    return [
        Finding(
            "import",
            f"{type(failure.error).__name__}: {' '.join(str(failure.error).split())}",
            failure.file,
            failure.line,
            environment.advice_on_namesake(failure.error)
            or "Correct the file: a run that reaches it would fail.",
        )
        for failure in environment.import_all(config)
    ]


def _database(settings: Settings, report: Reporter, give_up: GiveUp | None) -> list[Finding]:
    try:
        found, obstacles = status_and_obstacles(settings, report, give_up)
    except (HistoryError, ConfigurationError) as error:
        return [_finding("database", error)]
    findings = [_finding("database", error) for error in obstacles]
    for target in found.targets:
        if target.unknown:
            findings.append(_finding("database", environment.database_ahead(target.unknown, target.heads)))
        findings += [
            Finding(
                "index",
                f"{index.name} on {index.table} is INVALID: a concurrent build of it failed",
                next_step=f"DROP INDEX CONCURRENTLY {index.name}; and build it again.",
            )
            for index in target.invalid_indexes
        ]
    return findings


def _finding(check: str, error: MigratorError) -> Finding:
    message = "; ".join((error.message, *error.details))
    return Finding(
        check, message, error.file, error.line, error.next_step.replace(" Nothing was changed.", "")
    )
