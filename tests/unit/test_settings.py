"""Where settings come from, which source wins, which database that means, and how mistakes are told."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy.engine import make_url

from migrator.errors import ConfigurationError
from migrator.loading import load_settings
from migrator.redaction import Redactor
from migrator.settings import Settings, setting_name, variable_name
from tests.harness import REPOSITORY

URL = "postgresql://shop:s3cret@db:5432/orders"
OTHER = "postgresql://shop:s3cret@other:5432/orders"

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Settings from variables and options, in an empty folder."""

    def load(environ: Mapping[str, str] | None = None, /, **options: object) -> Settings:
        return load_settings(options, environ=environ or {}, directory=tmp_path)

    return load


def told(error: ConfigurationError) -> str:
    """All that a person gets to read of it, and all that a traceback would add."""
    trace = "".join(traceback.format_exception(error)).rpartition("Error:")[2]
    return " ".join((error.message, *error.details, error.next_step, trace))


def refused(load: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as raised:
        load()
    error = raised.value
    assert error.next_step, "every refusal names the next action"
    assert "s3cret" not in told(error)
    assert error.__context__ is None or "s3cret" not in str(error.__context__)
    return told(error)


# Defaults


def test_every_setting_of_the_table_has_its_default(load: Load) -> None:
    assert load().model_dump() == {
        "database_url": None,
        "direct_database_url": None,
        "scratch_url": None,
        "env": None,
        "config": None,
        "name": "alembic",
        "x": (),
        "connect_timeout": 5.0,
        "wait_timeout": 60.0,
        "auth_grace": 0.0,
        "run_lock_timeout": 600.0,
        "lock_timeout": 1.0,
        "lock_retry_timeout": 120.0,
        "index_lock_timeout": 600.0,
        "statement_timeout": None,
        "deadline": None,
        "allow_ahead": False,
        "allow_empty": False,
        "allow_other_targets": False,
        "pooler": "refuse",
        "lock": "auto",
        "export_url_as": (),
        "log_format": "text",
        "json_output": False,
        "verbose": False,
    }


def test_every_setting_is_described_and_comes_from_its_default(load: Load) -> None:
    sources = load().sources
    for attribute, field in Settings.model_fields.items():
        assert field.description
        assert field.description.endswith(".")
        assert sources[setting_name(attribute)] == "default"
    assert len(sources) == len(Settings.model_fields)


def test_names_are_one_per_idea() -> None:
    assert setting_name("wait_timeout") == "wait-timeout"
    assert variable_name("wait_timeout") == "MIGRATOR_WAIT_TIMEOUT"
    assert setting_name("json_output") == "json"
    assert variable_name("json_output") == "MIGRATOR_JSON"


# Sources


@pytest.mark.parametrize(
    ("attribute", "text", "value"),
    [
        ("wait_timeout", "1m30s", 90.0),
        ("auth_grace", "0", 0.0),
        ("statement_timeout", "500ms", 0.5),
        ("x", "tenant=acme 'note=two words'", ("tenant=acme", "note=two words")),
        ("export_url_as", "DEV_DATABASE_URL, APP_URL", ("DEV_DATABASE_URL", "APP_URL")),
        ("export_url_as", "DEV_DATABASE_URL APP_URL", ("DEV_DATABASE_URL", "APP_URL")),
        ("allow_ahead", "yes", True),
        ("verbose", "0", False),
        ("json_output", "true", True),
        ("pooler", "session", "session"),
        ("log_format", "json", "json"),
        ("config", "db/alembic.ini", "db/alembic.ini"),
        ("env", "pre-prod", "pre-prod"),
    ],
)
def test_a_setting_is_the_same_by_option_variable_file_and_dotenv(
    load: Load, tmp_path: Path, attribute: str, text: str, value: object
) -> None:
    variable = variable_name(attribute)
    secret = tmp_path / "secret"
    secret.write_text(f"{text}\n")
    found = {
        variable: load({variable: text}),
        f"{secret} ({variable}_FILE)": load({f"{variable}_FILE": str(secret)}),
        "-x" if attribute == "x" else f"--{setting_name(attribute)}": load(**{attribute: text}),
    }
    if attribute != "env":
        (tmp_path / ".env").write_text(f'{variable}="{text}"\n')
        found[".env"] = load()
    for source, settings in found.items():
        assert getattr(settings, attribute) == value
        assert settings.sources[setting_name(attribute)] == source


def test_the_nearest_source_wins(load: Load, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.migrator]\nwait-timeout = "5s"\n')
    assert (load().wait_timeout, load().sources["wait-timeout"]) == (5.0, "pyproject.toml [tool.migrator]")
    (tmp_path / ".env").write_text("MIGRATOR_WAIT_TIMEOUT=4\n")
    assert (load().wait_timeout, load().sources["wait-timeout"]) == (4.0, ".env")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "migrator_wait_timeout").write_text("3")
    environ = {"MIGRATOR_SECRETS_DIR": "secrets"}
    settings = load(environ)
    assert settings.wait_timeout == 3.0
    assert settings.sources["wait-timeout"] == str(tmp_path / "secrets" / "migrator_wait_timeout")
    environ["MIGRATOR_WAIT_TIMEOUT"] = "2"
    assert (load(environ).wait_timeout, load(environ).sources["wait-timeout"]) == (
        2.0,
        "MIGRATOR_WAIT_TIMEOUT",
    )
    settings = load(environ, wait_timeout="1s")
    assert (settings.wait_timeout, settings.sources["wait-timeout"]) == (1.0, "--wait-timeout")
    assert load(environ, wait_timeout=None).wait_timeout == 2.0


