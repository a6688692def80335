"""Fixtures of the tests that run whole projects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Database
from tests.integration.proving import Proving


@pytest.fixture
def proving(tmp_path: Path, new_database: Callable[..., Database]) -> Proving:
    """Write projects on databases of their own, and run them with bare Alembic and with migrator."""
    return Proving(tmp_path, new_database)
