"""SQLite's run lock: ``flock`` on a file beside the database, which says who holds it.

The kernel gives it back when the process ends, however it ends. It belongs to an open file and not to the
process, so that two runs in one process exclude each other as well. The file stays: who removed it could let
a second run in (flock(2), and the note on network file systems there).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import pwd
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from migrator.dialects import LockKey, RawConnection
from migrator.dialects.unwrapped import driver_connection
from migrator.errors import AccessRefused
from migrator.results import LockHolder

_DEFAULT_TABLE = "alembic_version"
_SUFFIX = "-migrator"

_taken: dict[tuple[int, str], _Taken] = {}
"""By connection and path, what this process holds."""

_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Taken:
    """A lock that is held. It keeps its connection, so that no other gets the same ``id``."""

    connection: object
    path: str
    descriptor: int


def lock_file(database: str, key: LockKey) -> str:
    """``app.db-migrator``, as SQLite's own ``app.db-wal``; with a suffix for another version table."""
    if (key.schema, key.version_table.lower()) == ("main", _DEFAULT_TABLE):
        return database + _SUFFIX
    name = "\0".join((key.schema, key.version_table.lower()))
    return f"{database}{_SUFFIX}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def take(raw: RawConnection, database: str, key: LockKey) -> bool:
    """Take the lock if it is free.

    :raises AccessRefused: the file cannot be made where the database is.
    """
    connection, path = _connection(raw), lock_file(database, key)
    with _guard:
        _forget_closed_connections()
        if (id(connection), path) in _taken:
            return True
        descriptor = _opened(path, database)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _same_file(descriptor, path):
                raise BlockingIOError
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise AccessRefused(
                "the file system of the database has no file locks, so nothing would keep two runs apart",
                details=(f"{path}: {error.strerror}",),
                next_step="Put the database on a local disk. Nothing was changed.",
            ) from error
        _taken[id(connection), path] = _Taken(connection, path, descriptor)
        _write(descriptor, "migrator")
    return True


def holds(raw: RawConnection, database: str, key: LockKey) -> bool:
    """Whether this connection holds it still, and the file is still the one that others look at."""
    held = _taken.get((id(_connection(raw)), lock_file(database, key)))
    return held is not None and _same_file(held.descriptor, held.path)


def give_back(raw: RawConnection, key: LockKey) -> bool:
    """False: this connection did not hold it any more. Asks nothing of the connection, which may be closed."""
    connection = _connection(raw)
    with _guard:
        mine = [held for held in _taken.values() if held.connection is connection]
        for held in mine:
            if held.path == lock_file(_database_of(held.path), key):
                kept = _same_file(held.descriptor, held.path)
                _release(held)
                return kept
    return False


def describe(raw: RawConnection, application: str) -> None:
    """Say in the files of this connection's locks what it is doing now."""
    connection = _connection(raw)
    for held in list(_taken.values()):
        if held.connection is connection:
            _write(held.descriptor, application)


def holder(database: str, key: LockKey) -> LockHolder | None:
    """Who holds it, as its file says; None if it is free or cannot be looked at."""
    try:
        descriptor = os.open(lock_file(database, key), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    with _closing(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except OSError:
            pass
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(os.pread(descriptor, 4096, 0))
            return LockHolder(
                pid=int(said["pid"]),
                application=str(said["application"]),
                user=str(said["user"]),
                state="active",
                since_seconds=max(0.0, time.time() - float(said["since"])),
            )
    return LockHolder(pid=0, application="a run that is just beginning")


def _opened(path: str, database: str) -> int:
    try:
        new = not os.path.exists(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        if new:
            with contextlib.suppress(OSError):  # whoever may write the database may take the lock
                os.fchmod(descriptor, os.stat(database).st_mode & 0o666)
        return descriptor
    except OSError as error:
        raise AccessRefused(
            "the run lock is a file beside the database, and that cannot be written",
            details=(f"{path}: {error.strerror}",),
            next_step=(
                "Mount the volume writable and let the user that runs this write to the folder (SQLite needs "
                "that for its journal as well). Nothing was changed."
            ),
        ) from error


def _write(descriptor: int, application: str) -> None:
    said = json.dumps({"pid": os.getpid(), "user": _user(), "application": application, "since": time.time()})
    with contextlib.suppress(OSError):  # it is for the eyes of who waits; a full disk must not end a run here
        os.pwrite(descriptor, said.encode().ljust(512)[:4096], 0)
        os.ftruncate(descriptor, max(512, len(said.encode())))


@functools.cache
def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container with a number for a user
        return str(os.getuid())


def _same_file(descriptor: int, path: str) -> bool:
    try:
        ours, theirs = os.fstat(descriptor), os.stat(path)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _database_of(path: str) -> str:
    return path.rpartition(_SUFFIX)[0]


def _connection(raw: RawConnection) -> object:
    driver: object = driver_connection(raw)
    return driver


def _forget_closed_connections() -> None:
    """A connection that was closed holds nothing, as with every other database."""
    for held in list(_taken.values()):
        try:
            held.connection.total_changes  # type: ignore[attr-defined]  # noqa: B018
        except Exception:
            _release(held)


def _release(held: _Taken) -> None:
    _taken.pop((id(held.connection), held.path), None)
    with contextlib.suppress(OSError):
        # Explicitly: a process that a revision forked has the same open file.
        fcntl.flock(held.descriptor, fcntl.LOCK_UN)
    os.close(held.descriptor)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)
