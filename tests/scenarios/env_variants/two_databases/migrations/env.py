import os

from alembic import context
from sqlalchemy import create_engine, pool

URLS = {"shop": os.environ["SHOP_DATABASE_URL"], "billing": os.environ["BILLING_DATABASE_URL"]}


def run(**options):
    context.configure(**options)
    with context.begin_transaction():
        context.run_migrations()


for name, url in URLS.items():
    if context.is_offline_mode():
        run(url=url, literal_binds=True)
    else:
        with create_engine(url, poolclass=pool.NullPool).connect() as connection:
            run(connection=connection, version_table=f"{name}_version")
