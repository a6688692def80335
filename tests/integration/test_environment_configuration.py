"""Where ``env.py``, its arguments and its revisions come from: every way that Alembic knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.harness import SYNC_ENV, Database, Project, Revision, checked, table_revision
from tests.integration.proving import (
    ENGINE,
    RUN,
    SHORTEST_ENV,
    THREE_TABLES,
    Proving,
    Shape,
    contents,
    gate,
    tables,
)


def test_a_version_table_of_its_own_in_a_schema_of_its_own(proving: Proving) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    context.configure(connection=connection, version_table="history of shop", version_table_schema="Admin")
{RUN}"""
    shape = Shape(env, prepare=lambda project: project.database.query('CREATE SCHEMA "Admin"'))
    proof = proving.prove(shape, contenders=3)
    assert tables(proof.database) == ["Admin.history of shop", *(f"public.{name}" for name in THREE_TABLES)]
    assert proof.database.query('SELECT * FROM "Admin"."history of shop"') == [("c3",)]
    assert all("\nverified  at c3" in run.stderr for run in proof.runs)


def test_two_histories_in_one_database_are_two_targets_with_two_locks(
    proving: Proving, database: Database
) -> None:
    def env(version_table: str) -> str:
        return f"""{ENGINE}
with engine.connect() as connection:
    context.configure(connection=connection, version_table="{version_table}")
{RUN}"""

    with gate(database) as waiting:
        one = proving.project(Shape(env("one"), [Revision("a1", None, waiting)]), database)
        two = proving.project(Shape(env("two"), [table_revision("x1", None)]), database)
        first = one.start("upgrade")
        first.wait_for_line("at the gate")
        two.migrator("upgrade", check=True)
    checked(first.wait())
    assert contents(database) == {"public.one": ["(a1)"], "public.t_x1": [], "public.two": ["(x1)"]}


ARGUMENTS_ENV = f"""{ENGINE}
import json

options = vars(config.cmd_opts)
function, positional, named = config.cmd_opts.cmd
seen = {{
    "revision": config.cmd_opts.revision,
    "command": function.__name__,
    "names": [positional, named],
    "x": config.cmd_opts.x,
    "arguments": context.get_x_argument(as_dictionary=True),
    "as a list": context.get_x_argument(),
    "tag": context.get_tag_argument(),
    "target": context.get_revision_argument(),
    "heads": context.get_head_revisions(),
    "offline": context.is_offline_mode(),
    "section": config.config_ini_section,
    "raiseerr": config.cmd_opts.raiseerr,
    "others": sorted(set(options) - {{"cmd"}}),
}}
with engine.connect() as connection:
    context.configure(connection=connection)
    seen["from"] = context.get_starting_revision_argument()
{RUN}
with open("seen.json", "w") as file:
    json.dump(seen, file)
"""


def test_env_py_sees_the_arguments_that_alembics_own_command_line_would_give_it(proving: Proving) -> None:
    given = ("-x", "tenant=acme", "-x", "dry-run", "-x", "url=postgresql://a:b%40c@d/e?f=g")
    alone, ours = proving.project(Shape(ARGUMENTS_ENV)), proving.project(Shape(ARGUMENTS_ENV))
    alone.alembic(*given, "upgrade", "head", check=True)
    ours.migrator(*given, "upgrade", check=True)
    seen = [json.loads((project.path / "seen.json").read_text()) for project in (alone, ours)]
    assert seen[0]["arguments"]["tenant"] == "acme"
    assert seen[1] == seen[0]


def test_arguments_of_env_py_come_from_the_environment_as_well(proving: Proving) -> None:
    env = f"""{ENGINE}
schema = context.get_x_argument(as_dictionary=True)["schema"]
with engine.connect() as connection:
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {{schema}}"))
    connection.commit()
    context.configure(connection=connection, version_table_schema=schema)
{RUN}"""
    project = proving.project(Shape(env))
    assert project.database is not None
    project.migrator("upgrade", env={"MIGRATOR_X": "schema=given_by_variable"}, check=True)
    assert "given_by_variable.alembic_version" in tables(project.database)


