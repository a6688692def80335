"""create rooms

Revision ID: 5d1c7e90ab34
Revises:
Create Date: 2025-03-02 09:14:27.310552

"""
from alembic import op
import sqlalchemy as sa

revision = "5d1c7e90ab34"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rooms",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name="rooms_name_key"),
    )


def downgrade() -> None:
    op.drop_table("rooms")
