"""What a disposable database is, and what those who make one share."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from migrator.settings import Settings

PREFIX = "migrator_scratch_"
SCRATCH_SETTING = "MIGRATOR_SCRATCH_URL"

Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Disposable:
    """A new, empty database.

    :ivar url: for a synchronous or unnamed driver; complete, so that nothing of libpq's variables is added.
    :ivar source: how messages call where it comes from.
    :ivar own_server: its server runs on this machine for us alone, without TLS.
    """

    url: URL
    source: str
    own_server: bool


def new_name() -> str:
    """A name that no database has."""
    return f"{PREFIX}{secrets.token_hex(8)}"


def source_of(settings: Settings) -> str:
    """Where ``scratch-url`` comes from: ``MIGRATOR_SCRATCH_URL``, a secret file."""
    return settings.sources["scratch-url"]
