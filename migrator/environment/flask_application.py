"""The application that an ``env.py`` of Flask-Migrate works in: it reads everything from ``current_app``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator.errors import ConfigurationError

if TYPE_CHECKING:
    from alembic.config import Config

OUTSIDE = "outside of application context"
"""What Flask says in every version where ``current_app`` is used and there is none."""

_HOW = (
    "Set FLASK_APP to its module or factory, as for the flask command (FLASK_APP=shop:create_app), "
    "or write that into .flaskenv."
)


@contextlib.contextmanager
def application_context(config: Config, environment: Path) -> Iterator[None]:
    """Within the context of the project's Flask application, if its ``env.py`` asks for ``current_app``.

    The application is found as ``flask`` finds it: ``FLASK_APP``, also in ``.flaskenv``, else ``wsgi.py`` or
    ``app.py``. Where somebody, ``env.py`` included, has a context already, or no application is found,
    nothing is done. As with ``flask``, its folder stays on ``sys.path``.

    :raises Exception: what the import of the application, or its factory, raises.
    """
    if not _wanted(environment):
        yield
        return
    with _dotenv():
        application = _load()
        if application is None:
            yield
            return
        with application.app_context():
            _configure(application, config)
            yield


def explained(error: BaseException) -> ConfigurationError | None:
    """What to do where ``env.py`` needed an application and there was none; None: that is not what happened."""
    if not isinstance(error, RuntimeError) or OUTSIDE not in str(error):
        return None
    return ConfigurationError(
        "env.py needs the project's Flask application (current_app), and none was found",
        details=("FLASK_APP is not set, and there is neither wsgi.py nor app.py",),
        next_step=f"{_HOW} Nothing was changed.",
    )


def _wanted(environment: Path) -> bool:
    try:
        text = environment.read_bytes()
    except OSError:
        return False
    if b"current_app" not in text or b"app_context(" in text:
        return False
    try:
        from flask import has_app_context
    except ImportError:
        return False
    return not has_app_context()


@contextlib.contextmanager
def _dotenv() -> Iterator[None]:
    """The variables of ``.flaskenv`` and ``.env`` meanwhile. What the application sets by itself stays."""
    from flask.cli import load_dotenv
    from flask.helpers import get_load_dotenv

    before = set(os.environ)
    if get_load_dotenv():
        load_dotenv()
    added = set(os.environ) - before
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _load() -> Any:
    from flask.cli import NoAppException, ScriptInfo

    name = os.environ.get("FLASK_APP")
    if not name and not any(Path(file).exists() for file in ("wsgi.py", "app.py")):
        return None  # env.py may have a way of its own; else `explained` is told
    try:
        return ScriptInfo(name).load_app()
    except NoAppException as error:
        *_, said = error.message.strip().splitlines()
        raise ConfigurationError(
            "env.py needs the project's Flask application, and it cannot be loaded",
            details=(said, f"FLASK_APP is {name}" if name else "looked for in wsgi.py and app.py"),
            next_step=f"{_HOW} Nothing was changed.",
        ) from error


def _configure(application: Any, config: Config) -> None:
    """Flask-Migrate lets a project change Alembic's configuration (``@migrate.configure``)."""
    extension = application.extensions.get("migrate")
    if extension is not None:
        extension.migrate.call_configure_callbacks(config)
