import os

from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(os.environ["SHOP_DATABASE_URL"], pool_size=2, pool_pre_ping=True)
