from datetime import date
from typing import Optional

from sqlmodel import Field, SQLModel


class Person(SQLModel, table=True):
    id: Optional[int] = Field(default=None, primary_key=True)
    name: str = Field(max_length=80)
    email: str = Field(unique=True, index=True)


class Ticket(SQLModel, table=True):
    id: Optional[int] = Field(default=None, primary_key=True)
    title: str
    opened_on: date = Field(default_factory=date.today)
    person_id: Optional[int] = Field(default=None, foreign_key="person.id")
