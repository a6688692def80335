"""The table of ``env.py`` variants: what each does, what migrator does about it, and how it is steered.

Each is a folder of ``env_variants/``, a whole project as its users have it. The tables of ``docs/env-py.md`` are made
of those here: ``python -m tests.scenarios.variants`` writes them.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from migrator.errors import ExitCode
from tests.harness import REPOSITORY, Database, checked, parts_of, run_alembic, start
from tests.scenarios.shapes import Copy

FIRST, SECOND, THIRD = "3f1c9a7e2b40", "8d24b6c0f5a1", "c7e05d93a86f"
ALL = (FIRST, SECOND, THIRD)
PLACEHOLDER = "driver://user:pass@localhost/dbname"
NOTHING: Mapping[str, str] = {}


class Offline(enum.Enum):
    """What becomes of ``--sql``."""

    SAME = "the same"
    ONLINE = "the same, but connects"
    FILES = "files"
    CLEANER = "without what is printed beside it"
    REFUSED = "none"


@dataclass(frozen=True)
class Variant:
    """A folder, and what is true of it.

    In ``variables``, ``more``, ``options`` and ``files`` these become the databases': ``{psycopg2}``, ``{psycopg}``
    and ``{asyncpg}`` (URLs), ``{host}``, ``{port}``, ``{user}``, ``{password}``, ``{name}``, ``{second}``.

    :ivar does: what its ``env.py`` does; ``ours``: what migrator does about it; ``limits``: where that ends.
    :ivar variables: what its user sets; ``more``: what they set for migrator in addition.
    :ivar ini: the driver of the URL that is written in ``alembic.ini``; None: it is not there.
    :ivar before: SQL that makes what the project expects in its databases.
    :ivar bare: what bare Alembic says where it fails.
    :ivar exit_code: of migrator, which then says ``says``; anything but 0: nothing is applied, by Alembic neither.
    :ivar applied: schema → the revisions that wrote into its ``migration_log``, in the first database;
        ``second``: the same in the second one.
    """

    folder: str
    does: str
    ours: str
    limits: str = ""
    variables: Mapping[str, str] = field(default_factory=lambda: {"DATABASE_URL": "{psycopg2}"})
    more: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    to: str = "head"
    ini: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    prepare: Callable[[Copy], object] = lambda copy: None
    program: str = "alembic"
    bare: str = ""
    exit_code: ExitCode = ExitCode.OK
    says: str = ""
    applied: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"public": ALL})
    second: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    offline: Offline = Offline.SAME


def filled(text: str, database: Database, second: Database | None) -> str:
    """``text`` with the databases put in."""
    values = {driver: database.sqlalchemy_url(driver) for driver in ("psycopg2", "psycopg", "asyncpg")}
    values |= parts_of(database.url)
    if second is not None:
        values["second"] = second.sqlalchemy_url()
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def flask(copy: Copy, *arguments: str) -> None:
    """Run Flask's own command."""
    checked(start(sys.executable, "-m", "flask", *arguments, env=copy.variables, cwd=copy.path).wait())


def history_into(copy: Copy) -> None:
    """The revisions go to where the tool that wrote ``env.py`` has made their folder."""
    for file in (copy.path / "history").iterdir():
        file.rename(copy.path / "migrations" / "versions" / file.name)


def flask_init(*options: str) -> Callable[[Copy], None]:
    """``flask db init``: the ``env.py`` of the installed Flask-Migrate."""

    def initialise(copy: Copy) -> None:
        flask(copy, "db", "init", *options)
        history_into(copy)

    return initialise


def multidb_init(copy: Copy) -> None:
    """``alembic init --template multidb``: the ``env.py`` of the installed Alembic, with two URLs written in."""
    run_alembic("init", "--template", "multidb", "migrations", cwd=copy.path, check=True)
    history_into(copy)
    ini = copy.path / "alembic.ini"
    text = ini.read_text().replace("driver://user:pass@localhost/dbname2", copy.variables.pop("SECOND"))
    ini.write_text(text.replace(PLACEHOLDER, copy.variables.pop("FIRST")))


