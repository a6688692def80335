"""the first rooms

Revision ID: e39a5f08c1b6
Revises: c8f20b6e4d17
Create Date: 2025-04-21 11:02:55.094817

"""
from alembic import op
import sqlalchemy as sa

revision = "e39a5f08c1b6"
down_revision = "c8f20b6e4d17"
branch_labels = None
depends_on = None

rooms = sa.table("rooms", sa.column("name", sa.String))


def upgrade() -> None:
    op.bulk_insert(
        rooms,
        [
            {"name": "Attic"},
            {"name": "Writer's den; 50 % off"},
            {"name": "Küche :warm"},
        ],
    )


def downgrade() -> None:
    op.execute(rooms.delete())
