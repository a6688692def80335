from environs import Env

env = Env()
env.read_env(".env.shop", recurse=False)
with env.prefixed("SHOP_"):
    database_url = env.str("DATABASE_URL")
    debug = env.bool("DEBUG", False)
