import os

from alembic import context
from sqlalchemy import create_engine, pool
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

config = context.config
config.set_main_option("sqlalchemy.url", os.environ["DATABASE_URL"].replace("%", "%%"))


def run_migrations_offline():
    context.configure(url=config.get_main_option("sqlalchemy.url"), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online():
    engine = create_engine(config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
    with engine.connect() as connection:
        before = MigrationContext.configure(connection).get_current_heads()
        connection.rollback()
        script = ScriptDirectory.from_config(config)
        if set(before) == set(script.get_heads()):
            print("already there")
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
