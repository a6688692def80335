"""What every dialect owes to whoever only reads: where the table is, what is missing to read it, how long it waits."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from migrator.database import bounded
from migrator.dialects import Dialect, Elsewhere, ErrorKind, RawConnection, dialect_named, rows
from migrator.dialects.unlocked import Unlocked
from tests.harness import Database, Role, with_driver
from tests.servers.mariadb import MariaDBServer

TABLE = "versions"
LIMIT_SECONDS = 1.0
GIVE_UP_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """A database, its owner, and a user without any right to the version table.

    :ivar home: where names lead.
    :ivar away: another schema of the same database, where it has several; else ``home`` again.
    :ivar locking: what the owner runs to keep every reader out.
    """

    dialect: Dialect
    owner_url: str
    reader_url: str
    home: str
    away: str
    locking: str

    @contextlib.contextmanager
    def connected(self, url: str) -> Iterator[RawConnection]:
        fairy = create_engine(url, poolclass=NullPool).raw_connection()
        fairy.detach()
        with contextlib.closing(fairy.dbapi_connection) as raw:
            yield raw

    def owner(self) -> contextlib.AbstractContextManager[RawConnection]:
        return self.connected(self.owner_url)

    def reader(self) -> contextlib.AbstractContextManager[RawConnection]:
        return self.connected(self.reader_url)

    def run(self, *statements: str) -> None:
        with self.owner() as raw:
            for statement in statements:
                rows(raw, statement)
            raw.commit()

    def make_table(self, schema: str) -> None:
        self.run(
            f"CREATE TABLE {schema}.{TABLE} (version_num varchar(32) NOT NULL)",
            f"INSERT INTO {schema}.{TABLE} VALUES ('b2'), ('a1')",
        )


def on_postgresql(driver: str, request: pytest.FixtureRequest) -> Place:
    database: Database = request.getfixturevalue("database")
    role: Role = request.getfixturevalue("new_role")()
    reader_url = database.server.url_of(database.name, user=role.name, password=role.password)
    place = Place(
        dialect_named("postgresql"),
        database.sqlalchemy_url(driver),
        with_driver(reader_url, driver),
        "public",
        "away",
        f"LOCK TABLE away.{TABLE} IN ACCESS EXCLUSIVE MODE",
    )
    place.run("CREATE SCHEMA away")
    return place


def on_mysql(product: str, request: pytest.FixtureRequest) -> Place:
    server: MariaDBServer = request.getfixturevalue(f"{product}_server")
    name, password = f"r_{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    home = server.create_database(f"home_{name}").name
    server.create_user(name, password, f"CREATE ON {home}.*")
    return Place(
        dialect_named("mysql"),
        server.url(home),
        server.url(home, user=name, password=password),
        home,
        home,
        f"LOCK TABLES {home}.{TABLE} WRITE",
    )


def on_a_file(dialect: Dialect, request: pytest.FixtureRequest) -> Place:
    path: Path = request.getfixturevalue("tmp_path") / "shop.db"
    url = f"sqlite:///{path}"
    return Place(dialect, url, url, "main", "main", "BEGIN EXCLUSIVE")


Make = Callable[[pytest.FixtureRequest], Place]

WITH_SCHEMAS: dict[str, Make] = {
    "postgresql-psycopg2": lambda request: on_postgresql("psycopg2", request),
    "postgresql-psycopg": lambda request: on_postgresql("psycopg", request),
}
WITH_DATABASES: dict[str, Make] = {
    "mariadb": lambda request: on_mysql("mariadb", request),
    "mysql": lambda request: on_mysql("mysql", request),
}
IN_A_FILE: dict[str, Make] = {"sqlite": lambda request: on_a_file(dialect_named("sqlite"), request)}
UNLOCKED: dict[str, Make] = {"unlocked": lambda request: on_a_file(Unlocked("sqlite"), request)}
ALL = {**WITH_SCHEMAS, **WITH_DATABASES, **IN_A_FILE, **UNLOCKED}


@pytest.fixture(params=ALL)
def place(request: pytest.FixtureRequest) -> Place:
    return ALL[request.param](request)


def on(*kinds: dict[str, Make]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", [name for kind in kinds for name in kind], indirect=True)


# Where the table is


def test_a_table_that_is_nowhere_or_where_its_name_leads_is_not_elsewhere(place: Place) -> None:
    with place.owner() as raw:
        assert place.dialect.tables_elsewhere(raw, TABLE, "") == ()
    place.make_table(place.home)
    with place.owner() as raw:
        assert place.dialect.tables_elsewhere(raw, TABLE, place.home) == ()


@on(WITH_SCHEMAS)
def test_a_table_in_a_schema_where_its_name_does_not_lead_is_told_with_who_may_read_it(place: Place) -> None:
    place.make_table("away")
    with place.owner() as raw:
        found = place.dialect.tables_elsewhere(raw, TABLE, "public")
        assert found == (Elsewhere("away", expected=False, readable=True),)
    with place.reader() as raw:
        found = place.dialect.tables_elsewhere(raw, TABLE, "")
        assert found == (Elsewhere("away", expected=False, readable=False),)


@on(WITH_SCHEMAS)
def test_a_table_in_a_schema_of_the_path_that_the_user_may_not_enter_is_expected_there(place: Place) -> None:
    place.make_table("away")
    with place.reader() as raw:
        rows(raw, 'SET search_path TO "$user", "away", public')
        assert place.dialect.version_table(raw, TABLE, None) is None
        found = place.dialect.tables_elsewhere(raw, TABLE, "")
        assert found == (Elsewhere("away", expected=True, readable=False),)


@on(WITH_DATABASES)
def test_a_table_in_another_database_is_none_of_this_one(place: Place) -> None:
    other = f"other_{place.home}"
    place.run(f"CREATE DATABASE {other}")
    place.make_table(other)
    with place.owner() as raw:
        assert place.dialect.tables_elsewhere(raw, TABLE, "") == ()


# What is missing to read it


@on(WITH_SCHEMAS, WITH_DATABASES)
def test_what_is_said_to_be_granted_is_what_lets_the_user_read(place: Place) -> None:
    place.make_table(place.away)
    with place.reader() as raw:
        with pytest.raises(Exception) as refused:  # noqa: PT011 (each driver has its own)
            place.dialect.version_rows(raw, place.away, TABLE)
        said = place.dialect.read_error(refused.value)
        assert said is not None
        assert said.kind is ErrorKind.DENIED
        raw.rollback()
        grants = place.dialect.grants_to_read(raw, place.away, TABLE)
    place.run(*[f"{one};" for one in grants.split(";") if one.strip()])
    with place.reader() as raw:
        assert place.dialect.version_rows(raw, place.away, TABLE) == ("a1", "b2")


@on(WITH_SCHEMAS)
def test_only_what_is_missing_is_to_be_granted(place: Place) -> None:
    place.make_table("away")
    place.run("GRANT USAGE ON SCHEMA away TO PUBLIC")
    with place.reader() as raw:
        grants = place.dialect.grants_to_read(raw, "away", TABLE)
        assert grants.startswith("GRANT SELECT")
        assert grants.count("GRANT") == 1
    place.run(grants)
    with place.reader() as raw:
        assert place.dialect.grants_to_read(raw, "away", TABLE) == ""


@on(IN_A_FILE, UNLOCKED)
def test_where_nothing_is_granted_nothing_is_to_be_granted(place: Place) -> None:
    place.make_table(place.home)
    with place.reader() as raw:
        assert place.dialect.grants_to_read(raw, place.home, TABLE) == ""
        assert place.dialect.version_rows(raw, place.home, TABLE) == ("a1", "b2")


# How long it waits


@on(WITH_SCHEMAS, WITH_DATABASES, IN_A_FILE)
def test_a_reader_waits_for_a_lock_no_longer_than_it_was_told(place: Place) -> None:
    place.make_table(place.away)
    with place.owner() as holder, place.owner() as raw:
        rows(holder, place.locking)
        place.dialect.limit_waiting(raw, LIMIT_SECONDS)
        with pytest.raises(Exception) as refused:  # noqa: PT011 (each driver has its own)
            bounded(lambda: place.dialect.version_rows(raw, place.away, TABLE), GIVE_UP_SECONDS)
        said = place.dialect.read_error(refused.value)
        assert said is not None, repr(refused.value)
        assert said.kind is ErrorKind.LOCK_TIMEOUT


@on(WITH_SCHEMAS)
def test_the_limit_ends_with_the_transaction_for_a_pooler_hands_the_session_on(place: Place) -> None:
    with place.owner() as raw:
        before = place.dialect.lock_timeout(raw)
        place.dialect.limit_waiting(raw, LIMIT_SECONDS)
        assert place.dialect.lock_timeout(raw) != before
        raw.rollback()
        assert place.dialect.lock_timeout(raw) == before


@on(UNLOCKED)
def test_where_nothing_is_known_of_locks_asking_for_a_limit_is_no_error(place: Place) -> None:
    place.make_table(place.home)
    with place.reader() as raw:
        place.dialect.limit_waiting(raw, LIMIT_SECONDS)
        assert place.dialect.version_rows(raw, place.home, TABLE) == ("a1", "b2")


# Which database names lead to


@on(WITH_DATABASES)
def test_a_session_that_was_sent_to_another_database_comes_back(place: Place) -> None:
    other = f"o`ther {place.home}"
    quoted = other.replace("`", "``")
    place.run(f"CREATE DATABASE `{quoted}`")
    with place.owner() as raw:
        assert place.dialect.database_in_use(raw) == place.home
        rows(raw, f"USE `{quoted}`")
        assert place.dialect.database_in_use(raw) == other
        place.dialect.use_database(raw, place.home)
        assert place.dialect.database_in_use(raw) == place.home
        place.dialect.use_database(raw, other)
        assert place.dialect.database_in_use(raw) == other


@on(WITH_SCHEMAS, IN_A_FILE, UNLOCKED)
def test_where_no_statement_chooses_a_database_none_is_told(place: Place) -> None:
    with place.owner() as raw:
        assert place.dialect.database_in_use(raw) == ""
