"""What a database holds, as its catalogs tell: to compare what different runs have made of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

from tests.harness import Database

POSTGRESQL_CATALOGS = {
    "columns": (
        "SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, "
        "pg_get_expr(d.adbin, d.adrelid), a.attidentity FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
        "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 "
        "AND NOT a.attisdropped ORDER BY 1, 2"
    ),
    "constraints": (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
    ),
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2",
    "sequences": (
        "SELECT relname FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace ORDER BY 1"
    ),
    "types": (
        "SELECT typname, enumlabel FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid "
        "WHERE typnamespace = 'public'::regnamespace ORDER BY typname, enumsortorder"
    ),
}


def schema(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Columns, constraints, indexes, sequences and enumerations of a PostgreSQL database's schema ``public``."""
    return {name: database.query(statement) for name, statement in POSTGRESQL_CATALOGS.items()}


def reflected(url: str) -> dict[str, dict[str, Any]]:
    """Tables with columns, keys, indexes and rows, as SQLAlchemy reads them from any database."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        asked = inspect(connection)
        return {
            table: {
                "columns": [
                    (column["name"], str(column["type"]), column["nullable"], column["default"])
                    for column in asked.get_columns(table)
                ],
                "primary key": asked.get_pk_constraint(table)["constrained_columns"],
                "foreign keys": [key["constrained_columns"] for key in asked.get_foreign_keys(table)],
                "unique": sorted(key["column_names"] for key in asked.get_unique_constraints(table)),
                "indexes": sorted(str(index["name"]) for index in asked.get_indexes(table)),
                "rows": sorted(map(str, connection.execute(text(f"SELECT * FROM {table}")))),
            }
            for table in sorted(asked.get_table_names())
        }
