"""The workflows in docs/github-action.md do what the page says; its tables are those of the action."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import REPOSITORY, Database, parts_of, table_revisions, write_project
from tests.image.engine import Owned
from tests.pipeline.act import Caller
from tests.pipeline.action import ACTION, DOCKERFILE, pushed, url_of
from tests.pipeline.conftest import Registry
from tests.pipeline.test_checkers import check
from tests.readme import unfenced, written_blocks

pytestmark = pytest.mark.pipeline

DOCUMENT = REPOSITORY / "docs" / "github-action.md"
BLOCKS = written_blocks(DOCUMENT)
WORKFLOWS = ("upgrade", "plan", "local")


def workflow(block: str) -> str:
    """A workflow of the page, with the action of this repository."""
    text = unfenced(BLOCKS[block], "yaml").replace(
        "OWNER/migrator/.github/actions/migrate@COMMIT", "./.github/actions/migrate"
    )
    loaded = yaml.safe_load(text)
    loaded = {"on": loaded.pop(True), **loaded}  # YAML 1.1 takes on for a truth value
    for job in loaded["jobs"].values():
        # A called action comes with its own files; one of the repository itself needs them checked out.
        checkout = {"uses": "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1"}
        job["steps"].insert(0, {**checkout, "with": {"persist-credentials": False}})
        job.pop("services", None)
    rendered: str = yaml.safe_dump(loaded, sort_keys=False)
    return rendered


@pytest.fixture(scope="module")
def image(registry: Registry, runner_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An application's image, by its digest."""
    folder = tmp_path_factory.mktemp("documented") / "shop"
    write_project(folder, None, revisions=table_revisions("a1", "b2"))
    with Owned() as owned:
        tag = pushed(owned, registry, "documented", DOCKERFILE, folder)
        yield f"{tag.rpartition(':')[0]}@{registry.digest(tag)}"


def test_the_first_workflow_upgrades(caller: Caller, image: str, database: Database) -> None:
    caller.write(".github/workflows/try.yml", workflow("upgrade"))
    caller.commit()
    run = caller.act("try.yml", event="workflow_dispatch", inputs={"image": image}, secrets=url_of(database))
    assert run.returncode == 0, run.output
    assert "2 applied, now at b2" in run.said()
    assert database.revisions == ["b2"]


def test_the_second_one_migrates_only_where_something_is_pending(
    caller: Caller, image: str, database: Database
) -> None:
    caller.write(".github/workflows/try.yml", workflow("plan"))
    caller.commit()
    taken = []
    urls = {**url_of(database), "MIGRATOR_PLAN_DATABASE_URL": database.url}
    for _ in range(2):
        run = caller.act("try.yml", event="workflow_dispatch", inputs={"image": image}, secrets=urls)
        assert run.returncode == 0, run.output
        assert database.revisions == ["b2"]
        taken.append([name.rpartition("/")[2] for name in run.jobs()])
    assert taken == [["plan", "migrate"], ["plan"]]
    # Where the database is ahead, nobody knows what is pending: the migration is tried, and says so.
    database.query("UPDATE alembic_version SET version_num = 'c3'")
    run = caller.act("try.yml", event="workflow_dispatch", inputs={"image": image}, secrets=urls)
    assert run.jobs("failure") == [run.jobs()[-1]], run.output
    assert "the database is ahead of this image" in run.errors("migrate")[0]


def checking(caller: Caller, database: Database) -> None:
    """Write a project in ``backend`` and the third workflow, with the tool and the server of these tests."""
    project = write_project(caller.path / "backend", None, env=LIBPQ, revisions=table_revisions("a1", "b2"))
    project.write("models.py", MODELS)
    parts, beside = parts_of(database.url), database.server.url_of("postgres")
    text = workflow("local")
    loaded = yaml.safe_load(text)
    for step in loaded["jobs"]["check"]["steps"]:
        if "run" in step:
            # In place of the virtual environment that the page makes, the one of these tests.
            assert "GITHUB_PATH" in step["run"]
            step["run"] = f'echo "{Path(sys.executable).parent}" >> "$GITHUB_PATH"'
        if "PGHOST" in step.get("env", {}):
            step["env"] = {
                "PGHOST": parts["host"],
                "PGPORT": parts["port"],
                "PGUSER": parts["user"],
                "PGPASSWORD": parts["password"],
                "PGDATABASE": parts["name"],
                **({"MIGRATOR_SCRATCH_URL": beside} if "MIGRATOR_SCRATCH_URL" in step["env"] else {}),
            }
    caller.write(".github/workflows/try.yml", yaml.safe_dump(loaded, sort_keys=False))


