"""How a promotion goes on after a revision that had to be corrected, as docs/pipeline.md says it."""

from __future__ import annotations

import pytest

from tests.pipeline.shop import ENVIRONMENTS, ORDERS, Shop
from tests.pipeline.test_promotion import migrated, shop
from tests.scenarios.catalogs import schema

pytestmark = pytest.mark.pipeline
__all__ = ["shop"]

UNIQUE = 'op.create_unique_constraint("codes", "orders", ["code"])'
MEND = "op.execute(\"UPDATE orders SET code = 'order ' || id WHERE code = 'same'\")\n"


def test_a_revision_that_failed_in_test_is_corrected_and_dev_which_has_it_passes_by(shop: Shop) -> None:
    for database in shop.databases.values():
        shop.project.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": database.url}, check=True)
        database.query("ALTER TABLE orders ADD COLUMN code text NOT NULL DEFAULT 'same'")
    shop.databases["test"].query("INSERT INTO orders VALUES (1), (2)")
    shop.databases["prod"].query("INSERT INTO orders VALUES (3), (4)")
    shop.project.add_revision("a4e27c", ORDERS, UNIQUE, message="codes are unique")
    shop.caller.commit("codes are unique")
    failed = shop.promote()
    assert failed.returncode != 0, failed.output
    assert shop.revisions() == {"dev": ["a4e27c"], "test": [ORDERS], "prod": [ORDERS]}
    first = shop.digest("dev")

    shop.project.add_revision("a4e27c", ORDERS, MEND + UNIQUE, message="codes are unique")
    shop.caller.commit("codes are made unique before")
    run = shop.promote()
    assert run.returncode == 0, run.output
    assert migrated(run) == list(ENVIRONMENTS)
    assert "nothing to do: at a4e27c" in run.said("dev/promote to one environment/migrate")
    assert shop.revisions() == {name: ["a4e27c"] for name in ENVIRONMENTS}
    assert len({shop.digest(name) for name in ENVIRONMENTS} - {first}) == 1
    schemas = [schema(database) for database in shop.databases.values()]
    assert schemas[0] == schemas[1] == schemas[2]
