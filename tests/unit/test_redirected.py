"""What a project can read the database from, led to another one."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import make_url

from migrator.redirected import LIBPQ_PLACES, moved_argument, redirected

SCRATCH = make_url("postgresql://postgres:p%40ss@127.0.0.1:20001/migrator_scratch_1")
PLAIN = "postgresql://postgres:p%40ss@127.0.0.1:20001/migrator_scratch_1"
PROD = "postgresql://prod:secret@db.internal:5432/shop"

MOVED = {
    ("DATABASE_URL", PROD): PLAIN,
    ("MIGRATOR_DATABASE_URL", PROD): PLAIN,
    ("PROD_DATABASE_URL", PROD): PLAIN,
    ("SQLALCHEMY_DATABASE_URI", PROD.replace("postgresql", "postgresql+asyncpg")): PLAIN.replace(
        "postgresql", "postgresql+asyncpg"
    ),
    ("HEROKU", PROD.replace("postgresql", "postgres")): PLAIN.replace("postgresql", "postgres"),
    ("POSTGRES_HOST", "db.internal"): "127.0.0.1",
    ("POSTGRES_SERVER", "db.internal"): "127.0.0.1",
    ("POSTGRES_DB", "shop"): "migrator_scratch_1",
    ("POSTGRES_PASSWORD", "secret"): "p@ss",
    ("database_hostname", "db.internal"): "127.0.0.1",
    ("DATABASE_USERNAME", "prod"): "postgres",
    ("APP_DB_PORT", "5432"): "20001",
    ("DB_PASS", "secret"): "p@ss",
    ("PGHOST", "db.internal"): "127.0.0.1",
    ("PGHOSTADDR", "10.0.0.1"): None,
    ("PGSERVICE", "prod"): None,
    ("MIGRATOR_DATABASE_URL_FILE", "/run/secrets/url"): None,
    ("DATABASE_URL_FILE", "/run/secrets/url"): None,
}
KEPT = {
    "REDIS_URL": "redis://cache:6379/0",
    "MONGO_DB_HOST": "mongo.internal",
    "LEGACY_URL": "mysql://u:p@old/shop",
    "SMTP_HOST": "mail.internal",
    "HOST": "web.internal",
    "PORT": "8000",
    "USER": "somebody",
    "PGOPTIONS": "-c search_path=shop",
    "DB_POOL_SIZE": "5",
}


@pytest.mark.parametrize(("name", "value"), MOVED)
def test_a_variable_that_leads_to_a_database_leads_to_the_disposable_one(name: str, value: str) -> None:
    assert redirected({name: value}, SCRATCH, (), own_server=True)[name] == MOVED[name, value]


@pytest.mark.parametrize("name", KEPT)
def test_any_other_variable_is_left_alone(name: str) -> None:
    assert name not in redirected(KEPT, SCRATCH, (), own_server=True)


def test_what_a_project_may_read_is_set_even_where_it_was_not() -> None:
    found = redirected({}, SCRATCH, ["DEV_URL"], own_server=False)
    assert found["DATABASE_URL"] == found["DEV_URL"] == PLAIN
    assert (found["DB_HOST"], found["DB_PASSWORD"], found["PGDATABASE"]) == (
        "127.0.0.1",
        "p@ss",
        "migrator_scratch_1",
    )
    assert all(found[name] is None for name in LIBPQ_PLACES)
    assert "PGSSLMODE" not in found
    assert redirected({}, SCRATCH, (), own_server=True)["PGSSLMODE"] is None


@pytest.mark.parametrize(
    ("argument", "moved"),
    [
        (f"url={PROD}", f"url={PLAIN}"),
        (PROD, PLAIN),
        (
            f"db={PROD.replace('postgresql', 'postgresql+psycopg')}",
            f"db={PLAIN.replace('postgresql', 'postgresql+psycopg')}",
        ),
        ("tenant=shop", "tenant=shop"),
        ("see=https://example.com/x", "see=https://example.com/x"),
        ("verbose", "verbose"),
    ],
)
def test_a_url_among_the_arguments_of_env_py_is_replaced(argument: str, moved: str) -> None:
    assert moved_argument(argument, SCRATCH) == moved