ASYNCPG = {"DATABASE_URL": "{asyncpg}"}
SHOP = {"SHOP_DATABASE_URL": "{psycopg2}"}
BOTH = {**SHOP, "BILLING_DATABASE_URL": "{second}"}
DOTENV = {".env.shop": "SHOP_DATABASE_URL={psycopg2}\nSHOP_DEBUG=no\n"}

VARIANTS = (
    Variant(
        "async_asyncpg",
        "`asyncio.run()` with an asyncpg engine, as Alembic's async template",
        "the same seam: the lock is on the connection that `run_sync` hands over",
        variables=ASYNCPG,
    ),
    Variant(
        "async_psycopg",
        "the same with psycopg's asynchronous engine",
        "the same",
        variables={"DATABASE_URL": "{psycopg}"},
    ),
    Variant(
        "async_uvloop",
        "`uvloop.run()`",
        "SIGTERM is noticed all the same, though uvloop takes Python's wakeup descriptor",
        variables=ASYNCPG,
    ),
    Variant("async_anyio", "`anyio.run()`", "works as it is", variables=ASYNCPG),
    Variant(
        "async_op_run_async",
        "a revision calls `op.run_async()`",
        "what it runs is part of the revision: same connection, same transaction",
        variables=ASYNCPG,
        offline=Offline.REFUSED,
    ),
    Variant(
        "async_or_given_connection",
        '`config.attributes.get("connection")`, else `asyncio.run()`',
        "none is given, so its own engine is used",
        variables=ASYNCPG,
    ),
    Variant(
        "async_begin_pooled",
        "the application's asynchronous engine with its pool, `engine.begin()`, a loop of its own",
        "one transaction for the whole run; lock and settings never go back to the pool",
        variables={"SHOP_DATABASE_URL": "{asyncpg}"},
    ),
    Variant(
        "async_task_not_awaited",
        "`create_task()` in a loop that nobody runs",
        "exit 21: nothing was applied, where bare Alembic exits 0",
        variables=ASYNCPG,
        exit_code=ExitCode.NOT_VERIFIED,
        says="env.py ended without running any migration",
    ),
    Variant(
        "async_task_in_running_loop",
        "`create_task()` where a loop is running already, else `asyncio.run()`",
        "from a coroutine as well it runs in a thread without a loop, so it takes the other way",
        variables=ASYNCPG,
    ),
    Variant(
        "connection_demanded",
        '`config.attributes["connection"]` is demanded',
        "a connection to the configured database is made for it",
        "bare `alembic` raises KeyError there; with an asynchronous URL the connection is a synchronous one",
        variables={},
        more={"MIGRATOR_DATABASE_URL": "{psycopg2}"},
        bare="KeyError",
    ),
    Variant(
        "connection_optional",
        '`config.attributes.get("connection")`, else an engine of its own',
        "none is given, so its own engine is used",
    ),
    Variant(
        "app_engine",
        "the application's pooled engine; the connection is never closed, the engine never disposed of",
        "the lock is given back when `env.py` ends, and the session's settings are as before",
        variables=SHOP,
    ),
    Variant(
        "engine_begin",
        "`engine.begin()` around everything",
        "one transaction for the whole run, with one lock check before its COMMIT",
        "a lock timeout runs `env.py` again from its beginning; `autocommit_block()` cannot work",
    ),
    Variant(
        "autocommit_engine",
        'an engine with `isolation_level="AUTOCOMMIT"`',
        "runs; each statement counts as not to be undone",
        "no retries; what a failed revision left behind is named",
    ),
    Variant(
        "serializable_engine",
        'an engine with `isolation_level="SERIALIZABLE"`',
        "serialization failures run `env.py` again",
    ),
    Variant(
        "execution_options",
        "`connection.execution_options()` with `schema_translate_map` and REPEATABLE READ",
        "the version table is found by the name that `env.py` configures",
        before="CREATE SCHEMA shop",
        applied={"shop": (FIRST, SECOND)},
    ),
    Variant(
        "x_url",
        "the URL comes as `-x url=…`",
        "`-x` is passed through; `MIGRATOR_X` does the same without showing it to `ps`",
        variables={},
        options=("-x", "url={psycopg2}"),
    ),
    Variant(
        "online_always",
        "there is no offline branch: it connects under `--sql` as well",
        "the same",
        offline=Offline.ONLINE,
    ),
    Variant(
        "tenant_schemas",
        "a loop over tenant schemas on one connection, `SET search_path` and a version table for each",
        "a target for each tenant: its own lock, steps and verdict",
        before="CREATE TABLE tenants (schema_name text); INSERT INTO tenants VALUES ('acme'), ('umbrella'); "
        "CREATE SCHEMA acme; CREATE SCHEMA umbrella",
        applied={"acme": ALL, "umbrella": ALL},
    ),
    Variant(
        "tenant_engines",
        "an engine for each tenant with `options=-c search_path`, and `CREATE SCHEMA IF NOT EXISTS`",
        "the same; what races with other runs before the lock is held runs `env.py` again",
        variables={"DATABASE_URL": "{psycopg2}", "TENANTS": "acme,umbrella"},
        applied={"acme": ALL, "umbrella": ALL},
    ),
    Variant(
        "tenant_by_x",
        "one tenant, named by `-x tenant=…`",
        "runs for different tenants do not wait for each other",
        options=("-x", "tenant=acme"),
        before="CREATE SCHEMA acme",
        applied={"acme": ALL},
    ),
    Variant(
        "two_databases",
        "a loop over two databases",
        "a target for each database",
        "with a configured URL the second one needs `MIGRATOR_ALLOW_OTHER_TARGETS=yes`",
        variables=BOTH,
        second={"public": ALL},
    ),
    Variant(
        "multidb_template",
        "`alembic init --template multidb`: all transactions first, then all databases",
        "a target for each; committed together at the end, as `env.py` has it",
        "`--sql` writes `<name>.sql` files, as the template does",
        variables={"FIRST": "{psycopg2}", "SECOND": "{second}"},
        prepare=multidb_init,
        applied={"public": (FIRST, SECOND)},
        second={"public": (FIRST, SECOND)},
        offline=Offline.FILES,
    ),
    Variant(
        "flask_migrate",
        "the `env.py` of `flask db init` (Flask-Migrate), which needs `current_app`",
        "the application is loaded as `flask` loads it (`FLASK_APP`, `.flaskenv`, `wsgi.py`, `app.py`): "
        "`migrator -c migrations/alembic.ini upgrade`",
        "`--sql` reads the URL from the application, and connects no more than Alembic does",
        options=("-c", "migrations/alembic.ini"),
        prepare=flask_init(),
        program="flask",
    ),
    Variant(
        "flask_multidb",
        "the `env.py` of `flask db init --multidb`",
        "the same, with a target for each bind",
        "`--sql` writes a file for each bind, as the template does",
        variables=BOTH,
        options=("-c", "migrations/alembic.ini"),
        prepare=flask_init("--multidb"),
        program="flask",
        applied={"public": (FIRST, SECOND)},
        second={"public": (FIRST, SECOND)},
        offline=Offline.FILES,
    ),
    Variant(
        "flask_app_upgrades_first",
        "a Flask application whose factory upgrades the database itself, before the command does",
        "two runs in one process: its own first, then ours, which has nothing left to do",
        "what the factory does by itself is not under the lock: switch it off for the job",
        options=("-c", "migrations/alembic.ini"),
        prepare=flask_init(),
        program="flask",
    ),
    Variant(
        "named_sections",
        "another section of the ini file (`-n billing`), with a version table and schema of its own there",
        "lock and verdict are of that table, by its full name; other tables with a `version_num` are not taken for it",
        options=("-n", "billing"),
        ini="psycopg2",
        before='CREATE SCHEMA "Admin"',
    ),
    Variant(
        "pyproject_only",
        "`[tool.alembic]` in pyproject.toml, without alembic.ini",
        "read as Alembic reads it",
        "Alembic 1.16 or newer",
    ),
    Variant(
        "package_scripts",
        "`script_location = package:folder`",
        "read as Alembic reads it",
        ini="psycopg",
    ),
    Variant(
        "several_bases",
        "several `version_locations`, recursive, with three bases and `depends_on`; two heads are the normal end",
        "`migrator upgrade heads`; the verdict expects every head",
        "`upgrade head` is refused (exit 23) before anything connects",
        ini="psycopg2",
        to="heads",
        applied={"public": (FIRST, SECOND, "5be1d07c93aa", "d06c7714fe28")},
    ),
    Variant(
        "env_chooses_versions",
        "`env.py` sets `context.script.version_locations` by dialect",
        "the preflight leaves the history to what `env.py` then loads",
    ),
    Variant(
        "env_rewrites_script_location",
        "`env.py` rewrites `script_location` and sends the script directory elsewhere",
        "the same",
    ),
    Variant(
        "cmd_opts_readers",
        "`config.cmd_opts` is read: the command, the revision, `-x`",
        "it has everything that Alembic's own command line would have put there",
    ),
    Variant(
        "name_guard",
        'runs only if `__name__ == "env_py"`, keeps things on `config`, hands unknown keywords to `configure()`',
        "all of that is there and passes through",
    ),
    Variant(
        "sys_exit_1",
        "`sys.exit(1)` before anything runs",
        "exit 2 with what `env.py` printed",
        bare="which stage is this?",
        exit_code=ExitCode.USAGE,
        says="env.py called sys.exit(1)",
        offline=Offline.REFUSED,
    ),
    Variant(
        "settings_dotenv",
        "settings from a file through python-dotenv",
        "`env.py` reads them itself; `MIGRATOR_EXPORT_URL_AS=SHOP_DATABASE_URL` puts another database there",
        variables={},
        files=DOTENV,
    ),
    Variant("settings_environs", "the same through environs", "the same", variables={}, files=DOTENV),
    Variant("settings_decouple", "the same through python-decouple", "the same", variables={}, files=DOTENV),
    Variant(
        "settings_pydantic",
        "the same through pydantic-settings, in parts",
        "the same",
        variables={},
        files={
            ".env.shop": "SHOP_DATABASE_HOST={host}\nSHOP_DATABASE_PORT={port}\nSHOP_DATABASE_USER={user}\n"
            "SHOP_DATABASE_PASSWORD={password}\nSHOP_DATABASE_NAME={name}\n"
        },
    ),
    Variant(
        "own_session_lock",
        "an advisory lock of its own around everything",
        "both are held; the keys cannot meet",
        "who waits for the project's lock is told of after 5 s, and can be stopped",
    ),
    Variant(
        "own_transaction_lock",
        "`pg_advisory_xact_lock` and `SET LOCAL lock_timeout` inside `begin_transaction()`",
        "one transaction for the whole run, so that both hold for every revision",
        "no transaction for each revision; a lock timeout runs `env.py` again from its beginning",
    ),
    Variant(
        "own_lock_on_second_connection",
        "an advisory lock of its own on a second connection, in an open transaction",
        "both are held",
        "a concurrent index build waits for that second connection for ever, with bare Alembic as well",
    ),
    Variant(
        "own_settings",
        "`SET lock_timeout`, `statement_timeout`, `search_path`, and a commit before and after",
        "its own settings stay; ours are only defaults",
        before="CREATE SCHEMA shop",
        applied={"shop": ALL},
    ),
    Variant(
        "set_local_search_path",
        "`SET LOCAL search_path` inside `begin_transaction()`",
        "one transaction for the whole run, so that it holds for every revision",
        before="CREATE SCHEMA shop",
        applied={"shop": ALL},
    ),
    Variant(
        "own_retry_loop",
        "tries again by itself after any exception",
        "its loop may also run when the run lock is not free: it then waits for the lock like any other",
        "a migration that fails runs as often as `env.py` says, and the first failure is what is told",
    ),
    Variant(
        "own_commits",
        "SQL before `configure()`, and a commit at the end",
        "one transaction for the whole run; the verdict is read on a new connection",
        "without that commit nothing is applied: exit 21, where bare Alembic exits 0",
    ),
    Variant(
        "creates_its_schema",
        "`CREATE SCHEMA IF NOT EXISTS` before `configure()`",
        "races there with other runs run `env.py` again",
        "what happens before `configure()` is not under the lock",
        applied={"shop": ALL},
    ),
    Variant(
        "one_transaction",
        "`transaction_per_migration=False`",
        "stays as it is: one transaction for all",
        "a failure takes all revisions of the run back",
    ),
    Variant(
        "transaction_each",
        "`transaction_per_migration=True`, without `begin_transaction()`",
        "stays as it is",
    ),
    Variant(
        "no_transactional_ddl",
        "`transactional_ddl=False`",
        "runs; lock timeouts are not tried again in place",
    ),
    Variant(
        "reads_heads_first",
        "reads the version with a `MigrationContext` of its own before `configure()`",
        "works as it is: what counts is read under the lock",
    ),
    Variant(
        "autocommit_blocks",
        "a revision builds an index concurrently in `autocommit_block()`",
        "it has a lock timeout of its own, and waiters never block it",
        "not undone and not tried again after a failure: what was left is named",
        ini="psycopg2",
    ),
    Variant(
        "logging_silenced",
        "`fileConfig()` disables loggers, root at CRITICAL, a filter drops Alembic's lines, `logging.disable()`",
        "our own lines do not go through loggers; a program's logging is as before afterwards",
    ),
    Variant(
        "logging_json",
        "JSON lines on standard output, and the URL printed",
        "what `env.py` writes goes to standard error with passwords masked; `--json` stays one document",
        offline=Offline.CLEANER,
    ),
    Variant(
        "autogenerate_hooks",
        "`include_object`, `include_name`, `render_item`, `process_revision_directives`, naming conventions, "
        "models by `importlib`, operations of its own",
        "all pass through",
        applied={"public": (FIRST, SECOND)},
    ),
    Variant(
        "orm_session",
        "a data migration with an ORM `Session` on `op.get_bind()`, and `session.commit()`",
        "runs on the connection of the lock; the session's commit is the transaction's",
        ini="psycopg2",
        offline=Offline.REFUSED,
    ),
    Variant("sqlmodel", "SQLModel", "works as it is", applied={"public": (FIRST, SECOND)}),
    Variant(
        "expand_contract",
        "two branches: `expand@head`, then `contract@head`",
        "each is an upgrade of its own; `heads` does both",
        ini="psycopg2",
        to="heads",
    ),
    Variant(
        "revision_forks",
        "a revision starts processes (multiprocessing, `os.fork`, subprocess) and a thread",
        "signals to its processes are not taken for signals to us; a child that leaves the revision by returning or "
        "raising ends there, and does not roll the parent's transaction back; what a program prints goes to "
        "standard error",
        "what a program prints is not masked",
        ini="psycopg2",
        offline=Offline.CLEANER,
    ),
    Variant(
        "odd_names",
        "hyphens, dots, blanks and non-ASCII in file names, messages and ids",
        "read and told as they are",
        ini="psycopg2",
        applied={"public": (FIRST, SECOND, "v1.2.0_注文")},
    ),
)


