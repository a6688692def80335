"""Settings that are wrong: exit 2 with the setting, where it came from and what is allowed; no secret in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import assert_keeps, refused
from tests.harness import UNSET, Database, Project, table_revisions

MakeProject = Callable[..., Project]
SECRET = "correct-horse-7!"
NO_DATABASE = {"MIGRATOR_DATABASE_URL": UNSET}

WITHOUT = """
import sys
from importlib.machinery import PathFinder


class Incomplete(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden!r} else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Incomplete
"""


@pytest.fixture
def shop(project: MakeProject) -> Project:
    return project(revisions=table_revisions("a1"))


def without(project: Project, *modules: str) -> Mapping[str, str]:
    """Variables with which Python runs as if these modules were not installed."""
    project.write("incomplete/sitecustomize.py", WITHOUT.format(hidden=modules))
    return {"PYTHONPATH": str(project.path / "incomplete")}


MALFORMED = {
    "no scheme": (f"shop:{SECRET}@db.internal/shop", "is not a database URL"),
    "a bracket": (f"postgresql://shop:{SECRET}@[db.internal/shop", "names a host that cannot exist"),
    "a second @": (f"postgresql://shop:x@{SECRET}@db.internal/shop", "has an @ where none belongs"),
    "no number": (
        f"postgresql://shop:{SECRET}@db.internal:fivefour/shop",
        "has no number where its port belongs",
    ),
    "a port too high": (f"postgresql://shop:{SECRET}@db.internal:70000/shop", "has a port that is no number"),
    "quotes": (f'"postgresql://shop:{SECRET}@db.internal/shop"', "stands in quotes"),
}


@pytest.mark.parametrize(("url", "problem"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_url_is_told_by_its_source_and_never_shown(shop: Project, url: str, problem: str) -> None:
    refused(
        shop,
        "upgrade",
        env={"MIGRATOR_DATABASE_URL": url},
        code=ExitCode.USAGE,
        says=["MIGRATOR_DATABASE_URL", problem],
        then=[],
        secrets=[SECRET, "correct-horse"],
        harmless=False,
    )


def test_a_malformed_url_in_a_secret_file_is_told_by_the_path_of_the_file(shop: Project) -> None:
    file = shop.write("secrets/url", f"postgresql:/shop:{SECRET}@db.internal/shop\n")
    refused(
        shop,
        "upgrade",
        env={**NO_DATABASE, "MIGRATOR_DATABASE_URL_FILE": str(file)},
        code=ExitCode.USAGE,
        says=["is not a database URL", str(file), "MIGRATOR_DATABASE_URL_FILE"],
        then=["postgresql://USER:PASSWORD@HOST:5432/DATABASE"],
        secrets=[SECRET],
        harmless=False,
    )


def test_an_unknown_driver_is_told_with_those_that_there_are(shop: Project) -> None:
    refused(
        shop,
        "upgrade",
        env={"MIGRATOR_DATABASE_URL": f"postgresql+psycopg4://shop:{SECRET}@db.internal/shop"},
        code=ExitCode.USAGE,
        says=["postgresql+psycopg4", "MIGRATOR_DATABASE_URL", "postgresql+psycopg2", "postgresql+asyncpg"],
        then=["URL"],
        secrets=[SECRET],
        harmless=False,
    )


def test_a_driver_that_is_not_installed_is_told_with_the_extra_that_brings_it(shop: Project) -> None:
    refused(
        shop,
        "upgrade",
        env={
            **without(shop, "psycopg", "psycopg2"),
            "MIGRATOR_DATABASE_URL": f"postgresql+psycopg://shop:{SECRET}@127.0.0.1/shop",
        },
        code=ExitCode.USAGE,
        says=["postgresql+psycopg://", "not installed", "MIGRATOR_DATABASE_URL"],
        then=['pip install "migrator[psycopg]"'],
        secrets=[SECRET],
        harmless=False,
    )


@pytest.mark.parametrize("configured", [True, False], ids=["configured", "only env.py knows"])
def test_a_driver_that_only_env_py_needs_is_told_with_the_extra_that_brings_it(
    shop: Project, database: Database, configured: bool
) -> None:
    url = database.sqlalchemy_url("psycopg")
    if not configured:
        ini = shop.path / "alembic.ini"
        ini.write_text(ini.read_text().replace("postgresql+psycopg2://", "postgresql+psycopg://"))
    refused(
        shop,
        "upgrade",
        env={"MIGRATOR_DATABASE_URL": url if configured else UNSET, **without(shop, "psycopg")},
        code=ExitCode.USAGE,
        says=["driver psycopg is not installed", "env.py"],
        then=['pip install "migrator[psycopg]"'],
    )


def test_an_unknown_driver_in_the_projects_own_url_is_told(shop: Project) -> None:
    ini = shop.path / "alembic.ini"
    ini.write_text(ini.read_text().replace("postgresql+psycopg2://", "postgresql+psycopg4://"))
    refused(
        shop,
        "upgrade",
        env=NO_DATABASE,
        code=ExitCode.USAGE,
        says=["unknown driver", "psycopg4"],
        then=["before ://"],
    )


WRONG = {
    "an unknown setting": (
        {"MIGRATOR_WAIT_TIMEUOT": "5"},
        ["MIGRATOR_WAIT_TIMEUOT is not a setting"],
        ["Did you mean MIGRATOR_WAIT_TIMEOUT?"],
    ),
    "a duration": (
        {"MIGRATOR_WAIT_TIMEOUT": "5 parsecs"},
        ["wait-timeout (MIGRATOR_WAIT_TIMEOUT)", "'5 parsecs'"],
        ["500ms", "10m"],
    ),
    "a choice": (
        {"MIGRATOR_POOLER": "sometimes"},
        ["pooler (MIGRATOR_POOLER)", "'sometimes'"],
        ["'refuse' or 'session'"],
    ),
    "yes or no": ({"MIGRATOR_ALLOW_AHEAD": "maybe"}, ["allow-ahead (MIGRATOR_ALLOW_AHEAD)"], ["yes or no"]),
    "a limit of zero": (
        {"MIGRATOR_LOCK_TIMEOUT": "0"},
        ["lock-timeout (MIGRATOR_LOCK_TIMEOUT)"],
        ["at least 1ms"],
    ),
    "an empty secret": (
        {"MIGRATOR_DATABASE_URL": " "},
        ["MIGRATOR_DATABASE_URL is set, and empty"],
        ["secret"],
    ),
}


@pytest.mark.parametrize(("variables", "said", "then"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_told_with_its_source_and_what_is_allowed(
    shop: Project, variables: Mapping[str, str], said: list[str], then: list[str]
) -> None:
    refused(shop, "upgrade", env=variables, code=ExitCode.USAGE, says=said, then=then, harmless=False)


def test_a_wrong_option_is_told_by_its_own_name(shop: Project) -> None:
    refused(
        shop,
        "upgrade",
        "--lock-timeout",
        "fast",
        code=ExitCode.USAGE,
        says=["lock-timeout (--lock-timeout)", "'fast'"],
        then=["500ms"],
        harmless=False,
    )


def test_a_wrong_setting_in_pyproject_toml_is_told_with_its_place(shop: Project) -> None:
    shop.write("pyproject.toml", '[tool.migrator]\nwait-timeout = "soon"\n')
    refused(
        shop,
        "upgrade",
        code=ExitCode.USAGE,
        says=["wait-timeout (pyproject.toml [tool.migrator])", "'soon'"],
        then=["500ms"],
        harmless=False,
    )


def test_a_secret_in_pyproject_toml_is_refused_and_not_shown(shop: Project) -> None:
    shop.write("pyproject.toml", f'[tool.migrator]\ndatabase-url = "postgresql://shop:{SECRET}@db/shop"\n')
    refused(
        shop,
        "upgrade",
        env=NO_DATABASE,
        code=ExitCode.USAGE,
        says=["database-url holds a secret", "pyproject.toml"],
        then=["MIGRATOR_DATABASE_URL_FILE"],
        secrets=[SECRET],
        harmless=False,
    )


def test_two_sources_that_contradict_each_other_are_both_named(shop: Project) -> None:
    file = shop.write("secrets/url", f"postgresql://shop:{SECRET}@db.internal/shop\n")
    refused(
        shop,
        "upgrade",
        env={"MIGRATOR_DATABASE_URL_FILE": str(file)},
        code=ExitCode.USAGE,
        says=["database-url is given twice", "MIGRATOR_DATABASE_URL ", "MIGRATOR_DATABASE_URL_FILE"],
        then=["Remove one"],
        secrets=[SECRET],
        harmless=False,
    )


UNUSABLE: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "a folder": (lambda path: path.mkdir(), "Is a directory"),
    "empty": (lambda path: path.write_text("\n"), "it is empty"),
    "two lines": (lambda path: path.write_text(f"{SECRET}\n{SECRET}\n"), "more than one line"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe"), "not UTF-8"),
}


@pytest.mark.parametrize(("make", "problem"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_secret_file_that_cannot_be_used_is_told_with_its_path_and_source(
    shop: Project, make: Callable[[Path], object], problem: str
) -> None:
    path = shop.path / "url.secret"
    make(path)
    refused(
        shop,
        "upgrade",
        env={**NO_DATABASE, "MIGRATOR_DATABASE_URL_FILE": str(path)},
        code=ExitCode.USAGE,
        says=[str(path), "MIGRATOR_DATABASE_URL_FILE", problem],
        then=["mounted", "readable"],
        secrets=[SECRET],
        harmless=False,
    )


def test_an_option_that_does_not_exist_is_told_with_the_help_that_lists_them(shop: Project) -> None:
    told = shop.migrator("upgrade", "--wait-timeuot", "5")
    assert told.returncode == ExitCode.USAGE
    assert "--wait-timeuot" in told.stderr
    assert "--wait-timeout" in told.stderr
    assert "migrator upgrade --help" in told.stderr


def test_a_url_on_the_command_line_is_refused_and_not_repeated(shop: Project) -> None:
    url = f"postgresql://shop:{SECRET}@db.internal/shop"
    told = shop.migrator("upgrade", "--database-url", url)
    assert told.returncode == ExitCode.USAGE
    assert "--database-url-file" in told.stderr
    assert_keeps(told, SECRET)
    told = shop.migrator("upgrade", "head", url)
    assert told.returncode == ExitCode.USAGE
    assert "unexpected extra argument" in told.stderr
    assert_keeps(told, SECRET)
