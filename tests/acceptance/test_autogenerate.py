"""``revision --autogenerate``: what is found, what looks renamed, and the file, with and without a scratch database."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import contents, refused, valid_document
from tests.acceptance.models import (
    ASYNC,
    CUSTOMERS,
    FIRST,
    NO_MODELS,
    ORDERS,
    RENAMED,
    generated,
    shop,
    written,
)
from tests.harness import SYNC_ENV, UNSET, Completed, Database, Project, Server, start, write_project

SCRATCH = ("revision", "--autogenerate", "--scratch", "-m", "next")
PLAIN = ("revision", "--autogenerate", "-m", "next")
PASTE = 'op.alter_column("orders", "placed", new_column_name="placed_at")'
BACK = 'op.alter_column("orders", "placed_at", new_column_name="placed")'


@pytest.fixture
def scratch(server: Server, database: Database) -> dict[str, str]:
    """Scratch databases are made on the server of the tests: faster than a server for each."""
    return {"MIGRATOR_SCRATCH_URL": server.url_of("postgres")}


def left_on(server: Server) -> list[str]:
    """The scratch databases that are there now."""
    rows = Database(server, "postgres").query(
        "SELECT datname FROM pg_database WHERE datname LIKE 'migrator\\_scratch\\_%'"
    )
    return [name for (name,) in rows]


# The file


def test_a_revision_is_written_without_any_database_at_head(
    tmp_path: Path, database: Database, server: Server
) -> None:
    """With the PostgreSQL from the wheel. The configured database is as it was: empty."""
    project = shop(tmp_path, database)
    before = contents(database)
    done = project.migrator(*SCRATCH)
    text = written(project, done)
    assert "op.create_table('customers'" in text
    assert "down_revision = 'a1'" in text
    assert "found     added table customers (1 column)" in done.stderr
    assert re.search(r"scratch   PostgreSQL \S+ from a wheel, thrown away at the end", done.stderr)
    assert re.search(r"scratch   at a1: 1 revision in .*, verified", done.stderr)
    assert re.search(r"wrote     migrations/versions/\w+_next.py \(\w+\)", done.stderr)
    assert contents(database) == before
    project.migrator("upgrade", check=True)
    assert database.tables == ["customers", "orders"]


def test_the_path_and_the_id_are_in_the_json(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database)
    done = project.migrator(*SCRATCH, "--rev-id", "b2", "--json", env=scratch)
    document = valid_document(done)
    assert (done.returncode, document["outcome"], document["scratch"]) == (0, "ok", True)
    assert document["written"] == [
        {"revision": "b2", "file": "migrations/versions/b2_next.py", "down_revisions": ["a1"]}
    ]
    assert document["differences"] == [
        {
            "operation": "create_table",
            "words": "added table customers (1 column)",
            "table": "customers",
            "risk": None,
        }
    ]
    assert document["suspected_renames"] == []


@pytest.mark.parametrize("json", [False, True])
def test_an_empty_revision_is_not_written(
    tmp_path: Path, database: Database, scratch: dict[str, str], json: bool
) -> None:
    project = shop(tmp_path, database, ORDERS)
    done = project.migrator(*SCRATCH, *(["--json"] if json else []), env=scratch)
    assert done.returncode == 0, done.output
    assert generated(project) == []
    assert "agreed    the models and the revisions agree: no revision was written" in done.stderr
    if json:
        assert valid_document(done)["written"] == []
    else:
        assert done.stdout == ""


def test_the_first_revision_of_a_project_is_generated_too(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, ORDERS)
    (project.versions / "a1_orders.py").unlink()
    text = written(project, project.migrator(*SCRATCH, env=scratch))
    assert "op.create_table('orders'" in text
    assert "down_revision = None" in text


def test_an_asynchronous_env_py(tmp_path: Path, database: Database, scratch: dict[str, str]) -> None:
    env = ASYNC.replace(
        "context.configure(connection=connection, target_metadata=target_metadata)",
        "context.configure(connection=connection, target_metadata=target_metadata, compare_type=True)",
    )
    project = shop(tmp_path, database, env=env)
    variables = {**scratch, "MIGRATOR_DATABASE_URL": database.sqlalchemy_url("asyncpg")}
    assert "create_table('customers'" in written(project, project.migrator(*SCRATCH, env=variables))
    assert database.tables == []


def test_imports_of_the_projects_own_types_are_written(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    """As SQLModel's projects have it: the template imports the package of the type."""
    models = (
        "import shop_types\nsa.Table('t', target_metadata, sa.Column('name', shop_types.AutoString(20)))\n"
    )
    project = shop(tmp_path, database, ORDERS + models)
    project.write("shop_types.py", "import sqlalchemy as sa\nclass AutoString(sa.String):\n    pass\n")
    template = project.path / "migrations" / "script.py.mako"
    template.write_text(
        template.read_text().replace("import sqlalchemy as sa", "import sqlalchemy as sa\nimport shop_types")
    )
    assert "shop_types.AutoString(length=20)" in written(project, project.migrator(*SCRATCH, env=scratch))
    project.migrator("upgrade", check=True)


