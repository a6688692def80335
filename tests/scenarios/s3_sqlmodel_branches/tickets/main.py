from fastapi import Depends, FastAPI
from sqlmodel import Session, select

from tickets.db import get_session
from tickets.models import Ticket

app = FastAPI(title="Tickets")


@app.get("/tickets")
def list_tickets(session: Session = Depends(get_session)):
    return session.exec(select(Ticket).order_by(Ticket.id)).all()
