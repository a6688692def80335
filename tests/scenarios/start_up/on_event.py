"""app/on_event.py"""

import migrator
from app.routes import router
from fastapi import FastAPI

app = FastAPI(title="Rooms")
app.include_router(router)


@app.on_event("startup")
async def migrate() -> None:
    migrator.upgrade(config="alembic/alembic.ini", deadline="10m")