def test_the_third_one_runs_what_is_installed(caller: Caller, database: Database) -> None:
    checking(caller, database)
    caller.commit()
    run = caller.act("try.yml", event="pull_request", payload={"pull_request": {"number": 1}})
    assert run.returncode == 0, run.output
    assert run.said().count("done      nothing is wrong") == 2
    assert database.revisions == ["b2"]


def test_the_third_one_is_red_where_a_model_changed_without_a_revision(
    caller: Caller, database: Database
) -> None:
    checking(caller, database)
    caller.write(
        "backend/models.py", MODELS + 'sa.Table("c3", target_metadata, sa.Column("id", sa.Integer))\n'
    )
    caller.commit()
    run = caller.act("try.yml", event="pull_request", payload={"pull_request": {"number": 1}})
    assert run.returncode != 0, run.output
    assert "exit      3 the answer to a check is no" in run.said()
    assert database.revisions == ["b2"]


def test_the_third_one_installs_a_wheel_that_lies_in_the_project(tmp_path: Path) -> None:
    """pip looks for ./vendor in the folder where it runs, not in that of the requirements."""
    vendor = tmp_path / "backend" / "vendor"
    vendor.mkdir(parents=True)
    information = "shop_tools-1.0.dist-info"
    with zipfile.ZipFile(vendor / "shop_tools-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: shop-tools\nVersion: 1.0\n")
        wheel.writestr(
            f"{information}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{information}/RECORD", "")
    (tmp_path / "backend" / "requirements.txt").write_text("./vendor/shop_tools-1.0-py3-none-any.whl\n")
    steps = yaml.safe_load(workflow("local"))["jobs"]["check"]["steps"]
    (script,) = [step["run"] for step in steps if "run" in step]
    environment = {**os.environ, "GITHUB_PATH": str(tmp_path / "path"), "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.glob(f".venv/lib/*/site-packages/{information}"))
    assert (tmp_path / "path").read_text() == f"{tmp_path}/.venv/bin\n"


def test_the_login_of_the_page_is_one_of_a_job(tmp_path: Path) -> None:
    file = tmp_path / ".github" / "workflows" / "login.yml"
    file.parent.mkdir(parents=True)
    job = "on: workflow_dispatch\npermissions: {}\njobs:\n  login:\n    runs-on: ubuntu-latest\n"
    file.write_text(f"name: login\n{job}{unfenced(BLOCKS['login'], 'yaml')}")
    check("actionlint", file)
    check("zizmor", "--offline", "--no-progress", file)


@pytest.mark.parametrize("block", WORKFLOWS)
def test_actionlint_and_zizmor_find_nothing_in_a_workflow_of_the_page(tmp_path: Path, block: str) -> None:
    text = unfenced(BLOCKS[block], "yaml")
    file = tmp_path / ".github" / "workflows" / f"{block}.yml"
    file.parent.mkdir(parents=True)
    file.write_text(text.replace("@COMMIT", f"@{'0' * 40} # v0.1.0").replace("OWNER", "example"))
    check("actionlint", file)
    check("zizmor", "--offline", "--no-progress", file)


def test_no_workflow_of_the_page_is_left_untested() -> None:
    assert DOCUMENT.read_text().count("```yaml") == len((*WORKFLOWS, "login"))


def described(value: str) -> str:
    return " ".join(value.split())


def test_the_tables_of_the_page_are_those_of_the_action() -> None:
    action: dict[str, Any] = yaml.safe_load((ACTION / "action.yml").read_text())
    inputs = [
        f"| `{name}` | {'`' + one['default'] + '`' if one.get('default') else '–'} "
        f"| {described(one['description'])} |"
        for name, one in action["inputs"].items()
    ]
    assert BLOCKS["inputs"].splitlines()[2:] == inputs
    outputs = [f"| `{name}` | {described(one['description'])} |" for name, one in action["outputs"].items()]
    assert BLOCKS["outputs"].splitlines()[2:] == outputs


def test_the_refusals_of_the_page_are_those_of_the_action() -> None:
    said = (ACTION / "migrate.sh").read_text() + "".join(
        file.read_text() for file in (REPOSITORY / "migrator" / "revisions").glob("*.py")
    )
    rows = [re.match(r"\| `(.*?)` \| (\d+) \|", row) for row in BLOCKS["refusals"].splitlines()[2:]]
    assert rows
    assert [row[1] for row in rows if row and row[1] not in said] == []


MODELS = """\
import sqlalchemy as sa

target_metadata = sa.MetaData()
for name in ("a1", "b2"):
    sa.Table(f"t_{name}", target_metadata, sa.Column("id", sa.Integer, primary_key=True))
"""
LIBPQ = """\
from alembic import context
from models import target_metadata
from sqlalchemy import create_engine, pool

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=target_metadata)
        with context.begin_transaction():
            context.run_migrations()
"""
