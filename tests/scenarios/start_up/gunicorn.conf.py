"""gunicorn.conf.py"""

import migrator

workers = 4
worker_class = "uvicorn_worker.UvicornWorker"


def on_starting(server):
    migrator.upgrade(config="alembic/alembic.ini")
