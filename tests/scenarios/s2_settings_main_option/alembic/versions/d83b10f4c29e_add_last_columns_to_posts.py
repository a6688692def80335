"""add last columns to posts

Revision ID: d83b10f4c29e
Revises: a27c5f8e6d40
Create Date: 2025-08-15 19:03:12.550981

"""
from alembic import op
import sqlalchemy as sa

revision = "d83b10f4c29e"
down_revision = "a27c5f8e6d40"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("posts", sa.Column("published", sa.Boolean(), nullable=False, server_default="TRUE"))
    op.add_column(
        "posts",
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("NOW()")
        ),
    )


def downgrade() -> None:
    op.drop_column("posts", "created_at")
    op.drop_column("posts", "published")
