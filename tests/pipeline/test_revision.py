"""The workflow that proposes revisions, as it really runs: by act, with a bare repository as origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.test_autogenerate import left_on
from tests.harness import Server
from tests.pipeline.act import Caller
from tests.pipeline.proposing import Shop, Wheels, make_shop, make_wheels, sql_of

pytestmark = pytest.mark.pipeline

PROPOSAL = "migrator/revision-feature"
PAID = 'sa.Column("paid", sa.Integer)'


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """The tool to install, once."""
    return make_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def shop(caller: Caller, tmp_path: Path, server: Server, wheels: Wheels) -> Shop:
    """A repository of this test alone; disposable databases are made on the server of the tests."""
    return make_shop(caller, tmp_path / "origin.git", server.url_of("postgres"), wheels)


def test_a_changed_model_becomes_a_revision_on_a_branch(shop: Shop, server: Server) -> None:
    shop.models(PAID)
    commit = shop.push("Orders can be paid", branch="feature")
    run = shop.run()
    assert run.returncode == 0, run.output
    assert shop.branches == ["feature", "main", PROPOSAL]
    ((path, text),) = shop.proposed(PROPOSAL).items()
    assert path.startswith("migrations/versions/")
    assert path.endswith("_orders_can_be_paid.py")
    assert "op.add_column('orders', sa.Column('paid'" in text
    assert "down_revision = 'a1'" in text
    assert shop.at_origin("rev-parse", f"{PROPOSAL}^") == commit
    author = shop.at_origin("log", "-1", "--format=%an <%ae>", PROPOSAL)
    assert author == "github-actions[bot] <41898282+github-actions[bot]@users.noreply.github.com>"
    title = shop.at_origin("log", "-1", "--format=%s", PROPOSAL)
    assert title.startswith("Revision ")
    assert title.endswith(": Orders can be paid")
    body = run.summary("propose")
    assert f"## {title}" in body
    assert "ALTER TABLE orders ADD COLUMN paid INTEGER" in sql_of(body)
    assert "added column orders.paid" in body
    assert "down and up again" in run.said("generate") or "nothing is wrong" in body
    assert "CAUTION" not in body
    assert left_on(server) == []
    print(run.output)
