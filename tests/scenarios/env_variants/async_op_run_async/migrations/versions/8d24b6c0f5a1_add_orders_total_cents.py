"""add and fill orders.total_cents"""

import asyncio

import sqlalchemy as sa
from alembic import op

revision = "8d24b6c0f5a1"
down_revision = "3f1c9a7e2b40"
branch_labels = None
depends_on = None


async def fill(connection):
    await connection.execute(sa.text("INSERT INTO orders (customer, total_cents) VALUES ('ada', 4200)"))
    await asyncio.sleep(0)
    await connection.execute(sa.text("INSERT INTO migration_log VALUES ('8d24b6c0f5a1')"))


def upgrade():
    op.add_column("orders", sa.Column("total_cents", sa.BigInteger, server_default="0"))
    op.run_async(fill)


def downgrade():
    op.drop_column("orders", "total_cents")
