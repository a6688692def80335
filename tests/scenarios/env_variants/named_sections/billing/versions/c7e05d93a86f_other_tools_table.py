"""the plugins" own versions"""

import sqlalchemy as sa
from alembic import op

revision = "c7e05d93a86f"
down_revision = "8d24b6c0f5a1"
branch_labels = None
depends_on = None


def upgrade():
    # Another tool"s table, which looks like Alembic"s.
    op.create_table("plugin_versions", sa.Column("version_num", sa.String(32), primary_key=True))
    op.execute("INSERT INTO plugin_versions VALUES ('c7e05d93a86f')")
    op.execute("INSERT INTO migration_log VALUES ('c7e05d93a86f')")


def downgrade():
    op.drop_table("plugin_versions")
