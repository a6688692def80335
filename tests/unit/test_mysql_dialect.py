"""What the MySQL dialect decides without a server: names of locks, kinds of statements and errors."""

from __future__ import annotations

import itertools

import pymysql.err
import pytest
from sqlalchemy.exc import DBAPIError

from migrator.dialects import ErrorKind, LockKey, dialect_named
from migrator.dialects.mysql import lock_name
from migrator.dialects.mysql_settings import whole_seconds
from migrator.dialects.mysql_sql import identifier, literal, version_number
from migrator.dialects.mysql_statements import commits_implicitly, runs_a_program

KEYS = [
    LockKey("shop", "shop", "alembic_version"),
    LockKey("shop", "shop", "Alembic_Version"),
    LockKey("SHOP", "SHOP", "alembic_version"),
    LockKey("shop", "shop_test", "alembic_version"),
    LockKey("shop", "shop", "alembic_version_billing"),
    LockKey("shop", "shop.alembic", "version"),
    LockKey("shop", "läden`店", "versionen"),
    LockKey("shop", "s" * 64, "v" * 64),
    LockKey("shop", "s" * 64, "v" * 63 + "w"),
]


@pytest.mark.parametrize("key", KEYS)
def test_the_name_of_a_lock_fits_and_needs_no_quoting(key: LockKey) -> None:
    name = lock_name(key)
    assert len(name) <= 64
    assert name == name.lower()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.:-")
    assert name.startswith("migrator:")


def test_each_version_table_has_a_name_of_its_own() -> None:
    for one, other in itertools.combinations(KEYS, 2):
        assert lock_name(one) != lock_name(other)


def test_runs_that_begin_in_different_databases_meet_on_the_same_version_table() -> None:
    assert lock_name(LockKey("a", "home", "version")) == lock_name(LockKey("b", "home", "version"))
    assert lock_name(LockKey("home", "", "version")) == lock_name(LockKey("home", "home", "version"))


def test_a_lock_timeout_is_whole_seconds_and_never_none_at_all() -> None:
    assert [whole_seconds(seconds) for seconds in (0.001, 0.5, 1, 1.1, 7)] == [1, 1, 1, 2, 7]
    assert whole_seconds(0) > 86_400


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t (id int)",
        "create or replace view v as select 1",
        "\n  -- a word\n/* CREATE TEMPORARY TABLE */ ALTER TABLE t ADD note text",
        "DROP TABLE t",
        "TRUNCATE t",
        "RENAME TABLE a TO b",
        "GRANT ALL ON shop.* TO app",
        "START TRANSACTION",
        "BEGIN",
        "LOCK TABLES t WRITE",
        "ANALYZE LOCAL TABLE t",
        "OPTIMIZE TABLE t",
        "SET PASSWORD = 'x'",
        "LOAD INDEX INTO CACHE t",
    ],
)
def test_a_statement_that_commits_by_itself_is_known(statement: str) -> None:
    assert commits_implicitly(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES ('CREATE TABLE')",
        "CREATE TEMPORARY TABLE t (id int)",
        "create or  replace\ttemporary table t (id int)",
        "DROP TEMPORARY TABLE t",
        "BEGIN NOT ATOMIC SELECT 1; END",
        "SELECT 1",
        "(SELECT 1)",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "SET @a = 1",
        "ANALYZE FORMAT=JSON SELECT 1",
        "LOAD DATA INFILE 'x' INTO TABLE t",
        "UPDATE t SET a = 1",
        "",
        "-- nothing",
    ],
)
def test_a_statement_that_does_not_is_known_as_well(statement: str) -> None:
    assert not commits_implicitly(statement)


