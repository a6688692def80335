"""add orders.total_cents"""

import math
import multiprocessing
import os
import subprocess
import sys

import sqlalchemy as sa
from alembic import op

revision = "8d24b6c0f5a1"
down_revision = "3f1c9a7e2b40"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("orders", sa.Column("total_cents", sa.BigInteger, server_default="0"))
    with multiprocessing.Pool(2) as workers:  # leaving the block sends SIGTERM to them
        assert workers.map(math.factorial, [3, 4]) == [6, 24]
    child = os.fork()
    if child == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    subprocess.run([sys.executable, "-c", "print(6 * 7)"], check=True)
    op.execute("INSERT INTO migration_log VALUES ('8d24b6c0f5a1')")


def downgrade():
    op.drop_column("orders", "total_cents")
