"""Which dropped and added things look like renamed ones: the schema of yesterday against the models of today."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from alembic.autogenerate import produce_migrations
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import mysql, postgresql

from migrator.environment.differences import describe, flat, suspected_columns, suspected_tables
from migrator.renames import SIMILAR, Column, Table, renamed_columns, renamed_tables, similarity

Columns = Sequence[sa.Column]


def schema(*tables: tuple[str, Columns]) -> sa.MetaData:
    metadata = sa.MetaData()
    for name, columns in tables:
        sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), *columns)
    return metadata


def operations(before: sa.MetaData, after: sa.MetaData) -> tuple[list[object], sa.Dialect]:
    """What Alembic makes of the two, in a database of its own that has the one."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        before.create_all(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        script = produce_migrations(context, after)
    assert script.upgrade_ops is not None
    return script.upgrade_ops.ops, engine.dialect


def renamed(before: sa.MetaData, after: sa.MetaData) -> list[tuple[str, str]]:
    """(old, new) of every suspicion, columns as ``table.column``."""
    found, dialect = operations(before, after)
    columns = [
        (f"{drop.table_name}.{match.old}", f"{add.table_name}.{match.new}")
        for drop, add, match in suspected_columns(found, dialect)
    ]
    return columns + [(match.old, match.new) for _, _, match in suspected_tables(found, dialect)]


def orders(*columns: sa.Column) -> sa.MetaData:
    return schema(("orders", columns))


Case = tuple[list[sa.Column], list[sa.Column], list[tuple[str, str]]]
ALIKE: dict[str, Case] = {
    "a suffix came": (
        [sa.Column("placed", sa.DateTime)],
        [sa.Column("placed_at", sa.DateTime)],
        [("placed", "placed_at")],
    ),
    "a prefix came, the text may be longer": (
        [sa.Column("name", sa.String(20))],
        [sa.Column("full_name", sa.String(50))],
        [("name", "full_name")],
    ),
    "another spelling": (
        [sa.Column("customerId", sa.Integer)],
        [sa.Column("customer_id", sa.Integer)],
        [("customerId", "customer_id")],
    ),
    "an abbreviation, and the only pair of one type": (
        [sa.Column("qty", sa.Integer)],
        [sa.Column("amount_of_things", sa.Integer)],
        [("qty", "amount_of_things")],
    ),
    "NOT NULL went": (
        [sa.Column("mail", sa.String(50), nullable=False)],
        [sa.Column("email", sa.String(50))],
        [("mail", "email")],
    ),
    "two at once, each with the nearest name": (
        [sa.Column("ship_street", sa.String(50)), sa.Column("ship_town", sa.String(50))],
        [sa.Column("shipping_town", sa.String(50)), sa.Column("shipping_street", sa.String(50))],
        [("ship_street", "shipping_street"), ("ship_town", "shipping_town")],
    ),
    "one of several that came": (
        [sa.Column("placed", sa.DateTime)],
        [sa.Column("note", sa.String(50)), sa.Column("placed_at", sa.DateTime)],
        [("placed", "placed_at")],
    ),
}
DIFFERENT: dict[str, Case] = {
    "another kind of type": ([sa.Column("placed", sa.String(50))], [sa.Column("placed_at", sa.DateTime)], []),
    "no name like it, several came": (
        [sa.Column("weight", sa.Integer)],
        [sa.Column("colour", sa.Integer), sa.Column("stock", sa.Integer)],
        [],
    ),
    "no name like it, another length": (
        [sa.Column("town", sa.String(50))],
        [sa.Column("iban", sa.String(34))],
        [],
    ),
    "NOT NULL came": (
        [sa.Column("mail", sa.String(50))],
        [sa.Column("email", sa.String(50), nullable=False)],
        [],
    ),
    "a default came": (
        [sa.Column("paid", sa.Integer)],
        [sa.Column("is_paid", sa.Integer, server_default="0")],
        [],
    ),
    "only came": ([], [sa.Column("placed_at", sa.DateTime)], []),
    "only went": ([sa.Column("placed", sa.DateTime)], [], []),
}


@pytest.mark.parametrize("case", [*ALIKE, *DIFFERENT])
def test_columns_of_one_table(case: str) -> None:
    before, after, expected = {**ALIKE, **DIFFERENT}[case]
    found = renamed(orders(*before), orders(*after))
    assert sorted(found) == sorted((f"orders.{old}", f"orders.{new}") for old, new in expected)


def test_columns_of_two_tables_are_no_pair() -> None:
    before = schema(("orders", [sa.Column("note", sa.String(50))]), ("customers", []))
    after = schema(("orders", []), ("customers", [sa.Column("note", sa.String(50))]))
    assert renamed(before, after) == []


