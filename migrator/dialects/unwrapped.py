"""What is below SQLAlchemy's wrappers: the driver's own connection, and the driver's own error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from migrator.dialects import RawConnection


def driver_connection(raw: RawConnection) -> Any:
    """The driver's own connection: below the adapter of an asynchronous driver, otherwise ``raw`` itself."""
    return getattr(raw, "driver_connection", raw)


def driver_error(error: BaseException, ours: Callable[[BaseException], bool]) -> BaseException | None:
    """The driver's own exception: SQLAlchemy's ``orig``, the error itself, or the cause that was wrapped.

    :param ours: whether an exception is one of the driver's.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        original = getattr(current, "orig", None)
        if isinstance(original, BaseException):
            current = original
            continue
        if ours(current):
            return current
        current = current.__cause__
    return None
