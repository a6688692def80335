"""The workflow that proposes revisions, as it really runs: by act, with a bare repository as origin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.test_autogenerate import left_on
from tests.harness import Server
from tests.image.engine import docker
from tests.pipeline.proposing import Shop, Wheels, sql_of

pytestmark = pytest.mark.pipeline

PROPOSAL = "migrator/revision-feature"
PAID = 'sa.Column("paid", sa.Integer)'


def test_a_changed_model_becomes_a_revision_on_a_branch(
    locking_shop: Shop, wheels: Wheels, server: Server
) -> None:
    """With the tool from the project's own lock file, which has the hash of each package."""
    shop = locking_shop
    shop.lock(wheels)
    shop.models(PAID)
    commit = shop.push('Orders can be "paid"', branch="feature")
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
    assert "models against the revisions, down and up again" in body
    assert "CAUTION" not in body
    assert left_on(server) == []


def test_it_can_be_started_by_hand(locking_shop: Shop, wheels: Wheels) -> None:
    shop = locking_shop
    shop.lock(wheels)
    shop.models(PAID)
    shop.push("Paid", branch="feature")
    run = shop.run(
        "workflow_dispatch",
        workflow="revision.yml",
        message="money for orders",
        requirements="requirements.txt",
    )
    assert run.returncode == 0, run.output
    (path,) = shop.proposed(PROPOSAL)
    assert path.endswith("_money_for_orders.py")


def test_a_proposal_is_updated_and_the_same_one_is_not_pushed_twice(shop: Shop) -> None:
    shop.models(PAID)
    shop.push("Paid", branch="feature")
    shop.set(message="Money", bot_name="Shop bot", bot_email="bot@example.com")
    shop.push("Paid", branch="")
    first_run = shop.run()
    assert first_run.returncode == 0, first_run.output
    first = shop.at_origin("rev-parse", PROPOSAL)
    assert shop.at_origin("log", "-1", "--format=%an <%ae>", PROPOSAL) == "Shop bot <bot@example.com>"
    assert shop.run().returncode == 0
    assert shop.at_origin("rev-parse", PROPOSAL) == first
    (path,) = shop.proposed(PROPOSAL)
    shop.models(PAID, 'sa.Column("price", sa.Integer)')
    commit = shop.push("Price")
    run = shop.run()
    assert run.returncode == 0, run.output
    assert shop.at_origin("rev-parse", f"{PROPOSAL}^") == commit
    ((same_path, text),) = shop.proposed(PROPOSAL).items()
    assert same_path == path
    assert "'price'" in text
    assert len(shop.branches) == 3


def test_what_a_person_added_to_the_proposal_is_not_overwritten(shop: Shop) -> None:
    shop.models(PAID)
    shop.push("Paid", branch="feature")
    assert shop.run().returncode == 0
    shop.git("fetch", "--quiet", f"file://{shop.origin}", PROPOSAL)
    shop.git("switch", "--quiet", "--create", PROPOSAL, "FETCH_HEAD")
    (path,) = shop.proposed(PROPOSAL)
    shop.caller.write(path, (shop.caller.path / path).read_text() + "\n# looked at\n")
    theirs = shop.push("A better revision")
    shop.git("switch", "--quiet", "feature")
    shop.push("Another commit")
    run = shop.run()
    assert run.returncode != 0
    (error,) = run.errors()
    assert f"The newest commit on {PROPOSAL} is by developer@example.com" in error
    assert "Merge that branch or delete it" in error
    assert shop.at_origin("rev-parse", PROPOSAL) == theirs


def test_nothing_is_proposed_where_models_and_revisions_agree(shop: Shop) -> None:
    shop.push("A change of something else", branch="feature")
    run = shop.run()
    assert run.returncode == 0, run.output
    assert shop.branches == ["feature", "main"]
    assert run.jobs() == ["revision/revision/generate"]
    assert "Nothing is proposed: the models and the revisions agree." in run.summary()


def test_the_branch_of_a_proposal_gets_none_itself(shop: Shop) -> None:
    shop.models(PAID)
    shop.push("Paid", branch=PROPOSAL)
    run = shop.run()
    assert run.returncode == 0, run.output
    assert run.jobs() == []
    assert shop.branches == ["main", PROPOSAL]


def test_a_suspected_rename_and_what_can_be_lost_are_shown(shop: Shop) -> None:
    shop.models('sa.Column("placed_at", sa.DateTime)', without='"placed"')
    shop.push("When orders are placed", branch="feature")
    run = shop.run()
    assert run.returncode == 0, run.output
    body = run.summary("propose")
    assert "> [!CAUTION]" in body
    assert "> - dropped column orders.placed: deletes every value in it" in body
    assert "| suspected rename | in | old | new | write instead |" in body
    assert "| column | orders | placed | placed\\_at |" in body
    ((_, text),) = shop.proposed(PROPOSAL).items()
    assert "looks renamed to placed_at" in text