def test_options_of_env_py_decide_what_is_compared(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    env = SYNC_ENV.replace(
        "context.configure(connection=connection, target_metadata=target_metadata)",
        "context.configure(connection=connection, target_metadata=target_metadata, include_schemas=True, "
        'include_object=lambda thing, name, kind, *_: name != "customers")',
    )
    models = CUSTOMERS + "sa.Table('rates', target_metadata, sa.Column('id', sa.Integer), schema='tax')\n"
    first = FIRST + 'op.execute("CREATE SCHEMA tax")\n'
    project = shop(tmp_path, database, models, env=env, first=first)
    done = project.migrator(*SCRATCH, env=scratch)
    assert "schema='tax'" in written(project, done)
    assert "found     added table tax.rates (1 column)" in done.stderr
    assert "customers" not in done.stderr


HOOK = """
def hook(context, revision, directives):
    {body}
"""


@pytest.mark.parametrize("command", [SCRATCH, PLAIN], ids=["scratch", "configured database"])
def test_hooks_of_env_py_keep_working(
    tmp_path: Path, database: Database, scratch: dict[str, str], command: tuple[str, ...]
) -> None:
    env = SYNC_ENV.replace(
        "target_metadata=target_metadata)\n        with",
        "target_metadata=target_metadata, process_revision_directives=hook)\n        with",
    )
    hook = HOOK.format(body="directives[0].rev_id = '0042'")
    project = shop(tmp_path, database, env=env.replace("def run_mig", hook + "\n\ndef run_mig", 1))
    project.migrator("upgrade", check=True)
    done = project.migrator(*command, env=scratch)
    assert "revision = '0042'" in written(project, done)
    env_file = project.path / "migrations" / "env.py"
    env_file.write_text(env_file.read_text().replace("directives[0].rev_id = '0042'", "directives[:] = []"))
    (project.versions / "0042_next.py").unlink()
    done = project.migrator(*command, env=scratch)
    assert (done.returncode, done.stdout, generated(project)) == (0, "", []), done.output


# Renames


def test_a_rename_is_told_with_the_code_to_write_and_marked_in_the_file(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, RENAMED)
    done = project.migrator(*SCRATCH, env=scratch)
    text = written(project, done)
    assert re.search(
        r"rename\?   column orders\.placed → orders\.placed_at \(similar names, both", done.stderr
    )
    assert "deletes every value in it" in done.stderr
    assert PASTE in done.stderr
    assert BACK in done.stderr
    remark = text.index("# migrator: column orders.placed looks renamed to placed_at")
    assert remark < text.index("op.add_column('orders'") < text.index("op.drop_column('orders', 'placed')")


def test_the_code_that_is_shown_keeps_the_data(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, RENAMED)
    project.migrator("upgrade", check=True)
    database.query("INSERT INTO orders (id, placed) VALUES (1, '2026-01-01')")
    document = valid_document(project.migrator(*SCRATCH, "--json", env=scratch))
    (rename,) = document["suspected_renames"]
    (file,) = generated(project)
    text = re.sub(r"op\.(add|drop)_column\(.*", "pass", file.read_text())
    file.write_text(text.replace("pass", "; ".join(rename["code"]), 1))
    project.migrator("upgrade", check=True)
    assert database.query("SELECT placed_at::text FROM orders") == [("2026-01-01 00:00:00",)]


def test_a_suspected_rename_fails_a_pipeline_and_writes_nothing(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, RENAMED)
    done = project.migrator(*SCRATCH, "--fail-on-suspected-rename", "--json", env=scratch)
    document = valid_document(done)
    assert (done.returncode, document["exit_code"], document["outcome"]) == (3, 3, "no")
    assert document["written"] == generated(project) == []
    (rename,) = document["suspected_renames"]
    assert (rename["table"], rename["old"], rename["new"]) == ("orders", "placed", "placed_at")
    assert (rename["code"], rename["undo"], rename["rows"]) == ([PASTE], [BACK], None)
    assert "refused   no revision was written, because of one suspected rename" in done.stderr
    assert "exit      3 the answer to a check is no" in done.stderr
    harmless = shop(tmp_path / "other", database)
    done = harmless.migrator(*SCRATCH, "--fail-on-suspected-rename", env=scratch)
    assert "create_table('customers'" in written(harmless, done)


def test_a_table_in_a_schema_is_renamed_with_its_schema(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    env = SYNC_ENV.replace(
        "context.configure(connection=connection, target_metadata=target_metadata)",
        "context.configure(connection=connection, target_metadata=target_metadata, include_schemas=True)",
    )
    first = """
    op.execute("CREATE SCHEMA tax")
    op.create_table("rate", sa.Column("id", sa.Integer), sa.Column("part", sa.Numeric), schema="tax")
    """
    models = (
        "sa.Table('rates', target_metadata, sa.Column('id', sa.Integer), "
        "sa.Column('part', sa.Numeric), schema='tax')\n"
    )
    project = shop(tmp_path, database, models, env=env, first=first)
    done = project.migrator(*SCRATCH, env=scratch)
    text = written(project, done)
    assert 'op.rename_table("rate", "rates", schema="tax")' in done.stderr
    assert 'op.rename_table("rates", "rate", schema="tax")' in text
    assert "rename?   table tax.rate → tax.rates (similar names, the same columns)" in done.stderr


def test_batch_projects_get_the_code_of_a_batch(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    env = SYNC_ENV.replace(
        "context.configure(connection=connection, target_metadata=target_metadata)",
        "context.configure(connection=connection, target_metadata=target_metadata, render_as_batch=True)",
    )
    project = shop(tmp_path, database, RENAMED, env=env)
    text = written(project, project.migrator(*SCRATCH, env=scratch))
    own, _, rest = text.partition("    with op.batch_alter_table('orders', schema=None)")
    assert '    #     with op.batch_alter_table("orders") as batch_op:' in own
    assert "take both out of the block" in own
    assert "# migrator" not in rest
    compile(text, "revision", "exec")


def test_the_code_of_a_batch_keeps_what_else_is_in_the_block(tmp_path: Path) -> None:
    """With SQLite, for which such blocks are made: an index on the renamed column, and another column."""
    more = RENAMED.replace("sa.DateTime)", "sa.DateTime, index=True), sa.Column('paid', sa.Integer)")
    first = FIRST.replace("sa.DateTime)", "sa.DateTime, index=True)")
    env = SYNC_ENV.replace("metadata)\n        with", "metadata, render_as_batch=True)\n        with")
    project = shop(tmp_path, None, more, env=env, first=first)
    env_of = {"MIGRATOR_DATABASE_URL": f"sqlite:///{project.path}/shop.db"}
    upgrade = written(project, project.migrator(*SCRATCH, env=env_of)).partition("def downgrade")[0]
    head, _, block = upgrade.partition("    with op.batch_alter_table('orders', schema=None)")
    code = """\
    with op.batch_alter_table("orders") as batch_op:
        batch_op.alter_column("placed", new_column_name="placed_at")
"""
    kept = "".join(
        line
        for line in block.splitlines(keepends=True)
        if "add_column(sa.Column('placed_at'" not in line and "drop_column('placed')" not in line
    )
    head = head.partition("    # migrator")[0]
    generated(project)[0].write_text(
        f"{head}{code}    with op.batch_alter_table('orders', schema=None){kept}\ndef downgrade():\n    pass\n"
    )
    project.migrator("upgrade", env=env_of, check=True)
    agreed = project.migrator(*SCRATCH, env=env_of)
    assert "agree: no revision was written" in agreed.stderr, agreed.output


# Against the configured database


def test_without_scratch_the_configured_database_is_compared_and_its_rows_are_counted(
    tmp_path: Path, database: Database
) -> None:
    project = shop(tmp_path, database, RENAMED)
    project.migrator("upgrade", check=True)
    database.query("INSERT INTO orders (id, placed) VALUES (1, now()), (2, now()), (3, NULL)")
    before = contents(database)
    done = project.migrator(*PLAIN)
    written(project, done)
    generated(project)[0].unlink()
    assert "the revision deletes its values: 2 rows of this database have one" in done.stderr
    assert contents(database) == before
    document = valid_document(project.migrator(*PLAIN, "--json", "--fail-on-suspected-rename"))
    assert (document["exit_code"], document["scratch"]) == (3, False)
    assert [rename["rows"] for rename in document["suspected_renames"]] == [2]


def test_without_scratch_an_empty_revision_is_written_as_before(tmp_path: Path, database: Database) -> None:
    project = shop(tmp_path, database, ORDERS)
    project.migrator("upgrade", check=True)
    done = project.migrator(*PLAIN)
    assert "pass" in written(project, done)
    assert "agreed    the models and the database agree: an empty revision was written" in done.stderr


def test_a_database_that_is_not_at_head_is_named_with_both_ways_out(
    tmp_path: Path, database: Database
) -> None:
    project = shop(tmp_path, database)
    refused(
        project,
        *PLAIN,
        code=ExitCode.HISTORY,
        says=["not up to date", "it is at base, the newest is a1"],
        then=["migrator upgrade", "--scratch"],
    )
    assert generated(project) == []


def test_a_plain_revision_names_its_file_in_json(tmp_path: Path, database: Database) -> None:
    project = shop(tmp_path, database)
    done = project.migrator("revision", "-m", "by hand", "--rev-id", "b2", "--json", check=True)
    assert valid_document(done)["written"] == [
        {"revision": "b2", "file": "migrations/versions/b2_by_hand.py", "down_revisions": ["a1"]}
    ]


# What cannot be done


@pytest.mark.parametrize(
    "command", [SCRATCH, PLAIN, ("check", "--models")], ids=["scratch", "plain", "check"]
)
def test_an_env_py_without_models_is_told(
    tmp_path: Path, database: Database, scratch: dict[str, str], command: tuple[str, ...]
) -> None:
    project = write_project(tmp_path / "shop", database)
    project.add_revision("a1", None, FIRST)
    project.migrator("upgrade", check=True)
    refused(
        project,
        *command,
        env=scratch,
        code=ExitCode.USAGE,
        says=["env.py tells Alembic of no models", "target_metadata"],
        then=["target_metadata = Base.metadata"],
    )


def test_models_that_nobody_imported_do_not_become_a_revision_that_drops_everything(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, NO_MODELS)
    refused(
        project,
        *SCRATCH,
        env=scratch,
        code=ExitCode.USAGE,
        says=["the models that env.py names hold no table", "dropped table orders"],
        then=["Import the modules"],
    )
    assert generated(project) == []
    project.migrator("upgrade", check=True)
    told = project.migrator(*PLAIN, check=True)
    assert "models    target_metadata holds no table" in told.stderr


def test_empty_models_beside_others_are_no_forgotten_ones(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    once = "        context.configure(connection=connection, target_metadata=target_metadata)\n"
    twice = """\
        from sqlalchemy import MetaData
        context.configure(connection=connection, target_metadata=target_metadata)
        with context.begin_transaction():
            context.run_migrations()
        nothing = {"target_metadata": MetaData(), "include_object": lambda *_: False}
        context.configure(connection=connection, **nothing)
"""
    project = shop(tmp_path, database, env=SYNC_ENV.replace(once, twice))
    done = checked(project, scratch, "--offline")
    assert done.returncode == ExitCode.CHECK_SAYS_NO, done.output
    assert "only in the models: table customers" in done.stdout
    refused(
        project,
        *SCRATCH,
        env=scratch,
        code=ExitCode.USAGE,
        says=["the last of them alone", "not in it: added table customers"],
        then=["upgrade_token"],
    )
    assert generated(project) == []
    project.migrator("upgrade", check=True)
    done = project.migrator(*PLAIN)
    assert "lost      env.py compares several targets" in done.stderr, done.output


def test_several_heads_are_to_be_merged_first(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database)
    project.add_revision("b2", "a1")
    project.add_revision("b3", "a1")
    refused(
        project,
        *SCRATCH,
        env=scratch,
        code=ExitCode.HISTORY,
        says=["two heads"],
        then=["migrator merge b2 b3"],
    )
    done = project.migrator(*SCRATCH, "--head", "b3", "--rev-id", "c4", env=scratch, check=True)
    assert done.stdout == "migrations/versions/c4_next.py\n"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("revision", "--scratch", "-m", "x"), "--scratch is for --autogenerate"),
        (("revision", "--fail-on-suspected-rename"), "--fail-on-suspected-rename is for --autogenerate"),
        (("revision", "--autogenerate", "--sql"), "--sql and --autogenerate contradict each other"),
        (("revision", "--sql"), "--sql and --json contradict each other"),
    ],
)
def test_options_that_contradict_each_other(
    tmp_path: Path, database: Database, command: tuple[str, ...], says: str
) -> None:
    project = shop(tmp_path, database)
    refused(project, *command, code=ExitCode.USAGE, says=[says], then=["Leave out one"])
    assert generated(project) == []


def test_a_revision_that_fails_is_told_as_in_any_run_and_leaves_nothing(
    tmp_path: Path, database: Database, scratch: dict[str, str], server: Server
) -> None:
    project = shop(tmp_path, database)
    project.add_revision("b2", "a1", 'op.execute("SELECT * FROM nowhere")', message="look")
    refusal = refused(
        project,
        *SCRATCH,
        env=scratch,
        code=ExitCode.MIGRATION_FAILED,
        says=["b2", "nowhere", "migrations/versions/b2_look.py"],
        then=["A table that the revision needs is missing"],
        harmless=False,
    )
    assert refusal.completed.stdout.count("\n") == 1
    assert left_on(server) == []
    assert database.tables == []


def test_a_hook_of_the_project_that_raises_is_told(
    tmp_path: Path, database: Database, scratch: dict[str, str], server: Server
) -> None:
    env = SYNC_ENV.replace(
        "target_metadata=target_metadata)\n        with",
        "target_metadata=target_metadata, process_revision_directives=hook)\n        with",
    )
    hook = HOOK.format(body="raise RuntimeError('no more revisions today')")
    project = shop(tmp_path, database, env=env.replace("def run_mig", hook + "\n\ndef run_mig", 1))
    refused(
        project,
        *SCRATCH,
        env=scratch,
        code=ExitCode.USAGE,
        says=["migrations/env.py", "no more revisions today"],
        then=["--verbose"],
    )
    assert (generated(project), left_on(server)) == ([], [])


def with_post_write_hook(project: Project, *lines: str) -> None:
    """The project's ini names a program that Alembic starts with the new file."""
    project.write("hook.sh", "\n".join(["#!/bin/sh", *lines, ""]))
    (project.path / "hook.sh").chmod(0o755)
    hook = f"hooks = ours\nours.type = exec\nours.executable = {project.path}/hook.sh\n"
    ini = project.path / "alembic.ini"
    ini.write_text(f"{ini.read_text()}\n[post_write_hooks]\n{hook}ours.options = REVISION_SCRIPT_FILENAME\n")


def test_what_a_formatter_prints_is_no_part_of_the_answer(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database)
    with_post_write_hook(project, 'echo "1 file reformatted"', 'echo "# formatted" >> "$1"')
    done = project.migrator(*SCRATCH, env=scratch)
    assert written(project, done).endswith("# formatted\n")
    assert "1 file reformatted" in done.stderr
    generated(project)[0].unlink()
    for command in (SCRATCH, ("revision", "-m", "next", "--rev-id", "b2")):
        assert len(valid_document(project.migrator(*command, "--json", env=scratch))["written"]) == 1
        generated(project)[0].unlink()


def test_a_file_that_is_there_although_a_formatter_failed_is_named(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database)
    with_post_write_hook(project)
    (project.path / "hook.sh").unlink()
    done = project.migrator(*SCRATCH, env=scratch)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, ""), done.output
    (file,) = generated(project)
    assert f"written: {file.relative_to(project.path)}" in done.stderr
    assert "Nothing was changed" not in done.stderr


