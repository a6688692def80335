"""What is said when something failed, compared whole."""

from __future__ import annotations

import dataclasses
import io

import pytest

from migrator import errors
from migrator.errors import (
    ConnectionLost,
    ExitCode,
    LockTimeoutExhausted,
    MigrationFailed,
    MigratorError,
    Terminated,
)
from migrator.events import Event, InvalidIndexesFound
from migrator.report.text import TextReport
from migrator.results import Outcome, RunResult, Statement, Step, TargetResult
from tests.unit.report_examples import (
    ADD,
    INVALID,
    OTHER_TARGET,
    PLANNED,
    TARGET,
    failed_result,
    migration_failed,
    pooler_error,
    raised,
    two_heads_error,
)


def told(error: MigratorError, *events: Event, verbose: bool = False) -> str:
    stream = io.StringIO()
    report = TextReport(stream, colour=False, live=False, verbose=verbose)
    for event in events:
        report(event)
    report.failed(error)
    return stream.getvalue()


def block(text: str, label: str) -> list[str]:
    """The lines of the block with this label, without the label column."""
    found: list[str] = []
    inside = False
    for line in text.splitlines():
        inside = line.startswith(f"{label} ") or (inside and line.startswith(" " * 10))
        if inside:
            found.append(line[10:])
    return found


def test_a_failed_migration_says_what_where_what_is_true_now_and_what_next() -> None:
    assert told(migration_failed(failed_result())) == (
        "failed    9a0c12  add orders.placed_at\n"
        "          migrations/versions/9a0c12_add_placed_at.py:14\n"
        "          ALTER TABLE orders ADD COLUMN placed_at timestamptz NOT NULL\n"
        '          23502: column "placed_at" of relation "orders" contains null values\n'
        "state     at 8f2e1a, read on a new connection · rolled back: 9a0c12 · not tried: b7730e, c41b77\n"
        "next      The same image will fail again. Add the column nullable, fill it, then set NOT NULL "
        "(migrator explain not-null).\n"
        "exit      20 a migration failed\n"
    )


def test_a_lock_that_cannot_work_has_no_state_to_tell() -> None:
    assert told(pooler_error()) == (
        "failed    the lock cannot work here: a transaction pooler is between us and the server\n"
        "          two connections to pgbouncer:6432 were served by the same backend (pid 2093)\n"
        "next      Give the direct address of the server as MIGRATOR_DIRECT_DATABASE_URL. Nothing was changed.\n"
        "exit      22 the lock was lost while the connection lived, or cannot work here\n"
    )


def test_two_heads_are_named_with_the_command_that_merges_them() -> None:
    assert told(two_heads_error()) == (
        "failed    two heads: a31f (migrations/versions/a31f_add_tax.py) and b9c0 "
        "(migrations/versions/b9c0_add_fee.py), both after 77de\n"
        'next      migrator merge a31f b9c0 -m "merge tax and fee", commit the file, build again. '
        "Nothing was changed.\n"
        "exit      23 the history is wrong: several heads, missing parent, database ahead of the image\n"
    )


def test_what_was_applied_before_is_told() -> None:
    result = failed_result(("b7730e",), (Outcome.APPLIED, Outcome.APPLIED, Outcome.ROLLED_BACK))
    assert block(told(migration_failed(result)), "state") == [
        "at b7730e, read on a new connection · applied: 9a0c12, b7730e · rolled back: c41b77"
    ]


def test_a_state_that_could_not_be_read_claims_nothing() -> None:
    result = failed_result(None, (Outcome.APPLIED, Outcome.ROLLED_BACK, Outcome.NOT_TRIED))
    error = ConnectionLost("the connection was lost", revision="b7730e")
    error.result = result
    assert block(told(error), "state") == [
        (
            "could not be read on a new connection; was at 8f2e1a when the run began · committed: 9a0c12 · "
            "not known whether undone: b7730e · not tried: c41b77"
        )
    ]


def test_nothing_was_changed_is_said_only_where_that_is_known() -> None:
    nothing_tried = (Outcome.NOT_TRIED,) * 3

    def state(result: RunResult) -> str:
        error = MigratorError("x", next_step="y")
        error.result = result
        return "\n".join(block(told(error), "state"))

    assert state(failed_result(outcomes=nothing_tried)) == (
        "at 8f2e1a, read on a new connection · not tried: 9a0c12, b7730e, c41b77 · nothing was changed"
    )
    only = failed_result(outcomes=nothing_tried).targets[0]
    two = dataclasses.replace(failed_result(), targets=(only, dataclasses.replace(only, target=OTHER_TARGET)))
    for result in (
        failed_result(),
        failed_result(None, nothing_tried),
        failed_result(("9a0c12",), nothing_tried),
        failed_result(outcomes=(Outcome.FAILED, Outcome.NOT_TRIED, Outcome.NOT_TRIED), autocommit=True),
        two,
    ):
        assert "nothing was changed" not in state(result)


def test_nothing_was_changed_is_not_said_twice() -> None:
    error = MigratorError("x", next_step="Set Y. Nothing was changed.")
    error.result = failed_result(outcomes=(Outcome.NOT_TRIED,) * 3)
    assert told(error).lower().count("nothing was changed") == 1


def test_each_target_has_a_state_of_its_own() -> None:
    error = MigratorError("x", next_step="y")
    error.result = RunResult(
        "upgrade",
        "head",
        (
            TargetResult(TARGET, (), ("9a0c12",)),
            TargetResult(dataclasses.replace(OTHER_TARGET, version_table=None), ("77de",), None),
        ),
    )
    assert block(told(error), "state") == [
        "db.internal:5432/shop (public.alembic_version): at 9a0c12, read on a new connection",
        "db.internal:5432/billing: could not be read on a new connection; was at 77de when the run began",
    ]


