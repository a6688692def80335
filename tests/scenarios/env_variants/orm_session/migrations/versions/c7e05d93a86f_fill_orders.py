"""fill orders"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.orm import Session

from shop.models.orders import Customer, Order

revision = "c7e05d93a86f"
down_revision = "8d24b6c0f5a1"
branch_labels = None
depends_on = None


def upgrade():
    session = Session(bind=op.get_bind())
    session.add_all([Customer(id=number, email=f"{number}@example.org") for number in range(1, 4)])
    session.flush()
    session.add_all([Order(customer_id=customer.id) for customer in session.scalars(sa.select(Customer))])
    session.flush()
    for order in session.scalars(sa.select(Order)):
        order.total_cents = order.customer_id * 100
    session.commit()
    op.execute("INSERT INTO migration_log VALUES ('c7e05d93a86f')")


def downgrade():
    op.execute("DELETE FROM orders")
    op.execute("DELETE FROM customers")
