"""create customers"""

import sqlalchemy as sa
from alembic import op

revision = "3f1c9a7e2b40"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.create_table("migration_log", sa.Column("revision", sa.Text))
    op.create_table(
        "customers", sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.Text, nullable=False)
    )
    op.create_unique_constraint(op.f("uq_customers_email"), "customers", ["email"])
    op.execute("INSERT INTO migration_log VALUES ('3f1c9a7e2b40')")


def downgrade():
    op.drop_table("customers")
    op.drop_table("migration_log")
