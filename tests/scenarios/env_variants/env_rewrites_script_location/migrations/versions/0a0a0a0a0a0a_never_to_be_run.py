"""moved"""

import sqlalchemy as sa
from alembic import op

revision = "0a0a0a0a0a0a"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    raise RuntimeError("an old revision that was moved to the package")


def downgrade():
    pass
