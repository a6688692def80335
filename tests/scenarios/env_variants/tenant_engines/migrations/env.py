import os

from alembic import context
from sqlalchemy import create_engine, pool, text

config = context.config
config.set_main_option("sqlalchemy.url", os.environ["DATABASE_URL"].replace("%", "%%"))


def run_migrations_offline():
    context.configure(url=config.get_main_option("sqlalchemy.url"), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online():
    for tenant in os.environ["TENANTS"].split(","):
        engine = create_engine(
            config.get_main_option("sqlalchemy.url"),
            poolclass=pool.NullPool,
            connect_args={"options": f"-c search_path={tenant}"},
        )
        with engine.begin() as connection:
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{tenant}"'))
            context.configure(connection=connection)
            with context.begin_transaction():
                context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
