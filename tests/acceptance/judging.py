"""What every refusal has to be: coded, explained, harmless, and silent about passwords."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

import jsonschema

from migrator.errors import ExitCode
from migrator.report import github, termination
from migrator.report.document import schema
from tests.harness import NO_VARIABLES, Completed, Database, Project, parts_of

CONTENTS = """
SELECT n.nspname, c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'
UNION ALL SELECT nspname, '', '' FROM pg_namespace ORDER BY 1, 2, 3
"""
QUICK = {"MIGRATOR_WAIT_TIMEOUT": "800ms", "MIGRATOR_CONNECT_TIMEOUT": "500ms"}
"""So that waiting in vain is short; whoever expects an answer does not use it."""


@dataclass(frozen=True)
class Refusal:
    """A command that failed as it should.

    :ivar reasons: what the text says before what is to be done.
    :ivar next: what is to be done, as in the text, on one line.
    :ivar error: the same as an object.
    """

    completed: Completed
    reasons: str
    next: str
    error: Mapping[str, Any]


def refused(
    project: Project,
    *arguments: str,
    code: ExitCode,
    says: Sequence[str],
    then: Sequence[str],
    env: Mapping[str, str] = NO_VARIABLES,
    secrets: Iterable[str] = (),
    harmless: bool = True,
    timeout: float = 60,
) -> Refusal:
    """Run a command that has to fail, and see to it that it fails well.

    :param says: texts that the explanation on standard error has.
    :param then: texts that the next action has.
    :param secrets: what no output may show, besides the password of the project's database.
    :param harmless: the database must be as before, and the command has to say so.
    """
    before = contents(project.database)
    completed = project.migrator(*arguments, "--json", env=env, timeout=timeout)
    assert completed.returncode == code, completed.output
    document = valid_document(completed)
    assert document["exit_code"] == code, completed.output
    if code is ExitCode.CHECK_SAYS_NO:
        reasons, next_step, error = completed.stderr, "", {}
    else:
        reasons, next_step = explained(completed, code)
        error = document["error"]
        assert " ".join(error["next"].split()) == next_step, completed.output
    for text in says:
        assert text in reasons, f"not said: {text!r}\n{completed.output}"
    for text in then:
        assert text in next_step, f"not advised: {text!r}\n{completed.output}"
    if harmless:
        assert contents(project.database) == before, completed.output
        assert "othing was changed" in completed.stderr, completed.output
    own = [parts_of(project.database.url)["password"]] if project.database else []
    assert_keeps(completed, *secrets, *own, document=document)
    return Refusal(completed, reasons, next_step, error)


def explained(completed: Completed, code: ExitCode) -> tuple[str, str]:
    """(what happened, what to do next) in the text of a failure, which ends with its exit code."""
    form = re.compile(
        rf"^failed    (.+)^next      (.+)^exit      {code:d} {re.escape(code.meaning)}$", re.M | re.S
    )
    found = form.search(completed.stderr)
    assert found, completed.output
    return found[1], " ".join(found[2].split())


def valid_document(completed: Completed) -> Any:
    """The one JSON object that is all of standard output, checked against the schema."""
    assert completed.stdout.count("\n") == 1, completed.output
    document = json.loads(completed.stdout)
    validate(document)
    return document


def validate(document: Any) -> None:
    """The document is what the schema of ``--json`` allows."""
    _validator().validate(document)


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def assert_keeps(completed: Completed, *secrets: str, document: Any = None) -> None:
    """No output shows a secret: neither stream, nor what Kubernetes and GitHub would get of the document."""
    shown = completed.stdout + completed.stderr
    if document is not None:
        shown += termination.message(document).decode() + github.step_summary(document)
    for secret in secrets:
        for spelling in {secret, quote(secret, safe=""), repr(secret)[1:-1], json.dumps(secret)[1:-1]}:
            assert spelling not in shown, f"{secret} is shown\n{completed.output}"


def contents(database: Database | None) -> tuple[object, ...]:
    """Every schema, table, index and sequence of a database, and its version rows."""
    return (database.query(CONTENTS), database.revisions) if database else ()


def url_with(url: str, **parts: str | int) -> str:
    """``url`` with another user, password, host, port or database name."""
    own: dict[str, str | int] = {**parts_of(url), **parts}
    login = f"{quote(str(own['user']), '')}:{quote(str(own['password']), '')}"
    return f"postgresql://{login}@{own['host']}:{own['port']}/{own['name']}"
