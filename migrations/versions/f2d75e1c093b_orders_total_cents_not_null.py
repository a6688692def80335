"""orders.total_cents is never null

Second half of NOT NULL: the rows are checked while others write, then PostgreSQL takes the constraint for
proof and does not read the table again.

Revision ID: f2d75e1c093b
Revises: e90a6b42d8c1
Create Date: 2026-03-12 08:35:09
"""

from __future__ import annotations

from alembic import op

revision = "f2d75e1c093b"
down_revision = "e90a6b42d8c1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE orders VALIDATE CONSTRAINT ck_orders_total_cents_given")
    op.alter_column("orders", "total_cents", nullable=False)
    op.drop_constraint(op.f("ck_orders_total_cents_given"), "orders")


def downgrade() -> None:
    op.create_check_constraint(
        op.f("ck_orders_total_cents_given"), "orders", "total_cents IS NOT NULL", postgresql_not_valid=True
    )
    op.alter_column("orders", "total_cents", nullable=True)
