"""What these tests lean on: how act runs workflows, read back as the tests read it."""

from __future__ import annotations

import pytest

from tests.pipeline.act import Caller

pytestmark = pytest.mark.pipeline

WORKFLOW = """
on: push
permissions: {}
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - env:
          GIVEN: ${{ secrets.GIVEN }} ${{ vars.NAMED }} ${{ github.repository }}
        run: |
          echo "length ${#GIVEN}"
          echo "# done" >> "$GITHUB_STEP_SUMMARY"
  two:
    needs: one
    runs-on: ubuntu-latest
    steps:
      - run: |
          echo "::error title=broken::first%0Asecond: 100%25"
          exit 3
  three:
    needs: two
    runs-on: ubuntu-latest
    steps:
      - run: echo never
"""


def test_a_run_tells_its_jobs_lines_summaries_and_annotations(caller: Caller) -> None:
    caller.write(".github/workflows/try.yml", WORKFLOW)
    caller.commit()
    run = caller.act("try.yml", secrets={"GIVEN": "word"}, variables={"NAMED": "name"})
    assert run.returncode == 1, run.output
    assert run.jobs() == ["try.yml/one", "try.yml/two"], run.output
    assert run.jobs("failure") == ["try.yml/two"]
    assert run.said("one") == f"length {len('word name example/shop')}\n"
    assert run.summary() == "# done\n"
    assert run.errors() == ["first\nsecond: 100%"], run.lines
