"""index orders by customer"""

import sqlalchemy as sa
from alembic import op

revision = "c7e05d93a86f"
down_revision = "8d24b6c0f5a1"
branch_labels = None
depends_on = None


def upgrade():
    op.create_index("ix_orders_customer", "orders", ["customer"])
    op.execute("INSERT INTO migration_log VALUES ('c7e05d93a86f')")


def downgrade():
    op.drop_index("ix_orders_customer")
