"""The project that every fault meets: its revisions write what they did, and stay where a fault wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness import Project, Revision, write_project

STAYING = "staying"
"""What a revision says on standard error before it stays."""

JOURNAL_MODULE = """\
import os
import select
import sys
import time

import sqlalchemy as sa
from alembic import op


def note(revision):
    values = {"revision": revision, "pid": os.getpid(), "run": os.environ["FAULT_RUN"]}
    sql = "INSERT INTO journal (revision, pid, run) VALUES (:revision, :pid, :run)"
    op.get_bind().execute(sa.text(sql), values)


def stay(sleep):
    where = os.environ.get("FAULT_STAY", "")
    if where:
        print("staying", file=sys.stderr, flush=True)
    if where == "statement":
        op.execute(sleep)
    elif where == "python":
        time.sleep(300)
    elif where == "loop":
        while True:
            pass
    elif where:
        while not os.path.exists(where):
            select.select([], [], [], 0.02)
"""


@dataclass(frozen=True)
class History:
    """Revisions, and what a database holds when all of them were applied once.

    :ivar content: a query, and the one row that it returns then.
    :ivar remedies: what a report says is left by a run that died, and the statement that removes it.
    """

    revisions: Sequence[Revision]
    content: tuple[str, tuple[object, ...]]
    remedies: Mapping[str, str]

    @property
    def ids(self) -> list[str]:
        """The revisions' ids, the head last."""
        return [revision.id for revision in self.revisions]

    @property
    def head(self) -> str:
        """The id of the last one."""
        return self.ids[-1]


def revision(id: str, down: str | None, body: str, *, message: str = "") -> Revision:
    """A revision that may note and stay."""
    return Revision(id, down, body, header="from journal import note, stay", message=message)


def write(path: Path, history: History, *, asynchronous: bool, env: str = "") -> Project:
    """The project, on no database of its own: each run is told one.

    :param env: the text of ``env.py``; empty: the usual one.
    """
    usual = "async" if asynchronous else "sync"
    project = write_project(path, None, env=env or usual, revisions=history.revisions)
    project.write("journal.py", JOURNAL_MODULE)
    return project


POSTGRESQL = History(
    [
        revision(
            "a1",
            None,
            'note("a1")\n'
            'op.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")\n'
            "op.execute(\"INSERT INTO orders SELECT n, '-' FROM generate_series(1, 3) AS n\")\n",
            message="orders",
        ),
        revision(
            "b2",
            "a1",
            'note("b2")\n'
            'op.execute("ALTER TABLE orders ADD COLUMN total int")\n'
            'stay("SELECT pg_sleep(300)")\n'
            'op.execute("UPDATE orders SET total = id")\n',
            message="totals",
        ),
        revision(
            "c3",
            "b2",
            "with op.get_context().autocommit_block():\n"
            '    op.create_index("ix_orders_total", "orders", ["total"], postgresql_concurrently=True)\n'
            'note("c3")\n',
            message="index totals concurrently",
        ),
    ],
    (
        """SELECT count(*), sum(total), (SELECT indisvalid FROM pg_index
        WHERE indexrelid = to_regclass('ix_orders_total')) FROM orders""",
        (3, 6, True),
    ),
    {'relation "ix_orders_total" already exists': "DROP INDEX ix_orders_total"},
)

ORDINARY = History(
    [POSTGRESQL.revisions[0], POSTGRESQL.revisions[1]],
    ("SELECT count(*), sum(total) FROM orders", (3, 6)),
    {},
)
"""Without the index: for faults that are about a transaction, in less time."""

FILLING = History(
    [
        POSTGRESQL.revisions[0],
        revision(
            "b2",
            "a1",
            'note("b2")\n'
            'op.execute("CREATE TABLE ballast (filler text)")\n'
            'op.execute("ALTER TABLE ballast ALTER COLUMN filler SET STORAGE PLAIN")\n'
            "op.execute(\"INSERT INTO ballast SELECT repeat('x', 1000) FROM generate_series(1, 50000)\")\n",
            message="ballast",
        ),
    ],
    ("SELECT count(*) FROM ballast", (50000,)),
    {},
)
"""It needs some 55 MB."""

MARIADB = History(
    [
        revision(
            "a1",
            None,
            'op.execute("CREATE TABLE orders (id int PRIMARY KEY, note text) ENGINE = InnoDB")\n'
            'note("a1")\n'
            "op.execute(\"INSERT INTO orders VALUES (1, '-'), (2, '-'), (3, '-')\")\n",
            message="orders",
        ),
        revision(
            "b2",
            "a1",
            'op.execute("ALTER TABLE orders ADD COLUMN total int")\n'
            'note("b2")\n'
            "stay(\"SELECT BENCHMARK(1000000000000, SHA2('x', 512))\")\n"
            'op.execute("UPDATE orders SET total = id")\n',
            message="totals",
        ),
    ],
    ("SELECT count(*), sum(total) FROM orders", (3, 6)),
    {
        "Table 'orders' already exists": "DROP TABLE orders",
        "Duplicate column name 'total'": "ALTER TABLE orders DROP COLUMN total",
    },
)
"""One DDL statement a revision, as the documentation advises: what a killed run leaves is that statement."""

SQLITE = History(
    [
        revision(
            "a1",
            None,
            'note("a1")\n'
            'op.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")\n'
            "op.execute(\"INSERT INTO orders VALUES (1, '-'), (2, '-'), (3, '-')\")\n",
            message="orders",
        ),
        revision(
            "b2",
            "a1",
            'op.execute("ALTER TABLE orders ADD COLUMN total int")\n'
            'note("b2")\n'
            'stay("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")\n'
            'op.execute("UPDATE orders SET total = id")\n',
            message="totals",
        ),
    ],
    ("SELECT count(*), sum(total) FROM orders", (3, 6)),
    {},
)

ENV_THAT_KILLS_ITSELF = """\
import os
import signal
import sys

from alembic import context
from sqlalchemy import create_engine, event, pool

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
seen = []


def boundary(name):
    seen.append(" ".join(name.split()))
    if os.environ.get("FAULT_KILL_AT") == str(len(seen)):
        os.kill(os.getpid(), signal.SIGKILL)


@event.listens_for(engine, "before_cursor_execute")
def before_statement(connection, cursor, statement, *rest):
    boundary(statement)


@event.listens_for(engine, "commit")
def before_commit(connection):
    boundary("COMMIT")


with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
    boundary("end")
if "FAULT_KILL_AT" in os.environ:
    print(f"boundaries {len(seen)}", file=sys.stderr)
"""
"""Where there is no wire: the process ends itself at the boundary that it is told."""
