"""S3: a renamed column, which Alembic's autogenerate takes for a dropped and an added one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness import Database
from tests.scenarios.shapes import Copy
from tests.scenarios.test_s3 import ALEMBIC, FOLDER, MIGRATOR, heroku, id_of, newest


@pytest.fixture
def renamed(database: Database, tmp_path: Path) -> Copy:
    """The project, with tickets in its database, after its developer has renamed a field."""
    copy = Copy(FOLDER, tmp_path / "tickets", {"DATABASE_URL": heroku(database)}, run_in="database")
    copy.run(MIGRATOR, "upgrade")
    database.query("INSERT INTO ticket (title, opened_on) VALUES ('Printer is on fire', current_date)")
    copy.replace("tickets/models.py", "    title: str\n", "    subject: str\n")
    return copy


def test_a_renamed_column_is_told_with_the_code_to_write_instead(renamed: Copy, database: Database) -> None:
    told = renamed.run(MIGRATOR, "revision", "--autogenerate", "-m", "tickets have subjects")
    written = newest(renamed)
    assert "op.drop_column('ticket', 'title')" in written.read_text()
    for words in ("title", "subject", "new_column_name"):
        assert words in told.stderr, told.output
    code = re.search(r"op\.alter_column\(.*new_column_name=.*\)", told.stderr)
    assert code, told.output
    text = written.read_text()
    back = code[0].replace("title", "\0").replace("subject", "title").replace("\0", "subject")
    head, upgrade, downgrade = re.split(r"(?=^def )", text, flags=re.MULTILINE)
    for name, line in (("upgrade", code[0]), ("downgrade", back)):
        head += f"def {name}() -> None:\n    {line}\n\n\n"
    assert upgrade
    assert downgrade
    written.write_text(head)
    renamed.run(MIGRATOR, "upgrade")
    assert database.query("SELECT subject FROM ticket") == [("Printer is on fire",)], "nothing is lost"
    assert database.revisions == [id_of(written)]
    renamed.run(ALEMBIC, "check")


def test_a_pipeline_can_refuse_it(renamed: Copy) -> None:
    refused = renamed.run(
        MIGRATOR, "revision", "--autogenerate", "--fail-on-suspected-rename", "-m", "subjects", check=False
    )
    assert refused.returncode == 3, refused.output
    assert "subject" in refused.stderr
