import os

from alembic import context
import sys

config = context.config
config.set_main_option("sqlalchemy.url", os.environ["DATABASE_URL"].replace("%", "%%"))

if os.environ.get("SHOP_STAGE") not in ("test", "production"):
    print("SHOP_STAGE is not set: which stage is this?", file=sys.stderr)
    sys.exit(1)
