"""app/lifespan.py"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import migrator.aio
from fastapi import FastAPI

from app.routes import router


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await migrator.aio.upgrade(config="alembic/alembic.ini", deadline="10m")
    yield


app = FastAPI(title="Rooms", lifespan=lifespan)
app.include_router(router)
