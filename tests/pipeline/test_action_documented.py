"""The workflows in docs/github-action.md do what the page says; its tables are those of the action."""

from __future__ import annotations

import re
import sys
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
from tests.readme import written_blocks

pytestmark = pytest.mark.pipeline

DOCUMENT = REPOSITORY / "docs" / "github-action.md"
BLOCKS = written_blocks(DOCUMENT)
WORKFLOWS = ("upgrade", "plan", "local")


def workflow(block: str) -> str:
    """A workflow of the page, with the action of this repository."""
    found = re.fullmatch(r"```yaml\n(.*?)```\n", BLOCKS[block], re.DOTALL)
    assert found, block
    text = found[1].replace("OWNER/migrator/.github/actions/migrate@COMMIT", "./.github/actions/migrate")
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


def test_the_third_one_runs_what_is_installed(caller: Caller, database: Database) -> None:
    write_project(caller.path / "backend", None, env=LIBPQ, revisions=table_revisions("a1", "b2"))
    parts = parts_of(database.url)
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
            }
    caller.write(".github/workflows/try.yml", yaml.safe_dump(loaded, sort_keys=False))
    caller.commit()
    run = caller.act("try.yml", event="pull_request", payload={"pull_request": {"number": 1}})
    assert run.returncode == 0, run.output
    assert "done      nothing is wrong" in run.said()
    assert database.revisions == ["b2"]


@pytest.mark.parametrize("block", WORKFLOWS)
def test_actionlint_and_zizmor_find_nothing_in_a_workflow_of_the_page(tmp_path: Path, block: str) -> None:
    found = re.fullmatch(r"```yaml\n(.*?)```\n", BLOCKS[block], re.DOTALL)
    assert found
    file = tmp_path / ".github" / "workflows" / f"{block}.yml"
    file.parent.mkdir(parents=True)
    file.write_text(found[1].replace("@COMMIT", f"@{'0' * 40} # v0.1.0").replace("OWNER", "example"))
    check("actionlint", file)
    check("zizmor", "--offline", "--no-progress", file)


def test_no_workflow_of_the_page_is_left_untested() -> None:
    assert DOCUMENT.read_text().count("```yaml") == len(WORKFLOWS)


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


LIBPQ = """\
from alembic import context
from sqlalchemy import create_engine, pool

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""
