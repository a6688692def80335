"""The blocks of the documents that the program itself prints: made anew, compared, and written (``make readme``)."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from migrator import embedded
from migrator.durations import format_duration
from migrator.errors import ExitCode
from migrator.settings import Settings
from tests import harness

README = harness.REPOSITORY / "README.md"
_BLOCK = re.compile(r"<!-- (?P<name>[\w-]+) -->\n(?P<text>.*?)<!-- /(?P=name) -->", re.DOTALL)
_DURATION = re.compile(r"\b\d[\d.,]*(?: (?:ms|s|m|h)\b)(?: \d+ s\b)?")


def written_blocks(document: Path = README) -> dict[str, str]:
    """What stands in a document, by name."""
    return {found["name"]: found["text"] for found in _BLOCK.finditer(document.read_text())}


def normal(text: str) -> str:
    """The text without what differs from run to run: times, ports, process ids, host names, widths."""
    text = re.sub(r"target( +)\S+/shop as \w+", r"target\1ADDRESS/shop as USER", text)
    text = re.sub(r"pid \d+ \(migrator \S+?:", "pid N (migrator HOST:", text)
    text = re.sub(r"pid \d+", "pid N", text)
    text = re.sub(r"(migrator HOST:) .*", r"\1 …", text)
    text = re.sub(r"PostgreSQL \d+\.\d+", "PostgreSQL N", text)
    text = _DURATION.sub("T", text)
    text = re.sub(r"try \d+|\(\d+ tries\)", "tries", text)
    text = re.sub(r"[ \t]+", " ", text)
    lines: list[str] = []
    for line in text.splitlines():
        if not (lines and "blocked" in line and "blocked" in lines[-1]):
            lines.append(line.rstrip())
    # Two processes write at the same time: only the order within each is certain.
    return "\n".join(sorted(lines, key=lambda line: line.partition(" | ")[0] if " | " in line else ""))


def fenced(text: str, language: str = "console") -> str:
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:5432", text)
    text = re.sub(r"\(migrator [^\s:]+:", "(migrator shop-migrate-x7k2p:", text)
    return f"```{language}\n{text.rstrip()}\n```\n"


def unfenced(block: str, language: str = r"\w+") -> str:
    """The text in the fence that a block is.

    :param language: a pattern of the language that the fence must name.
    """
    found = re.fullmatch(rf"```{language}\n(.*?)```\n", block, re.DOTALL)
    assert found, block
    return found[1]


def shown(document: Path, name: str, block: str, normal: Callable[[str], str] = normal) -> None:
    """Compare a block with what stands in the document, or write it there (``WRITE_DOCUMENTS=1``)."""
    if os.environ.get("WRITE_DOCUMENTS") == "1":
        write_into(document, {name: block})
    assert normal(written_blocks(document)[name]) == normal(block), (
        "WRITE_DOCUMENTS=1 make test-pipeline writes it anew"
    )


def demo_block() -> str:
    """Two runners at the same moment, and the status: what ``make demo`` shows after its preparation."""
    shown = harness.run_migrator("demo", cwd=harness.REPOSITORY, timeout=120, check=True).stdout
    return fenced(shown[shown.index("$ migrator upgrade &") :])


def run_block(server: harness.Server) -> str:
    """One run on an empty database."""
    database = harness.create_database(server, "shop")
    try:
        result = harness.run_migrator(
            "upgrade", env={"MIGRATOR_DATABASE_URL": database.url}, cwd=harness.REPOSITORY, check=True
        )
    finally:
        harness.drop_database(server, "shop")
    return fenced(f"$ migrator upgrade\n{result.stderr}")


def failure_block(server: harness.Server) -> str:
    """A migration that fails on the data which is there."""
    database = harness.create_database(server, "shop")
    directory = Path(tempfile.mkdtemp(prefix="readme-"))
    try:
        project = harness.write_project(directory / "shop", database)
        project.add_revision(
            "8f2e1a",
            None,
            "op.execute('CREATE TABLE orders (id int)'); op.execute('INSERT INTO orders VALUES (1)')",
            message="orders",
        )
        project.add_revision(
            "9a0c12",
            "8f2e1a",
            "op.execute('ALTER TABLE orders ADD COLUMN placed_at timestamptz NOT NULL')",
            message="add orders.placed_at",
        )
        project.add_revision("b7730e", "9a0c12", "pass", message="backfill orders.placed_at")
        project.migrator("upgrade", "8f2e1a", check=True)
        result = project.migrator("upgrade")
    finally:
        shutil.rmtree(directory)
        harness.drop_database(server, "shop")
    return fenced(f"$ migrator upgrade\n{result.stderr}$ echo $?\n{result.returncode}")


def exit_codes_block() -> str:
    """The table of exit codes."""
    rows = [f"| {int(code)} | {code.meaning} | {_advice(code)} |" for code in ExitCode]
    return "| code | meaning | a pipeline should |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _advice(code: ExitCode) -> str:
    if code is ExitCode.OK:
        return "go on"
    return "run it again" if code.retry_may_help else "stop; a person must look"


def settings_block() -> str:
    """The table of settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        setting = {"json_output": "json"}.get(name, name).replace("_", "-")
        rows.append(f"| `{setting}` | {_default(field.default)} | {field.description} |")
    return "| setting | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _default(value: object) -> str:
    if value is None or value == ():
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format_duration(value)
    return f"`{value}`"


def made_blocks(server: harness.Server) -> Iterator[tuple[str, str]]:
    """Each block by name, as the program makes it now."""
    makers: dict[str, Callable[[], str]] = {
        "run": lambda: run_block(server),
        "demo": demo_block,
        "failure": lambda: failure_block(server),
        "exit-codes": exit_codes_block,
        "settings": settings_block,
    }
    for name, make in makers.items():
        yield name, make()


def write() -> None:
    """Write every block into its document."""
    from tests import autogenerate_document

    with embedded.postgres() as started:
        write_into(README, dict(made_blocks(harness.Server(started.url()))))
    write_into(autogenerate_document.DOCUMENT, dict(autogenerate_document.made_blocks()))


def write_into(document: Path, made: Mapping[str, str]) -> None:
    """Put the blocks in the place of those of the same name."""
    text = document.read_text()
    for name, block in made.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        text = before + begin + block + rest[rest.index(end) :]
    document.write_text(text)


if __name__ == "__main__":
    os.chdir(harness.REPOSITORY)
    sys.exit(write())