# check --models


def checked(project: Project, env: dict[str, str], *more: str) -> Completed:
    return project.migrator("check", "--models", *more, env=env)


def test_models_that_agree_with_the_revisions(
    tmp_path: Path, database: Database, scratch: dict[str, str], server: Server
) -> None:
    project = shop(tmp_path, database, ORDERS)
    done = checked(project, scratch)
    assert (done.returncode, "models against the revisions" in done.stdout) == (0, True), done.output
    assert "done      nothing is wrong" in done.stdout
    assert (left_on(server), database.tables) == ([], [])


def test_models_that_differ_from_the_revisions_are_the_answer_no(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, CUSTOMERS.replace('"placed"', '"placed_at"'))
    done = checked(project, scratch, "--json")
    document = valid_document(done)
    assert (done.returncode, document["outcome"]) == (3, "no"), done.output
    messages = [finding["message"] for finding in document["findings"]]
    assert messages[0] == "only in the models: table customers (1 column)"
    assert "only in the revisions: column orders.placed" in messages
    assert any("looks renamed to orders.placed_at" in message for message in messages)
    assert [rename["code"] for rename in document["suspected_renames"]] == [[PASTE]]
    assert len(document["differences"]) == 3
    text = checked(project, scratch).stdout
    assert "found     models: only in the models: table customers (1 column)\n" in text
    assert "next      migrator revision --autogenerate --scratch" in text


