"""Scratch databases on a server of the user's that is a MariaDB."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import refused
from tests.acceptance.models import CUSTOMERS, FIRST, RENAMED, env_with, generated, shop, written
from tests.harness import SYNC_ENV, Project, wait_until
from tests.servers.mariadb import MariaDBDatabase, MariaDBServer

SCRATCH = ("revision", "--autogenerate", "--scratch", "-m", "next")
NOT_NULL_RENAMED = RENAMED.replace("sa.DateTime", "sa.DateTime, nullable=False")
NOT_NULL_FIRST = FIRST.replace("sa.DateTime", "sa.DateTime, nullable=False")


@pytest.fixture
def server(mariadb_server: MariaDBServer) -> MariaDBServer:
    return mariadb_server


@pytest.fixture
def real(server: MariaDBServer) -> Iterator[MariaDBDatabase]:
    database = server.create_database("shop_real")
    yield database
    assert database.tables == []
    server.drop_database("shop_real")


def project_on(tmp_path: Path, database: MariaDBDatabase, models: str, first: str = FIRST) -> Project:
    project = shop(tmp_path, None, models, first=first)
    project.variables["MIGRATOR_DATABASE_URL"] = database.sqlalchemy_url()
    return project


def scratch_on(server: MariaDBServer) -> dict[str, str]:
    return {"MIGRATOR_SCRATCH_URL": server.url("", driver="")}


def left_on(server: MariaDBServer) -> list[str]:
    return [name for (name,) in server.query("SHOW DATABASES LIKE 'migrator%'")]


def test_a_revision_is_written_and_the_database_is_gone(
    tmp_path: Path, real: MariaDBDatabase, server: MariaDBServer
) -> None:
    project = project_on(tmp_path, real, NOT_NULL_RENAMED, NOT_NULL_FIRST)
    done = project.migrator(*SCRATCH, env=scratch_on(server))
    text = written(project, done)
    assert "#     op.alter_column('orders', 'placed'," in text
    assert "existing_nullable=False" in text
    assert left_on(server) == []


def test_the_code_that_is_shown_renames_the_column(
    tmp_path: Path, real: MariaDBDatabase, server: MariaDBServer
) -> None:
    project = project_on(tmp_path, real, NOT_NULL_RENAMED, NOT_NULL_FIRST)
    document = project.migrator(*SCRATCH, "--json", env=scratch_on(server)).json
    (rename,) = document["suspected_renames"]
    (file,) = generated(project)
    file.unlink()
    project.add_revision(
        "b2", "a1", "\n".join(rename["code"]), header="from sqlalchemy.dialects import mysql"
    )
    done = project.migrator("check", "--models", env=scratch_on(server))
    assert done.returncode == 0, done.output


RICH = """\
op.create_table(
    "items",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.Integer, sa.ForeignKey("orders.id"), nullable=False, index=True),
    sa.Column("code", sa.String(20), nullable=False, server_default="x"),
    sa.Column("kind", sa.Enum("a", "b")),
    sa.UniqueConstraint("order_id", "code", name="uq_items"),
)
op.create_foreign_key("fk_self", "items", "items", ["id"], ["id"])
"""


def test_revisions_are_undone_and_applied_again(
    tmp_path: Path, real: MariaDBDatabase, server: MariaDBServer
) -> None:
    project = project_on(tmp_path, real, CUSTOMERS, FIRST)
    project.add_revision("b2", "a1", RICH, 'op.drop_table("items")')
    project.add_revision(
        "c3", "b2", 'op.add_column("items", sa.Column("x", sa.Integer))', 'op.drop_column("items", "x")'
    )
    done = project.migrator("check", "--reversible=a1", env=scratch_on(server))
    assert done.returncode == 0, done.output
    assert "2 revisions down and up again" in done.stderr
    project.add_revision(
        "d4", "c3", 'op.drop_column("items", "x")', 'op.drop_column("items", "code"); op.drop_table("nope")'
    )
    done = project.migrator("check", "--reversible", env=scratch_on(server))
    assert done.returncode == 3, done.output
    assert "d4: downgrade() fails" in done.stdout
    assert left_on(server) == []


@pytest.mark.parametrize(
    "options", ["version_table_schema=SCHEMA", "version_table_schema=SCHEMA, version_table='Versions'"]
)
def test_a_version_table_whose_database_is_written_out_is_no_difference(
    tmp_path: Path, real: MariaDBDatabase, server: MariaDBServer, options: str
) -> None:
    target = "connection=connection, target_metadata=target_metadata"
    options = options.replace("SCHEMA", "connection.engine.url.database")
    project = project_on(tmp_path, real, CUSTOMERS)
    env = env_with(CUSTOMERS, SYNC_ENV.replace(target, f"{target}, {options}"))
    project.write("migrations/env.py", env)
    done = project.migrator(*SCRATCH, "--json", env=scratch_on(server))
    assert [one["table"] for one in done.json["differences"]] == ["customers"], done.output
    done = project.migrator("check", "--reversible", env=scratch_on(server))
    assert "ersion" not in done.stdout.replace("reversible", ""), done.output


def test_a_version_table_in_another_database_is_refused_before_it_is_made_there(
    tmp_path: Path, real: MariaDBDatabase, server: MariaDBServer
) -> None:
    """A schema is a database: check --reversible would take the real one's row back."""
    project = project_on(tmp_path, real, CUSTOMERS)
    options = f"target_metadata=target_metadata, version_table_schema='{real.name}'"
    env = env_with(CUSTOMERS, SYNC_ENV.replace("target_metadata=target_metadata", options))
    project.write("migrations/env.py", env)
    project.migrator("upgrade", check=True)
    refused(
        project,
        "check",
        "--reversible",
        env=scratch_on(server),
        code=ExitCode.USAGE,
        says=["another database than the disposable one", f"version table is in the database {real.name}"],
        then=["Nothing was changed."],
    )
    assert real.revisions == ["a1"]
    real.query("DROP TABLE orders")


