import os

from dotenv import find_dotenv, load_dotenv

load_dotenv(find_dotenv(".env.shop", usecwd=True))
database_url = os.environ["SHOP_DATABASE_URL"]
