"""The blocks of ``docs/autogenerate.md``: a project whose models changed, and what the program says about it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import harness
from tests.acceptance.models import RENAMED, shop
from tests.readme import fenced

DOCUMENT = harness.REPOSITORY / "docs" / "autogenerate.md"
COMMAND = ("revision", "--autogenerate", "--scratch")
ITEMS = """\
sa.Table(
    "items",
    target_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.ForeignKey("orders.id"), nullable=False),
)
"""


def made_blocks() -> Iterator[tuple[str, str]]:
    """Each block by name, as the program makes it now."""
    directory = Path(tempfile.mkdtemp(prefix="autogenerate-"))
    try:
        project = shop(directory, None, RENAMED + ITEMS)
        yield "pipeline", _shown(project, *COMMAND, "-m", "items", "--fail-on-suspected-rename")
        yield "models", _shown(project, "check", "--models")
        yield "written", _shown(project, *COMMAND, "-m", "items", "--rev-id", "9a0c12")
        yield "file", fenced(_upgrade_of(project.versions / "9a0c12_items.py"), "python")
        (project.versions / "9a0c12_items.py").unlink()
        models = project.path / "models.py"
        models.write_text(models.read_text().replace(ITEMS, "").replace("placed_at", "placed"))
        yield "agreed", _shown(project, *COMMAND, "-m", "items")
    finally:
        shutil.rmtree(directory)


def _shown(project: harness.Project, *command: str) -> str:
    done = project.migrator(*command)
    exit_code = f"$ echo $?\n{done.returncode}" if done.returncode else ""
    return fenced(f"$ migrator {' '.join(command)}\n{done.stderr}{done.stdout}{exit_code}")


def _upgrade_of(file: Path) -> str:
    """The function ``upgrade()`` of a revision file."""
    text = file.read_text()
    return text[text.index("def upgrade()") : text.index("def downgrade()")].rstrip()
