"""TLS that does not come about: each way told as what it is, at once, for the three drivers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import refused
from tests.harness import UNSET, Completed, Database, Project, Server, parts_of, start, table_revisions
from tests.image.mirror import Authority, make_authority
from tests.servers.tls import tls_before

MakeProject = Callable[..., Project]
PATIENT = {"MIGRATOR_WAIT_TIMEOUT": "300s"}
"""Whoever waits in vain runs into the test's own time limit."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("authority")
    return make_authority(folder, ["DNS:db.internal", "IP:127.0.0.1"])


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, and a certificate for another host."""
    return make_authority(tmp_path_factory.mktemp("elsewhere"), ["DNS:db.internal"])


@pytest.fixture(scope="module")
def port(server: Server, authority: Authority) -> Iterator[int]:
    with tls_before(server.url, authority.certificate, authority.key) as at:
        yield at


@pytest.fixture(scope="module")
def port_of_another_name(server: Server, elsewhere: Authority) -> Iterator[int]:
    with tls_before(server.url, elsewhere.certificate, elsewhere.key) as at:
        yield at


@pytest.fixture(params=["psycopg2", "psycopg", "asyncpg", "asyncpg of env.py"])
def connect(request: pytest.FixtureRequest, project: MakeProject, database: Database) -> Connect:
    return Connect(request.param, project, database)


class Connect:
    """A project that connects with ``verify-full`` by one of the drivers."""

    def __init__(self, driver: str, project: MakeProject, database: Database) -> None:
        self.driver, _, of_env_py = driver.partition(" ")
        self.database = database
        self.source = "env.py" if of_env_py else "MIGRATOR_DATABASE_URL"
        self.shop = project(
            "async" if self.driver == "asyncpg" else "sync",
            revisions=table_revisions("a1"),
            driver=self.driver,
        )
        self._of_env_py = bool(of_env_py)

    def variables(self, port: int, ca: Path, mode: str = "verify-full") -> Mapping[str, str]:
        own = parts_of(self.database.url)
        place = f"{own['user']}:{own['password']}@127.0.0.1:{port}/{own['name']}"
        tls = {"PGSSLMODE": mode, "PGSSLROOTCERT": str(ca)}
        if self._of_env_py:
            ini = self.shop.path / "alembic.ini"
            url = f"postgresql+asyncpg://{place}".replace("%", "%%")
            lines = ini.read_text().splitlines()
            lines = [
                f"sqlalchemy.url = {url}" if line.startswith("sqlalchemy.url") else line for line in lines
            ]
            ini.write_text("\n".join(lines) + "\n")
            return {**PATIENT, **tls, "MIGRATOR_DATABASE_URL": UNSET}
        if self.driver == "asyncpg":
            return {**PATIENT, **tls, "MIGRATOR_DATABASE_URL": f"postgresql+asyncpg://{place}"}
        url = f"postgresql+{self.driver}://{place}?sslmode={mode}&sslrootcert={ca}"
        return {**PATIENT, "MIGRATOR_DATABASE_URL": url}


def test_a_certificate_that_is_in_order_is_taken(connect: Connect, port: int, authority: Authority) -> None:
    connect.shop.migrator("upgrade", env=connect.variables(port, authority.ca), check=True)
    assert connect.database.revisions == ["a1"]


def test_a_certificate_for_another_host_is_told_as_that(
    connect: Connect, port_of_another_name: int, elsewhere: Authority
) -> None:
    refused(
        connect.shop,
        "upgrade",
        env=connect.variables(port_of_another_name, elsewhere.ca),
        code=ExitCode.REFUSED,
        says=["the server's certificate is for another host name", "127.0.0.1"],
        then=["Name the host", connect.source, "verify-ca"],
    )


def test_a_certificate_of_an_unknown_authority_is_told_as_that(
    connect: Connect, port: int, elsewhere: Authority
) -> None:
    refused(
        connect.shop,
        "upgrade",
        env=connect.variables(port, elsewhere.ca),
        code=ExitCode.REFUSED,
        says=["the server's certificate is not trusted", "certificate verify failed"],
        then=["the authority that signed", connect.source],
    )


def test_a_server_without_tls_is_told_as_that(
    connect: Connect, database: Database, authority: Authority
) -> None:
    refused(
        connect.shop,
        "upgrade",
        env=connect.variables(int(parts_of(database.url)["port"]), authority.ca),
        code=ExitCode.REFUSED,
        says=["the server offers no TLS"],
        then=["ssl = on", connect.source],
    )


def test_a_ca_file_that_is_not_there_is_told_by_its_path(connect: Connect, port: int, tmp_path: Path) -> None:
    missing = tmp_path / "mounted" / "ca.pem"
    refused(
        connect.shop,
        "upgrade",
        env=connect.variables(port, missing),
        code=ExitCode.USAGE,
        says=["a certificate file for TLS cannot be used", f"{missing}: No such file"],
        then=["Mount the file", connect.source],
    )


def test_a_ca_file_without_a_certificate_is_told_by_its_path(
    connect: Connect, port: int, tmp_path: Path
) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("no certificate\n")
    refused(
        connect.shop,
        "upgrade",
        env=connect.variables(port, empty),
        code=ExitCode.USAGE,
        says=["a certificate file for TLS cannot be used", f"{empty} can be read, and holds none"],
        then=[connect.source],
    )


def confined(shop: Project, *arguments: str, env: Mapping[str, str]) -> Completed:
    """Run migrator as somebody for whom modes of files hold: root without the right to overlook them."""
    rights = "--bounding-set=-dac_override,-dac_read_search"
    command = ["setpriv", rights, "--"] if os.geteuid() == 0 else []
    given = {name: value for name, value in env.items() if value != UNSET}
    return start(*command, sys.executable, "-m", "migrator", *arguments, env=given, cwd=shop.path).wait()


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_ca_file_that_this_user_may_not_read_is_told_as_that(
    connect: Connect, port: int, authority: Authority, tmp_path: Path, closed: str
) -> None:
    (folder := tmp_path / "mounted").mkdir()
    (ca := folder / "ca.pem").write_bytes(authority.ca.read_bytes())
    (ca if closed == "file" else folder).chmod(0)
    try:
        done = confined(connect.shop, "upgrade", env=connect.variables(port, ca))
    finally:
        folder.chmod(0o700)
    assert done.returncode == ExitCode.USAGE, done.output
    assert "a certificate file for TLS cannot be used" in done.stderr
    assert f"user {os.geteuid()} may not read {ca}" in done.stderr, done.output
    assert "Mount the file" in done.stderr
    assert connect.database.tables == []


@pytest.mark.parametrize("of_env_py", [False, True], ids=["configured", "only env.py knows"])
def test_sslmode_in_a_url_for_asyncpg_is_told_with_what_to_write_instead(
    project: MakeProject, database: Database, of_env_py: bool
) -> None:
    shop = project("async", revisions=table_revisions("a1"))
    url = f"{database.sqlalchemy_url('asyncpg')}?sslmode=prefer"
    ini = shop.path / "alembic.ini"
    if of_env_py:
        ini.write_text(ini.read_text().replace(database.sqlalchemy_url("asyncpg"), url))
    told = refused(
        shop,
        "upgrade",
        env={"MIGRATOR_DATABASE_URL": UNSET if of_env_py else url},
        code=ExitCode.USAGE,
        says=["asyncpg does not take sslmode", "env.py" if of_env_py else "in MIGRATOR_DATABASE_URL"],
        then=["instead of sslmode=", "ssl=MODE" if of_env_py else "ssl=prefer"],
    )
    assert "env.py failed" not in told.completed.stderr


def test_each_parameter_of_libpqs_tls_is_told_at_once(project: MakeProject, database: Database) -> None:
    shop = project("async", revisions=table_revisions("a1"))
    url = f"{database.sqlalchemy_url('asyncpg')}?sslmode=prefer&sslrootcert=/etc/shop/ca.pem"
    refused(
        shop,
        "upgrade",
        env={"MIGRATOR_DATABASE_URL": url},
        code=ExitCode.USAGE,
        says=["sslmode", "sslrootcert", "in MIGRATOR_DATABASE_URL"],
        then=["Write ssl=prefer", "PGSSLROOTCERT"],
    )


def test_what_is_written_instead_of_sslmode_works(project: MakeProject, database: Database) -> None:
    shop = project("async", revisions=table_revisions("a1"))
    url = f"{database.sqlalchemy_url('asyncpg')}?ssl=prefer"
    shop.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": url}, check=True)


def test_a_home_that_this_user_may_not_enter_is_told_as_that(
    project: MakeProject, database: Database, tmp_path: Path
) -> None:
    """As in a container that runs as another user and keeps the HOME of root."""
    shop = project("async", revisions=table_revisions("a1"), driver="asyncpg")
    (home := tmp_path / "home").mkdir(mode=0)
    url = database.url.replace("postgresql://", "postgresql+asyncpg://")
    done = confined(shop, "upgrade", env={**PATIENT, "MIGRATOR_DATABASE_URL": url, "HOME": str(home)})
    assert done.returncode == ExitCode.USAGE, done.output
    assert f"user {os.geteuid()} may not read {home}/.postgresql/postgresql." in done.stderr, done.output
    assert f"Set HOME to a folder that user {os.geteuid()} may enter" in done.stderr
    assert "sslrootcert" not in done.stderr