@pytest.mark.parametrize(
    ("number", "words", "kind"),
    [
        (1205, "Lock wait timeout exceeded; try restarting transaction", ErrorKind.LOCK_TIMEOUT),
        (1213, "Deadlock found when trying to get lock; try restarting transaction", ErrorKind.DEADLOCK),
        (2013, "Lost connection to MySQL server during query", ErrorKind.CONNECTION_LOST),
        (1040, "Too many connections", ErrorKind.TOO_MANY_CONNECTIONS),
        (2003, "Can't connect to MySQL server on '10.0.0.7' (111)", ErrorKind.NOT_READY),
        (1290, "The MariaDB server is running with the --read-only option", ErrorKind.READ_ONLY),
        (1290, "The MySQL server is running with the --super-read-only option", ErrorKind.READ_ONLY),
        (1290, "The MySQL server is running with the --secure-file-priv option", ErrorKind.OTHER),
        (1045, "Access denied for user 'app'@'10.0.0.7' (using password: YES)", ErrorKind.REFUSED),
        (1049, "Unknown database 'shop'", ErrorKind.REFUSED),
        (1142, "ALTER command denied to user 'app'@'%' for table 't'", ErrorKind.DENIED),
        (1005, 'Can\'t create table `t` (errno: 121 "Duplicate key")', ErrorKind.ALREADY_EXISTS),
        (1005, 'Can\'t create table `t` (errno: 150 "Foreign key constraint")', ErrorKind.OTHER),
        (1030, 'Got error 28 "No space left on device" from storage engine', ErrorKind.DISK_FULL),
        (1138, "Invalid use of NULL value", ErrorKind.NULL_VALUE),
        (1969, "Query execution was interrupted (max_statement_time exceeded)", ErrorKind.STATEMENT_TIMEOUT),
        (9999, "something new", ErrorKind.OTHER),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_error_is_known_by_its_number(number: int, words: str, kind: ErrorKind, wrapped: bool) -> None:
    error: Exception = pymysql.err.OperationalError(number, words)
    if wrapped:
        error = DBAPIError("SELECT 1", None, error)
    found = dialect_named("mysql").read_error(error)
    assert found is not None
    assert found.kind is kind
    assert str(found) == f"{number}: {words}"


def test_a_connection_that_the_driver_closed_before_is_lost() -> None:
    found = dialect_named("mariadb").read_error(pymysql.err.InterfaceError(0, ""))
    assert found is not None
    assert (found.kind, str(found)) == (ErrorKind.CONNECTION_LOST, "the connection is closed")


def test_what_does_not_come_from_a_driver_is_not_read() -> None:
    assert dialect_named("mysql").read_error(ValueError(1205, "Lock wait timeout exceeded")) is None


def test_literals_and_names_are_safe_whatever_is_in_them() -> None:
    assert literal("'; DROP TABLE t; --") == "_utf8mb4 0x" + b"'; DROP TABLE t; --".hex()
    assert literal("") == "''"
    assert identifier("a`b") == "`a``b`"


@pytest.mark.parametrize(
    ("told", "number"),
    [
        ("10.11.19-MariaDB-0+deb12u1", "10.11.19"),
        ("5.5.5-10.6.12-MariaDB-log", "10.6.12"),
        ("8.4.3", "8.4.3"),
        ("8.0.36-28.1", "8.0.36"),
    ],
)
def test_a_version_is_what_people_know_it_by(told: str, number: str) -> None:
    assert version_number(told) == number


@pytest.mark.parametrize(
    "statement",
    [
        "/*!40000 ALTER TABLE t DISABLE KEYS */",
        "/*!50003 CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1 */",
        "/*M!100100 DROP TABLE t */",
        "SET STATEMENT lock_wait_timeout=5 FOR ALTER TABLE t ADD note text",
        "set statement max_statement_time=0,\n lock_wait_timeout=5 for create table t (id int)",
    ],
)
def test_ddl_behind_other_words_commits_as_well(statement: str) -> None:
    assert commits_implicitly(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SET STATEMENT lock_wait_timeout=5 FOR UPDATE t SET a = 1",
        "SET NAMES utf8mb4",
        "/*!40101 SET NAMES utf8mb4 */",
        "SET @statement = 'CREATE TABLE t FOR x'",
    ],
)
def test_settings_commit_nothing(statement: str) -> None:
    assert not commits_implicitly(statement)


@pytest.mark.parametrize(
    ("statement", "program"),
    [
        ("CALL fill()", True),
        ("/*!50003 CALL fill() */", True),
        ("EXECUTE prepared", True),
        ("BEGIN NOT ATOMIC CREATE TABLE t (id int); END", True),
        ("BEGIN", False),
        ("INSERT INTO t VALUES ('CALL')", False),
    ],
)
def test_a_program_is_not_taken_for_what_it_shows(statement: str, program: bool) -> None:
    assert runs_a_program(statement) is program
