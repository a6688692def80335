"""reviews"""

import sqlalchemy as sa
from alembic import op

revision = "d06c7714fe28"
down_revision = None
branch_labels = ("reviews",)
depends_on = "8d24b6c0f5a1"


def upgrade():
    op.create_table("reviews", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO migration_log VALUES ('d06c7714fe28')")


def downgrade():
    op.drop_table("reviews")
