"""create orders"""

import sqlalchemy as sa
from alembic import op

revision = "3f1c9a7e2b40"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.create_table("migration_log", sa.Column("revision", sa.Text))
    op.create_table("orders", sa.Column("id", sa.Integer, primary_key=True), sa.Column("customer", sa.Text))
    op.execute("INSERT INTO migration_log VALUES ('3f1c9a7e2b40')")


def downgrade():
    op.drop_table("orders")
    op.drop_table("migration_log")
