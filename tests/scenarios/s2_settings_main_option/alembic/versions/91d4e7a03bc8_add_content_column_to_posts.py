"""add content column to posts

Revision ID: 91d4e7a03bc8
Revises: 6b0f2c9d1e57
Create Date: 2025-08-14 20:19:46.918703

"""
from alembic import op
import sqlalchemy as sa

revision = "91d4e7a03bc8"
down_revision = "6b0f2c9d1e57"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("posts", sa.Column("content", sa.String(), nullable=False))


def downgrade() -> None:
    op.drop_column("posts", "content")
