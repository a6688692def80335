"""Every way of writing ``env.py`` that we know of, each as a project of its own: see ``variants.VARIANTS``."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.harness import REPOSITORY, Completed, Database, Running, checked, run_alembic, start
from tests.integration.proving import NOTHING_TO_DO, contents, nobody_holds_the_lock
from tests.scenarios.shapes import HERE, TOOLS, Copy
from tests.scenarios.variants import (
    DOCUMENT,
    PLACEHOLDER,
    PROVED_ELSEWHERE,
    VARIANTS,
    Offline,
    Variant,
    document,
    filled,
)

MIGRATOR = TOOLS["migrator"]
CONTENDERS = 5
NOWHERE = "postgresql://nobody:wrong@nowhere.invalid:1/nothing"
OBJECTS = """
    SELECT indexdef FROM pg_indexes WHERE schemaname !~ '^(pg_|information_schema)'
    UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace::regnamespace::text !~ '^(pg_|information_schema)' AND contype <> 'n'
    UNION ALL SELECT concat_ws(' ', table_schema, table_name, column_name, ordinal_position, data_type,
        is_nullable, column_default) FROM information_schema.columns
        WHERE table_schema !~ '^(pg_|information_schema)'
    UNION ALL SELECT relation::text || ' ' || acl::text FROM (SELECT oid::regclass AS relation, relacl AS acl
        FROM pg_class WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)') AS granted
        WHERE acl IS NOT NULL
    ORDER BY 1
"""
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.folder)
each_that_succeeds = pytest.mark.parametrize(
    "variant",
    [variant for variant in VARIANTS if variant.exit_code is ExitCode.OK],
    ids=lambda variant: variant.folder,
)


class Installed:
    """A variant's project, on databases of its own."""

    def __init__(self, variant: Variant, path: Path, databases: list[Database]) -> None:
        self.variant, self.databases = variant, databases
        self.copy = Copy(f"env_variants/{variant.folder}", path, self._filled(dict(variant.variables)))
        for name, text in self._filled(dict(variant.files)).items():
            (path / name).write_text(text)
        ini = path / "alembic.ini"
        if variant.ini:
            url = databases[0].sqlalchemy_url(variant.ini)
            ini.write_text(ini.read_text().replace(PLACEHOLDER, url))
        for database in databases if variant.before else ():
            database.query(variant.before)
        variant.prepare(self.copy)
        self.bare_variables = dict(self.copy.variables)
        self.copy.variables |= self._filled(dict(variant.more))
        self.options = [filled(option, *self._pair()) for option in variant.options]

    def bare(self, *arguments: str) -> Completed:
        """Bare Alembic, or Flask's command of it."""
        if self.variant.program == "alembic":
            return run_alembic(*self.options, *arguments, env=self.bare_variables, cwd=self.copy.path)
        command = (sys.executable, "-m", "flask", "db", *arguments)
        return start(*command, env=self.bare_variables, cwd=self.copy.path).wait()

    def migrator(self, *arguments: str) -> Completed:
        return self.copy.run(MIGRATOR, *self.options, *arguments, check=False)

    def start(self, *arguments: str) -> Running:
        return self.copy.start(*self.options, *arguments)

    def left(self) -> list[object]:
        """What is in the databases: tables with their rows, columns, indexes, constraints, rights."""
        return [(contents(database), database.query(OBJECTS)) for database in self.databases]

    def assert_applied_once(self) -> None:
        """Each revision wrote its line once into the log that the first one made."""
        for database, expected in zip(
            self.databases, (self.variant.applied, self.variant.second), strict=False
        ):
            logs = database.query("SELECT schemaname FROM pg_tables WHERE tablename = 'migration_log'")
            found = {
                schema: sorted(
                    row for (row,) in database.query(f'SELECT revision FROM "{schema}".migration_log')
                )
                for (schema,) in logs
            }
            assert found == {schema: sorted(revisions) for schema, revisions in expected.items()}

    def _pair(self) -> tuple[Database, Database | None]:
        return self.databases[0], self.databases[1] if len(self.databases) > 1 else None

    def _filled(self, texts: dict[str, str]) -> dict[str, str]:
        return {name: filled(text, *self._pair()) for name, text in texts.items()}


@pytest.fixture
def install(tmp_path: Path, new_database: Callable[..., Database]) -> Iterator[Callable[..., Installed]]:
    """Copy a variant to a folder of its own, with databases of its own."""
    numbers = itertools.count(1)

    def make(variant: Variant) -> Installed:
        databases = [new_database() for _ in range(2 if variant.second else 1)]
        return Installed(variant, tmp_path / f"copy{next(numbers)}", databases)

    return make


