"""create bookings

Revision ID: c8f20b6e4d17
Revises: 5d1c7e90ab34
Create Date: 2025-03-09 18:40:03.662149

"""
from alembic import op
import sqlalchemy as sa

revision = "c8f20b6e4d17"
down_revision = "5d1c7e90ab34"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bookings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("room_id", sa.Integer(), nullable=False),
        sa.Column("guest", sa.String(length=120), nullable=False),
        sa.Column("price", sa.Numeric(precision=10, scale=2), nullable=True),
        sa.Column("paid", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("created_at", sa.DateTime(), nullable=False, server_default=sa.func.now()),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="bookings_room_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_bookings_room_id"), "bookings", ["room_id"])


def downgrade() -> None:
    op.drop_table("bookings")
