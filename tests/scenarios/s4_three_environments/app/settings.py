from decouple import config

DATABASE_URL = config("DEV_DATABASE_URL")