def second_place(project: Project) -> None:
    """Two more bases, in folders of their own; one depends on a revision of the first."""
    for folder, revision in (
        ("more", table_revision("m1", None)),
        ("more", table_revision("m2", "m1")),
        ("third", table_revision("x1", None)),
    ):
        text = revision.text
        if revision.id == "m1":
            text = text.replace("branch_labels = None", "branch_labels = ('more',)")
        if revision.id == "x1":
            text = text.replace("depends_on = None", "depends_on = 'b2'")
        project.write(f"migrations/{folder}/{revision.file_name}", text)


SEVERAL = {"version_locations": "migrations/versions:migrations/more:migrations/third"}


def test_several_folders_and_bases_go_to_all_their_heads(proving: Proving) -> None:
    proof = proving.prove(
        Shape(SHORTEST_ENV, options=SEVERAL, prepare=second_place), to="heads", contenders=3
    )
    assert proof.database.revisions == ["c3", "m2", "x1"]
    assert proof.database.tables == [*THREE_TABLES[:2], "t_c3", "t_m1", "t_m2", "t_x1"]


def test_of_several_heads_one_branch_goes_by_its_label(proving: Proving) -> None:
    shape = Shape(SHORTEST_ENV, options=SEVERAL, prepare=second_place)
    assert proving.prove(shape, to="more@head").database.revisions == ["m2"]
    project = proving.project(shape)
    assert project.database is not None
    refused = project.migrator("upgrade")
    assert refused.returncode == 23, refused.output
    assert tables(project.database) == []


def test_what_a_revision_depends_on_comes_first(proving: Proving) -> None:
    proof = proving.prove(Shape(SHORTEST_ENV, options=SEVERAL, prepare=second_place), to="x1")
    assert proof.database.tables == ["t_a1", "t_b2", "t_x1"]


@pytest.mark.parametrize("to", ["+1", "a1f", "head-2", "a1f09c", "tables@base+1"])
def test_a_revision_may_be_named_in_every_way_that_alembic_knows(proving: Proving, to: str) -> None:
    first = replace(table_revision("a1f09c", None), branch_labels=("tables",))
    revisions = [first, table_revision("b20dd1", "a1f09c"), table_revision("c3e771", "b20dd1")]
    project = proving.project(Shape(SHORTEST_ENV, revisions))
    assert project.database is not None
    project.migrator("upgrade", to, check=True)
    assert project.database.tables == ["t_a1f09c"]
    assert project.database.revisions == ["a1f09c"]


def test_a_keyword_that_alembic_does_not_know_passes_through(proving: Proving) -> None:
    env = f"""{ENGINE}
with engine.connect() as connection:
    context.configure(connection=connection, starting_mood="good", include_schemas=True, on_version_apply=[])
    assert context.get_context().opts["starting_mood"] == "good"
{RUN}"""
    assert proving.prove(Shape(env)).database.tables == THREE_TABLES


def test_the_projects_own_callback_hears_of_each_version_as_well(proving: Proving) -> None:
    env = f"""{ENGINE}
def heard(ctx, step, heads, run_args):
    ctx.connection.execute(text("INSERT INTO heard VALUES (:one)"), {{"one": step.up_revision_id}})

with engine.connect() as connection:
    context.configure(connection=connection, on_version_apply=heard)
{RUN}"""
    shape = Shape(env, prepare=lambda project: project.database.query("CREATE TABLE heard (one text)"))
    proof = proving.prove(shape)
    assert proof.database.query("SELECT one FROM heard ORDER BY 1") == [("a1",), ("b2",), ("c3",)]


def test_sql_is_written_without_a_connection(proving: Proving, new_database: Callable[..., Database]) -> None:
    database = new_database()
    project = proving.project(Shape(SYNC_ENV), database)
    nowhere = {"MIGRATOR_DATABASE_URL": "postgresql://nobody:wrong%25@nowhere.invalid:1/nothing"}
    wanted = project.alembic("upgrade", "head", "--sql", check=True).stdout
    for command in (("upgrade", "--sql"), ("upgrade", "head", "--sql"), ("sql",), ("sql", "base:head")):
        written = project.migrator(*command, env=nowhere, check=True)
        assert written.stdout == wanted, written.output
    part = project.migrator("sql", "a1:b2", env=nowhere, check=True).stdout
    assert "t_b2" in part
    assert "t_c3" not in part
    database.query(wanted)
    project.migrator("status", "--exit-code", check=True)
    down = project.migrator("downgrade", "c3:b2", "--sql", env=nowhere, check=True).stdout
    database.query(down)
    assert (database.tables, database.revisions) == (["t_a1", "t_b2"], ["b2"])
