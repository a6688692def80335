"""注文を顧客で索引する"""

import sqlalchemy as sa
from alembic import op

revision = "v1.2.0_注文"
down_revision = "8d24b6c0f5a1"
branch_labels = None
depends_on = None


def upgrade():
    op.create_index("ix_orders_customer", "orders", ["customer"])
    op.execute("INSERT INTO migration_log VALUES ('v1.2.0_注文')")


def downgrade():
    op.drop_index("ix_orders_customer")
