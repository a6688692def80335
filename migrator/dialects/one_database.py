"""For databases whose connections lead to one of them for good."""

from __future__ import annotations

from migrator.dialects import RawConnection


class OneDatabase:
    """A part of :class:`migrator.dialects.Dialect`: no statement chooses another database."""

    def database_in_use(self, raw: RawConnection) -> str:
        return ""

    def use_database(self, raw: RawConnection, database: str) -> None:
        return
