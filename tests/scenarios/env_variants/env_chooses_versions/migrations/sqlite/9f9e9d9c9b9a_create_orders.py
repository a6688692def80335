"""create orders"""

import sqlalchemy as sa
from alembic import op

revision = "9f9e9d9c9b9a"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.execute("CREATE TABLE orders (id INTEGER) STRICT")


def downgrade():
    pass
