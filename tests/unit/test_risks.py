"""What an operation of autogenerate may cost."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.dialects import postgresql

from migrator.environment.risks import DOES_NOT_FIT, risk_of

DIALECT = postgresql.dialect()


def altered(old: object, new: object) -> ops.AlterColumnOp:
    return ops.AlterColumnOp("orders", "price", existing_type=old, modify_type=new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (sa.String(50), sa.String(100)),
        (sa.String(50), sa.Text()),
        (sa.String(), sa.Text()),
        (sa.Integer(), sa.BigInteger()),
        (sa.SmallInteger(), sa.Integer()),
        (sa.Numeric(8, 2), sa.Numeric(10, 3)),
        (sa.Numeric(8, 2), sa.Numeric()),
    ],
)
def test_a_type_that_holds_more_costs_nothing_and_the_other_way_round_it_does(
    old: object, new: object
) -> None:
    assert risk_of(altered(old, new), DIALECT) is None
    back = risk_of(altered(new, old), DIALECT)
    assert back == (None if isinstance(old, sa.String) and old.length is None else DOES_NOT_FIT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (sa.Numeric(8, 2), sa.Numeric(9, 4)),  # one digit less before the point
        (sa.Integer(), sa.Text()),
        (sa.DateTime(), sa.Date()),
        (sa.Float(), sa.Numeric(8, 2)),
        (None, sa.Text()),
    ],
)
def test_a_type_of_which_nobody_knows_is_told(old: object, new: object) -> None:
    assert risk_of(altered(old, new), DIALECT) == DOES_NOT_FIT


@pytest.mark.parametrize(
    ("operation", "risk"),
    [
        (ops.DropTableOp("orders"), "deletes every row of it"),
        (ops.DropColumnOp("orders", "price"), "deletes every value in it"),
        (ops.DropIndexOp("ix", "orders"), "makes queries slow that used it"),
        (ops.DropIndexOp("ix", "orders", unique=True), "lets duplicates in"),
        (ops.DropConstraintOp("uq", "orders", "unique"), "lets duplicates in"),
        (ops.DropConstraintOp("fk", "orders", "foreignkey"), "lets rows that refer to nothing in"),
        (ops.DropConstraintOp("ck", "orders"), "lets values that it refused in"),
        (ops.AlterColumnOp("orders", "price", modify_nullable=False), "fails where a row has no value in it"),
        (ops.AlterColumnOp("orders", "price", modify_nullable=True), None),
        (ops.AddColumnOp("orders", sa.Column("price", sa.Integer)), None),
        (
            ops.AddColumnOp("orders", sa.Column("price", sa.Integer, nullable=False)),
            "fails where the table has a row: NOT NULL, and no default on the server",
        ),
        (ops.AddColumnOp("orders", sa.Column("price", sa.Integer, nullable=False, server_default="0")), None),
        (ops.CreateTableOp("orders", [sa.Column("id", sa.Integer)]), None),
        (ops.ExecuteSQLOp("DELETE FROM orders"), "unknown: what it does cannot be told from here"),
    ],
)
def test_what_may_be_lost_or_fail_is_told(operation: ops.MigrateOperation, risk: str | None) -> None:
    assert risk_of(operation, DIALECT) == risk


def test_two_risks_of_one_column_are_both_told() -> None:
    operation = ops.AlterColumnOp(
        "orders", "name", existing_type=sa.Text(), modify_type=sa.String(5), modify_nullable=False
    )
    assert risk_of(operation, DIALECT) == f"{DOES_NOT_FIT}; fails where a row has no value in it"
