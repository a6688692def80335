"""What docs/revision-workflow.md shows is what its workflow does; what two branches see is what was printed.

``WRITE_DOCUMENTS=1 make test-pipeline`` writes what was printed, in the place of comparing it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import readme
from tests.harness import REPOSITORY, run_migrator
from tests.pipeline.proposing import Shop, Wheels
from tests.pipeline.test_checkers import check

pytestmark = pytest.mark.pipeline

DOCUMENT = REPOSITORY / "docs" / "revision-workflow.md"
WORKFLOW = REPOSITORY / ".github" / "workflows" / "revision.yml"
TOTAL, NOTE = 'sa.Column("total", sa.Integer)', 'sa.Column("note", sa.Text)'


def workflow() -> str:
    """The workflow that the page begins with."""
    return readme.unfenced(readme.written_blocks(DOCUMENT)["workflow"], "yaml")


def compared(name: str, text: str, language: str) -> None:
    """Compare a block with what stands in the document, or write it there."""
    readme.shown(DOCUMENT, name, readme.fenced(text, language))


def test_the_workflow_of_the_page_proposes_what_a_changed_model_needs(
    locking_shop: Shop, wheels: Wheels
) -> None:
    """With the tool from a lock file, whose name is that of the page."""
    shop = locking_shop
    called = workflow().replace(
        "OWNER/migrator/.github/workflows/revision.yml@COMMIT", "./.github/workflows/revision.yml"
    )
    loaded: dict[Any, Any] = yaml.safe_load(called)
    inputs = loaded["jobs"]["revision"]["with"]
    inputs["python"] = sys.executable
    loaded["jobs"]["revision"]["secrets"] = {"MIGRATOR_SCRATCH_URL": "${{ secrets.MIGRATOR_SCRATCH_URL }}"}
    loaded = {"on": loaded.pop(True), **loaded}  # YAML 1.1 takes on for a truth value
    shop.caller.write(".github/workflows/models.yml", yaml.safe_dump(loaded, sort_keys=False))
    shop.caller.write(inputs["requirements"], wheels.lock)
    shop.variables |= wheels.variables
    shop.models(TOTAL)
    shop.push("Orders have a total", branch="feature")
    run = shop.run()
    assert run.returncode == 0, run.output
    assert len(shop.proposed("migrator/revision-feature")) == 1


def test_actionlint_and_zizmor_find_nothing_in_the_workflow_of_the_page(tmp_path: Path) -> None:
    file = tmp_path / ".github" / "workflows" / "models.yml"
    file.parent.mkdir(parents=True)
    file.write_text(workflow().replace("@COMMIT", f"@{'0' * 40} # v0.1.0").replace("OWNER", "example"))
    check("actionlint", file)
    check("zizmor", "--offline", "--no-progress", file)


def take_the_proposal(shop: Shop, branch: str) -> None:
    """What a developer does who merges the proposal for a branch."""
    run = shop.run()
    assert run.returncode == 0, run.output
    shop.git("fetch", "--quiet", f"file://{shop.origin}", f"migrator/revision-{branch}")
    shop.git("merge", "--quiet", "--ff-only", "FETCH_HEAD")
    shop.git("push", "--quiet", f"file://{shop.origin}", "HEAD", f":migrator/revision-{branch}")


def test_what_the_second_of_two_developers_sees_is_what_the_page_shows(shop: Shop, tmp_path: Path) -> None:
    for branch, column, message in (("totals", TOTAL, "add a total"), ("notes", NOTE, "add a note")):
        shop.git("switch", "--quiet", "main")
        shop.models(column)
        shop.push(message, branch=branch)
        take_the_proposal(shop, branch)
    shop.git("switch", "--quiet", "main")
    shop.git("merge", "--quiet", "--ff-only", "totals")
    shop.git("switch", "--quiet", "notes")
    shop.git("merge", "--quiet", "-X", "ours", "--no-edit", "main")
    shop.models(TOTAL, NOTE)
    shop.push("main is merged")

    checked = run_migrator("check", "--offline", cwd=shop.caller.path)
    assert checked.returncode == 3, checked.output
    compared("two-heads", f"$ migrator check --offline\n{checked.stderr}{checked.stdout}", "console")

    run = shop.run()
    assert run.returncode == 0, run.output
    body = run.summary("propose")
    body = re.sub(r"commit \w+ of", "commit 5d1e07a of", body.partition("### migrator check")[0])
    compared("merged", body.replace("/example/", "/your-organization/"), "markdown")

    shop.set(merge="false")
    shop.push("By hand")
    refused = shop.run()
    assert refused.returncode != 0
    compared("refused", "\n".join(f"Error: {error}" for error in refused.errors()), "text")


def test_the_messages_of_the_page_are_those_of_the_workflow() -> None:
    """Those that another program makes are in its own tests."""
    section = DOCUMENT.read_text().partition("## When it fails")[2]
    said = re.findall(r"^\| (`.*?)\|", section, re.MULTILINE)
    pieces = [
        piece.strip(" .") for row in said for text in re.findall("`(.*?)`", row) for piece in text.split("…")
    ]
    source = WORKFLOW.read_text() + "".join(
        file.read_text() for file in (REPOSITORY / "migrator").rglob("*.py")
    )
    assert pieces
    missing = [piece for piece in pieces if piece not in source]
    assert not missing, missing
