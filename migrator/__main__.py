"""``migrator`` and ``python -m migrator``."""

from __future__ import annotations

from typing import NoReturn

from migrator.collection import defer_collection


def main() -> NoReturn:
    """Run the command line and exit."""
    defer_collection()
    from migrator.cli import main as run

    run()


if __name__ == "__main__":
    main()
