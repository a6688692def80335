"""The blocks of docs/pipeline.md: its workflows are run by the tests, and what they print stands in it.

``WRITE_DOCUMENTS=1 make test-pipeline`` writes what was printed, in the place of comparing it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

from tests import harness, readme
from tests.harness import Database
from tests.pipeline.act import Run

DOCUMENT = harness.REPOSITORY / "docs" / "pipeline.md"
WORKFLOW = harness.REPOSITORY / ".github" / "workflows" / "promote.yml"
NAME = "ghcr.io/your-organization/shop-migrate"
_CALLED = re.compile(r"uses: \S+/(promote\.yml)@\S+( #.*)?")
_SHOWN = {
    "Say what goes on its way": r"",
    "Verify the signature and the environment before": r"",
    "Plan": r"^(at |  \w{6}  )",
    "Migrate": r"^(target|wait|lock|plan|  \d|verified|done|failed|   |state|next|exit)",
    "Move the tag": r" is at \S+@sha256:",
}


def workflow(name: str) -> str:
    """A workflow of the document, calling the copy in the repository that it lies in, as the tests can run it."""
    text = readme.unfenced(readme.written_blocks(DOCUMENT)[name], "yaml")
    return _CALLED.sub(r"uses: ./.github/workflows/\1", text)


def shown(name: str, block: str) -> None:
    """Compare a block with what stands in the document, or write it there."""
    readme.shown(DOCUMENT, name, block, normal)


def normal(text: str) -> str:
    """The text without what differs from run to run."""
    text = re.sub(r"\b[0-9a-f]{40}\b", "COMMIT", text)
    return readme.normal(re.sub(r"sha256:[0-9a-f]+…?", "sha256:D", text))


def log_block(run: Run, image: str, databases: dict[str, Database]) -> str:
    """What the jobs of a promotion say, without what Docker says."""
    lines, before = [], ""
    for line in run.lines:
        kept = _SHOWN.get(str(line.get("step", "")).removeprefix("Main "))
        text = line.get("msg", "").rstrip()
        if not line.get("raw_output") or kept is None or not text or not re.search(kept, text):
            continue
        first, *_, last = line["job"].strip().split("/")
        label = f"{first:5}{last}"
        lines.append(f"{label if label != before else '':15}{text}")
        before = label
    return readme.fenced(_public("\n".join(lines), image, databases), "text")


def summary_block(run: Run, job: str, image: str, databases: dict[str, Database]) -> str:
    """The summary of a job, Markdown."""
    text = _public(run.summary(job).rstrip(), image, databases)
    return "````markdown\n" + re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:5432", text) + "\n````\n"


def _public(text: str, image: str, databases: dict[str, Database]) -> str:
    text = text.replace(image, NAME)
    for database in databases.values():
        text = text.replace(database.name, "shop").replace(database.name.replace("_", "\\_"), "shop")
    return re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1…", text)


def console_block(name: str, image: str, run: Callable[[str], str]) -> str:
    """The block of that name with what its commands print here.

    :param image: stands for the name that the document gives it.
    """
    written = readme.written_blocks(DOCUMENT)[name]
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)", written, re.MULTILINE)
    assert commands, f"no commands in {name}"
    told = [f"$ {command}\n{run(command.replace(NAME, image)).rstrip()}" for command in commands]
    return readme.fenced(_public("\n".join(told), image, {}))


def reference_blocks() -> dict[str, str]:
    """The tables of inputs, secrets and outputs, from the workflow itself."""
    called = yaml.load(WORKFLOW.read_text(), Loader=yaml.BaseLoader)["on"]["workflow_call"]
    return {
        "inputs": _table(("input", "default", ""), called["inputs"], ("default",)),
        "secrets": _table(("secret", ""), called["secrets"], ()),
        "outputs": _table(("output", ""), called["outputs"], ()),
    }


def _table(head: tuple[str, ...], entries: dict[str, Any], columns: tuple[str, ...]) -> str:
    rows = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, entry in entries.items():
        values = [f"`{entry[column]}`" if entry.get(column) else "–" for column in columns]
        rows.append(f"| {' | '.join([f'`{name}`', *values, entry['description']])} |")
    return "\n".join(rows) + "\n"
