"""What an operation of autogenerate may cost."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.dialects import mysql, postgresql, sqlite

from migrator.environment.risks import DOES_NOT_FIT, earlier_facts, risk_of

DIALECT = postgresql.dialect()
MYSQL = mysql.dialect()
SQLITE = sqlite.dialect()
DUPLICATES = "fails where two rows have the same value"


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


STATES = ("active", "closed")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (mysql.TEXT(), mysql.LONGTEXT()),
        (mysql.TINYTEXT(), sa.Text()),
        (mysql.VARCHAR(16383), sa.Text()),
        (
            mysql.VARCHAR(20000),
            mysql.TEXT(),
        ),  # of a character set of one byte: there is no other of this length
        (mysql.VARCHAR(50), sa.String(100)),
        (mysql.TINYTEXT(), sa.String(255)),
        (mysql.TEXT(), sa.Text(1000)),
        (mysql.MEDIUMTEXT(), sa.Text().with_variant(mysql.LONGTEXT(), "mysql")),
        (mysql.TINYINT(), sa.SmallInteger()),
        (mysql.MEDIUMINT(), sa.Integer()),
        (mysql.SMALLINT(unsigned=True), sa.Integer()),
        (mysql.INTEGER(unsigned=True), sa.BigInteger()),
        (mysql.DECIMAL(8, 2), sa.Numeric(10, 3)),
        (mysql.ENUM("active"), sa.Enum(*STATES)),
        (mysql.ENUM(*STATES), sa.String(6)),
        (mysql.SET("a"), mysql.SET("a", "b")),
    ],
)
def test_a_type_of_mysql_that_holds_more_costs_nothing(old: object, new: object) -> None:
    assert risk_of(altered(old, new), MYSQL) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (mysql.LONGTEXT(), mysql.TEXT()),
        (mysql.LONGTEXT(), sa.Text()),
        (mysql.TEXT(), mysql.TINYTEXT()),
        (mysql.TEXT(), sa.String(1000)),
        (mysql.VARCHAR(1000), mysql.TINYTEXT()),
        (mysql.INTEGER(), mysql.TINYINT()),
        (mysql.INTEGER(), mysql.MEDIUMINT()),
        (mysql.SMALLINT(), mysql.TINYINT()),
        (mysql.INTEGER(unsigned=True), sa.Integer()),
        (mysql.INTEGER(), mysql.INTEGER(unsigned=True)),
        (mysql.DECIMAL(12, 2), sa.Numeric()),  # DECIMAL(10, 0)
        (mysql.ENUM(*STATES), mysql.ENUM("active")),
        (mysql.VARCHAR(6), sa.Enum(*STATES)),
        (mysql.SET("a", "b"), mysql.SET("a")),
    ],
)
def test_a_type_of_mysql_that_holds_less_is_told(old: object, new: object) -> None:
    assert risk_of(altered(old, new), MYSQL) == DOES_NOT_FIT


def test_an_enumeration_refuses_what_it_does_not_list() -> None:
    text, states = sa.VARCHAR(6), sa.Enum(*STATES, name="state")
    assert risk_of(altered(text, states), DIALECT) == DOES_NOT_FIT
    assert risk_of(altered(sa.Enum(*STATES, "new", name="state"), states), DIALECT) == DOES_NOT_FIT
    assert risk_of(altered(sa.Enum("active", name="state"), states), DIALECT) is None
    assert risk_of(altered(text, states), SQLITE) is None  # a mere VARCHAR there
    assert risk_of(altered(text, sa.Enum(*STATES, native_enum=False)), DIALECT) is None
    constrained = sa.Enum(*STATES, native_enum=False, create_constraint=True)
    assert risk_of(altered(text, constrained), DIALECT) == DOES_NOT_FIT


def test_a_number_is_compared_as_the_database_reports_it() -> None:
    assert risk_of(altered(sa.NUMERIC(8, 2), sa.Numeric(10, 3)), DIALECT) is None
    assert risk_of(altered(sa.NUMERIC(10, 3), sa.Numeric(8, 2)), DIALECT) == DOES_NOT_FIT


def test_mysql_fills_what_an_added_column_may_not_lack() -> None:
    def added(kind: object) -> ops.AddColumnOp:
        return ops.AddColumnOp("orders", sa.Column("n", kind, nullable=False))  # type: ignore[call-overload]

    assert risk_of(added(sa.Integer()), MYSQL) is None
    assert risk_of(added(sa.String(5)), MYSQL) is None
    assert "zero dates" in str(risk_of(added(sa.DateTime()), MYSQL))


UNIQUE = ops.CreateUniqueConstraintOp("uq", "orders", ["price"])
UNIQUE_INDEX = ops.CreateIndexOp("ix", "orders", ["price"], unique=True)
FOREIGN_KEY = ops.CreateForeignKeyOp("fk", "orders", "prices", ["price"], ["id"])
CHECK = ops.CreateCheckConstraintOp("ck", "orders", "price > 0")


@pytest.mark.parametrize(
    ("operation", "risk"),
    [
        (UNIQUE, DUPLICATES),
        (UNIQUE_INDEX, DUPLICATES),
        (ops.CreateIndexOp("ix", "orders", ["price"]), None),
        (FOREIGN_KEY, "fails where a row refers to nothing"),
        (CHECK, "fails where a row breaks it"),
        (ops.CreateCheckConstraintOp("ck", "orders", "price > 0", postgresql_not_valid=True), None),
        (
            ops.CreateForeignKeyOp("fk", "orders", "prices", ["price"], ["id"], postgresql_not_valid=True),
            None,
        ),
    ],
)
def test_an_added_constraint_fails_on_rows_that_break_it(
    operation: ops.MigrateOperation, risk: str | None
) -> None:
    assert risk_of(operation, DIALECT) == risk


@pytest.mark.parametrize("operation", [UNIQUE, UNIQUE_INDEX, FOREIGN_KEY, CHECK])
def test_there_are_no_rows_in_a_table_that_is_made_before(operation: ops.MigrateOperation) -> None:
    facts = earlier_facts([ops.CreateTableOp("orders", [sa.Column("price", sa.Integer)]), operation])
    assert risk_of(operation, DIALECT, facts) is None


@pytest.mark.parametrize("operation", [UNIQUE, UNIQUE_INDEX, FOREIGN_KEY])
def test_there_are_no_values_in_a_column_that_is_added_before(operation: ops.MigrateOperation) -> None:
    empty = ops.AddColumnOp("orders", sa.Column("price", sa.Integer))
    filled = ops.AddColumnOp("orders", sa.Column("price", sa.Integer, server_default="0"))
    elsewhere = ops.AddColumnOp("orders", sa.Column("price", sa.Integer), schema="old")
    assert risk_of(operation, DIALECT, earlier_facts([empty, operation])) is None
    assert risk_of(operation, DIALECT, earlier_facts([filled, operation]))
    assert risk_of(operation, DIALECT, earlier_facts([elsewhere, operation]))


@pytest.mark.parametrize("operation", [UNIQUE, UNIQUE_INDEX, FOREIGN_KEY])
def test_what_is_only_replaced_was_kept_by_the_rows(operation: ops.MigrateOperation) -> None:
    """Autogenerate drops a foreign key and adds it again where its ON DELETE differs."""
    other = ops.CreateForeignKeyOp("fk", "orders", "prices", ["other"], ["id"])
    assert risk_of(operation, DIALECT, earlier_facts([operation.reverse(), operation])) is None
    assert risk_of(operation, DIALECT, earlier_facts([other.reverse(), operation]))


def test_two_risks_of_one_column_are_both_told() -> None:
    operation = ops.AlterColumnOp(
        "orders", "name", existing_type=sa.Text(), modify_type=sa.String(5), modify_nullable=False
    )
    assert risk_of(operation, DIALECT) == f"{DOES_NOT_FIT}; fails where a row has no value in it"
