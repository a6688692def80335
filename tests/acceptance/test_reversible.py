"""``check --reversible``: revisions undone and applied again on a disposable database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.judging import contents, valid_document
from tests.acceptance.models import CUSTOMERS, ORDERS, shop
from tests.harness import SYNC_ENV, Database, Project, Server

CHECK = ("check", "--models", "--reversible")
ADD = 'op.add_column("orders", sa.Column("paid", sa.Integer))\n'
PAID = ORDERS.replace("sa.DateTime)", 'sa.DateTime), sa.Column("paid", sa.Integer)')


@pytest.fixture
def scratch(server: Server) -> dict[str, str]:
    """Disposable databases are made on the server of the tests."""
    return {"MIGRATOR_SCRATCH_URL": server.url_of("postgres")}


def asked(project: Project, *arguments: str, env: dict[str, str]) -> tuple[int, Any]:
    """Exit code and document of the check."""
    done = project.migrator(*(arguments or CHECK), "--json", env=env)
    return done.returncode, valid_document(done)


def added(project: Project, upgrade: str, downgrade: str, name: str = "b2", below: str = "a1") -> Path:
    """A second revision with functions of these bodies."""
    return project.add_revision(name, below, upgrade, downgrade, message="second")


def test_a_revision_that_undoes_what_it_does_is_reversible_and_nothing_is_touched(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, PAID)
    added(project, ADD, 'op.drop_column("orders", "paid")')
    before = contents(database)
    done = project.migrator(*CHECK, env=scratch)
    assert done.returncode == 0, done.output
    assert "1 revision down and up again in" in done.stderr
    assert "models against the revisions, down and up again" in done.stdout
    assert "nothing is wrong" in done.stdout
    assert contents(database) == before


@pytest.mark.parametrize(
    ("upgrade", "downgrade", "says"),
    [
        (ADD, "op.drop_column('orders', 'payed')", 'column "payed" of relation "orders" does not exist'),
        (
            ADD,
            "op.drop_column('orders', 'paid'); op.drop_column('orders', 'placed')",
            "gone after downgrade(): column orders.placed (TIMESTAMP WITHOUT TIME ZONE)",
        ),
        (
            "op.create_index('ix', 'orders', ['placed'])\n" + ADD,
            "op.drop_column('orders', 'paid')",
            "left behind by downgrade(): index ix on orders",
        ),
        (
            "op.alter_column('orders', 'placed', type_=sa.Date)",
            "op.execute('SELECT 1')",
            "not as before upgrade(): column orders.placed: type DATE → TIMESTAMP",
        ),
        (
            "op.execute(\"CREATE TYPE mood AS ENUM ('good')\")\n" + ADD,
            "op.drop_column('orders', 'paid')",
            'type "mood" already exists',
        ),
        (ADD, "pass", "downgrade() does nothing, and upgrade() does something"),
    ],
    ids=["fails", "takes too much", "leaves something", "another type", "a type stays", "empty"],
)
def test_a_revision_that_cannot_be_undone_is_a_finding(
    tmp_path: Path, database: Database, scratch: dict[str, str], upgrade: str, downgrade: str, says: str
) -> None:
    project = shop(tmp_path, database)
    file = added(project, upgrade, downgrade)
    code, document = asked(project, "check", "--reversible", env=scratch)
    findings = document["findings"]
    assert (code, document["outcome"]) == (3, "no"), document
    assert any(says in finding["message"] for finding in findings), findings
    assert all(finding["check"] == "downgrade" for finding in findings)
    assert all("b2" in finding["message"] for finding in findings)
    assert findings[0]["file"] == str(file.relative_to(project.path))
    assert findings[-1]["next"]


def test_a_failure_is_shown_at_its_line(tmp_path: Path, database: Database, scratch: dict[str, str]) -> None:
    project = shop(tmp_path, database)
    file = added(project, ADD, "op.drop_column('orders', 'payed')")
    _, document = asked(project, "check", "--reversible", env=scratch)
    (finding,) = document["findings"]
    assert "'payed'" in file.read_text().splitlines()[finding["line"] - 1]


def test_a_revision_may_say_that_there_is_no_way_back(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, PAID)
    added(project, ADD, "raise NotImplementedError('the old prices are gone')")
    done = project.migrator(*CHECK, env=scratch)
    assert done.returncode == 0, done.output
    assert "note      b2 cannot be undone, as its downgrade() says" in done.stdout
    assert "the old prices are gone" in done.stdout
    code, document = asked(project, env=scratch)
    assert (code, document["findings"], len(document["notes"])) == (0, [], 1)


def test_a_downgrade_without_a_statement_may_say_why(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database)
    added(project, 'op.execute("UPDATE orders SET placed = now()")', '"""The values may stay."""')
    code, document = asked(project, "check", "--reversible", env=scratch)
    assert (code, document["findings"]) == (0, [])


def test_a_reason_is_none_where_something_stays(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database)
    added(project, ADD, '"""The column may stay."""')
    code, document = asked(project, "check", "--reversible", env=scratch)
    assert code == 3
    assert "left behind by downgrade(): column orders.paid" in document["findings"][0]["message"]


def test_all_revisions_can_be_gone_through(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    """The newest is fine, the one below is not."""
    project = shop(tmp_path, database)
    added(project, ADD, "pass")
    added(
        project, 'op.create_table("c", sa.Column("id", sa.Integer))', 'op.drop_table("c")', "c3", below="b2"
    )
    assert asked(project, "check", "--reversible", env=scratch)[0] == 0
    for below in ("a1", "base"):
        code, document = asked(project, "check", f"--reversible={below}", env=scratch)
        assert code == 3
        assert any("b2: downgrade() does nothing" in one["message"] for one in document["findings"])


def test_a_merge_can_be_undone(tmp_path: Path, database: Database, scratch: dict[str, str]) -> None:
    project = shop(tmp_path, database)
    added(project, ADD, 'op.drop_column("orders", "paid")')
    added(
        project, 'op.create_table("c", sa.Column("id", sa.Integer))', 'op.drop_table("c")', "c3", below="a1"
    )
    several = project.migrator("check", "--reversible", env=scratch)
    assert several.returncode == 3
    assert "two heads: b2" in several.stdout
    project.migrator("merge", "heads", "-m", "both", check=True)
    done = project.migrator("check", "--reversible", env=scratch)
    assert done.returncode == 0, done.output
    assert "1 revision down and up again" in done.stderr


def test_the_first_revision_goes_back_to_an_empty_database(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database)
    code, document = asked(project, "check", "--reversible", env=scratch)
    assert (code, document["findings"][0]["check"]) == (3, "downgrade")
    (project.versions / "a1_orders.py").unlink()
    made = 'op.create_table("orders", sa.Column("id", sa.Integer))'
    project.add_revision("a1", None, made, 'op.drop_table("orders")', message="orders")
    assert asked(project, "check", "--reversible", env=scratch)[0] == 0


def test_the_version_table_is_none_of_the_schema_wherever_env_py_says_it_is(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    env = SYNC_ENV.replace(
        "metadata)\n        with", "metadata, version_table_schema='public')\n        with"
    )
    project = shop(tmp_path, database, env=env)
    (project.versions / "a1_orders.py").unlink()
    made = 'op.create_table("orders", sa.Column("id", sa.Integer))'
    project.add_revision("a1", None, made, 'op.drop_table("orders")', message="orders")
    code, document = asked(project, "check", "--reversible", env=scratch)
    assert (code, document["findings"]) == (0, [])


PLUGIN = """
from alembic.autogenerate import comparators
from alembic.operations import ops