def test_foreign_keys_to_two_tables_are_no_pair() -> None:
    def models(column: str, table: str) -> sa.MetaData:
        return schema(
            ("buyers", []),
            ("sellers", []),
            ("orders", [sa.Column(column, sa.Integer, sa.ForeignKey(f"{table}.id"))]),
        )

    assert renamed(models("buyer_id", "buyers"), models("seller_id", "sellers")) == []
    assert renamed(models("buyer", "buyers"), models("buyer_id", "buyers")) == [
        ("orders.buyer", "orders.buyer_id")
    ]


def columns() -> list[sa.Column]:
    return [sa.Column("email", sa.String(50)), sa.Column("name", sa.String(50))]


def test_a_table_with_the_same_columns_is_a_renamed_one_whatever_its_name() -> None:
    assert renamed(schema(("buyers", columns())), schema(("people", columns()))) == [("buyers", "people")]


def test_a_table_with_a_column_more_is_another_one() -> None:
    after = schema(("customers", [*columns(), sa.Column("town", sa.String(50))]))
    assert renamed(schema(("customer", columns())), after) == []


def test_of_several_tables_with_the_same_columns_the_names_decide() -> None:
    before = schema(("customer", columns()), ("supplier", columns()))
    after = schema(("suppliers", columns()), ("customers", columns()))
    assert sorted(renamed(before, after)) == [("customer", "customers"), ("supplier", "suppliers")]
    strangers = schema(("people", columns()), ("things", columns()))
    assert renamed(before, strangers) == []


def test_the_measure_of_similarity_is_what_the_documentation_says() -> None:
    assert similarity("name", "full_name") >= SIMILAR > similarity("town", "iban")
    assert similarity("Placed", "placed") == 1


def test_a_column_is_in_one_pair_at_most() -> None:
    dropped = [Column("sent_on", "DATE", "Date"), Column("placed", "DATE", "Date")]
    (match,) = renamed_columns(dropped, [Column("placed_at", "DATE", "Date")])
    assert (match.old, match.new) == ("placed", "placed_at")
    two = renamed_columns(dropped, [Column("placed_on", "DATE", "Date"), Column("placed_at", "DATE", "Date")])
    assert len(two) == len({match.new for match in two})


STATES = ("new", "paid")


class Note(sa.TypeDecorator[str]):
    impl = sa.Text
    cache_ok = True


@pytest.mark.parametrize(
    ("dialect", "reported", "model"),
    [
        (postgresql.dialect(), postgresql.ENUM(*STATES, name="state"), sa.Enum(*STATES, name="state")),
        (postgresql.dialect(), sa.VARCHAR(4), sa.Enum(*STATES, native_enum=False)),
        (postgresql.dialect(), postgresql.INTERVAL(), sa.Interval()),
        (postgresql.dialect(), sa.TEXT(), Note()),
        (mysql.dialect(), mysql.ENUM(*STATES), sa.Enum(*STATES)),
        (mysql.dialect(), mysql.TINYINT(display_width=1), sa.Boolean()),
    ],
    ids=lambda value: getattr(value, "name", None) or type(value).__name__,
)
def test_what_a_database_reports_is_the_type_that_the_models_have(
    dialect: sa.Dialect, reported: sa.types.TypeEngine[object], model: sa.types.TypeEngine[object]
) -> None:
    gone = ops.AddColumnOp("orders", sa.Column("state", reported))
    came = [
        ops.AddColumnOp("orders", sa.Column("state_now", model)),
        ops.AddColumnOp("orders", sa.Column("other", model)),
    ]
    ((_, _, match),) = suspected_columns([gone.reverse(), *came], dialect)
    assert (match.old, match.new) == ("state", "state_now")


def test_a_table_without_columns_is_like_no_other() -> None:
    assert renamed_tables([Table("one", ())], [Table("other", ())]) == []


def test_every_operation_of_alembics_has_words() -> None:
    before = schema(
        ("orders", [sa.Column("placed", sa.String(20)), sa.Column("note", sa.String(20), index=True)]),
        ("old", []),
    )
    after = schema(
        (
            "orders",
            [
                sa.Column("placed", sa.String(30)),
                sa.Column("note", sa.String(20)),
                sa.Column("paid", sa.Integer, nullable=False, index=True),
            ],
        ),
        ("new", [sa.Column("order_id", sa.Integer, sa.ForeignKey("orders.id"))]),
    )
    found, dialect = operations(before, after)
    words = [describe(operation, dialect).words for operation in flat(found)]
    assert sorted(words) == [
        "added column orders.paid (INTEGER NOT NULL)",
        "added index ix_orders_paid on orders (paid)",
        "added table new (2 columns)",
        "changed column orders.placed: type VARCHAR(20) → VARCHAR(30)",
        "dropped index ix_orders_note on orders",
        "dropped table old",
    ]
