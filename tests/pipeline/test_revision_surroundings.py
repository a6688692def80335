"""``revision.yml`` in a folder of a repository, and where what it needs does not answer or start."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.harness import Role, Server
from tests.image.engine import Owned, build_from, docker
from tests.pipeline.act import Run
from tests.pipeline.proposing import MODELS, Shop, Wheels

pytestmark = pytest.mark.pipeline

PROPOSAL = "migrator/revision-feature"
PAID = 'sa.Column("paid", sa.Integer)'
NOWHERE = "localhost:1/nothing"


@pytest.fixture
def change(shop: Shop) -> Shop:
    """A changed model on the branch feature."""
    shop.models(PAID)
    shop.push("Paid", branch="feature")
    return shop


@pytest.fixture
def owned() -> Iterator[Owned]:
    """What a test makes on the engine."""
    with Owned() as owned:
        yield owned


def the_error(run: Run) -> str:
    """The message of the only annotation of a run that failed."""
    assert run.returncode != 0, run.output
    (error,) = run.errors()
    return error


# A project in a folder


def moved(shop: Shop) -> None:
    """Everything of the project lies in the folder backend now."""
    for name in ("alembic.ini", "migrations", "models.py"):
        (shop.caller.path / "backend").mkdir(exist_ok=True)
        (shop.caller.path / name).rename(shop.caller.path / "backend" / name)
    shop.set(working_directory="backend")
    shop.push("All in a folder", branch="feature")


@pytest.mark.parametrize("where", ["image", "installed"])
def test_a_revision_that_fails_in_a_folder_is_annotated_where_the_repository_has_it(
    shop: Shop, wheels: Wheels, where: str
) -> None:
    moved(shop)
    if where == "installed":
        shop.set(image='""', requirements="../requirements.txt")
        shop.lock(wheels)
    file = shop.caller.path / "backend" / "migrations" / "versions" / "a1_orders.py"
    file.write_text(
        file.read_text().replace("op.create_table(", "op.execute('nonsense'); op.create_table(", 1)
    )
    (line,) = (n for n, text in enumerate(file.read_text().splitlines(), 1) if "nonsense" in text)
    shop.push("Nonsense")
    run = shop.run()
    assert 'syntax error at or near "nonsense"' in the_error(run)
    (annotation,) = (one for one in run.lines if one.get("command") == "error")
    assert annotation["kvPairs"]["file"] == "backend/migrations/versions/a1_orders.py"
    assert annotation["kvPairs"]["line"] == str(line)


def test_what_is_proposed_for_a_folder_lies_in_it(shop: Shop) -> None:
    moved(shop)
    shop.caller.write("backend/models.py", MODELS.format(columns=f"    {PAID},\n"))
    shop.push("Paid")
    run = shop.run()
    assert run.returncode == 0, run.output
    (path,) = shop.proposed(PROPOSAL)
    assert re.fullmatch(r"backend/migrations/versions/\w+_paid\.py", path)
    assert "In the folder backend:" in run.summary("propose")


def test_a_merge_by_hand_is_told_with_its_folder(shop: Shop) -> None:
    moved(shop)
    shop.set(merge="false")
    for name in ("b2", "c3"):
        replace(shop.project, path=shop.caller.path / "backend").add_revision(name, "a1", "pass")
    shop.push("Two heads")
    assert "On your branch: cd backend && migrator merge b2 c3 -m" in the_error(shop.run())


# The repository does not answer


def test_a_repository_that_does_not_answer_is_told_as_that_in_the_words_of_git(change: Shop) -> None:
    """Not as a branch that is missing."""
    nowhere = change.origin.parent / "nowhere.git"
    error = the_error(replace(change, origin=nowhere).run())
    assert "The repository did not answer, so nothing was pushed. git ls-remote (exit 128): fatal: " in error
    assert f"'{nowhere}' does not appear to be a git repository" in error
    assert "look at PULL_REQUEST_TOKEN, if you gave one, and at permissions: contents: write" in error
    assert "there is no branch" not in error


def test_a_proposal_that_cannot_be_fetched_is_not_pushed_over(change: Shop) -> None:
    assert change.run().returncode == 0
    there = change.at_origin("rev-parse", PROPOSAL)
    change.models(PAID, 'sa.Column("price", sa.Integer)')
    change.push("Price")
    tree = change.at_origin("rev-parse", f"{PROPOSAL}^{{tree}}")
    (change.origin / "objects" / tree[:2] / tree[2:]).unlink()
    error = the_error(change.run())
    assert f"{PROPOSAL} is there and could not be fetched, so nothing was pushed. git fetch: " in error
    assert tree in error
    assert change.at_origin("rev-parse", PROPOSAL) == there


def test_a_push_that_is_refused_is_told_in_the_words_of_the_server(change: Shop) -> None:
    hook = change.origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'no new branches on Sundays' >&2\nexit 1\n")
    hook.chmod(0o755)
    error = the_error(change.run())
    assert f"The branch {PROPOSAL} could not be pushed. git push: " in error
    assert "remote: no new branches on Sundays" in error
    assert "permissions: contents: write" in error
    assert PROPOSAL not in change.branches


# Something does not start


def test_an_image_that_cannot_be_pulled_is_told_with_what_docker_said(change: Shop) -> None:
    change.set(image=f"{NOWHERE}@sha256:{'0' * 64}")
    change.push("Another image")
    error = the_error(change.run())
    assert f"image: Docker could not pull {NOWHERE}@sha256:0000" in error
    assert "connection refused" in error
    assert "Compare name and digest" in error


def test_a_server_whose_image_cannot_be_pulled_is_told_with_what_docker_said(change: Shop) -> None:
    change.set(postgres_image=f"{NOWHERE}:17")
    change.push("Another image")
    error = the_error(change.run())
    assert f"postgres-image: Docker could not start {NOWHERE}:17: docker: Error" in error
    assert "connection refused" in error
    assert "Set it to an image of PostgreSQL" in error


@pytest.mark.parametrize(
    ("entrypoint", "says"),
    [
        ('["/not/there"]', 'Docker could not start NAME: docker: Error response from daemon: .*"/not/there"'),
        ('["echo", "no database here"]', r"no PostgreSQL answers in NAME .*\. It said: no database here"),
    ],
    ids=["nothing to run", "no PostgreSQL"],
)
def test_a_container_that_does_not_become_a_server_is_told_and_removed(
    change: Shop, runner_image: str, owned: Owned, tmp_path: Path, entrypoint: str, says: str
) -> None:
    image = owned.image("no-server")
    (tmp_path / "image").mkdir()
    build_from(image, f"FROM {runner_image}\nENTRYPOINT {entrypoint}\n", tmp_path / "image")
    change.set(postgres_image=image)
    change.push("Another image")
    run = change.run()
    assert re.search(says.replace("NAME", image), the_error(run), re.DOTALL), run.output
    assert "such as postgres:17" in the_error(run)
    assert docker("ps", "--all", "--quiet", "--filter", f"ancestor={image}").stdout == ""
    assert re.search(r"^migrator-scratch-[0-9a-f]{16}$", run.said("generate"), re.MULTILINE)


def test_a_server_for_disposable_databases_that_does_not_answer_is_told(change: Shop) -> None:
    change.scratch_url = "postgresql://postgres:hunter2-of-the-shop@127.0.0.1:1/postgres"
    run = change.run()
    error = the_error(run)
    assert "MIGRATOR_SCRATCH_URL" in error
    assert "127.0.0.1:1" in error
    assert "hunter2-of-the-shop" not in run.output


def test_a_user_who_may_not_make_disposable_databases_is_told(
    change: Shop, server: Server, new_role: Callable[[], Role]
) -> None:
    role = new_role()
    change.scratch_url = server.url_of("postgres", user=role.name, password=role.password)
    error = the_error(change.run())
    assert "permission denied to create database" in error
    assert "MIGRATOR_SCRATCH_URL" in error or "CREATEDB" in error
