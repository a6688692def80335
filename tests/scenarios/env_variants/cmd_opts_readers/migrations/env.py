import os

from alembic import context
from sqlalchemy import create_engine, pool

config = context.config
config.set_main_option("sqlalchemy.url", os.environ["DATABASE_URL"].replace("%", "%%"))

options = config.cmd_opts
function, positional, named = options.cmd
if function.__name__ not in ("upgrade", "downgrade", "current", "stamp", "check", "revision"):
    raise SystemExit(f"not for alembic {function.__name__}")
if function.__name__ == "upgrade" and options.revision not in ("head", "base:head"):
    raise SystemExit("only ever to the head")
if options.x and any("=" not in one for one in options.x):
    raise SystemExit("-x NAME=VALUE")
autogenerating = getattr(options, "autogenerate", False)
verbosely = context.get_x_argument(as_dictionary=True).get("verbose") == "yes"


def run_migrations_offline():
    context.configure(url=config.get_main_option("sqlalchemy.url"), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online():
    engine = create_engine(config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool, echo=verbosely)
    with engine.connect() as connection:
        context.configure(connection=connection, compare_type=autogenerating)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
