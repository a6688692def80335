"""What to say about a problem of the history: what, where and the next action."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from migrator.errors import HistoryError
from migrator.revisions.graph import TARGETS, GraphProblem, ProblemKind
from migrator.revisions.reading import RevisionFile

_NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def shown_path(path: Path) -> str:
    """``path`` as a person writes it: relative to the working directory where it is inside it."""
    try:
        return os.fspath(path.relative_to(os.getcwd()))
    except (ValueError, OSError):
        return os.fspath(path)


def history_error(problem: GraphProblem) -> HistoryError:
    """The error to raise for ``problem`` before anything was changed."""
    message, details, next_step = _SENTENCES[problem.kind](problem)
    file = problem.files[0] if problem.files else None
    return HistoryError(
        message,
        details=details,
        next_step=f"{next_step} Nothing was changed.",
        revision=file.revision if file else None,
        file=shown_path(file.path) if file else None,
    )


def database_ahead(unknown: Iterable[str], heads: Iterable[str]) -> HistoryError:
    """The error for version rows that this image has no revision for."""
    return HistoryError(
        f"the database is ahead of this image: it is at {', '.join(unknown)}, which this image does not have",
        details=(f"newest here: {', '.join(heads)}",),
        next_step=(
            "Deploy an image that has that revision, or, if this older one is meant to run on the newer "
            "schema, set MIGRATOR_ALLOW_AHEAD=yes. Nothing was changed."
        ),
    )


_Sentences = tuple[str, Sequence[str], str]


def _named(file: RevisionFile) -> str:
    return f"{file.revision} ({shown_path(file.path)})"


def _all_of(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _no_revisions(problem: GraphProblem) -> _Sentences:
    details = []
    for location in problem.locations:
        if not location.is_dir():
            state = "does not exist"
        elif not os.access(location, os.R_OK | os.X_OK):
            state = "cannot be read"
        else:
            state = "holds no revision file"
        details.append(f"{shown_path(location)} {state}")
    return (
        "there is no revision at all",
        details,
        (
            "Copy or mount the revision files there, or correct version_locations or script_location. In a new "
            "project, migrator revision --autogenerate --scratch -m first writes the first one."
        ),
    )


def _impossible_id(problem: GraphProblem) -> _Sentences:
    (file,) = problem.files
    why = "a name for a target" if problem.name in TARGETS else "one of @ - +"
    return (
        f"{problem.name} cannot be the id of a revision ({shown_path(file.path)}): it is, or has in it, {why}",
        [],
        "Give it another id, also as down_revision of what comes after it.",
    )


def _duplicate_id(problem: GraphProblem) -> _Sentences:
    paths = [shown_path(file.path) for file in problem.files]
    return (
        f"two files define revision {problem.name}: {_all_of(paths)}",
        [],
        "Remove the copy; or, if both are meant, give one a new id, also as down_revision of what comes after it.",
    )


def _duplicate_label(problem: GraphProblem) -> _Sentences:
    first, second = problem.files
    return (
        f"the branch label {problem.name} of {_named(second)} is already taken by {_named(first)}",
        [],
        "Give one of them another label in branch_labels.",
    )


def _self_loop(problem: GraphProblem) -> _Sentences:
    (file,) = problem.files
    key = "down_revision" if file.revision in file.down_revision else "depends_on"
    return (
        f"revision {_named(file)} names itself as its {key}",
        [],
        f"Set {key} to the revision that came before it (None for the first one).",
    )


def _missing_reference_sentences(problem: GraphProblem) -> _Sentences:
    (file,) = problem.files
    parent = problem.kind is ProblemKind.MISSING_PARENT
    reference, key = ("comes after", "down_revision") if parent else ("depends on", "depends_on")
    looked = _all_of([shown_path(location) for location in problem.locations]) or "the revision files"
    near = [f"the nearest is {_named(problem.near)}"] if problem.near else []
    return (
        f"revision {_named(file)} {reference} {problem.name}, which no file defines",
        [f"looked in {looked}", *near],
        f"Add the file of {problem.name} (on another branch? left out of the image?) or correct {key}.",
    )


def _cycle(problem: GraphProblem) -> _Sentences:
    names = [file.revision for file in problem.files]
    steps = zip(problem.files, [names[-1], *names[:-1]], strict=True)
    return (
        f"revisions come after each other in a circle: {' → '.join([*names, names[0]])}",
        [
            f"{_named(file)} {'comes after' if earlier in file.down_revision else 'depends on'} {earlier}"
            for file, earlier in steps
        ],
        "Correct down_revision in one of these files to what really came before it.",
    )


def _several_heads(problem: GraphProblem) -> _Sentences:
    ids = [head.revision for head in problem.files]
    count = _NUMBER_WORDS.get(len(ids), str(len(ids)))
    place = f"{'both' if len(ids) == 2 else 'all'} after {problem.ancestor}"
    title = _quoted(f"merge {_all_of(ids)}")
    merge = f"migrator merge {shlex.join(ids)} -m {title}, commit the file, build again."
    apart = "If they are meant to stay apart: migrator upgrade heads."
    heads = _all_of([_named(head) for head in problem.files])
    relation = place if problem.ancestor else "with no revision in common"
    return f"{count} heads: {heads}, {relation}", [], f"{merge} {apart}" if problem.separate else merge


def _quoted(text: str) -> str:
    """``text`` as one word of a command; in double quotes, which every shell knows, where they are enough."""
    return shlex.quote(text) if set(text) & set('"$`\\!%') else f'"{text}"'


_SENTENCES: dict[ProblemKind, Callable[[GraphProblem], _Sentences]] = {
    ProblemKind.NO_REVISIONS: _no_revisions,
    ProblemKind.IMPOSSIBLE_ID: _impossible_id,
    ProblemKind.DUPLICATE_ID: _duplicate_id,
    ProblemKind.DUPLICATE_LABEL: _duplicate_label,
    ProblemKind.SELF_LOOP: _self_loop,
    ProblemKind.MISSING_PARENT: _missing_reference_sentences,
    ProblemKind.MISSING_DEPENDENCY: _missing_reference_sentences,
    ProblemKind.CYCLE: _cycle,
    ProblemKind.SEVERAL_HEADS: _several_heads,
}
