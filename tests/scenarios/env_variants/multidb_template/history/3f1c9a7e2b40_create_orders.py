"""create orders and invoices"""

import sqlalchemy as sa
from alembic import op

revision = '3f1c9a7e2b40'
down_revision = None


def upgrade(engine_name):
    globals()[f"upgrade_{engine_name}"]()


def downgrade(engine_name):
    globals()[f"downgrade_{engine_name}"]()


def upgrade_engine1():
    op.create_table("migration_log", sa.Column("revision", sa.Text))
    op.create_table("orders", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO migration_log VALUES ('3f1c9a7e2b40')")


def downgrade_engine1():
    pass


def upgrade_engine2():
    op.create_table("migration_log", sa.Column("revision", sa.Text))
    op.create_table("invoices", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO migration_log VALUES ('3f1c9a7e2b40')")


def downgrade_engine2():
    pass
