"""The same functions for callers in an event loop, which goes on meanwhile: ``await migrator.aio.upgrade()``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from migrator import api
from migrator.events import Reporter, silent

if TYPE_CHECKING:
    from migrator.results import RunResult, Status
    from migrator.settings import Settings

__all__ = ["status", "upgrade", "verify", "wait"]


async def upgrade(
    revision: str = "head", *, settings: Settings | None = None, on_event: Reporter = silent, **options: Any
) -> RunResult:
    """See :func:`migrator.upgrade`. Runs in a thread; cancelling the task does not stop the run."""
    return await asyncio.to_thread(api.upgrade, revision, settings=settings, on_event=on_event, **options)


async def wait(
    for_: Literal["connection", "head"] = "connection",
    *,
    settings: Settings | None = None,
    on_event: Reporter = silent,
    **options: Any,
) -> None:
    """See :func:`migrator.wait`."""
    await asyncio.to_thread(api.wait, for_, settings=settings, on_event=on_event, **options)


async def status(*, settings: Settings | None = None, on_event: Reporter = silent, **options: Any) -> Status:
    """See :func:`migrator.status`."""
    return await asyncio.to_thread(api.status, settings=settings, on_event=on_event, **options)


async def verify(*, settings: Settings | None = None, on_event: Reporter = silent, **options: Any) -> Status:
    """See :func:`migrator.verify`."""
    return await asyncio.to_thread(api.verify, settings=settings, on_event=on_event, **options)
