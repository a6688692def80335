"""The version table is Alembic's own: no comparison names it and no revision drops it, however it is spelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import valid_document
from tests.acceptance.models import CUSTOMERS, ORDERS, generated, shop, written
from tests.acceptance.models import env_with as env_with_models
from tests.harness import SYNC_ENV, Database, Project, Server

TARGET = "connection=connection, target_metadata=target_metadata"
SPELLINGS = {
    "the default schema": "version_table_schema='public'",
    "a name of its own in it": "version_table='History of shop', version_table_schema='public'",
    "the default schema, with all schemas": "version_table_schema='public', include_schemas=True",
    "nothing, with all schemas": "include_schemas=True",
    "another schema, with all schemas": "version_table_schema='Ops', include_schemas=True",
    "a filter of the project's": "version_table_schema='public', include_object=lambda *found: True, "
    "include_name=lambda *found: True",
}
ON_THE_WAY = "        context.configure(connection="
IN_ITS_SCHEMA = """\
        connection.exec_driver_sql('CREATE SCHEMA IF NOT EXISTS "Ops"')
        connection.exec_driver_sql('SET search_path = "Ops", public')
        connection.commit()
"""
COMPARISONS = (["check", "--models"], ["check", "--reversible"])
INDEX = 'sa.Index("ix", target_metadata.tables["orders"].c.id)\n'
MODELED = ORDERS + 'sa.Table("alembic_version", target_metadata, sa.Column("version_num", sa.String(32)){})\n'


@pytest.fixture
def scratch(server: Server) -> dict[str, str]:
    """Disposable databases are made on the server of the tests."""
    return {"MIGRATOR_SCRATCH_URL": server.url_of("postgres")}


def env_with(options: str, before: str = "") -> str:
    env = SYNC_ENV.replace(TARGET, f"{TARGET}, {options}").replace(ON_THE_WAY, f"{before}{ON_THE_WAY}")
    assert options in env
    return env


def spelled(tmp_path: Path, database: Database, options: str, models: str = ORDERS) -> Project:
    """The shop whose configure() has further options; its schemas are there."""
    before = "        connection.exec_driver_sql('CREATE SCHEMA IF NOT EXISTS \"Ops\"')\n        connection.commit()\n"
    return shop(tmp_path, database, models, env=env_with(options, before))


@pytest.mark.parametrize("command", COMPARISONS, ids=" ".join)
@pytest.mark.parametrize("options", SPELLINGS.values(), ids=SPELLINGS)
def test_it_is_no_difference(
    tmp_path: Path, database: Database, scratch: dict[str, str], options: str, command: list[str]
) -> None:
    project = spelled(tmp_path, database, options)
    project.add_revision("b2", "a1", 'op.create_index("ix", "orders", ["id"])', 'op.drop_index("ix")')
    project.write("models.py", (project.path / "models.py").read_text() + INDEX)
    done = project.migrator(*command, "--json", env=scratch)
    assert done.returncode == 0, done.output
    assert valid_document(done)["findings"] == []


@pytest.mark.parametrize("options", SPELLINGS.values(), ids=SPELLINGS)
def test_no_revision_of_a_database_at_head_drops_it(tmp_path: Path, database: Database, options: str) -> None:
    project = spelled(tmp_path, database, options, CUSTOMERS)
    project.migrator("upgrade", check=True)
    done = project.migrator("revision", "--autogenerate", "-m", "next", "--json")
    assert [one["table"] for one in valid_document(done)["differences"]] == ["customers"], done.output
    (file,) = generated(project)
    assert "version" not in file.read_text().partition("def upgrade()")[2]
    project.migrator("upgrade", check=True)
    assert project.migrator("status", "--exit-code").returncode == 0


@pytest.mark.parametrize("options", ["", "include_schemas=True"], ids=["one schema", "all schemas"])
def test_one_that_search_path_leads_to_is_known_by_the_schema_that_it_is_in(
    tmp_path: Path, database: Database, scratch: dict[str, str], options: str
) -> None:
    """The default schema was asked for when the engine connected first, and env.py went elsewhere since."""
    spelling = options or "version_table_schema='Ops'"
    project = shop(tmp_path, database, CUSTOMERS, env=env_with(spelling, IN_ITS_SCHEMA))
    done = project.migrator("revision", "--autogenerate", "--scratch", "-m", "next", env=scratch)
    assert "alembic_version" not in written(project, done), done.output


@pytest.mark.parametrize(
    ("options", "schema"),
    [("version_table_schema='public'", ""), ("", ", schema='public'")],
    ids=["env", "model"],
)
def test_one_that_the_models_list_as_well_is_neither_added_nor_compared(
    tmp_path: Path, database: Database, scratch: dict[str, str], options: str, schema: str
) -> None:
    models = MODELED.format(schema)
    done = shop(tmp_path, database, models, env=env_with(options)).migrator("check", "--models", env=scratch)
    assert done.returncode == 0, done.output


def test_another_table_of_that_name_is_compared(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    """A history of ``ops`` is nothing to a table of the same name that the models have in the default schema."""
    models = MODELED.format("")
    project = spelled(tmp_path, database, "version_table_schema='Ops'", models)
    done = project.migrator("check", "--models", "--json", env=scratch)
    assert done.returncode == ExitCode.CHECK_SAYS_NO, done.output
    assert ["alembic_version" in one["message"] for one in valid_document(done)["findings"]] == [True]


@pytest.mark.parametrize("options", ["version_table_schema='main'", "version_table='ALEMBIC_version'"])
def test_on_sqlite_it_is_known_by_its_schema_and_in_small_letters_and_capitals(
    tmp_path: Path, options: str
) -> None:
    project = shop(tmp_path, None, CUSTOMERS)
    url = {"MIGRATOR_DATABASE_URL": "sqlite:///shop.db"}
    project.migrator("upgrade", env=url, check=True)
    project.write("migrations/env.py", env_with_models(CUSTOMERS, env_with(options)))
    done = project.migrator("revision", "--autogenerate", "-m", "next", "--json", env=url)
    assert [one["table"] for one in valid_document(done)["differences"]] == ["customers"], done.output
    assert project.migrator("check", "--models", env=url).returncode == 0
