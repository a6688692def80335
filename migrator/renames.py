"""A dropped and an added column (or table) that look like one thing under a new name: the rules, and only those.

Alembic, like anybody who sees only the models of today and the schema of yesterday, takes a rename for a drop
and an add. Both together delete the data.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

SIMILAR = 0.6
"""Names whose :class:`difflib.SequenceMatcher` ratio is at least this are similar: ``name``, ``full_name`` (0.62)."""


@dataclass(frozen=True, slots=True)
class Column:
    """What the rules look at.

    :ivar type: as the database writes it: ``VARCHAR(50)``.
    :ivar family: of types that hold the same kind of values: ``String``.
    :ivar default: the server's default, as text; None: there is none.
    :ivar references: ``table.column`` that a foreign key leads to; empty: there is none, or nobody knows.
    """

    name: str
    type: str
    family: str
    nullable: bool = True
    default: str | None = None
    references: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A table by its columns."""

    name: str
    columns: tuple[Column, ...]

    @property
    def shape(self) -> frozenset[tuple[str, str]]:
        """What must be the same for a table to be taken for another: each column's name and kind of type."""
        return frozenset((column.name, column.family) for column in self.columns)


@dataclass(frozen=True, slots=True)
class Match:
    """``old`` looks as if it were called ``new`` now; ``why`` in words."""

    old: str
    new: str
    why: str


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Thing = TypeVar("Thing", bound=_Named)


def similarity(one: str, other: str) -> float:
    """0 to 1, whatever the case of the letters."""
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()


def renamed_columns(dropped: Sequence[Column], added: Sequence[Column]) -> list[Match]:
    """The pairs of one table that look like renames; each column in one at most, the most similar names first.

    Alike are two columns of the same kind of type (a text and a longer text), with a default on the server in
    both or in neither, that do not lead to different tables, and of which the new one is not NOT NULL where the
    old one was nullable. They are taken for one if their names are similar; or if they are all that was dropped
    from and added to the table, of exactly the same type, default and nullability.
    """
    pairs = _most_similar(dropped, added, _alike)
    if pairs or len(dropped) != 1 or len(added) != 1:
        return [Match(old.name, new.name, f"similar names, both {new.type}") for old, new in pairs]
    (old,), (new,) = dropped, added
    same = (old.type, old.nullable, old.default) == (new.type, new.nullable, new.default)
    if not (same and _alike(old, new)):
        return []
    return [
        Match(old.name, new.name, f"the only column that went and the only one that came, both {new.type}")
    ]


def renamed_tables(dropped: Sequence[Table], added: Sequence[Table]) -> list[Match]:
    """The pairs of one schema that look like renames: the same columns, each of the same kind of type.

    Where several have these columns, the names have to be similar as well.
    """

    def same_shape(old: Table, new: Table) -> bool:
        return bool(old.columns) and old.shape == new.shape

    pairs = _most_similar(dropped, added, same_shape)
    matches = [Match(old.name, new.name, "similar names, the same columns") for old, new in pairs]
    old_left = [table for table in dropped if table.name not in {match.old for match in matches}]
    new_left = [table for table in added if table.name not in {match.new for match in matches}]
    for old in old_left:
        like_old = [new for new in new_left if same_shape(old, new)]
        if len(like_old) == 1 and sum(same_shape(other, like_old[0]) for other in old_left) == 1:
            matches.append(Match(old.name, like_old[0].name, "the same columns"))
    return matches


def _alike(old: Column, new: Column) -> bool:
    return (
        old.family == new.family
        and (old.default is None) == (new.default is None)
        and (new.nullable or not old.nullable)
        and not (old.references and new.references and set(old.references) != set(new.references))
    )


def _most_similar(
    dropped: Sequence[Thing], added: Sequence[Thing], alike: Callable[[Thing, Thing], bool]
) -> list[tuple[Thing, Thing]]:
    """Pairs of similar names, from the most similar on, each thing in one pair at most."""
    candidates = [
        (similarity(old.name, new.name), old, new) for old in dropped for new in added if alike(old, new)
    ]
    candidates.sort(key=lambda candidate: (-candidate[0], candidate[1].name, candidate[2].name))
    pairs: list[tuple[Thing, Thing]] = []
    for ratio, old, new in candidates:
        taken = any(old.name == one.name or new.name == other.name for one, other in pairs)
        if ratio >= SIMILAR and not taken:
            pairs.append((old, new))
    return pairs
