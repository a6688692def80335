"""Databases' own command-line clients, as their users feed them the SQL that was written for them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness import Completed, checked, clean_environment

PACKAGES: Mapping[str, str] = {
    "psql": "postgresql-client",
    "mariadb": "mariadb-client",
    "sqlite3": "sqlite3",
}
"""The clients, and the Debian packages that bring them."""


def client(name: str) -> str:
    """The path of a client; without it the test is skipped, which CI takes for a failure."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {PACKAGES[name]})")
    return found


def psql(file: Path, url: str) -> Completed:
    """``psql -v ON_ERROR_STOP=1 -f FILE``, which has to succeed."""
    return _run(client("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-f", str(file), url)


def mariadb(file: Path, host: str, port: int, user: str, password: str, database: str) -> Completed:
    """``mariadb DATABASE < FILE``, which has to succeed; it stops at the first error by itself."""
    arguments = (f"--host={host}", f"--port={port}", f"--user={user}", "--protocol=tcp")
    command = (client("mariadb"), "--no-defaults", *arguments, "--default-character-set=utf8mb4", database)
    return _run(*command, file=file, env={"MYSQL_PWD": password})


def sqlite3(file: Path, database: Path) -> Completed:
    """``sqlite3 -bail DATABASE < FILE``, which has to succeed; without ``-bail`` it would go on after errors."""
    return _run(client("sqlite3"), "-bail", str(database), file=file)


NO_VARIABLES: Mapping[str, str] = {}


def _run(*command: str, file: Path = Path("/dev/null"), env: Mapping[str, str] = NO_VARIABLES) -> Completed:
    with file.open("rb") as stdin:
        ended = subprocess.run(
            command,
            stdin=stdin,
            env=clean_environment({"LC_ALL": "C.UTF-8", **env}),
            capture_output=True,
            text=True,
            check=False,
        )
    return checked(Completed(ended.returncode, ended.stdout, ended.stderr))
