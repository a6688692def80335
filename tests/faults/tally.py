"""A row of the matrix, and what is counted in one of its cells."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A row of the matrix: a server, the driver, and how the driver gets there.

    :ivar kind: names what is to be started (``pg18``).
    :ivar route: ``direct`` or ``pgbouncer``.
    """

    kind: str
    driver: str
    route: str = "direct"

    @property
    def name(self) -> str:
        """``pg18-psycopg2-direct``."""
        return f"{self.kind}-{self.driver}-{self.route}"


@dataclass
class Tally:
    """What one cell counted.

    :ivar trials: how often the fault struck; ``passed``: of them, with nothing wrong.
    :ivar runs: processes of migrator, reruns included; ``codes``: how they ended.
    :ivar doubled: revisions that were applied more than once.
    :ivar lost: runs that ended with 0 while the database did not hold what they were to do.
    :ivar named: trials after which something was left, the report said what, and removing it helped.
    :ivar free_seconds: the longest time from a fault until the run lock was free.
    :ivar problems: label of the trial, and what was wrong.
    """

    trials: int = 0
    passed: int = 0
    runs: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    doubled: int = 0
    lost: int = 0
    named: int = 0
    free_seconds: float | None = None
    seconds: float = 0.0
    problems: list[tuple[str, str]] = field(default_factory=list)
