"""``migrator`` and ``python -m migrator``."""

from __future__ import annotations

import gc
from typing import NoReturn

# Imports make some hundred thousand objects that stay; looking through them again and again for garbage costs
# an eighth of the start-up (measured). Later collections are as thorough, only rarer.
COLLECT_AFTER = 50_000


def main() -> NoReturn:
    """Run the command line and exit."""
    gc.set_threshold(COLLECT_AFTER, 20, 100)
    from migrator.cli import main as run

    run()


if __name__ == "__main__":
    main()
