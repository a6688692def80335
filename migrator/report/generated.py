"""The text of ``revision --autogenerate`` and of the models' part of ``check``."""

from __future__ import annotations

from migrator.events import Notice
from migrator.results import ROWS_COUNTED, GeneratedRevision, SuspectedRename


def generated_notices(result: GeneratedRevision) -> list[Notice]:
    """What was found, a notice for each difference and each suspected rename, and what came of it."""
    notices = [Notice("found", difference.words) for difference in result.differences]
    notices += [
        Notice("risk", f"{difference.words}: {difference.risk}")
        for difference in result.differences
        if difference.risk
    ]
    notices += [Notice("rename?", "\n".join(rename_lines(rename))) for rename in result.renames]
    if result.refused:
        count = len(result.renames)
        thing = "one suspected rename" if count == 1 else f"{count} suspected renames"
        notices += [
            Notice("refused", f"no revision was written, because of {thing}"),
            Notice(
                "next",
                "If it is one: migrator revision -m MESSAGE, and write the code above into it. If it is none: run "
                "again without --fail-on-suspected-rename.",
            ),
        ]
    elif result.compared and not result.differences:
        with_what = "the revisions" if result.scratch else "the database"
        written = "an empty revision was written" if result.written else "no revision was written"
        notices.append(Notice("agreed", f"the models and {with_what} agree: {written}"))
    notices += [Notice("wrote", f"{one.file} ({one.revision})") for one in result.written]
    if result.differences and not result.written and not result.refused:
        notices.append(Notice("done", "no revision was written: a hook of env.py left none over"))
    return notices


def rename_words(rename: SuspectedRename) -> str:
    """``column orders.placed → orders.placed_at (similar names, both TIMESTAMP)``."""
    return f"{rename.kind} {rename.old_name} → {rename.new_name} ({rename.why})"


def rename_lines(rename: SuspectedRename) -> list[str]:
    """Both names, what would be lost, and the code to write instead."""
    instead = "write this instead of the two operations"
    if rename.in_own_block:
        instead = "take the two operations out of their block, and write before it"
    return [
        rename_words(rename),
        lost_words(rename),
        f"If it was renamed, {instead}, in upgrade():",
        *(f"    {line}" for line in rename.code),
        "and in downgrade():",
        *(f"    {line}" for line in rename.undo),
    ]


def lost_words(rename: SuspectedRename) -> str:
    """What the drop and the add would delete."""
    if rename.rows is None:
        what = "every value in it" if rename.kind == "column" else "every row of it"
        return f"As it is, the revision deletes {what}."
    if rename.rows == 0:
        return "As it is, the revision would delete its data; there is none in this database."
    count = f"more than {ROWS_COUNTED:,}" if rename.rows > ROWS_COUNTED else f"{rename.rows:,}"
    rows = f"{count} row{'' if rename.rows == 1 else 's'}"
    if rename.kind == "column":
        return f"As it is, the revision deletes its values: {rows} of this database {_have(rename.rows)} one."
    return f"As it is, the revision deletes its rows: {rows} in this database."


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
