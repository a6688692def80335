"""The graph that revision files form, and what can be wrong with it."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrator.revisions.listing import list_files
from migrator.revisions.reading import RevisionFile, read_head

TARGETS = frozenset({"head", "heads", "base"})
"""What Alembic's commands take for a target; a revision of that name can never be meant."""

NOT_IN_IDS = frozenset("@-+")
"""Characters of relative and branch targets; Alembic refuses an id with one of them."""


class ProblemKind(enum.Enum):
    """What is wrong with a history."""

    NO_REVISIONS = "no revisions"
    IMPOSSIBLE_ID = "impossible id"
    DUPLICATE_ID = "duplicate id"
    DUPLICATE_LABEL = "duplicate branch label"
    SELF_LOOP = "self loop"
    MISSING_PARENT = "missing parent"
    MISSING_DEPENDENCY = "missing dependency"
    CYCLE = "cycle"
    SEVERAL_HEADS = "several heads"


@dataclass(frozen=True, slots=True)
class GraphProblem:
    """One thing that is wrong with a history.

    :ivar files: the files that it is about: both of a duplicate, the one that refers to a missing id, each
        head, a cycle in the direction of an upgrade.
    :ivar locations: where revisions were looked for.
    :ivar name: the missing id, or the label or id that is there twice.
    :ivar near: the file whose id or label is nearest to a missing one.
    :ivar ancestor: the nearest revision that all heads come after.
    :ivar separate: the heads look as if they were meant to stay apart: nothing in common, or each with a
        branch label of its own, or one depending on the other.
    """

    kind: ProblemKind
    files: tuple[RevisionFile, ...] = ()
    locations: tuple[Path, ...] = ()
    name: str = ""
    near: RevisionFile | None = None
    ancestor: str | None = None
    separate: bool = False


