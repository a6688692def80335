from app import models
from app.database import engine

# Since there are migrations this is not needed any more, but for a while it made the tables.
models.Base.metadata.create_all(bind=engine)
