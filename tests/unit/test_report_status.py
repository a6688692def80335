"""The answers of status, check and config as text."""

from __future__ import annotations

import dataclasses

from migrator.report.status import check_lines, setting_lines, status_lines
from migrator.results import CheckResult, Finding, LockHolder, Pending, Status, TargetStatus
from tests.unit.report_examples import INVALID, OTHER_TARGET, STEPS, TARGET

BEHIND = TargetStatus(
    TARGET,
    current=("8f2e1a",),
    heads=("c41b77",),
    pending=tuple(Pending(step.revision, step.message, step.file) for step in STEPS),
)
AT_HEAD = TargetStatus(TARGET, current=("c41b77",), heads=("c41b77",))


def line(status: TargetStatus) -> str:
    (only,) = status_lines(Status((status,)))
    return only


def test_status_is_one_breath() -> None:
    assert line(BEHIND) == "at 8f2e1a · 3 pending: 9a0c12, b7730e, c41b77 · nobody holds the lock"
    assert line(AT_HEAD) == "at c41b77 · up to date · nobody holds the lock"


def test_many_pending_revisions_are_counted() -> None:
    pending = tuple(Pending(f"r{n}", "", "") for n in range(1, 113))
    assert line(dataclasses.replace(BEHIND, pending=pending[:8])).startswith(
        "at 8f2e1a · 8 pending: r1, r2, r3, r4, r5, r6, r7, r8 · "
    )
    assert line(dataclasses.replace(BEHIND, pending=pending)) == (
        "at 8f2e1a · 112 pending, r1 to r112 · nobody holds the lock"
    )


def test_who_holds_the_lock_and_which_indexes_are_invalid_is_said() -> None:
    holder = LockHolder(4711, "shop-migrate-x7k2p: 9a0c12", since_seconds=3.2)
    assert line(dataclasses.replace(AT_HEAD, lock_holder=holder, invalid_indexes=(INVALID,))) == (
        "at c41b77 · up to date · lock held by pid 4711 (shop-migrate-x7k2p: 9a0c12 for 3.2 s) · "
        "INVALID index ix_orders_placed_at on orders"
    )


def test_a_database_that_is_ahead_is_not_up_to_date() -> None:
    assert line(dataclasses.replace(AT_HEAD, current=("ffff",), unknown=("ffff",))) == (
        "at ffff · not in this image: ffff (the database is ahead) · nobody holds the lock"
    )


def test_an_empty_database_is_at_base() -> None:
    fresh = dataclasses.replace(BEHIND, current=(), version_table_exists=False)
    assert line(fresh).startswith("at base, no version table yet · 3 pending: ")


def test_tables_without_a_version_table_lead_to_stamp() -> None:
    strange = dataclasses.replace(BEHIND, current=(), version_table_exists=False, tables=12)
    first, second = status_lines(Status((strange,)))
    assert first.startswith("no version table, but 12 other tables · 3 pending: ")
    assert second.startswith("next      ")
    assert "migrator stamp REVISION" in second


def test_several_targets_are_named() -> None:
    assert status_lines(Status((BEHIND, dataclasses.replace(AT_HEAD, target=OTHER_TARGET)))) == [
        (
            "db.internal:5432/shop (public.alembic_version): at 8f2e1a · 3 pending: 9a0c12, b7730e, c41b77 · "
            "nobody holds the lock"
        ),
        "db.internal:5432/billing (public.alembic_version): at c41b77 · up to date · nobody holds the lock",
    ]


def test_names_in_a_status_are_harmless() -> None:
    nasty = dataclasses.replace(BEHIND, current=("a\n\x1b[2J",), pending=(Pending("b\r\x07", "", ""),))
    assert line(nasty) == "at a \\x1b[2J · 1 pending: b \\x07 · nobody holds the lock"


def test_a_check_that_passes_says_what_it_looked_at() -> None:
    assert check_lines(CheckResult(("heads", "imports"))) == [
        "checked   heads, imports",
        "done      nothing is wrong",
    ]


def test_a_check_that_fails_names_each_finding_its_place_and_the_next_action() -> None:
    result = CheckResult(
        ("heads", "imports"),
        (
            Finding("imports", "SyntaxError: invalid syntax\nx = = 1", "a.py", 3, "Correct it."),
            Finding("heads", "two heads: a and b", "b.py", next_step="migrator merge a b"),
            Finding("table", "not readable"),
        ),
    )
    assert check_lines(result) == [
        "checked   heads, imports",
        "found     imports: SyntaxError: invalid syntax",
        "          x = = 1",
        "          a.py:3",
        "next      Correct it.",
        "found     heads: two heads: a and b",
        "          b.py",
        "next      migrator merge a b",
        "found     table: not readable",
        "exit      3 the answer to a check is no",
    ]


def test_settings_are_a_table() -> None:
    assert setting_lines([("wait-timeout", "1 m", "default"), ("env", "", "–"), ("x", "v" * 60, "a\nb")]) == [
        f"wait-timeout  1 m{' ' * 47}default",
        f"env           –{' ' * 49}–",
        f"x             {'v' * 60}  a b",
    ]
    assert setting_lines([]) == []
