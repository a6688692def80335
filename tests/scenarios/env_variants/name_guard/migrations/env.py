import os

from alembic import context
from sqlalchemy import create_engine, pool


def load(config):
    config.shop = {"url": os.environ["DATABASE_URL"]}
    config.attributes["tables"] = []


def migrate():
    config = context.config
    if context.is_offline_mode():
        context.configure(url=config.shop["url"], literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    with create_engine(config.shop["url"], poolclass=pool.NullPool).connect() as connection:
        context.configure(connection=connection, opts={"tables": config.attributes["tables"]}, mood="good")
        with context.begin_transaction():
            context.run_migrations()


# Models import this file as well, for its helpers; then nothing must run.
if __name__ == "env_py" and context._proxy is not None:
    load(context.config)
    migrate()
