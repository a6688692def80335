from sqlalchemy import Boolean, Column, DateTime, ForeignKey, Integer, Numeric, String, func
from sqlalchemy.orm import relationship
from sqlalchemy.sql import expression

from app.database import Base


class Room(Base):
    __tablename__ = "rooms"

    id = Column(Integer, primary_key=True)
    name = Column(String(80), nullable=False, unique=True)
    seats = Column(Integer, nullable=False, server_default="1")

    bookings = relationship("Booking", back_populates="room")


class Booking(Base):
    __tablename__ = "bookings"

    id = Column(Integer, primary_key=True)
    room_id = Column(Integer, ForeignKey("rooms.id"), nullable=False, index=True)
    guest = Column(String(120), nullable=False)
    price = Column(Numeric(10, 2))
    paid = Column(Boolean, nullable=False, server_default=expression.false())
    created_at = Column(DateTime, nullable=False, server_default=func.now())

    room = relationship("Room", back_populates="bookings")
