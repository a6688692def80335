"""orders.total_cents is never null"""

import sqlalchemy as sa
from alembic import op

revision = "c7e05d93a86f"
down_revision = None
branch_labels = ("contract",)
depends_on = "8d24b6c0f5a1"


def upgrade():
    op.alter_column("orders", "total_cents", nullable=False)
    op.execute("INSERT INTO migration_log VALUES ('c7e05d93a86f')")


def downgrade():
    op.alter_column("orders", "total_cents", nullable=True)
