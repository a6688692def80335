from fastapi import FastAPI

from app.routes import router

app = FastAPI(title="Rooms")
app.include_router(router)
