import os

from fastapi import APIRouter

from app.database import SessionLocal
from app.models import Room

router = APIRouter()


@router.get("/rooms")
def list_rooms():
    with SessionLocal() as session:
        return [{"name": room.name, "seats": room.seats} for room in session.query(Room).order_by(Room.id)]


@router.get("/health")
def health():
    return {"worker": os.getpid()}
