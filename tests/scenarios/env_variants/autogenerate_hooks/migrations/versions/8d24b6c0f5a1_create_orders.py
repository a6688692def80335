"""create orders"""

import sqlalchemy as sa
from alembic import op

revision = "8d24b6c0f5a1"
down_revision = "3f1c9a7e2b40"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("customer_id", sa.Integer, sa.ForeignKey("customers.id"), nullable=False, index=True),
        sa.Column("total_cents", sa.BigInteger),
    )
    op.grant_select("orders")
    op.execute("INSERT INTO migration_log VALUES ('8d24b6c0f5a1')")


def downgrade():
    op.drop_table("orders")
