"""Proving that an ``env.py`` works as it is: with bare Alembic, with migrator, and by several runs at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness import (
    Completed,
    Database,
    Project,
    Revision,
    checked,
    table_revisions,
    transaction,
    wait_until,
    write_project,
)

THREE = tuple(table_revisions("a1", "b2", "c3"))
THREE_TABLES = ["t_a1", "t_b2", "t_c3"]
NOTHING: Mapping[str, str] = {}
NOTHING_TO_DO = "nothing to do"

ENGINE = """\
from alembic import context
from sqlalchemy import create_engine, pool, text

config = context.config
engine = create_engine(config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
"""
"""How many an ``env.py`` begins; what a test is about follows."""

RUN = """\
    with context.begin_transaction():
        context.run_migrations()
"""
"""How many an ``env.py`` ends, inside ``with engine.connect() as connection:``."""

SHORTEST_ENV = (
    f"{ENGINE}\nwith engine.connect() as connection:\n    context.configure(connection=connection)\n{RUN}"
)
"""The shortest ``env.py`` that works."""


def tables(database: Database) -> list[str]:
    """Every table of a project with its schema, version tables included, sorted."""
    rows = database.query(
        "SELECT schemaname || '.' || tablename FROM pg_tables "
        "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
    )
    return [name for (name,) in rows]


def contents(database: Database) -> dict[str, list[str]]:
    """What runs left behind: each table of a project with its rows as text, sorted."""
    found = {}
    for name in tables(database):
        schema, _, table = name.partition(".")
        rows = database.query(f'SELECT r::text FROM "{schema}"."{table}" AS r ORDER BY 1')
        found[name] = [row for (row,) in rows]
    return found


def run_locks(database: Database) -> int:
    """How many advisory locks somebody holds or waits for in the database."""
    rows = database.query(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return int(rows[0][0])


def nobody_holds_the_lock(database: Database) -> bool:
    """Waits a little: the backend of a process that has ended takes a moment to notice."""
    wait_until(lambda: run_locks(database) == 0, "the run lock is free", timeout=5)
    return True


@dataclass(frozen=True)
class Shape:
    """An ``env.py`` with what belongs to it. ``{url}`` in ``variables`` and in ``ini`` is the database's URL.

    :ivar driver: of SQLAlchemy, in the URL of the ini file.
    :ivar ini: the whole text of ``alembic.ini``; None: the usual one, with ``options``.
    :ivar files: further files of the project, by path.
    :ivar configured: migrator is told the database (else only ``env.py`` knows it).
    """

    env: str
    revisions: Sequence[Revision] = THREE
    driver: str = "psycopg2"
    ini: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    configured: bool = True
    prepare: Callable[[Project], object] = lambda project: None
    """Called when the project is written, before anything runs."""


@dataclass(frozen=True)
class Proof:
    """What :meth:`Proving.prove` saw. ``runs``: of migrator, all that there were."""

    project: Project
    database: Database
    bare: Completed | None
    runs: Sequence[Completed]


class Proving:
    """Writes projects, each on a database of its own, and runs them."""

    def __init__(self, path: Path, new_database: Callable[..., Database]) -> None:
        self._path = path
        self._new_database = new_database
        self._numbers = itertools.count(1)

    def project(self, shape: Shape, database: Database | None = None) -> Project:
        """The project of that shape, on a new database unless one is given."""
        database = database or self._new_database()
        path = self._path / f"project{next(self._numbers)}"
        project = write_project(
            path,
            database,
            env=shape.env,
            revisions=shape.revisions,
            ini=shape.ini,
            options=shape.options,
        )
        ini = path / "alembic.ini"
        ini.write_text(ini.read_text().replace("postgresql+psycopg2:", f"postgresql+{shape.driver}:"))
        for name, text in shape.files.items():
            project.write(name, text)
        url = database.sqlalchemy_url(shape.driver)
        project.variables |= {name: text.replace("{url}", url) for name, text in shape.variables.items()}
        shape.prepare(project)
        return project if shape.configured else Project(path, None, project.variables)

    def prove(
        self,
        shape: Shape,
        *options: str,
        to: str = "head",
        contenders: int = 1,
        bare: bool = True,
        env: Mapping[str, str] = NOTHING,
    ) -> Proof:
        """Bare Alembic and migrator bring databases of their own to ``to``; both must leave the same behind.

        :param options: before ``upgrade``, as ``-x`` and ``-n``.
        :param contenders: how many runs of migrator start at once on the empty database. One of them has to
            apply everything, the others nothing; a single one is followed by another that does nothing.
        :param bare: False where bare Alembic is known to fail; the test then says how.
        :param env: variables for migrator alone.
        """
        database = self._new_database()
        project = self.project(shape, database)
        racing = [project.start(*options, "upgrade", to, env=env) for _ in range(contenders)]
        reference = self._new_database() if bare else None
        alone = None
        if reference is not None:
            alone = checked(self.project(shape, reference).alembic(*options, "upgrade", to))
        first = [checked(run.wait()) for run in racing]
        left = contents(database)
        assert reference is None or left == contents(reference), first[0].output
        runs = (
            first if contenders > 1 else [*first, checked(project.migrator(*options, "upgrade", to, env=env))]
        )
        assert sum(NOTHING_TO_DO not in run.stderr for run in runs) == 1, [run.output for run in runs]
        assert contents(database) == left, runs[-1].output
        assert nobody_holds_the_lock(database)
        return Proof(project, database, alone, runs)


@contextmanager
def gate(database: Database) -> Iterator[str]:
    """The body of a revision that says ``at the gate`` and goes on only when the block ends."""
    with transaction(database.url, "SELECT pg_advisory_lock_shared(1)") as holder:
        yield (
            'print("at the gate", flush=True)\n'
            "import time\n"
            'while not op.get_bind().scalar(sa.text("SELECT pg_try_advisory_xact_lock(1)")):\n'
            "    time.sleep(0.02)\n"
        )
        holder.cursor().execute("SELECT pg_advisory_unlock_shared(1)")


def recording_revisions(*ids: str, expression: str) -> list[Revision]:
    """Revisions that note the value of an SQL expression, each in a table that the first one creates."""
    first, *others = ids
    create = f'op.execute("CREATE TABLE noted AS SELECT {first!r}::text AS revision, {expression} AS value")'
    line = [Revision(first, None, create, 'op.drop_table("noted")')]
    for before, one in itertools.pairwise(ids):
        line.append(Revision(one, before, f'op.execute("INSERT INTO noted SELECT {one!r}, {expression}")'))
    assert len(line) == len(others) + 1
    return line