@dataclass(frozen=True)
class Proof:
    """A habit that no folder shows, for a test elsewhere proves as much: ``test`` is its name."""

    does: str
    ours: str
    test: str


PROVED_ELSEWHERE = (
    Proof(
        "SQL before `configure()` that nobody commits",
        "exit 21 with the reason, where bare Alembic exits 0 with nothing applied",
        "test_sql_before_configure_that_nobody_commits_is_no_success",
    ),
    Proof(
        "a transaction with an old snapshot (REPEATABLE READ) that began before `configure()`",
        "`env.py` runs again rather than migrate from what it saw before the lock was free",
        "test_a_snapshot_from_before_configure",
    ),
    Proof(
        "`with context.begin_transaction() as transaction: … transaction.rollback()`: a dry run",
        "one transaction for the whole run; exit 21 after a dry one, for nothing is applied",
        "test_a_dry_run_of_env_pys_own_leaves_nothing",
    ),
    Proof(
        "`run_migrations()` without `begin_transaction()`",
        "runs, with the commits that `env.py` makes",
        "test_run_migrations_without_begin_transaction",
    ),
    Proof(
        "`autocommit_block()` under `engine.begin()`",
        "exit 20 with what to change, instead of Alembic's bare AssertionError",
        "test_a_concurrent_index_build_under_an_outer_transaction_is_explained",
    ),
    Proof(
        "an advisory lock of its own, in the transaction around everything",
        "who waits for ours does not keep theirs: nobody waits for ever",
        "test_a_lock_of_the_projects_own_that_it_takes_before_configure",
    ),
    Proof(
        "waits for something before `configure()`",
        "told of after 5 s, and can be stopped",
        "test_an_env_py_that_waits_before_configure_is_told_of_and_can_be_stopped",
    ),
    Proof(
        "credentials that only the engine's `creator` knows",
        "verifying and cancelling connect as that engine does",
        "test_credentials_that_only_the_engines_creator_knows",
    ),
    Proof(
        "a `%` in the password, put into `set_main_option()` without doubling it",
        'works, where bare Alembic fails with "invalid interpolation syntax"',
        "test_a_percent_sign_in_a_password_reaches_the_database",
    ),
    Proof(
        "two histories in one database, with version tables of their own",
        "two targets with two locks: neither waits for the other",
        "test_two_histories_in_one_database_are_two_targets_with_two_locks",
    ),
    Proof(
        "tenants on one connection, of which one is rolled back",
        "exit 21: what was applied to the others is no success of that one",
        "test_a_tenant_whose_migrations_were_rolled_back_is_no_success_of_the_others",
    ),
    Proof(
        "`on_version_apply` callbacks",
        "are called as well as ours",
        "test_the_projects_own_callback_hears_of_each_version_as_well",
    ),
    Proof(
        "`os.chdir()`",
        "relative paths stay what they were; afterwards the folder is as before",
        "test_a_relative_script_location_survives_a_change_of_directory",
    ),
    Proof(
        "`sys.exit(0)` at its end",
        "the verdict counts, not the exit",
        "test_sys_exit_0_at_the_end_of_env_py_is_no_failure",
    ),
    Proof(
        '`raise CommandError("Set DATABASE_URL")`, Alembic\'s exception, to say itself what it misses',
        "exit 2 in its words, with `--sql`, too; Alembic's own of that kind are about the history: exit 23",
        "test_an_env_py_that_says_itself_what_to_set_is_a_matter_of_configuration",
    ),
    Proof(
        "the same connection, kept open by an application that goes on with it",
        "its settings are as before, and the lock is free",
        "test_a_connection_that_the_application_keeps_open_is_as_it_was",
    ),
    Proof(
        "a revision that ends its transaction itself (`COMMIT`)",
        "not tried again, and not called undone",
        "test_a_revision_that_leaves_its_transaction_is_not_tried_again_and_not_called_undone",
    ),
)

DOCUMENT = REPOSITORY / "docs" / "env-py.md"


def tables_of_the_document() -> dict[str, str]:
    """The tables of ``docs/env-py.md``, by the name of the block that they stand in."""
    folders = [
        f"| {variant.does} | {variant.ours} | {variant.limits} | {variant.offline.value} |"
        for variant in VARIANTS
    ]
    head = "| `env.py` | migrator | limits | `--sql` |\n|---|---|---|---|\n"
    others = [f"| {proof.does} | {proof.ours} |" for proof in PROVED_ELSEWHERE]
    return {
        "variants": head + "\n".join(folders) + "\n",
        "habits": "| `env.py` | migrator |\n|---|---|\n" + "\n".join(others) + "\n",
    }


def document(text: str) -> str:
    """``text`` of the document with the tables as they have to be."""
    for name, table in tables_of_the_document().items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- /{name} -->\n")
        text = f"{before}<!-- {name} -->\n{table}<!-- /{name} -->\n{after}"
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text()))
