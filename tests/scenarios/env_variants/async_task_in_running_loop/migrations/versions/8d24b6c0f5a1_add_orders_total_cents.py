"""add orders.total_cents"""

import sqlalchemy as sa
from alembic import op

revision = "8d24b6c0f5a1"
down_revision = "3f1c9a7e2b40"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("orders", sa.Column("total_cents", sa.BigInteger, server_default="0"))
    op.execute("INSERT INTO migration_log VALUES ('8d24b6c0f5a1')")


def downgrade():
    op.drop_column("orders", "total_cents")
