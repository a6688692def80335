"""totals"""

import sqlalchemy as sa
from alembic import op

revision = '8d24b6c0f5a1'
down_revision = '3f1c9a7e2b40'


def upgrade(engine_name):
    globals()[f"upgrade_{engine_name}"]()


def downgrade(engine_name):
    globals()[f"downgrade_{engine_name}"]()


def upgrade_():
    op.add_column("orders", sa.Column("total_cents", sa.BigInteger))
    op.execute("INSERT INTO migration_log VALUES ('8d24b6c0f5a1')")


def downgrade_():
    pass


def upgrade_billing():
    op.execute("INSERT INTO migration_log VALUES ('8d24b6c0f5a1')")


def downgrade_billing():
    pass
