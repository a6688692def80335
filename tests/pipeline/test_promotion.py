"""The promotion as it really runs: one digest, three databases, nothing in prod that was not verified before."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness import Database
from tests.pipeline.act import Caller
from tests.pipeline.conftest import Keys, Registry
from tests.pipeline.shop import ENVIRONMENTS, Shop
from tests.scenarios.catalogs import schema

pytestmark = pytest.mark.pipeline


@pytest.fixture
def shop(
    caller: Caller,
    registry: Registry,
    keys: Keys,
    runner_image: str,
    new_database: Callable[..., Database],
) -> Shop:
    """A shop with three empty databases."""
    return Shop(caller, registry, keys, {name: new_database() for name in ENVIRONMENTS})


def test_one_digest_is_applied_to_three_databases(shop: Shop) -> None:
    run = shop.promote()
    assert run.returncode == 0, run.output
    assert shop.revisions() == {name: ["b2"] for name in ENVIRONMENTS}
    digests = {shop.digest(name) for name in ENVIRONMENTS}
    assert len(digests) == 1
    schemas = [schema(database) for database in shop.databases.values()]
    assert schemas[0] == schemas[1] == schemas[2]
    print(run.output)
