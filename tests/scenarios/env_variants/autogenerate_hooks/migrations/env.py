"""Models found by walking a package, and every hook of autogenerate."""
import importlib
import importlib.util
import os
import pkgutil
import sys
from pathlib import Path

from alembic import context
from sqlalchemy import create_engine, pool

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
package = importlib.import_module("shop.models")
for module in pkgutil.walk_packages(package.__path__, "shop.models."):
    importlib.import_module(module.name)
target_metadata = sys.modules["shop.models.base"].Base.metadata

spec = importlib.util.spec_from_file_location("hooks", Path(__file__).with_name("hooks.py"))
hooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hooks)

OPTIONS = {
    "target_metadata": target_metadata,
    "include_object": hooks.include_object,
    "include_name": hooks.include_name,
    "render_item": hooks.render_item,
    "process_revision_directives": hooks.no_empty_revision,
    "compare_type": True,
    "compare_server_default": True,
    "include_schemas": True,
    "render_as_batch": True,
}

if context.is_offline_mode():
    context.configure(url=os.environ["DATABASE_URL"], literal_binds=True, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool).connect() as connection:
        context.configure(connection=connection, **OPTIONS)
        with context.begin_transaction():
            context.run_migrations()