def test_what_a_rollback_does_not_undo_is_named() -> None:
    result = failed_result(
        outcomes=(Outcome.FAILED, Outcome.NOT_TRIED, Outcome.NOT_TRIED), autocommit=True, indexes=(INVALID,)
    )
    text = told(migration_failed(result))
    assert block(text, "left") == [
        "part of 9a0c12 ran outside a transaction and was not undone",
        "INVALID index ix_orders_placed_at on orders",
    ]
    assert "· failed: 9a0c12 ·" in block(text, "state")[0]
    text = told(migration_failed(result), InvalidIndexesFound((INVALID,), left_by_run=True))
    assert text.count("INVALID") == 1


def test_what_was_applied_outside_a_transaction_is_not_left_behind() -> None:
    result = failed_result(
        ("9a0c12",), (Outcome.APPLIED, Outcome.NOT_TRIED, Outcome.NOT_TRIED), autocommit=True
    )
    assert block(told(migration_failed(result)), "left") == []


def test_the_servers_words_get_their_sqlstate_once() -> None:
    def reasons(message: str, *details: str, sqlstate: str | None = "55P03") -> list[str]:
        error = LockTimeoutExhausted(message, details=details, revision="9a0c12", sqlstate=sqlstate)
        return block(told(error, PLANNED), "failed")[1:]

    assert reasons("lock timeout, 5 tries") == ["55P03: lock timeout, 5 tries"]
    assert reasons("lock timeout", "55P03: canceling statement") == [
        "lock timeout",
        "55P03: canceling statement",
    ]
    assert reasons("9a0c12 add orders.placed_at") == ["SQLSTATE 55P03"]
    assert reasons("canceling", "55P03: canceling statement") == ["55P03: canceling statement"]
    assert reasons("lock timeout", sqlstate=None) == ["lock timeout"]


def test_the_message_of_a_revision_comes_from_the_plan_where_there_is_no_result() -> None:
    error = Terminated(revision="9a0c12")
    assert block(told(error, PLANNED), "failed") == ["9a0c12  add orders.placed_at", "Stopped by SIGTERM"]
    assert block(told(error), "failed") == ["9a0c12  Stopped by SIGTERM"]


def test_a_revision_that_the_message_names_is_not_named_twice() -> None:
    error = MigratorError("9a0c12 has no parent", revision="9a0c12", file="a.py")
    assert block(told(error), "failed") == ["9a0c12 has no parent", "a.py"]


def test_a_long_statement_is_shortened_and_on_one_line() -> None:
    error = migration_failed(failed_result())
    error.statement = Statement("INSERT INTO t VALUES\n" + "  (1),\n" * 300_000)
    shown = block(told(error), "failed")[2]
    assert len(shown) <= 200
    assert shown.startswith("INSERT INTO t VALUES (1), (1),")
    assert shown.endswith("…")


def test_several_lines_stay_below_their_label() -> None:
    error = MigratorError(
        "one\ntwo", details=("three\nLINE 1: x\n        ^", "four\x1b[0m"), next_step="five\n\nsix"
    )
    text = told(error)
    assert block(text, "failed") == ["one", "two", "three", "LINE 1: x", "        ^", "four\\x1b[0m"]
    assert block(text, "next") == ["five", "six"]


def test_a_message_cannot_pretend_to_be_another_line() -> None:
    step = Step("9a0c12", "x\ndone      3 revisions\x1b[2K", ADD.file)
    error = MigrationFailed("boom\nexit      0 ok", revision="9a0c12", details=("\rdone      all well",))
    error.result = failed_result()
    target = error.result.targets[0]
    steps = (dataclasses.replace(target.steps[0], step=step), *target.steps[1:])
    error.result = dataclasses.replace(error.result, targets=(dataclasses.replace(target, steps=steps),))
    labels = [line[:10].strip() for line in told(error).splitlines()]
    assert [label for label in labels if label] == ["failed", "state", "exit"]
    assert "\x1b" not in told(error)
    assert "\r" not in told(error)


NEVER_RAISED = (ExitCode.OK, ExitCode.BUG, ExitCode.CHECK_SAYS_NO)


@pytest.mark.parametrize("code", [code for code in ExitCode if code not in NEVER_RAISED])
def test_each_exit_code_ends_with_its_meaning_and_a_retryable_one_with_what_to_do(code: ExitCode) -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, MigratorError) and kind.exit_code is code
    ]
    assert kinds
    for kind in kinds:
        text = told(kind())
        assert text.splitlines()[-1] == f"exit      {code.value} {code.meaning}"
        assert block(text, "next") == (["Run the same command again."] if code.retry_may_help else [])


def test_a_bug_of_ours_shows_its_traceback_above_what_to_do() -> None:
    text = told(raised(MigratorError("unexpected")))
    trace = block(text, "traceback")
    assert trace[0] == "Traceback (most recent call last):"
    assert "KeyError: 'deep\\x1b inside'" in "\n".join(trace)
    assert trace[-1].endswith("MigratorError: unexpected")
    assert block(text, "next") == ["This is a bug in migrator: please report it with the traceback."]
    assert text.index("traceback") < text.index("failed ")


def test_other_failures_show_a_traceback_only_to_the_verbose() -> None:
    error = raised(migration_failed(failed_result()))
    assert "Traceback" not in told(error)
    assert "KeyError" in told(error, verbose=True)
    assert "traceback" not in told(migration_failed(failed_result()), verbose=True)
