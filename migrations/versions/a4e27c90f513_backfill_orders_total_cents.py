"""backfill orders.total_cents

The application writes the total since its last version; this fills in the orders from before.

Revision ID: a4e27c90f513
Revises: 7d1f08b2c6e9
Create Date: 2026-03-05 11:22:50
"""

from __future__ import annotations

from alembic import op

revision = "a4e27c90f513"
down_revision = "7d1f08b2c6e9"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        UPDATE orders
        SET total_cents = orders.quantity * products.price_cents
        FROM products
        WHERE products.id = orders.product_id AND orders.total_cents IS NULL
        """
    )


def downgrade() -> None:
    """Nothing to undo: which totals were filled in here is not known, and they are right."""
