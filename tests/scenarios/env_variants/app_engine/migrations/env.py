from alembic import context

from shop.database import engine


def run(**options):
    context.configure(**options)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run(url=engine.url, literal_binds=True)
else:
    run(connection=engine.connect())  # never closed, and the engine is never disposed of