def test_settings_that_are_read_once_when_a_revision_imports_them_lead_to_the_scratch_database(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database, ORDERS)
    project.write("shop_settings.py", "import os\nURL = os.environ['DATABASE_URL']\n")
    env = project.path / "migrations" / "env.py"
    with_it = (
        "import shop_settings\nconfig.set_main_option('sqlalchemy.url', shop_settings.URL)\ntarget_metadata"
    )
    env.write_text(
        env.read_text().replace("from models import target", f"{with_it} = None\nfrom models import target")
    )
    (revision,) = project.versions.glob("a1*")
    revision.write_text(f"import shop_settings\n{revision.read_text()}")
    done = checked(project, {**scratch, "DATABASE_URL": database.url}, "--offline")
    assert done.returncode == 0, done.output


def test_a_hook_that_asks_for_the_option_runs_in_a_check_as_well(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    """As Alembic's own recipe for empty revisions had it."""
    env = SYNC_ENV.replace(
        "target_metadata=target_metadata)\n        with",
        "target_metadata=target_metadata, process_revision_directives=hook)\n        with",
    )
    hook = HOOK.format(body="assert context.config.cmd_opts.autogenerate")
    project = shop(tmp_path, database, ORDERS, env=env.replace("def run_mig", hook + "\n\ndef run_mig", 1))
    assert checked(project, scratch, "--offline").returncode == 0


def test_models_are_checked_without_the_configured_database(
    tmp_path: Path, scratch: dict[str, str], closed_port: int
) -> None:
    project = shop(tmp_path, None, ORDERS)
    nowhere = f"postgresql://shop:hidden-word@127.0.0.1:{closed_port}/shop"
    done = checked(project, {**scratch, "MIGRATOR_DATABASE_URL": nowhere})
    assert done.returncode == 0, done.output
    assert "hidden-word" not in done.output
    done = checked(project, {**scratch, "MIGRATOR_DATABASE_URL": UNSET})
    assert done.returncode == 0, done.output


def test_what_is_wrong_otherwise_is_told_before_the_models_are_looked_at(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database)
    project.add_revision("b2", "a1", header="import no_such_module")
    done = checked(project, scratch)
    assert done.returncode == 3, done.output
    assert "no_such_module" in done.stdout
    assert "models" not in done.stdout


def test_tenants_with_a_history_each_are_compared_together(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    """Two version tables in one database: each has the same revisions, and what differs is named once."""
    env = TENANTS
    project = shop(tmp_path, database, CUSTOMERS, env=env)
    done = checked(project, scratch)
    assert done.returncode == 3, done.output
    assert done.stdout.count("only in the models: table customers") == 1


def test_a_test_of_the_project_can_compare_from_python(
    tmp_path: Path, database: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, database)
    script = (
        "import migrator, os; print([d.words for d in migrator.compare_models()], os.environ.get('DB_HOST'))"
    )
    env = {**scratch, "MIGRATOR_DATABASE_URL": database.url}
    done = start(sys.executable, "-c", script, env=env, cwd=project.path).wait()
    assert done.stdout == "['added table customers (1 column)'] None\n", done.output
    assert database.tables == []


TENANTS = """\
from alembic import context
from sqlalchemy import create_engine, text

target_metadata = None
engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
for tenant in ("north", "south"):
    with engine.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {tenant}"))
        connection.execute(text(f"SET search_path TO {tenant}"))
        connection.commit()
        connection.dialect.default_schema_name = tenant
        context.configure(
            connection=connection, target_metadata=target_metadata, version_table_schema=tenant
        )
        with context.begin_transaction():
            context.run_migrations()
"""
