"""Starting server programs that refuse to run as root: as a user that the machine already has.

No user is made and no existing file's mode is changed. Where we are not root, all is done as ourselves.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from migrator.errors import ConfigurationError

HOST = "127.0.0.1"
"""Where servers listen."""

# Below Linux's default range of ephemeral ports (ip_local_port_range, from 32768): otherwise the client
# side of any connection could take the port while the server restarts.
_PORTS = range(20_000, 32_768)
_LONGEST_SOCKET_PATH = 103  # sockaddr_un: 108 bytes on Linux, 104 on macOS, with the final zero byte
_UNPRIVILEGED_USERS = ("nobody", "postgres")


def account() -> pwd.struct_passwd | None:
    """The account that a server runs as; None: the one that runs us.

    :raises ConfigurationError: we are root, and the machine has no such account.
    """
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ConfigurationError(
        "a database server does not run as root, and there is no user 'nobody' or 'postgres' to run it as",
        next_step="Run the command as an ordinary user.",
    )


def directory_for(account: pwd.struct_passwd | None) -> Path:
    """A new directory whose way is open to the server's user and short enough for a Unix socket in it."""
    base = Path(tempfile.mkdtemp(prefix="migrator-"))
    too_long = len(os.fsencode(base / f".s.PGSQL.{_PORTS[-1]}.lock")) > _LONGEST_SOCKET_PATH
    if too_long or (account is not None and not open_to_all(base.parent)):
        base.rmdir()
        base = Path(tempfile.mkdtemp(prefix="migrator-", dir="/tmp"))
    return base


def open_to_all(path: Path) -> bool:
    """Anybody may read ``path`` and go there (directories on the way need ``x`` alone)."""
    resolved = path.resolve()
    way = all(directory.stat().st_mode & 0o001 for directory in resolved.parents)
    return way and resolved.stat().st_mode & 0o005 == 0o005


def give(path: Path, account: pwd.struct_passwd | None) -> None:
    """Make the account the owner of ``path`` and of everything in it."""
    if account is None:
        return
    for owned in (path, *path.rglob("*")):
        os.chown(owned, account.pw_uid, account.pw_gid, follow_symlinks=False)


def start(
    command: list[str],
    account: pwd.struct_passwd | None,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program as the server's user, out of reach of the terminal's Ctrl-C."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd="/",
        env={**kept, "LC_ALL": "C"},
        start_new_session=True,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, out of the range that client connections take theirs from."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
