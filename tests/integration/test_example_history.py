"""The example shop in ``migrations/``, with bare Alembic: an ordinary project, on every version that is at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from migrator import embedded
from tests.harness import REPOSITORY, Database, Server, create_database, drop_database, run_alembic

BEFORE_BACKFILL, HEAD = "7d1f08b2c6e9", "f2d75e1c093b"


def alembic(database: Database, *args: str, driver: str = "psycopg2") -> str:
    url = database.sqlalchemy_url(driver)
    return run_alembic(*args, env={"DATABASE_URL": url}, cwd=REPOSITORY, check=True).stdout


@pytest.fixture(scope="module", params=sorted(embedded.bundled_bin_directories()))
def any_version(request: pytest.FixtureRequest) -> Iterator[Server]:
    with embedded.postgres(bin_directory=embedded.bundled_bin_directories()[request.param]) as started:
        yield Server(started.url())


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_it_goes_up_and_down_again_on_each_server_version(any_version: Server, driver: str) -> None:
    shop = create_database(any_version, f"shop_{driver}")
    alembic(shop, "upgrade", "head", driver=driver)
    assert shop.revisions == [HEAD]
    assert shop.tables == ["customers", "orders", "products"]
    alembic(shop, "downgrade", "base", driver=driver)
    assert (shop.revisions, shop.tables) == ([], [])
    drop_database(any_version, shop.name)


def test_the_models_say_what_the_revisions_make(database: Database) -> None:
    alembic(database, "upgrade", "head")
    assert "No new upgrade operations detected" in alembic(database, "check")


def test_orders_from_before_get_the_total_that_they_had(new_database: Callable[..., Database]) -> None:
    shop = new_database()
    alembic(shop, "upgrade", BEFORE_BACKFILL)
    shop.query("INSERT INTO customers (email, name) VALUES ('ada@example.com', 'Ada')")
    shop.query("INSERT INTO orders (customer_id, product_id, quantity) SELECT 1, id, 3 FROM products")
    shop.query("INSERT INTO orders (customer_id, product_id, quantity, total_cents) VALUES (1, 1, 2, 1999)")
    alembic(shop, "upgrade", "head")
    prices = dict(shop.query("SELECT id, price_cents FROM products"))
    orders = shop.query("SELECT product_id, quantity, total_cents FROM orders ORDER BY id")
    assert orders == [*((product, 3, 3 * price) for product, price in sorted(prices.items())), (1, 2, 1999)]


def test_its_strong_steps_leave_a_valid_index_and_a_plain_not_null(database: Database) -> None:
    alembic(database, "upgrade", "head")
    index = database.query(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_orders_customer_id_placed_at'::regclass"
    )
    assert index == [(True,)]
    assert database.query(
        "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'total_cents'"
    ) == [(True,)]
    assert database.query("SELECT conname FROM pg_constraint WHERE conname LIKE '%_given'") == []


def test_it_can_be_written_as_sql_without_a_database() -> None:
    env = {"DATABASE_URL": "postgresql+psycopg2://nobody@nowhere.invalid/shop"}
    written = run_alembic("upgrade", "head", "--sql", env=env, cwd=REPOSITORY, check=True).stdout
    assert "CREATE INDEX CONCURRENTLY ix_orders_customer_id_placed_at" in written
