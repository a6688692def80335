"""points"""

import sqlalchemy as sa
from alembic import op

revision = "5be1d07c93aa"
down_revision = None
branch_labels = ("loyalty",)
depends_on = "3f1c9a7e2b40"


def upgrade():
    op.create_table("points", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO migration_log VALUES ('5be1d07c93aa')")


def downgrade():
    op.drop_table("points")