class EntityOp(ops.MigrateOperation):
    def reverse(self):
        return self

@comparators.dispatch_for("schema")
def compare(context, upgrade_ops, schemas):
    tables = sa.inspect(context.connection).get_table_names()
    if WHEN:
        upgrade_ops.ops.append(EntityOp())
"""


def test_what_a_plugin_found_different_before_the_revisions_went_down_is_no_finding(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    """It compares with the models of the project, which know what the revision makes."""
    project = shop(tmp_path, database, ORDERS + PLUGIN.replace("WHEN", '"c" not in tables'))
    added(project, 'op.create_table("c", sa.Column("id", sa.Integer))', 'op.drop_table("c")')
    code, document = asked(project, "check", "--reversible", env=scratch)
    assert (code, document["findings"]) == (0, [])


def test_what_a_plugin_finds_different_afterwards_is_told_by_its_name(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, ORDERS + PLUGIN.replace("WHEN", '"c" in tables'))
    added(project, 'op.create_table("c", sa.Column("id", sa.Integer))', '"""Stays."""')
    code, document = asked(project, "check", "--reversible", env=scratch)
    assert code == 3
    messages = [one["message"] for one in document["findings"]]
    assert "b2: not as before upgrade(): operation entity" in messages


def test_what_the_models_lack_is_told_as_well(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, CUSTOMERS)
    added(project, ADD, "pass")
    code, document = asked(project, env=scratch)
    assert code == 3
    assert [one["check"] for one in document["findings"]] == ["models", "models", "downgrade"]


def test_a_revision_that_nobody_knows_is_refused_before_anything_is_made(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database)
    done = project.migrator("check", "--reversible=nope", env=scratch)
    assert done.returncode == 23, done.output
    assert "--reversible=nope: there is no revision nope" in done.stderr
    assert "***" not in done.stderr
    assert "migrator history" in done.stderr
    assert "migrator_scratch" not in done.stderr


@pytest.mark.parametrize("revision", ["head", "heads", "b2"])
def test_a_head_has_nothing_above_it_that_could_be_undone(
    tmp_path: Path, database: Database, scratch: dict[str, str], revision: str
) -> None:
    """Taken for an answer, it would say that a downgrade() works which nobody tried."""
    project = shop(tmp_path, database)
    added(project, ADD, "op.drop_column('orders', 'payed')")
    done = project.migrator("check", f"--reversible={revision}", env=scratch)
    assert done.returncode == 2, done.output
    assert f"--reversible={revision}: nothing is above b2, so nothing would be undone" in done.stderr
    assert "Name the revision to go down to" in done.stderr
    assert "at b2:" not in done.stderr  # told before anything is made


def test_a_type_that_is_not_known_is_compared_without_a_warning(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database)
    added(
        project,
        'op.execute("ALTER TABLE orders ADD COLUMN paper xml")',
        'op.drop_column("orders", "paper")',
    )
    done = project.migrator("check", "--reversible", env=scratch)
    assert done.returncode == 0, done.output
    assert "SAWarning" not in done.output


def test_sqlite_has_a_way_back_too(tmp_path: Path) -> None:
    project = shop(tmp_path, None, PAID)
    added(project, ADD, 'with op.batch_alter_table("orders") as batch:\n    batch.drop_column("paid")')
    code, document = asked(project, env={"MIGRATOR_DATABASE_URL": f"sqlite:///{project.path}/shop.db"})
    assert (code, document["findings"]) == (0, [])


RICH = """
op.execute("CREATE SCHEMA tax")
op.create_table(
    "rates",
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("order_id", sa.Integer, sa.ForeignKey("orders.id", ondelete="CASCADE"), nullable=False),
    sa.Column("part", sa.Numeric(8, 4), sa.CheckConstraint("part > 0"), server_default="0.2"),
    sa.Column("half", sa.Numeric, sa.Computed("part / 2")),
    sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), comment="when"),
    sa.Column("kind", sa.Enum("a", "b", name="kind")),
    sa.Column("tags", sa.ARRAY(sa.Text)),
    sa.UniqueConstraint("order_id", "part", name="uq_rates"),
    schema="tax",
)
op.create_index("ix_part", "rates", ["part"], schema="tax", postgresql_where=sa.text("part > 1"))
op.create_index("ix_abs", "rates", [sa.text("abs(part)")], schema="tax")
"""


def test_a_schema_with_all_kinds_of_things_comes_back_the_same(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    """Nothing is taken for different that is not: what was read is compared with what is read again."""
    env = SYNC_ENV.replace("metadata)\n        with", "metadata, include_schemas=True)\n        with")
    project = shop(tmp_path, database, env=env)
    added(
        project, RICH, 'op.drop_table("rates", schema="tax"); op.execute("DROP SCHEMA tax; DROP TYPE kind")'
    )
    more = 'op.create_index("ix_more", "rates", ["at"], schema="tax")'
    added(project, more, 'op.drop_index("ix_more", "rates", schema="tax")', "c3", below="b2")
    for below in ("b2", "a1"):
        done = project.migrator("check", f"--reversible={below}", env=scratch)
        assert done.returncode == 0, done.output
