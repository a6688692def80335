"""A secret file that holds a password for some minutes only: whoever connects uses the one of that moment."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from migrator import ExitCode, Settings, load_settings
from tests.harness import (
    SYNC_ENV,
    Completed,
    Database,
    Project,
    Revision,
    Role,
    query,
    table_revisions,
    wait_until,
)
from tests.integration.proving import gate
from tests.servers.proxy import proxy

MakeProject = Callable[..., Project]
NOT_YET = "not ready: password authentication failed"


class Rotated:
    """A role whose password changes, and the secret file with its URL."""

    def __init__(self, database: Database, role: Role, file: Path) -> None:
        self.database, self.role, self.file = database, role, file
        self.passwords = [role.password]
        self.write(self.url)

    @property
    def url(self) -> str:
        return self.database.server.url_of(
            self.database.name, user=self.role.name, password=self.passwords[-1]
        )

    def write(self, text: str) -> None:
        """In one step, as Kubernetes and every careful agent does it."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{text}\n")
        os.replace(new, self.file)

    def change_on_server(self) -> None:
        """The token that was valid until now is refused from now on."""
        self.passwords.append(secrets.token_urlsafe(12))
        query(self.database.server.url, f"ALTER ROLE \"{self.role.name}\" PASSWORD '{self.passwords[-1]}'")

    def rotate(self) -> None:
        self.change_on_server()
        self.write(self.url)


@pytest.fixture
def rotated(new_role: Callable[..., Role], new_database: Callable[..., Database], tmp_path: Path) -> Rotated:
    role = new_role()
    return Rotated(new_database(owner=role.name), role, tmp_path / "database-url")


def on(project: Project, rotated: Rotated) -> Project:
    return Project(project.path, None, {"MIGRATOR_DATABASE_URL_FILE": str(rotated.file)})


def test_a_password_that_arrives_while_one_is_refused_is_used_by_the_next_attempt(
    project: MakeProject, rotated: Rotated
) -> None:
    shop = on(project(revisions=table_revisions("a1", "b2")), rotated)
    rotated.change_on_server()
    run = shop.start("upgrade", "--auth-grace", "30s")
    run.wait_for_line(NOT_YET)
    rotated.write(rotated.url)
    done = run.wait()
    assert done.returncode == 0, done.output
    assert rotated.database.revisions == ["b2"]
    assert not [one for one in rotated.passwords if one in done.output]


def test_a_file_that_is_away_or_half_written_for_a_moment_is_read_again(
    project: MakeProject, rotated: Rotated
) -> None:
    shop = on(project(revisions=table_revisions("a1")), rotated)
    rotated.change_on_server()
    run = shop.start("upgrade", "--auth-grace", "30s")
    run.wait_for_line(NOT_YET)
    for broken in ("", "postgresql://half"):
        rotated.write(broken)
        tried = run.output.count(NOT_YET)
        wait_until(lambda tried=tried: run.output.count(NOT_YET) > tried, "another attempt")
    rotated.file.unlink()
    tried = run.output.count(NOT_YET)
    wait_until(lambda: run.output.count(NOT_YET) > tried, "another attempt")
    rotated.write(rotated.url)
    done = run.wait()
    assert done.returncode == 0, done.output


@pytest.mark.parametrize("env", ["sync", "async"])
def test_a_token_that_expires_during_the_migrations_does_not_cost_the_verdict(
    project: MakeProject, rotated: Rotated, env: str
) -> None:
    told = "print('connected with', op.get_bind().engine.url.render_as_string(False), flush=True)"
    with gate(rotated.database) as waiting:
        body = waiting + told
        shop = on(project(env, revisions=[Revision("a1", None, body)]), rotated)
        run = shop.start("upgrade")
        run.wait_for_line("at the gate")
        rotated.rotate()
    done = run.wait()
    assert done.returncode == 0, done.output
    assert "verified" in done.stderr
    assert not [one for one in rotated.passwords if one in done.output]


