"""The files that ``docs/from-python.md`` shows are those that the tests run."""

from __future__ import annotations

import re
from pathlib import Path

from tests.harness import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "from-python.md"
BLOCK = re.compile(r"<!-- file (\S+) -->\n```\w+\n(.*?)```\n", re.DOTALL)
FOLDER = Path(__file__).parent / "start_up"


def test_each_file_of_the_documentation_is_the_one_that_is_tested() -> None:
    shown = dict(BLOCK.findall(DOCUMENT.read_text()))
    assert shown == {
        file.relative_to(REPOSITORY).as_posix(): file.read_text()
        for file in FOLDER.iterdir()
        if file.is_file()
    }
