"""Projects with models: what an ``env.py`` compares its revisions with."""

from __future__ import annotations

from pathlib import Path

from tests.harness import ASYNC_ENV, MAKO, SYNC_ENV, Completed, Database, Project, write_project

ORDERS = """\
sa.Table(
    "orders",
    target_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("placed", sa.DateTime),
)
"""
RENAMED = ORDERS.replace('"placed"', '"placed_at"')
CUSTOMERS = ORDERS + 'sa.Table("customers", target_metadata, sa.Column("id", sa.Integer, primary_key=True))\n'
NO_MODELS = "pass\n"
FIRST = """\
op.create_table(
    "orders",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("placed", sa.DateTime),
)
"""


def env_with(models: str, env: str = SYNC_ENV) -> str:
    """An ``env.py`` whose target_metadata holds the models."""
    return env.replace("target_metadata = None\n", "from models import target_metadata\n")


def shop(
    path: Path,
    database: Database | None,
    models: str = CUSTOMERS,
    *,
    env: str = SYNC_ENV,
    first: str = FIRST,
    url_in_ini: bool = False,
) -> Project:
    """A project with one revision, ``a1``, which makes the table of orders, and with models of its own.

    :param url_in_ini: its ini names the database; else nothing but the settings does.
    """
    project = write_project(path / "shop", database, env=env_with(models, env))
    if not url_in_ini:
        ini = project.path / "alembic.ini"
        lines = [line for line in ini.read_text().splitlines() if not line.startswith("sqlalchemy.url")]
        ini.write_text("\n".join(lines) + "\n")
    project.write("models.py", f"import sqlalchemy as sa\n\ntarget_metadata = sa.MetaData()\n{models}")
    project.add_revision("a1", None, first, message="orders")
    (project.path / "migrations" / "script.py.mako").write_text(MAKO)
    return project


ASYNC = ASYNC_ENV


def generated(project: Project) -> list[Path]:
    """The revision files that were written since, by name."""
    return sorted(file for file in project.versions.glob("*.py") if file.stem.partition("_")[0] != "a1")


def written(project: Project, completed: Completed) -> str:
    """The text of the one file that a run wrote; its path is all that is on standard output."""
    assert completed.returncode == 0, completed.output
    (file,) = generated(project)
    assert completed.stdout == f"{file.relative_to(project.path)}\n", completed.output
    return file.read_text()
