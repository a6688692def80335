"""A scratch run reaches the scratch database and no other, however ``env.py`` finds the one that it connects to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import assert_keeps, contents, refused
from tests.acceptance.models import FIRST, ORDERS, generated, shop, written
from tests.harness import UNSET, Database, Project, Server, parts_of

SCRATCH = ("revision", "--autogenerate", "--scratch", "-m", "next")

ENV = """\
import os

import sqlalchemy as sa
from alembic import context

config = context.config
target_metadata = None
{url}
with sa.create_engine(url, poolclass=sa.pool.NullPool).connect() as connection:
    context.configure(connection=connection, target_metadata=target_metadata)
    with context.begin_transaction():
        context.run_migrations()
"""
PARTS = """\
url = sa.URL.create(
    "postgresql+psycopg2", os.environ["{u}"], os.environ["{p}"], os.environ["{h}"], int(os.environ["{o}"]),
    os.environ["{n}"],
)
"""
DB_PARTS = PARTS.format(u="DB_USER", p="DB_PASSWORD", h="DB_HOST", o="DB_PORT", n="DB_NAME")
BLOG_PARTS = PARTS.format(
    u="DATABASE_USERNAME", p="DATABASE_PASSWORD", h="DATABASE_HOSTNAME", o="DATABASE_PORT", n="DATABASE_NAME"
)
DOTENV = "import dotenv\ndotenv.load_dotenv()\nurl = os.environ['SHOP_DATABASE_URL']"
CONNECTION = """\
import os

from alembic import context

target_metadata = None
context.configure(connection=context.config.attributes["connection"], target_metadata=target_metadata)
with context.begin_transaction():
    context.run_migrations()
"""
X = "url = context.get_x_argument(as_dictionary=True)['url']"


@pytest.fixture
def scratch(server: Server) -> dict[str, str]:
    return {"MIGRATOR_SCRATCH_URL": server.url_of("postgres")}


@pytest.fixture
def real(database: Database) -> Iterator[Database]:
    """The database that the project is configured for; that it is as it was is looked at in the end."""
    database.query("CREATE TABLE precious (id int)")
    before = contents(database)
    yield database
    assert contents(database) == before


def by_parts(names: str) -> Callable[[Database], dict[str, str]]:
    """Variables with the parts of the real database's URL: host, port, user, password, name."""

    def make(real: Database) -> dict[str, str]:
        found = parts_of(real.url)
        return dict(
            zip(names.split(), (found[k] for k in ("host", "port", "user", "password", "name")), strict=True)
        )

    return make


