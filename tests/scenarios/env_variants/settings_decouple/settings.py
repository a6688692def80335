from decouple import Config, RepositoryEnv

config = Config(RepositoryEnv(".env.shop"))
database_url = config("SHOP_DATABASE_URL")
