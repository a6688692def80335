"""The text of the commands that answer a question: ``status``, ``check`` and ``config``."""

from __future__ import annotations

from collections.abc import Iterable

from migrator.errors import ExitCode
from migrator.report.layout import block, labelled
from migrator.report.safe import lines, one_line, padded
from migrator.report.words import SEPARATOR, at, holder_words, index_words, names, place
from migrator.results import CheckResult, Status, TargetStatus

LISTED_PENDING = 8


def status_lines(status: Status) -> list[str]:
    """Where each target stands, in one line; a second one with the next action if there is one.

    With several targets each line begins with the address, the database and the version table.
    """
    several = len(status.targets) > 1
    return [line for target in status.targets for line in _target_lines(target, named=several)]


def _target_lines(status: TargetStatus, *, named: bool) -> list[str]:
    facts = [_where(status), *_difference(status)]
    facts.append(
        f"lock held by {holder_words(status.lock_holder)}" if status.lock_holder else "nobody holds the lock"
    )
    facts += [index_words(index) for index in status.invalid_indexes]
    line = SEPARATOR.join(facts)
    if named:
        table = f" ({one_line(status.target.version_table)})" if status.target.version_table else ""
        line = f"{place(status.target)}{table}: {line}"
    return [line, *block("next", _next(status))]


def _where(status: TargetStatus) -> str:
    if status.version_table_exists:
        return at(status.current)
    if status.tables:
        return f"no version table, but {status.tables} other table{'s' if status.tables > 1 else ''}"
    return f"{at(())}, no version table yet"


def _difference(status: TargetStatus) -> list[str]:
    if status.at_head:
        return ["up to date"]
    facts = []
    if status.unknown:
        facts.append(f"not in this image: {names(status.unknown)} (the database is ahead)")
    revisions = [one_line(pending.revision) for pending in status.pending]
    if len(revisions) > LISTED_PENDING:
        facts.append(f"{len(revisions)} pending, {revisions[0]} to {revisions[-1]}")
    elif revisions:
        facts.append(f"{len(revisions)} pending: {', '.join(revisions)}")
    return facts


def _next(status: TargetStatus) -> list[str]:
    if status.version_table_exists or not status.tables:
        return []
    advice = "Find out which revision these tables correspond to, then say so once: migrator stamp REVISION"
    return [advice]


def check_lines(result: CheckResult) -> list[str]:
    """What was looked at, and each finding with its place and the next action."""
    checked = ", ".join(one_line(name) for name in result.checked)
    found = []
    for finding in result.findings:
        place_of = f"{finding.file}:{finding.line}" if finding.file and finding.line else finding.file or ""
        message = lines(f"{finding.check}: {finding.message}")
        found += block("found", [*message, *([one_line(place_of)] if place_of else [])])
        found += block("next", lines(finding.next_step))
    found += [line for note in result.notes for line in block("note", lines(note))]
    if result.passed:
        return [labelled("checked", checked), *found, labelled("done", "nothing is wrong")]
    code = ExitCode.CHECK_SAYS_NO
    return [labelled("checked", checked), *found, labelled("exit", f"{code.value} {code.meaning}")]


def setting_lines(settings: Iterable[tuple[str, str, str]]) -> list[str]:
    """A table of the settings.

    :param settings: name, value (secrets masked) and source of each.
    """
    rows = [(one_line(name), one_line(value) or "–", one_line(source)) for name, value, source in settings]
    if not rows:
        return []
    name_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [
        f"{padded(name, name_width)}  {padded(value, min(value_width, 48))}  {source}".rstrip()
        for name, value, source in rows
    ]