def test_a_token_that_expired_before_a_connection_of_env_py_is_replaced_in_its_engine(
    project: MakeProject, rotated: Rotated, tmp_path: Path
) -> None:
    env = f"""\
import pathlib, time
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
print("the engine is made", flush=True)
while not pathlib.Path({str(tmp_path / "go")!r}).exists():
    time.sleep(0.02)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
    shop = on(project(env, revisions=table_revisions("a1")), rotated)
    run = shop.start("upgrade")
    run.wait_for_line("the engine is made")
    rotated.rotate()
    (tmp_path / "go").touch()
    done = run.wait()
    assert done.returncode == 0, done.output
    assert rotated.database.revisions == ["a1"]


def test_a_file_that_names_another_database_by_now_is_not_followed(
    project: MakeProject, rotated: Rotated, new_database: Callable[..., Database]
) -> None:
    other = new_database(owner=rotated.role.name)
    shop = on(project(revisions=table_revisions("a1")), rotated)
    rotated.change_on_server()
    run = shop.start("upgrade", "--auth-grace", "2s")
    run.wait_for_line(NOT_YET)
    rotated.write(rotated.url.replace(rotated.database.name, other.name))
    done = run.wait()
    assert done.returncode == ExitCode.REFUSED, done.output
    assert other.tables == []


def rotated_before(body: str, project: MakeProject, rotated: Rotated) -> Completed:
    """A run that succeeds, whose revision does ``body`` just after the password was changed."""
    with gate(rotated.database) as waiting:
        run = on(project(revisions=[Revision("a1", None, waiting + body)]), rotated).start("upgrade")
        run.wait_for_line("at the gate")
        rotated.rotate()
    done = run.wait()
    assert done.returncode == 0, done.output
    return done


@pytest.mark.parametrize(
    "env", [SYNC_ENV, f"{SYNC_ENV}# It might set search_path.\n"], ids=["files", "env.py"]
)
def test_who_waits_for_head_goes_on_with_the_password_of_now(
    project: MakeProject, rotated: Rotated, env: str
) -> None:
    shop = on(project(env, revisions=table_revisions("a1", "b2")), rotated)
    shop.migrator("upgrade", "a1", check=True)
    run = shop.start("wait", "--for", "head", "--wait-timeout", "10m", "--auth-grace", "10m")
    run.wait_for_line("at a1, wanted b2")
    rotated.change_on_server()
    run.wait_for_line("not ready: .*password authentication failed")
    rotated.write(rotated.url)
    shop.migrator("upgrade", check=True)
    done = run.wait()
    assert done.returncode == 0, done.output
    assert not [one for one in rotated.passwords if one in done.output]


def test_an_engine_with_credentials_of_its_own_keeps_them(
    project: MakeProject, rotated: Rotated, database: Database
) -> None:
    body = (
        f'sa.create_engine({database.sqlalchemy_url()!r}).connect().execute(sa.text("SELECT 1"))\n'
        'print("its own connection works", flush=True)'
    )
    done = rotated_before(body, project, rotated)
    assert "its own connection works" in done.output


def test_settings_are_as_equal_and_as_copyable_as_before(rotated: Rotated) -> None:
    def load() -> Settings:
        return load_settings({"database_url_file": str(rotated.file)}, environ={})

    first, second = load(), load()
    rotated.rotate()
    assert str(first.database and first.database.url.password) == rotated.passwords[-1]
    assert first == second
    copied = first.model_copy(deep=True)
    rotated.rotate()
    assert str(copied.database and copied.database.url.password) == rotated.passwords[-1]


def connecting_to(url: URL) -> str:
    """Statements of a revision that tell by which password they were let in there."""
    return (
        f"try:\n    sa.create_engine({url.render_as_string(hide_password=False)!r}).connect()\n"
        "    print('it was the new password', flush=True)\n"
        "except sa.exc.OperationalError:\n    print('it was the old password', flush=True)"
    )


def test_another_server_with_the_same_login_never_gets_the_new_password(
    project: MakeProject, rotated: Rotated
) -> None:
    host = str(make_url(rotated.url).host)
    same_login = make_url(rotated.url).set(host={"localhost": "127.0.0.1"}.get(host, "localhost"))
    done = rotated_before(connecting_to(same_login), project, rotated)
    assert "it was the old password" in done.output


def test_another_port_of_the_same_host_never_gets_the_new_password(
    project: MakeProject, rotated: Rotated
) -> None:
    url = make_url(rotated.url)
    assert url.host
    assert url.port
    with proxy(url.host, url.port) as elsewhere:
        done = rotated_before(connecting_to(url.set(port=elsewhere.port)), project, rotated)
    assert "it was the old password" in done.output


def test_another_database_of_the_same_server_gets_the_new_password_for_the_same_login(
    project: MakeProject, rotated: Rotated, new_database: Callable[..., Database]
) -> None:
    tenant = new_database(owner=rotated.role.name)
    there = make_url(rotated.url).set(database=tenant.name)
    done = rotated_before(connecting_to(there), project, rotated)
    assert "it was the new password" in done.output
