"""Where a project's version table is, read from its files; whatever is not plain is left to ``env.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.declared import Declared, declared
from migrator.settings import Settings
from tests.harness import ASYNC_ENV, SYNC_ENV, Project, table_revisions, write_project

CONFIGURE = "context.configure(connection=connection, target_metadata=target_metadata"
URL = "postgresql://shop:secret@db.internal/shop"


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Declared | None]:
    """What is declared by a project with this ``env.py`` or this ``alembic.ini``."""

    def of(
        env: str = SYNC_ENV,
        ini: str | None = None,
        change: Callable[[Project], object] = lambda project: None,
        **settings: object,
    ) -> Declared | None:
        project = write_project(
            tmp_path / "project", None, env=env, ini=ini, revisions=table_revisions("a1", "b2")
        )
        change(project)
        monkeypatch.chdir(project.path)
        return declared(Settings(**{"database_url": URL, **settings}))  # type: ignore[arg-type]

    return of


def with_options(options: str) -> str:
    changed = SYNC_ENV.replace(CONFIGURE, f"{CONFIGURE}, {options}")
    assert changed != SYNC_ENV
    return changed


@pytest.mark.parametrize("env", [SYNC_ENV, ASYNC_ENV], ids=["sync", "async"])
def test_what_alembic_init_writes_is_plain(read: Callable[..., Declared | None], env: str) -> None:
    found = read(env)
    assert found is not None
    assert (found.version_table, found.schema, found.graph.heads) == ("alembic_version", None, ("b2",))


@pytest.mark.parametrize(
    ("options", "table", "schema"),
    [
        ("version_table='versions'", "versions", None),
        ("version_table_schema='ops'", "alembic_version", "ops"),
        ("version_table='versions', version_table_schema=None", "versions", None),
        ("include_schemas=True, compare_type=True", "alembic_version", None),
    ],
)
def test_literals_are_believed(
    read: Callable[..., Declared | None], options: str, table: str, schema: str | None
) -> None:
    found = read(with_options(options))
    assert found is not None
    assert (found.version_table, found.schema) == (table, schema)


UNSURE = {
    "options from elsewhere": with_options("**options"),
    "a computed table": with_options("version_table=TABLE"),
    "a computed schema": with_options("version_table_schema=f'{NAME}'"),
    "search_path": f"{SYNC_ENV}\n# SET search_path\n",
    "a listener": f"{SYNC_ENV}\n@event.listens_for(Engine, 'connect')\ndef f(c, r): ...\n",
    "tenants": f"{SYNC_ENV}\nfor tenant in tenants:\n    run_migrations_online()\n",
    "an engine of the application": "from app.db import engine\n"
    + SYNC_ENV.replace("engine_from_config", "application_engine"),
    "options of the engine": SYNC_ENV.replace("prefix=", "connect_args={}, prefix="),
    "unknown options of the engine": SYNC_ENV.replace("prefix=", "**more, prefix="),
    "-x": f"{SYNC_ENV}\ncontext.get_x_argument()\n",
    "two tables": f"{SYNC_ENV}\ncontext.configure(connection=c, version_table='other')\n",
    "configured by a helper": "from app.migrations import run\nrun()\n",
    "search_path in capitals": f"{SYNC_ENV}\n# SET SEARCH_PATH\n",
    "a listener of the application": f"{SYNC_ENV}\nevent.listen(Engine, 'connect', set_tenant)\n",
    "a statement on the connection": SYNC_ENV.replace(
        "        context.configure(connection",
        "        connection.execute(HOME)\n        context.configure(connection",
    ),
    "a connection that is handed on": SYNC_ENV.replace(
        "        context.configure(connection",
        "        app.prepare(connection)\n        context.configure(connection",
    ),
    "an engine function of the application": SYNC_ENV.replace("from sqlalchemy import", "from app.db import"),
    "another section": SYNC_ENV.replace("config.config_ini_section", "'reporting'"),
    "another prefix": SYNC_ENV.replace('"sqlalchemy."', '"reporting."').replace(
        "'sqlalchemy.'", "'reporting.'"
    ),
    "configured by a helper, and a configure of something else": SYNC_ENV.replace(
        "context.configure(connection=connection, target_metadata=target_metadata", "structlog.configure(1"
    ),
    "options that were given before": f"{SYNC_ENV}\nmine = partial(context.configure, version_table='mine')\n",
    "called twice": f"{SYNC_ENV}\nrun_migrations_online()\n",
    "called for each": f"{SYNC_ENV}\nlist(map(run_migrations_online, tenants))\n",
    "called in a comprehension": f"{SYNC_ENV}\n[run_migrations_online() for tenant in tenants]\n",
    "a second engine": f"{SYNC_ENV}\ncreate_engine(OTHER)\n",
    "no Python": "def def\n",
}


@pytest.mark.parametrize("env", UNSURE.values(), ids=UNSURE)
def test_whatever_is_not_plain_is_left_to_env_py(read: Callable[..., Declared | None], env: str) -> None:
    assert env != SYNC_ENV
    assert read(env) is None


PLAIN_INI = "[alembic]\nscript_location = {}\n"


@pytest.mark.parametrize("location", ["migrations", "%(here)s/migrations", "./migrations"])
def test_a_plain_path_of_the_scripts_is_followed(read: Callable[..., Declared | None], location: str) -> None:
    found = read(ini=PLAIN_INI.format(location))
    assert found is not None
    assert found.graph.heads == ("b2",)


@pytest.mark.parametrize(
    "ini",
    [
        PLAIN_INI.format("package:migrations"),
        PLAIN_INI.format("%(elsewhere)s/migrations"),
        PLAIN_INI.format("migrations") + "version_locations = a b\n",
        PLAIN_INI.format("migrations") + "recursive_version_locations = true\n",
        "[other]\nscript_location = migrations\n",
        "script_location = migrations\n",
        "[alembic]\n",
    ],
)
def test_any_other_alembic_ini_is_left_to_alembic(read: Callable[..., Declared | None], ini: str) -> None:
    assert read(ini=ini) is None


def test_pyproject_toml_is_left_to_alembic(read: Callable[..., Declared | None]) -> None:
    def move(project: Project) -> None:
        (project.path / "pyproject.toml").write_text("[tool.alembic]\nscript_location = 'migrations'\n")

    assert read(change=move) is None


def test_a_revision_that_has_to_be_imported_is_left_to_alembic(read: Callable[..., Declared | None]) -> None:
    def add(project: Project) -> None:
        (project.versions / "c3.py").write_text("revision = make_id()\ndown_revision = 'b2'\n")

    assert read(change=add) is None


@pytest.mark.parametrize(
    "settings",
    [{"database_url": None}, {"x": ("tenant=a",)}, {"allow_other_targets": True}, {"lock": "none"}],
)
def test_settings_that_change_where_it_leads_ask_env_py(
    read: Callable[..., Declared | None], settings: dict[str, object]
) -> None:
    assert read(**settings) is None
