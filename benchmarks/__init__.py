"""What a run of ``migrator upgrade`` costs, against bare ``alembic upgrade head`` in the same minutes."""