class Graph:
    """Revision files and how they follow each other; understands references as Alembic does.

    ``down_revision`` names ids; ``depends_on`` names ids or branch labels, in full (Alembic completes a
    partial id when it writes a file, not when it reads one).

    :ivar files: by id; of two files with the same id the later one, as in Alembic.
    :ivar unread: files that are not conclusive and were not imported. While there are any, a missing parent
        or a second head may be an illusion and is not called a problem.
    :ivar locations: where the files were looked for.
    :ivar heads: ids that no ``down_revision`` names, in the order of the files: what ``head`` means.
    :ivar effective_heads: the heads on which no other revision depends either: what the version table of a
        database with every revision holds.
    :ivar bases: ids without a ``down_revision``, in the order of the files.
    """

    def __init__(
        self, files: Iterable[RevisionFile], *, unread: Sequence[Path] = (), locations: Sequence[Path] = ()
    ) -> None:
        self.files: dict[str, RevisionFile] = {}
        self.unread = tuple(unread)
        self.locations = tuple(locations)
        self._labels: dict[str, RevisionFile] = {}
        self._duplicates: list[GraphProblem] = []
        for file in files:
            earlier = self.files.get(file.revision)
            if earlier is not None:
                self._duplicates.append(
                    GraphProblem(ProblemKind.DUPLICATE_ID, (earlier, file), self.locations, file.revision)
                )
            self.files[file.revision] = file
        for file in self.files.values():
            for label in file.branch_labels:
                other = self.files.get(label) or self._labels.get(label)
                if other is not None:
                    self._duplicates.append(
                        GraphProblem(ProblemKind.DUPLICATE_LABEL, (other, file), self.locations, label)
                    )
                self._labels[label] = file
        self._before = {revision: tuple(self._resolved(file)) for revision, file in self.files.items()}
        followed = {parent for file in self.files.values() for parent in file.down_revision}
        needed = {earlier for names in self._before.values() for earlier in names}
        self.heads = tuple(revision for revision in self.files if revision not in followed)
        self.effective_heads = tuple(revision for revision in self.heads if revision not in needed)
        self.bases = tuple(revision for revision, file in self.files.items() if not file.down_revision)

    def _resolved(self, file: RevisionFile) -> Iterator[str]:
        """The ids that must be applied before ``file``, as far as they exist."""
        yield from (parent for parent in file.down_revision if parent in self.files)
        for name in file.depends_on:
            needed = self.files.get(name) or self._labels.get(name)
            if needed is not None:
                yield needed.revision

    def ancestors(self, revisions: Collection[str]) -> set[str]:
        """The known ones of ``revisions`` and all that must be applied before them, dependencies included."""
        found: set[str] = set()
        waiting = [revision for revision in revisions if revision in self.files]
        while waiting:
            revision = waiting.pop()
            if revision not in found:
                found.add(revision)
                waiting.extend(self._before[revision])
        return found

    def problems(self) -> list[GraphProblem]:
        """What is wrong; empty if nothing is, or nothing that is sure while files are ``unread``.

        Several heads are told of only if nothing else is wrong, since other faults make heads of their own;
        whether they matter depends on the target (``heads`` and ``label@head`` are fine with several).
        """
        problems = [*self._impossible_ids(), *self._duplicates]
        problems += self._self_loops()
        problems += self._cycles()
        if self.unread:
            return problems
        if not self.files:
            return [GraphProblem(ProblemKind.NO_REVISIONS, locations=self.locations)]
        problems += self._missing()
        if not problems and len(self.heads) > 1:
            problems.append(self._several_heads())
        return problems

    def _impossible_ids(self) -> Iterator[GraphProblem]:
        for revision, file in self.files.items():
            if revision in TARGETS or not NOT_IN_IDS.isdisjoint(revision):
                yield GraphProblem(ProblemKind.IMPOSSIBLE_ID, (file,), self.locations, revision)

    def _self_loops(self) -> Iterator[GraphProblem]:
        for revision, file in self.files.items():
            if revision in self._before[revision]:
                yield GraphProblem(ProblemKind.SELF_LOOP, (file,), self.locations, revision)

    def _missing(self) -> Iterator[GraphProblem]:
        for file in self.files.values():
            for name in file.down_revision:
                if name not in self.files:
                    yield self._missing_reference(ProblemKind.MISSING_PARENT, file, name)
            for name in file.depends_on:
                if name not in self.files and name not in self._labels:
                    yield self._missing_reference(ProblemKind.MISSING_DEPENDENCY, file, name)

    def _missing_reference(self, kind: ProblemKind, file: RevisionFile, name: str) -> GraphProblem:
        import difflib

        known = {**self._labels, **self.files}
        known.pop(file.revision, None)
        whole = [candidate for candidate in known if name and candidate.startswith(name)]
        nearest = [name] if name in known else whole or difflib.get_close_matches(name, known, n=1)
        near = known[nearest[0]] if nearest else None
        return GraphProblem(kind, (file,), self.locations, name, near)

    def _cycles(self) -> Iterator[GraphProblem]:
        """Each cycle of two or more revisions, as far as they have no revision in common."""
        before = {
            revision: {earlier for earlier in names if earlier != revision}
            for revision, names in self._before.items()
        }
        while before := _without_ends(before):
            walked: dict[str, None] = {}
            revision = min(before)
            while revision not in walked:
                walked[revision] = None
                revision = min(before[revision])
            order = list(walked)
            cycle = order[order.index(revision) :][::-1]
            yield GraphProblem(ProblemKind.CYCLE, tuple(self.files[one] for one in cycle), self.locations)
            before = {one: names.difference(cycle) for one, names in before.items() if one not in cycle}

    def _several_heads(self) -> GraphProblem:
        lines = [self.ancestors([head]) for head in self.heads]
        common = set.intersection(*lines)
        followed = {earlier for revision in common for earlier in self._before[revision]}
        ancestor = min(common - followed, default=None)
        labelled = {file.revision for file in self._labels.values()} - common
        return GraphProblem(
            ProblemKind.SEVERAL_HEADS,
            tuple(self.files[head] for head in self.heads),
            self.locations,
            ancestor=ancestor,
            separate=ancestor is None
            or len(self.effective_heads) < len(self.heads)
            or all(labelled & line for line in lines),
        )


def _without_ends(before: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is left if revisions that nothing comes before, or after, are taken away until there are none."""
    left = {revision: set(names) for revision, names in before.items()}
    after: dict[str, set[str]] = {revision: set() for revision in left}
    for revision, names in left.items():
        for earlier in names:
            after[earlier].add(revision)
    ends = [revision for revision in left if not left[revision] or not after[revision]]
    while ends:
        end = ends.pop()
        if end not in left:
            continue
        for later in after.pop(end):
            left[later].discard(end)
            if not left[later]:
                ends.append(later)
        for earlier in left.pop(end):
            after[earlier].discard(end)
            if not after[earlier]:
                ends.append(earlier)
    return left


def read_graph(locations: Sequence[Path], *, recursive: bool = False, sourceless: bool = False) -> Graph:
    """The graph of the revision files in ``locations``; files that are not conclusive are in ``unread``."""
    files: list[RevisionFile] = []
    unread: list[Path] = []
    for location in list_files(locations, recursive=recursive, sourceless=sourceless):
        file = read_head(location)
        if file is None:
            unread.append(Path(location))
        else:
            files.append(file)
    return Graph(files, unread=unread, locations=locations)
