"""Many waiters on a server that has hardly a connection to give: nobody fails, and the migration gets through."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from migrator import embedded
from tests.harness import Project, query, table_revisions, wait_until, write_project

WAITERS = 12
# Three of the ten are the superuser's (superuser_reserved_connections).
FOR_USERS = 7
PASSWORD = "waiting-room"
WAIT = ("wait", "--for", "head", "--wait-timeout", "10m")


@dataclass(frozen=True)
class Full:
    """A small server with a project on it that is one revision behind."""

    server: embedded.EmbeddedPostgres
    shop: Project

    def url(self, role: str) -> str:
        """The project's database, as that role."""
        return self.server.url("shop", user=role, password=PASSWORD)

    def refusals(self) -> int:
        """How many connections the server has had no room for."""
        log = self.server.log_path.read_text()
        return sum(
            log.count(words) for words in ("too many clients", "too many connections", "slots are reserved")
        )

    @contextlib.contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """So many connections are an application's."""
        with contextlib.ExitStack() as held:
            for _ in range(count):
                held.enter_context(contextlib.closing(psycopg2.connect(self.url("application"))))
            yield


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Full]:
    with embedded.postgres(options={"max_connections": str(FOR_USERS + 3)}) as server:
        url = server.create_database("shop")
        for role in ("waiter", "application", "shop_owner"):
            query(url, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        query(url, "GRANT ALL ON SCHEMA public TO shop_owner")
        shop = write_project(tmp_path / "shop", None, revisions=table_revisions("a1", "b2"))
        shop.variables["MIGRATOR_DATABASE_URL"] = server.url("shop", user="shop_owner", password=PASSWORD)
        shop.migrator("upgrade", "a1", check=True)
        query(url, "GRANT SELECT ON alembic_version TO waiter")
        yield Full(server, shop)


def test_a_full_server_is_waited_out_by_all_of_them_and_by_the_migration(full: Full) -> None:
    env = {"MIGRATOR_DATABASE_URL": full.url("waiter")}
    with full.taken(FOR_USERS):
        waiting = [full.shop.start(*WAIT, env=env) for _ in range(WAITERS)]
        for one in waiting:
            one.wait_for_line("not ready: .*(too many clients|slots are reserved)", timeout=120)
        job = full.shop.start("upgrade", "--wait-timeout", "10m")
        job.wait_for_line("not ready: .*(too many clients|slots are reserved)", timeout=120)
    ended = job.wait(timeout=120)
    assert ended.returncode == 0, ended.output
    for one in waiting:
        ended = one.wait(timeout=120)
        assert ended.returncode == 0, ended.output


def test_a_limit_of_the_waiters_role_keeps_connections_free_for_the_migration(full: Full) -> None:
    query(full.server.url("shop"), "ALTER ROLE waiter CONNECTION LIMIT 1")
    env = {"MIGRATOR_DATABASE_URL": full.url("waiter")}
    with contextlib.closing(psycopg2.connect(full.url("waiter"))):
        waiting = [full.shop.start(*WAIT, env=env) for _ in range(WAITERS)]
        for one in waiting:
            one.wait_for_line('not ready: too many connections for role "waiter"', timeout=120)
        before = full.refusals()
        # One attempt: had the waiters taken what was free, it would fail.
        ended = full.shop.migrator("upgrade", "--wait-timeout", "0", timeout=120)
        assert ended.returncode == 0, ended.output
        wait_until(lambda: full.refusals() > before, "waiters go on asking", timeout=60)
    for one in waiting:
        ended = one.wait(timeout=120)
        assert ended.returncode == 0, ended.output