def test_a_suspected_rename_fails_where_that_is_asked_for(shop: Shop) -> None:
    shop.set(fail_on_suspected_rename="true")
    shop.models('sa.Column("placed_at", sa.DateTime)', without='"placed"')
    shop.push("When orders are placed", branch="feature")
    run = shop.run()
    assert run.returncode != 0
    assert run.jobs() == ["revision/revision/generate"]
    assert shop.branches == ["feature", "main"]
    assert "| column | orders | placed | placed\\_at |" in run.summary()
    assert 'op.alter_column("orders", "placed", new_column_name="placed_at")' in run.output


def test_a_revision_that_cannot_be_undone_is_proposed_with_the_reason(shop: Shop) -> None:
    """PostgreSQL keeps the type of an enumeration when its table goes, and Alembic does not drop it."""
    text = (shop.caller.path / "models.py").read_text()
    moods = 'sa.Table("moods", target_metadata, sa.Column("mood", sa.Enum("good", name="mood")))\n'
    shop.caller.write("models.py", text + moods)
    shop.push("Moods", branch="feature")
    run = shop.run()
    assert run.returncode == 0, run.output
    body = run.summary("propose")
    assert "migrator check: the answer to a check is no" in body
    assert 'type "mood" already exists' in body
    assert "CREATE TYPE mood" in sql_of(body)


def test_a_revision_that_does_not_run_is_not_proposed(shop: Shop) -> None:
    """What the project's template adds to each revision does not run."""
    template = shop.caller.path / "migrations" / "script.py.mako"
    broken = template.read_text().replace("def upgrade():", 'def upgrade():\n    op.execute("nonsense")')
    template.write_text(broken)
    shop.models(PAID)
    shop.push("Nonsense", branch="feature")
    run = shop.run()
    assert run.returncode != 0
    assert shop.branches == ["feature", "main"]
    (error,) = run.errors()
    assert 'syntax error at or near "nonsense"' in error


def parallel(shop: Shop) -> None:
    """Two branches have added a revision each; on the later one, feature, main is merged, and a model changed."""
    shop.models(PAID)
    shop.git("switch", "--quiet", "--create", "feature")
    shop.project.add_revision(
        "b2",
        "a1",
        'op.add_column("orders", sa.Column("paid", sa.Integer))',
        'op.drop_column("orders", "paid")',
    )
    shop.push("Paid")
    shop.git("switch", "--quiet", "main")
    shop.project.add_revision(
        "c3", "a1", 'op.create_index("ix_placed", "orders", ["placed"])', 'op.drop_index("ix_placed")'
    )
    shop.models('sa.Index("ix_placed", "placed")')
    shop.push("Index")
    shop.git("switch", "--quiet", "feature")
    shop.git("merge", "--quiet", "-X", "ours", "--no-edit", "main")
    shop.models(PAID, 'sa.Index("ix_placed", "placed")')
    shop.push("main is merged")


def test_two_branches_that_each_added_a_revision_get_the_merge(shop: Shop) -> None:
    parallel(shop)
    run = shop.run()
    assert run.returncode == 0, run.output
    ((path, text),) = shop.proposed(PROPOSAL).items()
    assert "merge_b2_c3" in path
    assert "down_revision = ('b2', 'c3')" in text
    body = run.summary("propose")
    assert "## Merge of several heads" in body
    assert "**Merged** b2 c3, as there were several heads" in body
    shop.models(PAID, 'sa.Column("price", sa.Integer)', 'sa.Index("ix_placed", "placed")')
    shop.push("Price")
    run = shop.run()
    assert run.returncode == 0, run.output
    files = shop.proposed(PROPOSAL)
    assert len(files) == 2
    assert files[path].replace("\n", "") != ""
    (price,) = (text for name, text in files.items() if name != path)
    assert f"down_revision = '{Path(path).name.partition('_')[0]}'" in price


def test_several_heads_fail_with_the_command_where_no_merge_is_wanted(shop: Shop) -> None:
    shop.set(merge="false")
    parallel(shop)
    run = shop.run()
    assert run.returncode != 0
    (error,) = run.errors()
    assert error.startswith("2 heads: b2 c3.")
    assert 'migrator merge b2 c3 -m "merge"' in error
    assert PROPOSAL not in shop.branches


SMUGGLED = {
    ".github/workflows/evil.yml": 'file.write_text("on: push")',
    ".github/actions/evil/main.py": 'file.write_text("evil = True")',
    ".gitlab-ci.yml": 'file.write_text("evil: {script: [id]}")',
    "deploy.sh": 'file.write_text("id")',
    ".gitattributes": 'file.write_text("* text")',
    "link.py": 'file.is_symlink() or file.symlink_to("/etc/passwd")',
    "executable.py": "file.touch(0o755)",
}
"""Files, and how code of the project writes each."""


