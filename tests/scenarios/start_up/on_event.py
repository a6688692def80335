"""app/on_event.py"""

import migrator
from fastapi import FastAPI

from app.routes import router

app = FastAPI(title="Rooms")
app.include_router(router)


@app.on_event("startup")
async def migrate() -> None:
    migrator.upgrade(config="alembic/alembic.ini", deadline="10m")
