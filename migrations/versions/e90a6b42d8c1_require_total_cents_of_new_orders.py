"""require orders.total_cents of new orders

First half of NOT NULL: a constraint that is not checked on the rows that are there needs its strong lock
for a moment only.

Revision ID: e90a6b42d8c1
Revises: c5b8d3f1607a
Create Date: 2026-03-12 08:31:44
"""

from __future__ import annotations

from alembic import op

revision = "e90a6b42d8c1"
down_revision = "c5b8d3f1607a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_check_constraint(
        op.f("ck_orders_total_cents_given"), "orders", "total_cents IS NOT NULL", postgresql_not_valid=True
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_orders_total_cents_given"), "orders")