@each_that_succeeds
def test_of_five_runs_at_once_one_leaves_what_bare_alembic_leaves_and_the_next_has_nothing_to_do(
    variant: Variant, install: Callable[..., Installed]
) -> None:
    ours, reference = install(variant), install(variant)
    racing = [ours.start("upgrade", variant.to) for _ in range(CONTENDERS)]
    alone = reference.bare("upgrade", variant.to)
    for ended in [run.wait() for run in racing]:
        assert ended.returncode == 0, ended.output
    ours.assert_applied_once()
    left = ours.left()
    if variant.bare:
        assert alone.returncode != 0, alone.output
        assert variant.bare in alone.output
    else:
        checked(alone)
        reference.assert_applied_once()
        assert left == reference.left()
    again = ours.migrator("upgrade", variant.to)
    assert again.returncode == 0, again.output
    targets = sum(len(schemas) for schemas in (variant.applied, variant.second))
    assert again.stderr.count(NOTHING_TO_DO) == again.stderr.count("\nverified ") == targets, again.output
    assert ours.left() == left
    for database in ours.databases:
        assert nobody_holds_the_lock(database)


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant.exit_code is not ExitCode.OK])
def test_what_bare_alembic_does_not_do_either_is_told(
    variant: Variant, install: Callable[..., Installed]
) -> None:
    ours = install(variant)
    before = ours.left()
    alone = ours.bare("upgrade", variant.to)
    assert (alone.returncode != 0) is bool(variant.bare), alone.output
    assert variant.bare in alone.output
    failed = ours.migrator("upgrade", variant.to)
    assert failed.returncode == variant.exit_code, failed.output
    assert variant.says in failed.stderr
    assert ours.migrator("status", "--exit-code").returncode == variant.exit_code
    assert ours.left() == before


def test_a_second_database_is_gone_on_to_only_where_that_is_allowed(
    install: Callable[..., Installed],
) -> None:
    ours = install(next(variant for variant in VARIANTS if variant.folder == "two_databases"))
    ours.copy.variables["MIGRATOR_DATABASE_URL"] = ours.databases[0].url
    refused = ours.migrator("upgrade")
    assert refused.returncode == ExitCode.USAGE, refused.output
    assert "MIGRATOR_ALLOW_OTHER_TARGETS" in refused.stderr
    assert ours.databases[1].tables == []
    ours.copy.variables["MIGRATOR_ALLOW_OTHER_TARGETS"] = "yes"
    checked(ours.migrator("upgrade"))
    ours.assert_applied_once()


def test_the_tables_in_the_docs_are_made_of_the_table_of_variants() -> None:
    text = DOCUMENT.read_text()
    assert text == document(text), "python -m tests.scenarios.variants writes them"


def test_each_folder_is_in_the_table_and_each_other_proof_exists() -> None:
    folders = {folder.name for folder in (HERE / "env_variants").iterdir()}
    assert sorted(variant.folder for variant in VARIANTS) == sorted(folders)
    texts = [
        file.read_text()
        for folder in ("acceptance", "integration")
        for file in (REPOSITORY / "tests" / folder).glob("test_*.py")
    ]
    for proof in PROVED_ELSEWHERE:
        assert any(f"def {proof.test}(" in text for text in texts), proof.test


@each_that_succeeds
def test_the_verdict_is_no_before_and_yes_after_what_bare_alembic_does(
    variant: Variant, install: Callable[..., Installed]
) -> None:
    ours = install(variant)
    assert ours.migrator("status", "--exit-code").returncode == ExitCode.CHECK_SAYS_NO
    checked(ours.migrator("upgrade", variant.to) if variant.bare else ours.bare("upgrade", variant.to))
    checked(ours.migrator("status", "--exit-code"))
    checked(ours.migrator("wait", "--for", "head", "--wait-timeout", "0"))


def test_to_wait_for_head_is_to_be_told_that_it_is_not_there(install: Callable[..., Installed]) -> None:
    for folder in ("tenant_schemas", "two_databases", "async_asyncpg"):
        ours = install(next(variant for variant in VARIANTS if variant.folder == folder))
        waited = ours.migrator("wait", "--for", "head", "--wait-timeout", "0")
        assert waited.returncode == ExitCode.UNREACHABLE, waited.output
        assert "wanted" in waited.stderr


@each_variant
def test_sql_is_what_bare_alembic_writes(variant: Variant, install: Callable[..., Installed]) -> None:
    ours = install(variant)
    before = ours.left()
    if variant.offline is Offline.SAME:
        for name, value in ours.copy.variables.items():
            if "://" in value:
                wrong = f"{value.partition('://')[0]}{NOWHERE.removeprefix('postgresql')}"
                ours.copy.variables[name] = ours.bare_variables[name] = wrong
    wanted = ours.bare("upgrade", variant.to, "--sql")
    files = {file.name: file.read_text() for file in ours.copy.path.glob("*.sql")}
    written = ours.migrator("upgrade", variant.to, "--sql")
    if variant.offline is Offline.REFUSED:
        assert wanted.returncode != 0
        assert written.returncode not in (0, 1), written.output
        assert written.stderr.count("\nexit  ") == 1, written.output
    else:
        beside = checked(wanted).stdout.removesuffix(checked(written).stdout)
        assert (beside != "") is (variant.offline is Offline.CLEANER), written.output
        assert bool(files) is (variant.offline is Offline.FILES)
        assert files == {file.name: file.read_text() for file in ours.copy.path.glob("*.sql")}
        assert files or "INSERT INTO" in written.stdout
    assert ours.left() == before
