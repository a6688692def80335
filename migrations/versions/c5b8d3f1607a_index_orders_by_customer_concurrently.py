"""index orders by customer, concurrently

Outside a transaction, for PostgreSQL builds it without blocking writes only there; alone in its revision,
so that a failed build can be repeated by itself.

Revision ID: c5b8d3f1607a
Revises: a4e27c90f513
Create Date: 2026-03-05 11:58:13
"""

from __future__ import annotations

from alembic import op

revision = "c5b8d3f1607a"
down_revision = "a4e27c90f513"
branch_labels = None
depends_on = None

INDEX = "ix_orders_customer_id_placed_at"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(INDEX, "orders", ["customer_id", "placed_at"], postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(INDEX, "orders", postgresql_concurrently=True)
