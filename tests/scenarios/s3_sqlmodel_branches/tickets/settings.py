import os

# The platform hands out postgres://, which SQLAlchemy does not know.
DATABASE_URL = os.environ["DATABASE_URL"].replace("postgres://", "postgresql://", 1)
