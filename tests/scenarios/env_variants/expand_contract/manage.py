"""python manage.py: expand, migrate the data, contract; each an upgrade of its own in this process."""
import os

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

config = Config("alembic.ini")
config.set_main_option("sqlalchemy.url", os.environ["DATABASE_URL"])
command.upgrade(config, "expand@head")
with create_engine(os.environ["DATABASE_URL"]).begin() as connection:
    connection.execute(text("UPDATE orders SET total_cents = 0 WHERE total_cents IS NULL"))
command.upgrade(config, "contract@head")
