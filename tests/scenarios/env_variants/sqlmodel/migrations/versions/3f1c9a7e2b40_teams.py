"""teams"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "3f1c9a7e2b40"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.create_table("migration_log", sa.Column("revision", sa.Text))
    op.create_table(
        "team",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO migration_log VALUES ('3f1c9a7e2b40')")


def downgrade():
    op.drop_table("team")
