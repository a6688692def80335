"""index orders by customer"""

import sqlalchemy as sa
from alembic import op

revision = "8d24b6c0f5a1"
down_revision = "3f1c9a7e2b40"
branch_labels = None
depends_on = None


def upgrade():
    op.create_index("ix_orders_customer", "orders", ["customer"])
    op.bulk_insert(sa.Table("migration_log", sa.MetaData(), sa.Column("revision", sa.Text)), [{"revision": revision}])


def downgrade():
    op.drop_index("ix_orders_customer", "orders")
