"""``python -m benchmarks``: measure, print a Markdown table, and write it into the README where asked."""

from __future__ import annotations

import compileall
import datetime
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import click

from benchmarks.cases import BARE, OURS, all_cases, peers_found
from benchmarks.measure import CommandFailed, Cost, compared
from migrator import embedded

_BEGIN = "<!-- benchmark -->"
_END = "<!-- /benchmark -->"
_HEADER = f"| | {BARE}: wall s / CPU s / peak MiB | {OURS} | ratio: wall / CPU / memory |\n|---|---|---|---|"


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds: for a look, not for the README.")
@click.option(
    "--write",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help=f"Replace what stands between {_BEGIN} and {_END} in FILE.",
)
def main(quick: bool, write: Path | None) -> None:
    """Measure migrator upgrade against bare alembic upgrade head: whole processes that take turns."""
    if write is not None:
        _replaced(write, "")
    if not (peers := peers_found()):
        print("peers: none of dbmate, goose on the PATH; skipped", file=sys.stderr)
    # As an installation has it: otherwise each start would compile the package again.
    compileall.compile_dir(Path(embedded.__file__).parent, quiet=2)
    results: dict[str, dict[str, Cost]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as directory,
        embedded.postgres(options={"synchronous_commit": "off"}) as server,
    ):
        for case in all_cases(server, Path(directory), quick=quick):
            print(f"{case.title}: {case.rounds} rounds", file=sys.stderr, flush=True)
            try:
                results[case.title] = compared(case)
            except CommandFailed as error:
                raise click.ClickException(str(error)) from error
            print(_row(case.title, results[case.title]), file=sys.stderr, flush=True)
        table = "\n".join([_HEADER, *(_row(title, costs) for title, costs in results.items())])
        block = f"{table}\n\n{_peer_lines(results, peers)}{_conditions(server.version, quick=quick)}\n"
    print(block, end="")
    if write is not None:
        write.write_text(_replaced(write, block))


def _row(title: str, costs: Mapping[str, Cost]) -> str:
    bare, ours = costs[BARE], costs[OURS]
    ratios = (
        ours.wall_seconds / bare.wall_seconds,
        ours.cpu_seconds / bare.cpu_seconds,
        ours.peak_mib / bare.peak_mib,
    )
    return f"| {title} | {_cost(bare)} | {_cost(ours)} | {' / '.join(f'{ratio:.2f}' for ratio in ratios)} |"


def _cost(cost: Cost) -> str:
    return f"{cost.wall_seconds:.2f} / {cost.cpu_seconds:.2f} / {cost.peak_mib:.0f}"


def _peer_lines(results: Mapping[str, Mapping[str, Cost]], peers: list[str]) -> str:
    lines = [
        f"{peer}, {title}: {cost.wall_seconds:.3f} / {cost.cpu_seconds:.3f} / {cost.peak_mib:.0f}"
        for peer in peers
        for title, costs in results.items()
        if (cost := costs.get(peer)) is not None
    ]
    return "".join(f"- {line}\n" for line in lines) + ("\n" if lines else "")


def _conditions(server_version: str, *, quick: bool) -> str:
    versions = ", ".join(
        [
            f"Python {platform.python_version()}",
            *(f"{name} {version(package)}" for name, package in _PACKAGES.items()),
            f"PostgreSQL {server_version}",
        ]
    )
    return (
        f"Medians of {'few' if quick else '3 to 15'} interleaved runs of whole processes, {datetime.date.today()}, "
        f"{os.cpu_count()} CPUs ({_processor()}); {versions} on the same machine. Revision files of 4 kB, "
        "`PYTHONDONTWRITEBYTECODE=1`; both sides with `transaction_per_migration`, the server with "
        "`synchronous_commit` off. `make bench` gives these figures."
    )


_PACKAGES = {"Alembic": "alembic", "SQLAlchemy": "sqlalchemy", "psycopg2": "psycopg2-binary"}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _replaced(file: Path, block: str) -> str:
    before, begin, rest = file.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise click.UsageError(f"{file} has no block from {_BEGIN} to {_END}")
    return f"{before}{begin}\n{block}{end}{after}"


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
