from urllib.parse import quote_plus

from fastapi import FastAPI
from sqlalchemy import create_engine, select

import settings
from models.models import books

app = FastAPI(title="Library")
engine = create_engine(
    f"postgresql://{settings.DB_USER}:{quote_plus(settings.DB_PASSWORD)}"
    f"@{settings.DB_HOST}:{settings.DB_PORT}/{settings.DB_NAME}"
)


@app.get("/books")
def list_books():
    with engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(select(books))]