WAYS: dict[str, tuple[str, Callable[[Database], dict[str, str]], tuple[str, ...]]] = {
    "sqlalchemy.url": ("url = config.get_main_option('sqlalchemy.url')", lambda real: {}, ()),
    "DATABASE_URL": ("url = os.environ['DATABASE_URL']", lambda real: {"DATABASE_URL": real.url}, ()),
    "DATABASE_URL that is not set": ("url = os.environ['DATABASE_URL']", lambda real: {}, ()),
    "MIGRATOR_DATABASE_URL itself": ("url = os.environ['MIGRATOR_DATABASE_URL']", lambda real: {}, ()),
    "the direct URL": (
        "url = os.environ['MIGRATOR_DIRECT_DATABASE_URL']",
        lambda real: {"MIGRATOR_DIRECT_DATABASE_URL": real.url},
        (),
    ),
    "a URL by the environment's name": (
        "url = os.environ['PROD_DATABASE_URL']",
        lambda real: {"PROD_DATABASE_URL": real.url, "MIGRATOR_DATABASE_URL": UNSET},
        ("--env", "prod"),
    ),
    "a variable of the project's own": (
        "url = os.environ['WAREHOUSE']",
        lambda real: {"WAREHOUSE": real.sqlalchemy_url("psycopg2")},
        (),
    ),
    "an exported name": ("url = os.environ['OURS']", lambda real: {"MIGRATOR_EXPORT_URL_AS": "OURS"}, ()),
    "DB_*": (DB_PARTS, by_parts("DB_HOST DB_PORT DB_USER DB_PASSWORD DB_NAME"), ()),
    "DB_* that are not set": (DB_PARTS, lambda real: {}, ()),
    "parts of the project's own": (
        BLOG_PARTS,
        by_parts("DATABASE_HOSTNAME DATABASE_PORT DATABASE_USERNAME DATABASE_PASSWORD DATABASE_NAME"),
        (),
    ),
    "libpq's variables": (
        "url = 'postgresql+psycopg2://'",
        by_parts("PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE"),
        (),
    ),
    "an address that wins over every host": (
        "url = config.get_main_option('sqlalchemy.url')",
        lambda real: {"PGHOSTADDR": "192.0.2.1", "PGSERVICE": "prod"},
        (),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_env_py_reads_leads_to_the_scratch_database(
    tmp_path: Path, real: Database, scratch: dict[str, str], way: str
) -> None:
    line, variables, options = WAYS[way]
    project = shop(tmp_path, real, env=ENV.format(url=line))
    done = project.migrator(*SCRATCH, *options, env={**scratch, **variables(real)})
    assert "op.create_table('customers'" in written(project, done)


@pytest.mark.parametrize("where", ["option", "variable"])
def test_a_url_among_the_arguments_of_env_py_is_replaced(
    tmp_path: Path, real: Database, scratch: dict[str, str], where: str
) -> None:
    project = shop(tmp_path, real, env=ENV.format(url=X))
    options = ("-x", f"url={real.url}") if where == "option" else ()
    env = {**scratch, **({} if options else {"MIGRATOR_X": f"url={real.url}"})}
    written(project, project.migrator(*SCRATCH, *options, env=env))


def test_files_with_variables_lead_there_as_well(
    tmp_path: Path, real: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, real, env=ENV.format(url=DOTENV))
    project.write(".env", f"SHOP_DATABASE_URL={real.url}\n")
    written(project, project.migrator(*SCRATCH, env=scratch))


def test_a_connection_that_env_py_demands_is_one_to_the_scratch_database(
    tmp_path: Path, real: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, real, env=CONNECTION)
    written(project, project.migrator(*SCRATCH, env=scratch))


def test_the_projects_own_ini_is_not_listened_to(
    tmp_path: Path, real: Database, scratch: dict[str, str]
) -> None:
    line = "url = config.get_main_option('sqlalchemy.url')"
    project = shop(tmp_path, real, env=ENV.format(url=line), url_in_ini=True)
    written(project, project.migrator(*SCRATCH, env={**scratch, "MIGRATOR_DATABASE_URL": UNSET}))


# What goes its own way is refused


def fixed(real: Database) -> str:
    return f"url = {real.sqlalchemy_url('psycopg2')!r}"


BEFORE = """
with sa.create_engine(url).begin() as early:
    early.execute(sa.text("CREATE TABLE made_early (id int)"))
"""
RAW_CONNECTION = """
early = sa.create_engine(url).raw_connection()
early.cursor().execute("CREATE TABLE made_early (id int)")
early.commit()
"""
CREATOR = """
import psycopg2
real = url
engine = sa.create_engine("postgresql+psycopg2://", creator=lambda: psycopg2.connect(real.replace("+psycopg2", "")))
with engine.begin() as early:
    early.execute(sa.text("CREATE TABLE made_early (id int)"))
"""
SWALLOWED = """
try:
    with sa.create_engine(url).begin() as early:
        early.execute(sa.text("CREATE TABLE made_early (id int)"))
except Exception:
    url = config.get_main_option("sqlalchemy.url")
"""
LISTENER = """
@sa.event.listens_for({target}, "connect")
def on_connect(raw, record):
    raw.cursor().execute("CREATE TABLE made_early (id int)")
    raw.commit()
"""
OF_ONE_ENGINE = f"\nengine = sa.create_engine(url){LISTENER.format(target='engine')}engine.connect()\n"
OF_ALL_ENGINES = LISTENER.format(target="sa.engine.Engine")


@pytest.mark.parametrize(
    "more", ["", BEFORE, RAW_CONNECTION, CREATOR, SWALLOWED, OF_ONE_ENGINE, OF_ALL_ENGINES]
)
@pytest.mark.parametrize("command", [SCRATCH, ("check", "--models")], ids=["revision", "check"])
def test_an_env_py_that_connects_elsewhere_is_refused_before_its_first_statement(
    tmp_path: Path, real: Database, scratch: dict[str, str], command: tuple[str, ...], more: str
) -> None:
    project = shop(tmp_path, real, env=ENV.format(url=fixed(real) + more))
    refused(
        project,
        *command,
        env=scratch,
        code=ExitCode.USAGE,
        says=["connects to another database than the disposable one", f"it leads to {real.name}"],
        then=["sqlalchemy.url", "MIGRATOR_EXPORT_URL_AS"],
    )
    assert generated(project) == []


BLIND_FENCE = """
import migrator.environment.fence
migrator.environment.fence._where = lambda raw, dialect: (os.environ["PGDATABASE"], "anybody")
"""


def test_the_identity_check_alone_would_refuse_it_too(
    tmp_path: Path, real: Database, scratch: dict[str, str]
) -> None:
    project = shop(tmp_path, real, env=ENV.format(url=BLIND_FENCE + fixed(real)))
    refused(
        project,
        *SCRATCH,
        env=scratch,
        code=ExitCode.USAGE,
        says=[
            "connects to another database than the disposable one",
            f"env.py connects to {real.name} as postgres at",
        ],
        then=["sqlalchemy.url"],
    )
    assert generated(project) == []


def test_a_revision_with_an_engine_of_its_own_is_refused_as_well(
    tmp_path: Path, real: Database, scratch: dict[str, str]
) -> None:
    body = f'{FIRST}\nwith sa.create_engine({real.url!r}).begin() as c:\n    c.execute(sa.text("DROP TABLE precious"))'
    project = shop(tmp_path, real, first=body)
    refused(
        project,
        *SCRATCH,
        env=scratch,
        code=ExitCode.USAGE,
        says=["connects to another database than the disposable one"],
        then=["sqlalchemy.url"],
        harmless=False,
    )


def test_an_env_py_for_two_databases_is_refused(
    tmp_path: Path, real: Database, scratch: dict[str, str], new_database: Callable[..., Database]
) -> None:
    other = new_database()
    line = "url = config.get_main_option('sqlalchemy.url')"
    env = ENV.format(url=line)
    head, body = env.split("with sa.create_engine", 1)
    second = f"url = {other.sqlalchemy_url('psycopg2')!r}\nwith sa.create_engine{body}"
    project = shop(tmp_path, real, env=f"{head}with sa.create_engine{body}\n{second}")
    refused(
        project,
        *SCRATCH,
        env={**scratch, "MIGRATOR_ALLOW_OTHER_TARGETS": "yes"},
        code=ExitCode.USAGE,
        says=["another database than the disposable one", other.name],
        then=["A scratch run serves one database"],
    )
    assert other.tables == []


# Secrets


def test_no_password_is_shown_neither_of_the_real_nor_of_the_scratch_server(
    tmp_path: Path, real: Database, server: Server, new_role: Callable[..., object]
) -> None:
    project = shop(tmp_path, real, env=ENV.format(url="url = os.environ['DATABASE_URL']\nprint(url)"))
    env = {
        "MIGRATOR_SCRATCH_URL": server.url_of("postgres"),
        "MIGRATOR_DATABASE_URL": "postgresql://shop:kept-to-itself@db.invalid/shop",
        "DATABASE_URL": "postgresql://shop:kept-as-well@db.invalid/shop",
    }
    done = project.migrator(*SCRATCH, "--verbose", env=env)
    written(project, done)
    assert "migrator_scratch_" in done.stderr
    assert_keeps(done, "kept-to-itself", "kept-as-well", parts_of(server.url)["password"])
    assert "db.invalid" not in done.stderr


def test_the_password_of_the_wheels_server_is_not_shown(tmp_path: Path) -> None:
    env = ENV.format(url="url = os.environ['DATABASE_URL']\nprint('connecting to', url)")
    project: Project = shop(tmp_path, None, ORDERS, env=env)
    done = project.migrator(*SCRATCH, env={"MIGRATOR_DATABASE_URL": UNSET})
    assert done.returncode == 0, done.output
    assert "connecting to postgresql://postgres:***@127.0.0.1:" in done.stderr