@pytest.mark.parametrize("name", SMUGGLED)
def test_code_of_the_project_cannot_smuggle_another_file_into_the_proposal(shop: Shop, name: str) -> None:
    env = shop.caller.path / "migrations" / "env.py"
    smuggling = f"""
import pathlib
file = pathlib.Path("{name}")
file.parent.mkdir(parents=True, exist_ok=True)
{SMUGGLED[name]}
with open(".git/migrator/written", "a") as written:
    written.write(f"{{file}}\\n")
"""
    env.write_text(env.read_text() + smuggling)
    shop.models(PAID)
    shop.push("Paid", branch="feature")
    run = shop.run()
    assert run.returncode != 0, run.output
    assert f"The proposal may only add files of Python, and would touch: {name}" in run.errors()
    assert PROPOSAL not in shop.branches


FORK = {
    "pull_request": {
        "number": 7,
        "head": {"ref": "feature", "repo": {"full_name": "somebody/shop", "fork": True}},
        "base": {"ref": "main", "repo": {"full_name": "example/shop"}},
    }
}


def test_a_pull_request_of_a_fork_is_told_its_revision_and_nothing_is_pushed(shop: Shop) -> None:
    """It gets no secret: the disposable database is in a container."""
    shop.scratch_url = ""
    shop.set(postgres_image="postgres:17")
    shop.models(PAID)
    shop.push("Paid", branch="feature")
    run = shop.run("pull_request", payload=FORK)
    assert run.returncode == 0, run.output
    assert run.jobs() == ["revision/revision/generate"]
    assert shop.branches == ["feature", "main"]
    assert "nothing is pushed for it" in run.summary()
    assert "+    op.add_column('orders', sa.Column('paid'" in run.summary()
    (container,) = re.findall(r"^migrator-scratch-[0-9a-f]{16}$", run.said("generate"), re.M)
    assert container not in docker("ps", "--all", "--format", "{{.Names}}").stdout


def test_without_a_server_for_disposable_databases_it_says_what_to_set(shop: Shop) -> None:
    """The image has no PostgreSQL in it; that is told before the image is pulled."""
    shop.scratch_url = ""
    shop.models(PAID)
    shop.push("Paid", branch="feature")
    run = shop.run()
    assert run.returncode != 0
    (error,) = run.errors()
    assert "image: there is no PostgreSQL in it for the disposable database. Set the input" in error
    assert "the secret MIGRATOR_SCRATCH_URL" in error


OTHERS = "requirements-dev.txt"
NO_LOCK_FILE = (
    "requirements: there is no locked.txt in the top folder of the repository (input working-directory). Set the input"
    " requirements to the lock file that contains migrator, as a path from that folder; or set the input image."
    f" Lock files that lie there: {OTHERS}, uv.lock."
)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"working_directory": "db"}, "working-directory: there is no folder db in the repository."),
        ({"requirements": "locked.txt"}, NO_LOCK_FILE),
        (
            {"requirements": "locked.txt", "working_directory": "migrations"},
            "requirements: there is no locked.txt in the folder migrations (input working-directory).",
        ),
        ({"requirements": "uv.lock"}, "requirements: pip does not read uv.lock. Export it (uv export"),
        ({"requirements": OTHERS, "python": "python2.2"}, "python: python2.2 makes no virtual environment: "),
        ({"requirements": OTHERS}, f"requirements: pip could not install {OTHERS}: "),
        ({"image": "registry.example/shop:1"}, "image: registry.example/shop:1 has no digest."),
        ({"branch_prefix": "a..b/"}, "branch-prefix: a..b/feature is no name for a branch."),
        ({"base": "nope"}, "base: there is no branch nope that could get a pull request."),
    ],
    ids=["folder", "requirements", "elsewhere", "uv", "python", "pip", "image", "prefix", "base"],
)
def test_a_wrong_input_is_named_with_what_to_set(shop: Shop, inputs: dict[str, str], says: str) -> None:
    shop.set(**({"image": '""'} if "requirements" in inputs else {}), **inputs)
    shop.caller.write(OTHERS, "--not-an-option\n")
    shop.caller.write("uv.lock", "")
    shop.models(PAID)
    shop.push("Paid", branch="feature")
    run = shop.run()
    assert run.returncode != 0
    (error,) = run.errors()
    assert says in error
    assert shop.branches == ["feature", "main"]


def test_requirements_without_the_tool_are_refused(locking_shop: Shop) -> None:
    shop = locking_shop
    shop.caller.write("requirements.txt", "")
    shop.push("No tool", branch="feature")
    run = shop.run()
    assert run.returncode != 0
    (error,) = run.errors()
    assert "requirements: migrator is not among them. Add it" in error


def test_a_tag_gets_no_proposal(shop: Shop) -> None:
    shop.models(PAID)
    shop.push("Paid")
    shop.git("tag", "v1")
    run = shop.run(payload={"ref": "refs/tags/v1"})
    assert run.returncode != 0
    told = ["v1 is a tag: run this for a branch, which can get a pull request."]
    assert run.errors() == told, run.output
