import os

from sqlalchemy import create_engine

engine = create_engine(os.environ["SHOP_DATABASE_URL"], pool_size=1, max_overflow=0, pool_recycle=1800)
