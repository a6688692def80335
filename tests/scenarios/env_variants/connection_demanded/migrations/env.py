from alembic import context

config = context.config

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    context.configure(connection=config.attributes["connection"])
    with context.begin_transaction():
        context.run_migrations()
