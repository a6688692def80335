"""The application whose releases are deployed: an image for each, built as docs/docker.md says."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import postgres
from tests.harness import REPOSITORY as TREE
from tests.harness import Database, Revision, transaction, wait_until, write_project
from tests.image.engine import build, build_from, run

REPOSITORY = os.environ.get("TEST_CLUSTER_REPOSITORY", "migrator-test")
RUNNER = os.environ.get("TEST_CLUSTER_RUNNER_IMAGE", "")
LOAD = shlex.split(os.environ.get("TEST_CLUSTER_LOAD", ""))
DEPLOY = TREE / "deploy"

DOCKERFILE = """\
FROM {runner}
COPY alembic.ini /app/
COPY migrations /app/migrations
RUN ["migrator", "check", "--offline"]
"""


def noting(id: str, down: str | None, *statements: str, message: str) -> Revision:
    """A revision that writes a line into the journal, so that one that is applied twice is seen."""
    note = f"INSERT INTO journal VALUES ('{id}')"
    body = "\n".join(f'op.execute("{statement}")' for statement in (*statements, note))
    return Revision(id, down, body, message=message)


ORDERS = noting(
    "a1",
    None,
    "CREATE TABLE journal (revision text)",
    "CREATE TABLE orders (id int)",
    "INSERT INTO orders VALUES (1)",
    message="orders",
)
PLACED_AT = noting(
    "b2",
    "a1",
    "CREATE TABLE customers (id int)",
    "ALTER TABLE orders ADD COLUMN placed_at timestamptz",
    message="customers, orders.placed_at",
)
NOTE = noting(
    "c3",
    "b2",
    "CREATE TABLE invoices (id int)",
    "ALTER TABLE orders ADD COLUMN note text NOT NULL",
    message="invoices, orders.note",
)
RELEASES = {"v1": [ORDERS], "v2": [ORDERS, PLACED_AT], "broken": [ORDERS, PLACED_AT, NOTE]}
"""The releases of the application, by their tags."""


def make_releases(scratch: Path, lock: Path) -> None:
    """Build the images of all releases and make them known to the cluster; of several callers, one after the other."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        runner = RUNNER or f"{REPOSITORY}:runner"
        if not RUNNER:
            build(runner, "--target", "runner")
        images = [f"{REPOSITORY}:{tag}" for tag in RELEASES]
        for image, (tag, revisions) in zip(images, RELEASES.items(), strict=True):
            project = write_project(scratch / tag, None, revisions=revisions)
            build_from(image, DOCKERFILE.format(runner=runner), project.path)
        for image in (*images, postgres.IMAGE):
            if LOAD:
                run(*LOAD, image)


def manifest(file: Path, tag: str) -> list[dict[str, Any]]:
    """The objects of a manifest, with the image of a release in the place of its example."""
    text = file.read_text()
    example = next(line.split()[-1] for line in text.splitlines() if "image: registry.example.com/" in line)
    return list(yaml.safe_load_all(text.replace(example, f"{REPOSITORY}:{tag}")))


def journal(database: Database) -> Sequence[str]:
    """The revisions that were applied, in their order, each as often as it was."""
    if database.query("SELECT to_regclass('journal')") == [(None,)]:
        return []
    return [revision for (revision,) in database.query("SELECT revision FROM journal ORDER BY ctid")]


@contextmanager
def orders_in_use(database: Database) -> Iterator[None]:
    """An application's transaction has read ``orders``: until the block ends nobody can alter it."""
    with transaction(database.url, "SELECT * FROM orders"):
        yield


def wait_until_altering(database: Database, pods: int = 1) -> None:
    """Wait until that many migrations stand before ``orders``, their other statements done."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE orders%' AND datname = current_database()"
    )
    wait_until(lambda: database.query(waiting) == [(pods,)], "a migration stands before orders", timeout=120)