def test_a_python_caller_reads_of_its_keywords(tmp_path: Path) -> None:
    settings = load_settings({"wait_timeout": 1}, environ={}, directory=tmp_path, caller="python")
    assert settings.sources["wait-timeout"] == "wait_timeout="


@pytest.mark.parametrize(
    "given", [URL, SecretStr(URL), make_url(URL)], ids=["text", "secret", "SQLAlchemy's"]
)
def test_a_python_caller_may_give_the_url_in_whatever_form(load: Load, given: object) -> None:
    database = load(database_url=given, config=Path("db/alembic.ini")).database
    assert database is not None
    assert (database.given.get_secret_value(), database.source) == (URL, "database_url=")
    assert load(config=Path("db/alembic.ini")).config == "db/alembic.ini"


def test_the_process_environment_and_the_working_directory_are_the_default(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MIGRATOR_NAME=from_dotenv")
    script = "from migrator.loading import load_settings as load; print(load().name, load().wait_timeout)"
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MIGRATOR_WAIT_TIMEOUT": "7"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("from_dotenv 7.0\n", "")


def test_an_empty_variable_counts_as_one_that_is_not_there(load: Load) -> None:
    settings = load({"MIGRATOR_WAIT_TIMEOUT": "", "MIGRATOR_DIRECT_DATABASE_URL": " ", "DATABASE_URL": ""})
    assert settings.wait_timeout == 60.0
    assert settings.database is None


@pytest.mark.parametrize(
    ("environ", "near"),
    [
        ({"MIGRATOR_WAIT_TIMOUT": "5"}, "MIGRATOR_WAIT_TIMEOUT"),
        ({"MIGRATOR_DATABSE_URL": URL}, "MIGRATOR_DATABASE_URL"),
        ({"MIGRATOR_DATABASE_URL_FILES": "x"}, "MIGRATOR_DATABASE_URL_FILE"),
        ({"MIGRATOR_DIRECT_URL": URL}, "MIGRATOR_DIRECT_DATABASE_URL"),
        ({"migrator_wait_timeout": "5"}, "MIGRATOR_WAIT_TIMEOUT"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_one(
    load: Load, environ: dict[str, str], near: str
) -> None:
    message = refused(lambda: load(environ))
    assert next(iter(environ)) in message
    assert f"Did you mean {near}?" in message


def test_an_unknown_variable_near_to_nothing_is_refused_with_all_there_are(load: Load) -> None:
    message = refused(lambda: load({"MIGRATOR_QQQ": "s3cret"}))
    assert all(variable_name(attribute) in message for attribute in Settings.model_fields)


def test_an_unknown_option_is_refused_with_the_nearest_one(load: Load) -> None:
    assert "Did you mean wait_timeout?" in refused(lambda: load(wait_timout=5))


def test_the_variables_of_a_kubernetes_service_are_no_settings(load: Load) -> None:
    link = {
        "MIGRATOR_SERVICE_HOST": "10.0.0.7",
        "MIGRATOR_SERVICE_PORT": "80",
        "MIGRATOR_SERVICE_PORT_HTTP": "80",
        "MIGRATOR_PORT": "tcp://10.0.0.7:80",
        "MIGRATOR_PORT_80_TCP_ADDR": "10.0.0.7",
        "MIGRATOR_API_SERVICE_HOST": "10.0.0.8",
        "MIGRATOR_API_PORT": "tcp://10.0.0.8:80",
    }
    assert load(link).sources == load().sources
    assert "MIGRATOR_PORT" in refused(lambda: load({"MIGRATOR_PORT": "5432"}))


# Wrong values


@pytest.mark.parametrize(
    ("attribute", "text", "problem", "allowed"),
    [
        ("wait_timeout", "soon", "'soon' is not a duration", "500ms, 30s, 10m"),
        ("wait_timeout", "-5", "'-5' is not a duration", "30s"),
        ("lock_timeout", "0", "'0' is too short", "at least 1ms"),
        ("lock_timeout", "0.0004", "too short", "at least 1ms"),
        ("connect_timeout", "0s", "too short", "at least 1ms"),
        ("index_lock_timeout", "0", "too short", "at least 1ms"),
        ("statement_timeout", "0", "too short", "at least 1ms"),
        ("deadline", "0", "too short", "at least 1ms"),
        ("deadline", "1000h", "too long", "at most 596h"),
        ("pooler", "transaction", "'transaction' is not one of the choices", "'refuse' or 'session'"),
        ("pooler", "transaction", "choices", "'refuse' or 'session'"),
        ("log_format", "xml", "choices", "'text' or 'json'"),
        ("allow_ahead", "perhaps", "'perhaps' is neither yes nor no", "yes or no"),
        ("export_url_as", "DEV-URL", "variable names", "DEV_DATABASE_URL"),
        ("x", "it's", "quote", "as in a shell"),
        ("name", "two\nlines", "not a name", "one line"),
        ("env", "../prod", "environment", "dev, test or prod"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_its_source_and_what_is_allowed(
    load: Load, attribute: str, text: str, problem: str, allowed: str
) -> None:
    for source, found in (
        (variable_name(attribute), lambda: load({variable_name(attribute): text})),
        ("-x" if attribute == "x" else f"--{setting_name(attribute)}", lambda: load(**{attribute: text})),
    ):
        message = refused(found)
        assert f"{setting_name(attribute)} ({source})" in message
        assert problem in message
        assert allowed in message


def test_every_wrong_value_is_told_at_once(load: Load) -> None:
    message = refused(lambda: load({"MIGRATOR_WAIT_TIMEOUT": "soon", "MIGRATOR_POOLER": "transaction"}))
    assert "wait-timeout (MIGRATOR_WAIT_TIMEOUT)" in message
    assert "pooler (MIGRATOR_POOLER)" in message


def test_a_url_in_the_wrong_variable_is_not_shown(load: Load) -> None:
    assert "***@db" in refused(lambda: load({"MIGRATOR_WAIT_TIMEOUT": URL}))
    assert "MIGRATOR_ENV" in refused(lambda: load({"MIGRATOR_ENV": URL}))


@pytest.mark.parametrize(
    "attribute", ["auth_grace", "wait_timeout", "run_lock_timeout", "lock_retry_timeout"]
)
def test_zero_is_allowed_where_it_means_at_once(load: Load, attribute: str) -> None:
    assert getattr(load({variable_name(attribute): "0"}), attribute) == 0


# Secret files


def test_the_database_url_comes_from_a_secret_file(load: Load, tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_bytes(b"\xef\xbb\xbf" + URL.encode() + b"\r\n")
    for settings, source in (
        (load({"MIGRATOR_DATABASE_URL_FILE": str(secret)}), f"{secret} (MIGRATOR_DATABASE_URL_FILE)"),
        (load({"MIGRATOR_DATABASE_URL_FILE": "url"}), "url (MIGRATOR_DATABASE_URL_FILE)"),
        (load(database_url_file=secret), f"{secret} (--database-url-file)"),
        (load(direct_database_url_file="url"), "url (--direct-database-url-file)"),
    ):
        database = settings.database
        assert database is not None
        assert (database.given.get_secret_value(), database.source) == (URL, source)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"postgresql://shop:s3cret\xff@db/orders", "not UTF-8"),
        (f"{URL}\n{URL}\n".encode(), "more than one line"),
        ("folder", "Is a directory"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_named_with_the_reason(
    load: Load, tmp_path: Path, content: bytes | str | None, problem: str
) -> None:
    secret = tmp_path / "url"
    if isinstance(content, bytes):
        secret.write_bytes(content)
    elif content:
        secret.mkdir()
    message = refused(lambda: load({"MIGRATOR_DATABASE_URL_FILE": str(secret)}))
    for word in ("database-url", str(secret), "MIGRATOR_DATABASE_URL_FILE", problem):
        assert word in message
    assert "--database-url-file" in refused(lambda: load(database_url_file=str(secret)))


def test_a_secret_file_without_permission_is_named(load: Load, tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(URL)
    secret.chmod(0)
    me = os.geteuid()
    if me == 0:  # root may read everything
        os.seteuid(65534)
    try:
        message = refused(lambda: load({"MIGRATOR_DATABASE_URL_FILE": str(secret)}))
    finally:
        os.seteuid(me)
    assert "Permission denied" in message


def test_a_url_where_a_path_belongs_is_not_shown(load: Load) -> None:
    message = refused(lambda: load({"MIGRATOR_DATABASE_URL_FILE": URL}))
    assert "MIGRATOR_DATABASE_URL_FILE holds a URL" in message


@pytest.mark.parametrize(
    "name", ["migrator_database_url", "MIGRATOR_DATABASE_URL", "database-url", "database_url"]
)
def test_a_file_in_the_secrets_directory_is_found_by_its_name(load: Load, tmp_path: Path, name: str) -> None:
    (tmp_path / "kubernetes.io").mkdir()
    (tmp_path / name).write_text(URL)
    settings = load({"MIGRATOR_SECRETS_DIR": str(tmp_path)})
    assert settings.database is not None
    assert settings.database.source == settings.sources["database-url"] == str(tmp_path / name)


def test_other_files_in_the_secrets_directory_are_somebody_elses(load: Load, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("config", "name", "pooler", "env", "verbose", "migrator_password", "database-url.bak"):
        (secrets / name).write_text("other")
    (secrets / "migrator_name").mkdir()
    settings = load({"MIGRATOR_SECRETS_DIR": "secrets"})
    assert set(settings.sources.values()) == {"default"}


def test_the_prefixed_secret_is_meant_for_us_and_wins(load: Load, tmp_path: Path) -> None:
    (tmp_path / "database_url").write_text(OTHER)
    (tmp_path / "migrator_database_url").write_text(URL)
    database = load({"MIGRATOR_SECRETS_DIR": "."}).database
    assert database is not None
    assert database.url.host == "db"


def test_a_secrets_directory_that_was_named_must_be_there(load: Load, tmp_path: Path) -> None:
    message = refused(lambda: load({"MIGRATOR_SECRETS_DIR": "gone"}))
    for word in (str(tmp_path / "gone"), "MIGRATOR_SECRETS_DIR", "No such file"):
        assert word in message


# Contradictions


def test_a_variable_and_its_file_contradict_each_other(load: Load, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(URL)
    environ = {"MIGRATOR_DATABASE_URL": URL, "MIGRATOR_DATABASE_URL_FILE": "url"}
    message = refused(lambda: load(environ))
    assert "MIGRATOR_DATABASE_URL and by MIGRATOR_DATABASE_URL_FILE" in message
    environ["MIGRATOR_DATABASE_URL"] = ""
    assert load(environ).database is not None


def test_a_variable_and_its_file_contradict_each_other_in_one_dotenv(load: Load, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(URL)
    (tmp_path / ".env").write_text(f"MIGRATOR_DATABASE_URL={URL}\nMIGRATOR_DATABASE_URL_FILE=url\n")
    message = refused(load)
    assert "MIGRATOR_DATABASE_URL and by .env (MIGRATOR_DATABASE_URL_FILE)" in message


def test_a_url_and_a_file_given_by_the_caller_contradict_each_other(load: Load, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(URL)
    message = refused(lambda: load(database_url=URL, database_url_file="url"))
    assert "database_url= and by --database-url-file" in message


def test_two_secret_files_that_differ_contradict_each_other(load: Load, tmp_path: Path) -> None:
    (tmp_path / "migrator_database_url").write_text(URL)
    (tmp_path / "url").write_text(OTHER)
    environ = {"MIGRATOR_SECRETS_DIR": str(tmp_path), "MIGRATOR_DATABASE_URL_FILE": "url"}
    message = refused(lambda: load(environ))
    assert "MIGRATOR_DATABASE_URL_FILE" in message
    assert str(tmp_path / "migrator_database_url") in message
    (tmp_path / "url").write_text(URL + "\n")
    assert load(environ).database is not None


@pytest.mark.parametrize(
    "environ",
    [
        {"MIGRATOR_DATABASE_URL": ""},
        {"MIGRATOR_DATABASE_URL_FILE": " "},
        {"MIGRATOR_ENV": "test", "TEST_DATABASE_URL": ""},
    ],
)
def test_an_empty_url_is_a_secret_that_did_not_arrive(load: Load, environ: dict[str, str]) -> None:
    message = refused(lambda: load({**environ, "DATABASE_URL": OTHER}))
    assert list(environ)[-1] in message
    assert "empty" in message
    assert load(environ, database_url=URL).database is not None


# .env files


def test_with_an_environment_name_its_own_file_is_read_and_no_other(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MIGRATOR_NAME=plain\nMIGRATOR_WAIT_TIMEOUT=1\n")
    (tmp_path / ".env.test").write_text("MIGRATOR_NAME=tested\n")
    assert load().name == "plain"
    settings = load(env="test")
    assert (settings.name, settings.sources["name"], settings.wait_timeout) == ("tested", ".env.test", 60.0)
    assert load({"MIGRATOR_ENV": "test"}).name == "tested"
    assert load(env="prod").name == "alembic"


def test_the_environment_name_may_come_from_pyproject(load: Load, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.migrator]\nenv = "dev"\n')
    (tmp_path / ".env.dev").write_text("MIGRATOR_NAME=developed\n")
    assert load().name == "developed"


def test_a_shared_dotenv_gives_only_the_named_url_to_an_environment(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={OTHER}\nMIGRATOR_NAME=plain\nTEST_DATABASE_URL={URL}\n")
    settings = load(env="test")
    assert settings.name == "alembic"
    assert settings.database is not None
    assert (settings.database.url.host, settings.database.source) == ("db", ".env (TEST_DATABASE_URL)")
    assert load(env="prod").database is None


def test_other_variables_in_a_dotenv_are_somebody_elses(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# theirs\nexport SECRET_KEY='x y'\nNOTHING\nAPP_WAIT_TIMEOUT=5\n")
    assert set(load().sources.values()) == {"default"}


def test_an_unknown_setting_in_a_dotenv_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env.test").write_text("MIGRATOR_WAIT_TIMOUT=5\n")
    message = refused(lambda: load(env="test"))
    assert "MIGRATOR_WAIT_TIMOUT is not a setting (in .env.test)" in message
    assert "Did you mean MIGRATOR_WAIT_TIMEOUT?" in message


@pytest.mark.parametrize("variable", ["MIGRATOR_ENV", "MIGRATOR_SECRETS_DIR"])
def test_what_decides_which_files_are_read_cannot_stand_in_one(
    load: Load, tmp_path: Path, variable: str
) -> None:
    (tmp_path / ".env").write_text(f"{variable}=.\n")
    assert f"{variable} cannot stand in .env" in refused(load)
    (tmp_path / ".env.test").write_text("MIGRATOR_ENV=test\n")
    assert load({"MIGRATOR_ENV": "test"}).env == "test"


def test_a_dotenv_that_is_not_text_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    assert ".env cannot be read: it is not UTF-8 text" in refused(load)


# pyproject.toml


def test_pyproject_gives_settings_in_its_own_types(load: Load, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.migrator]\n"
        'x = ["tenant=acme", "note=two words"]\nexport-url-as = ["DEV_DATABASE_URL"]\nwait-timeout = 90\n'
        'lock-timeout = 0.5\ndeadline = "1h"\nallow-ahead = true\njson = true\nlog-format = "json"\n'
    )
    settings = load()
    assert settings.x == ("tenant=acme", "note=two words")
    assert settings.export_url_as == ("DEV_DATABASE_URL",)
    assert (settings.wait_timeout, settings.lock_timeout, settings.deadline) == (90.0, 0.5, 3600.0)
    assert settings.allow_ahead
    assert settings.json_output
    assert settings.log_format == "json"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wait-timout = 5", ["wait-timout", "Did you mean wait-timeout?"]),
        ("wait_timeout = 5", ["wait_timeout", "Did you mean wait-timeout?"]),
        ("password = 's3cret'", ["password is not a setting"]),
        (f"database-url = '{URL}'", ["database-url holds a secret", "MIGRATOR_DATABASE_URL_FILE"]),
        ("direct-database-url = 'x'", ["direct-database-url holds a secret"]),
        (
            "scratch-url = 'x'",
            ["scratch-url holds a secret", "set MIGRATOR_SCRATCH_URL or MIGRATOR_SCRATCH_URL_FILE"],
        ),
        (f"x = ['url={URL}']", ["x holds a secret"]),
        ("wait-timeout = true", ["wait-timeout (pyproject.toml [tool.migrator])", "not a duration"]),
        ("export-url-as = 5", ["export-url-as", "not a list"]),
        ("export-url-as = [5]", ["export-url-as", "variable names"]),
        ("name = 5", ["name", "not text"]),
        ("wait-timeout =", ["pyproject.toml cannot be read", "line 2"]),
    ],
)
def test_pyproject_is_checked_as_everything_else(
    load: Load, tmp_path: Path, text: str, words: list[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.migrator]\n{text}\n")
    message = refused(load)
    assert all(word in message for word in words)
    assert "pyproject.toml" in message


def test_a_pyproject_without_us_is_not_our_business(load: Load, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other\n")
    assert set(load().sources.values()) == {"default"}
    (tmp_path / "pyproject.toml").write_text("tool = 1 # migrator\n")
    assert set(load().sources.values()) == {"default"}
    (tmp_path / "pyproject.toml").write_text("[tool]\nmigrator = 1\n")
    assert "not a table" in refused(load)


# The database

PARTS = {"DB_HOST": "parts", "DB_PORT": "5433", "DB_USER": "u", "DB_PASSWORD": "s3cret", "DB_NAME": "n"}
LIBPQ = {"PGHOST": "libpq", "PGPORT": "5434", "PGUSER": "u", "PGPASSWORD": "s3cret", "PGDATABASE": "n"}


def at(host: str) -> str:
    return f"postgresql://u:s3cret@{host}/n"


def test_the_first_name_for_the_database_wins(load: Load) -> None:
    everything = {
        "MIGRATOR_DIRECT_DATABASE_URL": at("direct"),
        "MIGRATOR_DATABASE_URL": at("ours"),
        "TEST_DATABASE_URL": at("named"),
        "DATABASE_URL": at("plain"),
        **PARTS,
        **LIBPQ,
    }
    environ = dict(everything)
    order = []
    while (database := load(environ, env="test").database) is not None:
        order.append((database.url.host, database.source))
        for name in re.findall(r"[A-Z_]+", database.source):
            del environ[name]
    assert order == [
        ("direct", "MIGRATOR_DIRECT_DATABASE_URL"),
        ("ours", "MIGRATOR_DATABASE_URL"),
        ("named", "TEST_DATABASE_URL"),
        ("plain", "DATABASE_URL"),
        ("parts", "DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_NAME"),
        ("libpq", "PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE"),
    ]
    assert environ == {}


def test_without_an_environment_name_its_url_does_not_count(load: Load) -> None:
    assert load({"TEST_DATABASE_URL": at("named")}).database is None
    database = load({"PRE_PROD_DATABASE_URL": at("named")}, env="pre-prod").database
    assert database is not None
    assert database.source == "PRE_PROD_DATABASE_URL"


def test_the_direct_url_does_not_replace_one_that_was_given_with_the_command(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(at("asked"))
    environ = {"MIGRATOR_DIRECT_DATABASE_URL": at("direct"), "MIGRATOR_DATABASE_URL": at("ours")}
    database = load(environ, database_url_file="url").database
    assert database is not None
    assert database.url.host == "asked"
    (tmp_path / "direct").write_text(at("direct"))
    environ = {"MIGRATOR_DIRECT_DATABASE_URL_FILE": "direct", "MIGRATOR_DATABASE_URL": at("ours")}
    database = load(environ).database
    assert database is not None
    assert database.url.host == "direct"


def test_the_environment_counts_before_the_dotenv_for_the_same_name(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={at('file')}\nDB_PASSWORD=s3cret\n")
    database = load({"DATABASE_URL": at("variable")}).database
    assert database is not None
    assert (database.url.host, database.source) == ("variable", "DATABASE_URL")
    database = load().database
    assert database is not None
    assert (database.url.host, database.source) == ("file", ".env (DATABASE_URL)")


def test_parts_may_come_from_the_dotenv(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DB_HOST=db\nDB_NAME=orders\nDB_PASSWORD=s3cret\n")
    database = load().database
    assert database is not None
    assert database.source == ".env (DB_HOST, DB_PASSWORD, DB_NAME)"
    database = load({"DB_HOST": "nearer", "DB_USER": "u"}).database
    assert database is not None
    assert database.source == "DB_HOST, DB_USER, DB_PASSWORD, DB_NAME (partly from .env)"
    assert (database.url.host, database.url.password) == ("nearer", "s3cret")


AWKWARD = (
    "p%40ss",
    "p@ss",
    "a/b",
    "a:b",
    "#1?&=",
    'it\'s "q"',
    "sp ace+plus",
    "pässwörd✓",
    "[x]",
    "100%",
    "back\\slash",
)


@pytest.mark.parametrize("password", AWKWARD)
def test_a_password_in_parts_arrives_intact(load: Load, password: str) -> None:
    for host, user, part, name in (
        ("DB_HOST", "DB_USER", "DB_PASSWORD", "DB_NAME"),
        ("PGHOST", "PGUSER", "PGPASSWORD", "PGDATABASE"),
    ):
        database = load({host: "db", user: f"u{password}", part: password, name: "orders"}).database
        assert database is not None
        text = database.given.get_secret_value()
        assert urlsplit(text).hostname == "db", "readers other than SQLAlchemy understand it as well"
        again = make_url(text)
        for url in (database.url, again):
            assert (url.username, url.password, url.host, url.database) == (
                f"u{password}",
                password,
                "db",
                "orders",
            )


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"DB_HOST": "db", "DB_NAME": "orders"}, "postgresql://db/orders"),
        ({"DB_HOST": "::1", "DB_PORT": "5433", "DB_NAME": "orders"}, "postgresql://[::1]:5433/orders"),
        (
            {"DB_HOST": "/cloudsql/a:b:c", "DB_USER": "u", "DB_NAME": "orders"},
            "postgresql://u@/orders?host=%2Fcloudsql%2Fa%3Ab%3Ac",
        ),
        (
            {"PGHOST": "one,two", "PGPORT": "5432,5433", "PGDATABASE": "orders"},
            "postgresql:///orders?host=one%2Ctwo&port=5432%2C5433",
        ),
        ({"PGDATABASE": "orders"}, "postgresql:///orders"),
        ({"PGSERVICE": "shop", **LIBPQ}, "postgresql://?service=shop"),
        ({"DB_HOST": "db", "DB_NAME": "two words"}, "postgresql://db/two words"),
    ],
)
def test_parts_become_a_url(load: Load, environ: dict[str, str], url: str) -> None:
    database = load(environ).database
    assert database is not None
    assert database.given.get_secret_value() == url


def test_the_name_of_a_database_in_parts_arrives_intact(load: Load) -> None:
    database = load({"DB_HOST": "db", "DB_NAME": "50% off?#@"}).database
    assert database is not None
    assert database.url.database == "50% off?#@"


@pytest.mark.parametrize(
    "environ",
    [
        {"DB_HOST": "db", "DB_USER": "u", "DB_PASSWORD": "s3cret"},
        {"DB_NAME": "orders"},
        {"PGHOST": "db", "PGUSER": "u", "PGPASSWORD": "s3cret"},
    ],
)
def test_parts_that_do_not_name_a_database_do_not_count(load: Load, environ: dict[str, str]) -> None:
    assert load(environ).database is None


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"MIGRATOR_DATABASE_URL": "postgresql://u:s3cret@[bad/x"}, ["MIGRATOR_DATABASE_URL", "host"]),
        ({"DATABASE_URL": "postgresql://u:s3@cret@db/x"}, ["DATABASE_URL", "%40"]),
        ({**PARTS, "DB_PORT": "x"}, ["DB_HOST, DB_PORT", "number"]),
        ({**PARTS, "DB_HOST": "b@d"}, ["DB_HOST", "@"]),
        ({**PARTS, "DB_HOST": at("db")}, ["DB_HOST", "URL", "MIGRATOR_DATABASE_URL"]),
        ({**PARTS, "DB_NAME": "/var/lib/shop.db"}, ["DB_NAME", "path"]),
    ],
)
def test_a_malformed_database_is_refused_when_it_counts(
    load: Load, environ: dict[str, str], words: list[str]
) -> None:
    settings = load(environ)
    message = refused(lambda: settings.database)
    assert all(word in message for word in words)
    settings.secrets()
    assert load(environ, database_url=URL).database is not None


# What env.py gets


def test_env_py_gets_the_url_and_its_parts_where_they_are_not_set(load: Load) -> None:
    settings = load(
        {"MIGRATOR_DATABASE_URL": "postgres://shop:p%40ss@db/orders", "MIGRATOR_EXPORT_URL_AS": "DEV_URL"}
    )
    assert settings.project_environment() == {
        "DATABASE_URL": "postgresql://shop:p%40ss@db/orders",
        "DEV_URL": "postgresql://shop:p%40ss@db/orders",
        "DB_HOST": "db",
        "DB_PORT": "5432",
        "DB_USER": "shop",
        "DB_PASSWORD": "p@ss",
        "DB_NAME": "orders",
    }


def test_what_is_set_stays_but_for_the_names_that_were_asked_for(load: Load) -> None:
    environ = {"MIGRATOR_DATABASE_URL": URL, "DATABASE_URL": OTHER, "DEV_URL": OTHER}
    variables = load(environ, export_url_as=("DEV_URL",)).project_environment()
    assert "DATABASE_URL" not in variables
    assert variables["DEV_URL"] == URL


def test_no_database_is_made_of_the_parts_of_two(load: Load) -> None:
    variables = load({"MIGRATOR_DATABASE_URL": URL, "DB_HOST": "other"}).project_environment()
    assert variables == {"DATABASE_URL": URL}
    variables = load({"MIGRATOR_DATABASE_URL": URL, "DB_HOST": "db"}).project_environment()
    assert variables == {
        "DATABASE_URL": URL,
        "DB_PORT": "5432",
        "DB_USER": "shop",
        "DB_PASSWORD": "s3cret",
        "DB_NAME": "orders",
    }


def test_a_direct_url_takes_the_place_of_those_that_lead_to_the_pooler(load: Load) -> None:
    pooled = {"DATABASE_URL": "postgresql+asyncpg://shop:s3cret@pooler:6432/orders", "DB_HOST": "pooler"}
    settings = load({**pooled, "MIGRATOR_DIRECT_DATABASE_URL": URL, "MIGRATOR_EXPORT_URL_AS": "DEV_URL"})
    assert settings.project_environment() == {
        "DATABASE_URL": URL.replace("postgresql:", "postgresql+asyncpg:"),
        "DEV_URL": URL,
        "DB_HOST": "db",
        "DB_PORT": "5432",
        "DB_USER": "shop",
        "DB_PASSWORD": "s3cret",
        "DB_NAME": "orders",
    }


def test_what_only_the_dotenv_has_is_handed_on(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={URL}\n")
    assert load().project_environment()["DATABASE_URL"] == URL


def test_the_driver_that_was_given_is_handed_on(load: Load) -> None:
    variables = load({"MIGRATOR_DATABASE_URL": "postgres+asyncpg://u:s3cret@db/orders"}).project_environment()
    assert variables["DATABASE_URL"] == "postgresql+asyncpg://u:s3cret@db/orders"


def test_a_database_without_a_host_has_no_parts(load: Load) -> None:
    assert load(database_url="sqlite:///shop.db").project_environment() == {
        "DATABASE_URL": "sqlite:///shop.db"
    }
    variables = load(database_url="postgresql://u@/orders?host=/tmp/sockets").project_environment()
    assert variables["DB_HOST"] == "/tmp/sockets"


def test_without_a_database_env_py_gets_nothing(load: Load) -> None:
    assert load(export_url_as=("DEV_URL",)).project_environment() == {}


# Secrets


def test_every_password_that_was_found_is_known_for_masking(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://u:from-dotenv@db/orders\n")
    environ = {
        "MIGRATOR_DATABASE_URL": "postgresql://shop:p%40ssword@db/orders?sslpassword=for-the-key",
        "MIGRATOR_DIRECT_DATABASE_URL": "postgresql://u:from-direct@db/orders",
        "MIGRATOR_SCRATCH_URL": "postgresql://u:from-scratch@db/postgres",
        "TEST_DATABASE_URL": "postgresql://u:mal@formed@db/orders",
        "DB_PASSWORD": "from-parts",
        "DB_USER": "shop",
        "PGPASSWORD": "from-libpq",
    }
    secrets = dict(load(environ).secrets())
    assert secrets["p@ssword"] == {"shop", "orders", "db"}
    assert secrets["from-parts"] == {"shop"}
    assert {"for-the-key", "from-direct", "from-scratch", "from-dotenv", "from-libpq"} < set(secrets)
    (tmp_path / ".env.test").touch()
    assert "mal@formed" in dict(load(environ, env="test").secrets())


def test_a_redactor_that_knows_the_secrets_masks_what_was_given(load: Load) -> None:
    settings = load({"DATABASE_URL": "postgresql://shop:p%2fss%3aw@db/orders"})
    redactor = Redactor()
    for secret, never in settings.secrets():
        redactor.add(secret, never=never)
    assert redactor.redact("p/ss:w p%2fss%3aw p%2Fss%3Aw p%%2Fss%%3Aw") == "*** *** *** ***"


def test_nothing_shows_a_secret_unasked(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DB_PASSWORD=s3cret\n")
    for settings in (
        load({"MIGRATOR_DATABASE_URL": URL, "MIGRATOR_DIRECT_DATABASE_URL": URL, "PGPASSWORD": "s3cret"}),
        load({"DATABASE_URL": URL}, x=(f"url={URL}",)),
        load(PARTS),
        Settings(database_url=SecretStr(URL)),
    ):
        shown = [repr(settings), str(settings), repr(settings.database), repr(settings._found)]
        shown += [str(line) for line in settings.describe()]
        assert settings.database is not None
        assert not any("s3cret" in text for text in shown)


# Looking at them


def test_every_setting_is_described_with_its_value_and_source(load: Load) -> None:
    environ = {
        "MIGRATOR_DATABASE_URL": URL,
        "MIGRATOR_LOCK_TIMEOUT": "500ms",
        "MIGRATOR_EXPORT_URL_AS": "A,B",
    }
    lines = {name: (value, source) for name, value, source in load(environ, verbose=True).describe()}
    assert list(lines) == ["database", *(setting_name(attribute) for attribute in Settings.model_fields)]
    assert lines["database"] == ("postgresql://shop:***@db:5432/orders", "MIGRATOR_DATABASE_URL")
    assert lines["database-url"] == ("postgresql://shop:***@db:5432/orders", "MIGRATOR_DATABASE_URL")
    assert lines["direct-database-url"] == ("none", "default")
    assert lines["config"] == ("alembic.ini", "default")
    assert lines["name"] == ("alembic", "default")
    assert lines["lock-timeout"] == ("500 ms", "MIGRATOR_LOCK_TIMEOUT")
    assert lines["run-lock-timeout"] == ("10 m", "default")
    assert lines["auth-grace"] == ("0 s", "default")
    assert lines["statement-timeout"] == ("none", "default")
    assert lines["allow-ahead"] == ("no", "default")
    assert lines["verbose"] == ("yes", "--verbose")
    assert lines["export-url-as"] == ("A, B", "MIGRATOR_EXPORT_URL_AS")
    assert lines["json"] == ("no", "default")


def test_the_described_database_is_the_one_that_counts(load: Load) -> None:
    assert load().describe()[0] == ("database", "whatever env.py connects to", "env.py")
    assert load({"DATABASE_URL": URL}).describe()[0].source == "DATABASE_URL"
    malformed = load({"DATABASE_URL": URL, "MIGRATOR_DIRECT_DATABASE_URL": at("direct"), "DB_PORT": "x"})
    assert malformed.describe()[0].value == "postgresql://u:***@direct/n"


def test_a_url_that_does_not_count_and_is_malformed_is_not_shown(load: Load) -> None:
    environ = {
        "MIGRATOR_DATABASE_URL": "postgresql://u:s3cret/x",
        "MIGRATOR_DIRECT_DATABASE_URL": at("direct"),
    }
    lines = {line.name: line.value for line in load(environ).describe()}
    assert lines["database-url"] == "***"


# The model


def test_settings_made_directly_read_neither_variables_nor_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("WAIT_TIMEOUT=1\nMIGRATOR_WAIT_TIMEOUT=1\n")
    monkeypatch.chdir(tmp_path)
    for name in ("WAIT_TIMEOUT", "MIGRATOR_WAIT_TIMEOUT", "name", "NAME"):
        monkeypatch.setenv(name, "2")
    settings = Settings(lock_timeout=2)
    assert (settings.wait_timeout, settings.name, settings.lock_timeout) == (60.0, "alembic", 2.0)
    assert settings.sources["lock-timeout"] == "lock_timeout="
    assert settings.database is None


def test_settings_made_directly_know_their_database() -> None:
    settings = Settings(database_url=SecretStr(URL), export_url_as=("DEV_URL",))
    assert settings.database is not None
    assert (settings.database.url.host, settings.database.source) == ("db", "database_url=")
    assert settings.project_environment()["DEV_URL"] == URL
    with pytest.raises(ValidationError) as raised:
        Settings(wait_timeout=f"{URL} s3cret")  # type: ignore[arg-type]
    assert "s3cret" not in str(raised.value)


def test_settings_are_frozen_hashable_and_comparable(load: Load) -> None:
    settings = load({"MIGRATOR_DATABASE_URL": URL}, x=("a=b",))
    with pytest.raises(ValidationError):
        settings.wait_timeout = 5.0
    with pytest.raises(TypeError):
        settings.sources["name"] = "x"  # type: ignore[index]
    assert hash(settings) == hash(load({"MIGRATOR_DATABASE_URL": URL}, x=("a=b",)))
    assert pickle.loads(pickle.dumps(settings)).database == settings.database


def test_reading_settings_imports_neither_sqlalchemy_nor_toml_unasked(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    script = (
        "import sys; from migrator.loading import load_settings\n"
        "load_settings({}, environ={'MIGRATOR_DATABASE_URL': 'postgresql://u:pw@db/x'})\n"
        "print(sorted({'sqlalchemy', 'tomllib', 'alembic'} & set(sys.modules)))"
    )
    environ: dict[str, Any] = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
