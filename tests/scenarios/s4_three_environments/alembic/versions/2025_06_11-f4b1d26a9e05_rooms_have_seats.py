"""rooms have seats

Revision ID: f4b1d26a9e05
Revises: e39a5f08c1b6
Create Date: 2025-06-11 20:31:48.770126

"""
from alembic import op
import sqlalchemy as sa

revision = "f4b1d26a9e05"
down_revision = "e39a5f08c1b6"
branch_labels = None
depends_on = None

rooms = sa.table("rooms", sa.column("name", sa.String), sa.column("seats", sa.Integer))


def upgrade() -> None:
    op.add_column("rooms", sa.Column("seats", sa.Integer(), nullable=False, server_default="1"))
    op.execute(rooms.update().where(rooms.c.name == "Attic").values(seats=12))


def downgrade() -> None:
    op.drop_column("rooms", "seats")