def test_a_signal_ends_it_too(tmp_path: Path, real: MariaDBDatabase, server: MariaDBServer) -> None:
    project = project_on(tmp_path, real, CUSTOMERS, FIRST + 'op.execute("SELECT SLEEP(120)")')
    running = project.start(*SCRATCH, env=scratch_on(server))
    asleep = "SELECT 1 FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'"
    wait_until(lambda: server.query(asleep), "the revision runs")
    running.send_signal(signal.SIGTERM)
    done = running.wait(20)
    assert done.returncode == ExitCode.TERMINATED, done.output
    assert left_on(server) == []


def test_what_a_killed_run_left_is_dropped_by_the_next(
    tmp_path: Path, real: MariaDBDatabase, server: MariaDBServer
) -> None:
    slow = project_on(tmp_path / "slow", real, CUSTOMERS, FIRST + 'op.execute("SELECT SLEEP(120)")')
    running = slow.start(*SCRATCH, env=scratch_on(server))
    name = running.wait_for_line(r"scratch +(migrator_scratch_\w+) at").group(1)
    running.kill()
    running.wait()
    free = f"SELECT IS_FREE_LOCK('{name}')"
    wait_until(lambda: server.query(free) == [(1,)], "the server noticed", timeout=60)
    project = project_on(tmp_path, real, CUSTOMERS)
    done = project.migrator(*SCRATCH, env=scratch_on(server), check=True)
    assert f"dropped {name}" in done.stderr
    assert left_on(server) == []


def test_a_user_without_rights_is_told_which(
    tmp_path: Path, real: MariaDBDatabase, server: MariaDBServer
) -> None:
    server.query("CREATE OR REPLACE USER poor@'127.0.0.%' IDENTIFIED BY 'poor-mans-word'")
    url = server.url("", driver="").split("@")[1]
    done = refused(
        project_on(tmp_path, real, CUSTOMERS),
        *SCRATCH,
        env={"MIGRATOR_SCRATCH_URL": f"mysql://poor:poor-mans-word@{url}"},
        code=ExitCode.REFUSED,
        says=["the user may not create databases"],
        then=["GRANT ALL ON `migrator\\_scratch\\_%`.* TO `poor`@`127.0.0.%`;"],
        secrets=["poor-mans-word"],
    )
    assert "could not be dropped" not in done.completed.output
    server.query("DROP USER poor@'127.0.0.%'")
