"""``python -m benchmarks.image``: what the image weighs and costs, as a Markdown table for the README."""

from __future__ import annotations

import datetime
import gzip
import json
import platform
import secrets
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

from tests.readme import write_into

IMAGE = "migrator:job"
ROUNDS = 15
_REPOSITORY = Path(__file__).parent.parent
_MIB, _MB = 1024 * 1024, 1000 * 1000


@dataclass(frozen=True, slots=True)
class Peer:
    """What somebody published about the size of another tool's image, as Docker told them: on disk, in MB."""

    image: str
    on_disk_mb: int
    source: str
    date: str


# No registry was asked: only what can be read at these places, as old as it says.
PEERS = (
    Peer("flyway/flyway:11.19.0", 591, "https://qiita.com/oohira/items/6079aed597f4b9951c77", "2025-12"),
    Peer("dbmate, when it got its SQL clients", 56, "https://github.com/amacneil/dbmate/pull/157", "2020-08"),
)

_COUNTING = """
import importlib.metadata, json, pathlib
status = pathlib.Path("/var/lib/dpkg/status").read_text()
print(json.dumps({
    "python": len(list(importlib.metadata.distributions())),
    "debian": status.count("\\nStatus: install ok installed\\n"),
}))
"""
# Run by a Python that does nothing else: what its parent held counts into a process's peak.
_MEASURING = """
import json, os, resource, sys, time
costs = []
for _ in range(int(sys.argv[1])):
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        os.execvp("migrator", ["migrator", *sys.argv[2:]])
    _, status, usage = os.wait4(child, 0)
    assert status == 0, status
    costs.append((time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))
print(json.dumps(costs))
"""


@click.command()
@click.option(
    "--write", is_flag=True, help="Write it into the README and docs/docker.md, between their marks."
)
def main(write: bool) -> None:
    """Measure the image migrator:job as it is on this machine's Docker Engine (make bench-image builds it)."""
    block = "\n".join(["| | |", "|---|---|", *_size_rows(), *_cost_rows(), *_peer_rows()])
    block += f"\n\n{_conditions()}\n"
    small = _small()
    print(f"{block}\n{small}", end="")
    if write:
        write_into(_REPOSITORY / "README.md", {"image": block})
        write_into(_REPOSITORY / "docs" / "docker.md", {"small": small})


def _docker(*args: str) -> str:
    try:
        return subprocess.run(["docker", *args], check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise click.ClickException("the command docker is not there") from None
    except subprocess.CalledProcessError as error:
        raise click.ClickException(f"docker {args[0]}: {error.stderr.strip()}") from error


def _size_rows() -> Iterator[str]:
    layers = _compressed_layers()
    base = len(layers) - _own_layers()
    on_disk = json.loads(_docker("image", "inspect", IMAGE))[0]["Size"] / _MB
    counted: dict[str, int] = json.loads(_python(_COUNTING))
    yield f"| on disk | {on_disk:.0f} MB, {on_disk - _base_size():.0f} of it on top of the Python base image |"
    yield f"| compressed, as pulled | {sum(layers):.0f} MB, {sum(layers[base:]):.0f} of it on top |"
    yield f"| packages | {counted['python']} of Python, {counted['debian']} of Debian (all of the base image) |"


def _own_layers() -> int:
    return sum("COPY" in line or "WORKDIR" in line for line in _history())


def _history() -> list[str]:
    return _docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE).splitlines()


def _base_size() -> float:
    sizes = _docker("history", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", IMAGE).splitlines()
    own = [int(size) for size, _, by in (line.partition(" ") for line in sizes) if "buildkit" in by]
    total = json.loads(_docker("image", "inspect", IMAGE))[0]["Size"]
    return float(total - sum(own)) / _MB


def _compressed_layers() -> list[float]:
    """Megabytes of each layer, compressed with gzip as in a registry; the base image's first."""
    with tempfile.TemporaryDirectory(prefix="image-") as directory:
        archive = Path(directory) / "image.tar"
        _docker("save", "--output", str(archive), IMAGE)
        with tarfile.open(archive) as saved:

            def read(name: str) -> bytes:
                file = saved.extractfile(name)
                assert file is not None, name
                return file.read()

            names: list[str] = json.loads(read("manifest.json"))[0]["Layers"]
            return [len(gzip.compress(read(name), 6)) / _MB for name in names]


def _python(code: str, *args: str, options: tuple[str, ...] = ()) -> str:
    return _docker("run", "--rm", *options, "--entrypoint", "python", IMAGE, "-c", code, *args)


def _cost_rows() -> Iterator[str]:
    yield f"| `migrator --version` | {_cost(_measured((), '--version'))} |"
    with _postgres() as (network, url):
        options = ("--network", network, "--env", f"MIGRATOR_DATABASE_URL={url}")
        _docker("run", "--rm", *options, IMAGE)
        yield f"| an upgrade with nothing to do | {_cost(_measured(options, 'upgrade'))} |"
        begun = time.monotonic()
        _docker("run", "--rm", *options, IMAGE)
        yield f"| the same as `docker run` | {time.monotonic() - begun:.1f} s, container and all |"


def _small() -> str:
    """A sentence: the example history on an empty database, with little room and without limits."""
    seconds = []
    for limits in (("--memory", "128m", "--memory-swap", "128m", "--cpus", "0.1"), ()):
        with _postgres() as (network, url):
            options = ("--network", network, "--env", f"MIGRATOR_DATABASE_URL={url}")
            # One that waits until the server is up, and is not measured.
            _docker("run", "--rm", *options, IMAGE, "wait")
            begun = time.monotonic()
            _docker("run", "--rm", *limits, *options, IMAGE)
            seconds.append(time.monotonic() - begun)
    return (
        "With 128 MiB and a tenth of a processor, the six revisions of this repository took "
        f"{seconds[0]:.0f} s on an empty database, start-up\nincluded; without limits {seconds[1]:.1f} s. "
        "Nearly all of it is Python's start-up: give it half a processor or more where you can.\n"
    )


def _measured(options: tuple[str, ...], *command: str) -> list[Any]:
    hardened = ("--read-only", "--cap-drop", "ALL")
    costs: list[Any] = json.loads(
        _python(_MEASURING, str(ROUNDS + 1), *command, options=(*hardened, *options))
    )
    return costs[1:]


def _cost(costs: list[Any]) -> str:
    wall, cpu, peak = (median(values) for values in zip(*costs, strict=True))
    return f"{wall:.2f} s, {cpu:.2f} s of CPU, {peak:.0f} MiB at most"


@contextmanager
def _postgres() -> Iterator[tuple[str, str]]:
    name, password = f"migrator-benchmark-{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    _docker("network", "create", name)
    try:
        options = ("--name", name, "--network", name, "--network-alias", "db")
        _docker("run", "--detach", *options, "--env", f"POSTGRES_PASSWORD={password}", "postgres:17")
        yield name, f"postgresql://postgres:{password}@db:5432/postgres"
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], check=False, capture_output=True)
        _docker("network", "rm", name)


def _peer_rows() -> Iterator[str]:
    for peer in PEERS:
        yield f"| for comparison: {peer.image} | {peer.on_disk_mb} MB on disk, [published {peer.date}]({peer.source}) |"


def _conditions() -> str:
    engine = _docker("version", "--format", "{{.Server.Version}}").strip()
    return (
        f"`{IMAGE}`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {platform.machine()}, Docker Engine {engine}, "
        f"read-only root; medians of {ROUNDS} runs inside one container. `make bench-image` gives these figures; those "
        "for comparison are what others published."
    )


if __name__ == "__main__":
    sys.exit(main())
