"""Nobody needs two tools: Alembic's other commands with the same settings, and with its own options."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import refused
from tests.harness import UNSET, Database, Project, Revision, table_revision, table_revisions

MakeProject = Callable[..., Project]
WITH_MODELS = "\n".join(
    [
        "target_metadata = sa.MetaData()",
        'sa.Table("t_a1", target_metadata, sa.Column("id", sa.Integer, primary_key=True))',
        'sa.Table("customers", target_metadata, sa.Column("id", sa.Integer, primary_key=True))',
    ]
)


@pytest.fixture
def shop(project: MakeProject) -> Project:
    return project(revisions=table_revisions("a1", "b2", "c3"))


def branched(project: MakeProject) -> Project:
    return project(revisions=[table_revision("a1", None), Revision("b2", "a1"), Revision("b3", "a1")])


def told(project: Project, *arguments: str, code: ExitCode = ExitCode.OK) -> str:
    completed = project.migrator(*arguments)
    assert completed.returncode == code, completed.output
    return completed.stdout


def test_current_says_what_the_version_table_holds(shop: Project) -> None:
    assert told(shop, "current") == "base\n"
    told(shop, "upgrade", "b2")
    assert told(shop, "current", "--check-heads", code=ExitCode.CHECK_SAYS_NO) == "b2\n"
    told(shop, "upgrade")
    assert told(shop, "current", "--check-heads") == "c3 (head)\n"


def test_heads_are_what_alembic_says(project: MakeProject) -> None:
    shop = branched(project)
    listed = told(shop, "heads").splitlines()
    assert sorted(listed) == ["b2 (head)", "b3 (head)"]
    assert listed == shop.alembic("heads", check=True).stdout.splitlines()


def test_history_lists_what_alembic_lists_without_a_database(shop: Project) -> None:
    lines = told(shop, "history").splitlines()
    assert lines == ["b2 -> c3 (head), create t_c3", "a1 -> b2, create t_b2", "<base> -> a1, create t_a1"]
    assert lines == shop.alembic("history", check=True).stdout.splitlines()
    assert told(shop, "history", "-r", "a1:b2").splitlines() == lines[1:]
    long = told(shop, "history", "--long", "-r", "b2:b2")
    assert long == shop.alembic("history", "--verbose", "-r", "b2:b2", check=True).stdout
    assert "Parent: a1" in long


def test_history_marks_what_is_applied_when_the_database_is_asked(shop: Project) -> None:
    told(shop, "upgrade", "b2")
    marks = [line.split()[-1] for line in told(shop, "history", "-i").splitlines()]
    assert marks == ["pending", "applied", "applied"]
    assert [line.split()[2] for line in told(shop, "history", "-r", "current:").splitlines()] == ["c3", "b2,"]


def test_history_of_what_does_not_exist_is_told(shop: Project) -> None:
    completed = shop.migrator("history", "-r", "a1:zz")
    assert completed.returncode == ExitCode.HISTORY, completed.output
    assert "there is no revision zz" in completed.stderr


def test_merge_joins_all_heads_and_names_the_file(project: MakeProject, database: Database) -> None:
    shop = branched(project)
    merged = shop.migrator("merge", "heads", "-m", "join both", "--rev-id", "d4", check=True)
    assert merged.stdout == "migrations/versions/d4_join_both.py\n"
    assert "wrote     migrations/versions/d4_join_both.py (d4)" in merged.stderr
    assert (shop.versions / "d4_join_both.py").exists()
    told(shop, "upgrade")
    assert database.revisions == ["d4"]


def test_revision_writes_a_file_with_alembics_options(shop: Project) -> None:
    path = told(
        shop, "revision", "-m", "add taxes", "--rev-id", "d4", "--depends-on", "a1", "--branch-label", "tax"
    )
    assert path == "migrations/versions/d4_add_taxes.py\n"
    text = (shop.versions / "d4_add_taxes.py").read_text()
    assert "down_revision = 'c3'" in text
    assert "depends_on = 'a1'" in text
    assert "branch_labels = ('tax',)" in text
    told(shop, "revision", "-m", "beside", "--rev-id", "e5", "--head", "b2", "--splice")
    assert "down_revision = 'b2'" in (shop.versions / "e5_beside.py").read_text()
    completed = shop.migrator("revision", "-m", "beside again", "--head", "a1")
    assert completed.returncode == ExitCode.HISTORY, completed.output
    assert "not a head revision" in completed.stderr


def test_an_id_that_is_taken_is_refused_before_a_second_file_has_it(shop: Project) -> None:
    before = sorted(shop.versions.iterdir())
    for arguments in (("revision", "-m", "again"), ("merge", "heads", "-m", "again")):
        completed = shop.migrator(*arguments, "--rev-id", "b2")
        assert completed.returncode == ExitCode.USAGE, completed.output
        assert "there is a revision b2 already" in completed.stderr
    assert sorted(shop.versions.iterdir()) == before


def test_a_folder_that_no_revision_is_read_from_is_refused(shop: Project) -> None:
    completed = shop.migrator("revision", "-m", "lost", "--version-path", "nowhere")
    assert completed.returncode == ExitCode.USAGE, completed.output
    assert "they are: migrations/versions" in completed.stderr


def test_autogenerate_compares_the_models_with_the_configured_database(
    project: MakeProject, database: Database
) -> None:
    shop = project(revisions=table_revisions("a1"))
    env = shop.path / "migrations" / "env.py"
    text = env.read_text().replace("target_metadata = None", WITH_MODELS)
    env.write_text("import sqlalchemy as sa\n" + text.replace("sqlalchemy.url = ", ""))
    ini = shop.path / "alembic.ini"
    lines = [line for line in ini.read_text().splitlines() if not line.startswith("sqlalchemy.url")]
    ini.write_text("\n".join(lines))
    behind = shop.migrator("revision", "--autogenerate", "-m", "customers")
    assert behind.returncode == ExitCode.HISTORY, behind.output
    assert "not up to date" in behind.stderr
    told(shop, "upgrade")
    told(shop, "revision", "--autogenerate", "-m", "customers", "--rev-id", "b2")
    assert "op.create_table('customers'" in (shop.versions / "b2_customers.py").read_text()
    told(shop, "upgrade")
    assert database.tables == ["customers", "t_a1"]
    assert "No new upgrade operations" in shop.migrator("alembic", "check", check=True).output


def test_stamp_records_and_runs_nothing(shop: Project, database: Database) -> None:
    done = shop.migrator("stamp", "b2", check=True)
    assert (database.revisions, database.tables) == (["b2"], [])
    assert "no migration was run" in done.stderr
    database.query("UPDATE alembic_version SET version_num = 'gone'")
    refused(shop, "upgrade", code=ExitCode.HISTORY, says=["ahead"], then=["image"])
    told(shop, "stamp", "a1", "--purge")
    assert database.revisions == ["a1"]
    told(shop, "stamp", "base")
    assert database.revisions == []


def test_downgrade_goes_back_step_by_step(shop: Project, database: Database) -> None:
    told(shop, "upgrade")
    done = shop.migrator("downgrade", "-1", check=True)
    assert (database.revisions, database.tables) == (["b2"], ["t_a1", "t_b2"])
    assert "verified  at b2" in done.stderr
    assert "1 revision undone" in done.stderr
    told(shop, "downgrade", "base")
    assert (database.revisions, database.tables) == ([], [])


def test_downgrade_and_stamp_wait_for_the_lock_of_an_upgrade(shop: Project, database: Database) -> None:
    shop.add_revision("d4", "c3", 'op.execute("SELECT pg_sleep(60)")')
    running = shop.start("upgrade")
    running.wait_for_line("3/4 +c3")
    for command in (["downgrade", "base"], ["stamp", "a1"]):
        refused(
            shop,
            *command,
            "--run-lock-timeout",
            "300ms",
            code=ExitCode.LOCKED_OUT,
            says=["pid ", ": d4"],
            then=["MIGRATOR_RUN_LOCK_TIMEOUT"],
            harmless=False,
        )
    assert database.revisions == ["c3"]
    running.kill()
    running.wait()


def test_sql_is_written_without_any_database(shop: Project) -> None:
    nowhere = {"MIGRATOR_DATABASE_URL": "postgresql://shop:x@db.internal/shop", "MIGRATOR_WAIT_TIMEOUT": "0"}
    for command in (["sql"], ["upgrade", "--sql"]):
        written = shop.migrator(*command, env=nowhere, check=True).stdout
        assert written.count("CREATE TABLE") == 4
        assert written.startswith("BEGIN;")
        assert written.rstrip().endswith("COMMIT;")
    part = shop.migrator("sql", "a1:b2", env=nowhere, check=True).stdout
    assert "CREATE TABLE t_b2" in part
    assert "CREATE TABLE t_a1" not in part
    back = shop.migrator("downgrade", "c3:a1", "--sql", env=nowhere, check=True).stdout
    assert "DROP TABLE t_c3" in back


def test_the_sql_that_is_written_is_whole_even_where_it_holds_a_password(project: MakeProject) -> None:
    shop = project()
    shop.add_revision("a1", None, "op.execute(\"CREATE ROLE reporting PASSWORD 'unheard-of-3!'\")")
    assert "PASSWORD 'unheard-of-3!'" in told(shop, "sql")
    assert "PASSWORD 'unheard-of-3!'" in told(shop, "alembic", "upgrade", "head", "--sql")


def test_whatever_else_alembic_can_do_is_passed_through(shop: Project, database: Database) -> None:
    assert "generic" in told(shop, "alembic", "list_templates")
    assert told(shop, "alembic", "show", "b2") == shop.alembic("show", "b2", check=True).stdout
    told(shop, "alembic", "upgrade", "+1")
    assert database.revisions == ["a1"]
    completed = shop.migrator("alembic", "branches", "--no-such-option")
    assert completed.returncode == ExitCode.USAGE, completed.output
    completed = shop.migrator("alembic", "show", "zz")
    assert completed.returncode == ExitCode.HISTORY, completed.output
    assert "there is no revision zz" in completed.stderr


def test_a_command_without_a_configured_database_uses_the_projects_own(shop: Project) -> None:
    done = shop.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": UNSET}, check=True)
    assert "from env.py" in done.stderr
    assert told(shop, "current") == "c3 (head)\n"


def test_arguments_that_begin_with_a_dash_or_are_empty(shop: Project) -> None:
    assert "usage: alembic" in told(shop, "alembic")
    assert "usage: alembic" in told(shop, "alembic", "--help")
    told(shop, "revision", "-m", "-foo bar", "--rev-id", "d4")
    told(shop, "heads", "-x", "--tenant")
    for wrong in (["upgrade", ""], ["alembic", "no-such-command"], ["downgrade", "--typo"]):
        completed = shop.migrator(*wrong)
        assert completed.returncode == ExitCode.USAGE, completed.output


def test_models_that_differ_are_the_answer_no(project: MakeProject) -> None:
    shop = project(revisions=table_revisions("a1"))
    env = shop.path / "migrations" / "env.py"
    env.write_text(
        "import sqlalchemy as sa\n" + env.read_text().replace("target_metadata = None", WITH_MODELS)
    )
    told(shop, "upgrade")
    completed = shop.migrator("alembic", "check")
    assert completed.returncode == ExitCode.CHECK_SAYS_NO, completed.output
    assert "add_table" in completed.stderr
    assert "migrator revision --autogenerate" in completed.stderr
