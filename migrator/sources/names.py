"""What settings are called: as an option, a variable, a key; and what is said of a name that nothing has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from migrator.errors import ConfigurationError

PREFIX: Final = "MIGRATOR_"
ENV_VARIABLE: Final = "MIGRATOR_ENV"
DATABASE_PARTS: Final = ("DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME")
LIBPQ_PARTS: Final = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE")


@dataclass(frozen=True, slots=True)
class Names:
    """The settings that there are, by attribute name; ``secret``: those that no command line may hold."""

    attributes: tuple[str, ...]
    secret: frozenset[str]

    @property
    def by_variable(self) -> dict[str, str]:
        """``MIGRATOR_WAIT_TIMEOUT`` → ``wait_timeout``."""
        return {variable_name(attribute): attribute for attribute in self.attributes}


def setting_name(attribute: str) -> str:
    """``wait_timeout`` → ``wait-timeout``: the name that people see, and the key in pyproject.toml."""
    return "json" if attribute == "json_output" else attribute.replace("_", "-")


def variable_name(attribute: str) -> str:
    """``wait_timeout`` → ``MIGRATOR_WAIT_TIMEOUT``."""
    return PREFIX + setting_name(attribute).replace("-", "_").upper()


def environment_url_name(env: str) -> str:
    """``test`` → ``TEST_DATABASE_URL``, ``pre-prod`` → ``PRE_PROD_DATABASE_URL``."""
    return re.sub(r"\W", "_", env).upper() + "_DATABASE_URL"


def contradiction(setting: str, one: str, other: str) -> ConfigurationError:
    """The error for a setting that has two values, found at ``one`` and at ``other``."""
    return ConfigurationError(
        f"{setting} is given twice: by {one} and by {other}", next_step="Remove one of them."
    )


def unknown(name: str, known: Iterable[str], problem: str) -> ConfigurationError:
    """The error for a name that is none of ``known``, with the nearest of them; ``problem``: "is not a setting"."""
    # Compared without what all have in common, or everything would be near.
    candidates = {candidate.lower().removeprefix(PREFIX.lower()): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower().removeprefix(PREFIX.lower()), candidates, n=1, cutoff=0.6)
    return ConfigurationError(
        f"{name} {problem}",
        next_step=f"Did you mean {candidates[near[0]]}?"
        if near
        else f"There are: {', '.join(sorted(candidates.values()))}.",
    )
