from pydantic import PostgresDsn, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env.shop", env_prefix="shop_", extra="ignore")

    database_host: str
    database_port: int = 5432
    database_user: str
    database_password: SecretStr
    database_name: str

    @property
    def url(self) -> str:
        return str(
            PostgresDsn.build(
                scheme="postgresql+psycopg",
                username=self.database_user,
                password=self.database_password.get_secret_value(),
                host=self.database_host,
                port=self.database_port,
                path=self.database_name,
            )
        )


database_url = Settings().url
