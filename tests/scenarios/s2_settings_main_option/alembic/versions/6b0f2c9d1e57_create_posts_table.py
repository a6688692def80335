"""create posts table

Revision ID: 6b0f2c9d1e57
Revises:
Create Date: 2025-08-14 20:05:11.402318

"""
from alembic import op
import sqlalchemy as sa

revision = "6b0f2c9d1e57"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "posts",
        sa.Column("id", sa.Integer(), nullable=False, primary_key=True),
        sa.Column("title", sa.String(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("posts")
