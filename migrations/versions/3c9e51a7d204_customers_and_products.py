"""customers and products

Revision ID: 3c9e51a7d204
Revises:
Create Date: 2026-02-03 09:14:27
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "3c9e51a7d204"
down_revision = None
branch_labels = None
depends_on = None

FIRST_CATALOGUE = [
    {"sku": "MUG-01", "name": "Mug, blue", "price_cents": 1290},
    {"sku": "MUG-02", "name": "Mug, white", "price_cents": 1190},
    {"sku": "PLATE-01", "name": "Plate, 24 cm", "price_cents": 1850},
    {"sku": "BOWL-01", "name": "Bowl, 16 cm", "price_cents": 1450},
    {"sku": "POT-01", "name": "Teapot", "price_cents": 4900},
]


def upgrade() -> None:
    op.create_table(
        "customers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customers")),
        sa.UniqueConstraint("email", name=op.f("uq_customers_email")),
    )
    products = op.create_table(
        "products",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sku", sa.String(40), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("price_cents", sa.Integer(), nullable=False),
        sa.CheckConstraint("price_cents >= 0", name=op.f("ck_products_price_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_products")),
        sa.UniqueConstraint("sku", name=op.f("uq_products_sku")),
    )
    op.bulk_insert(products, FIRST_CATALOGUE)


def downgrade() -> None:
    op.drop_table("products")
    op.drop_table("customers")
