"""add users table

Revision ID: a27c5f8e6d40
Revises: 91d4e7a03bc8
Create Date: 2025-08-15 18:42:30.006127

"""
from alembic import op
import sqlalchemy as sa

revision = "a27c5f8e6d40"
down_revision = "91d4e7a03bc8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("password", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email"),
    )


def downgrade() -> None:
    op.drop_table("users")
