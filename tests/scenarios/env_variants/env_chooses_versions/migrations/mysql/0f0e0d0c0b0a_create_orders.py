"""create orders"""

import sqlalchemy as sa
from alembic import op

revision = "0f0e0d0c0b0a"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.execute("CREATE TABLE orders (id INT) ENGINE=InnoDB")


def downgrade():
    pass
