"""What GitHub shows of a run: an annotation at the line that failed, and a summary of the step.

Escaping follows the runner's own rules for workflow commands (actions/toolkit, ``packages/core/src/command.ts``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from migrator.durations import format_duration
from migrator.errors import MigratorError
from migrator.report.failure import failure_of
from migrator.report.output import Output, on_github
from migrator.report.safe import Json, JsonObject, lines, one_line, shortened
from migrator.results import Finding, SuspectedRename

# The runner refuses a summary of more than 1 MiB as a whole.
LISTED_STEPS = 200
STATEMENT_LIMIT = 2000

MARKDOWN = "\\`*_{}[]<>()#+!|~&"


@dataclass(frozen=True, slots=True)
class Repository:
    """How paths of this process become paths of the repository, which are what GitHub shows annotations at.

    :ivar workspace: the folder that is the repository's (``GITHUB_WORKSPACE``); None: paths stay as they are.
    :ivar folder: where in the repository ``workspace`` lies, for an image that has only a part of it
        (``GITHUB_WORKING_DIRECTORY``, which the action sets).
    """

    workspace: str | None = None
    folder: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Repository:
        """What the variables of a step say."""
        return cls(environ.get("GITHUB_WORKSPACE"), environ.get("GITHUB_WORKING_DIRECTORY", ""))

    def path(self, file: str) -> str:
        """``file`` as the repository has it; unchanged where it lies elsewhere."""
        if not file or not self.workspace:
            return file
        path = os.path.relpath(file, self.workspace)
        if path.startswith(os.pardir):
            return file
        return os.path.normpath(os.path.join(self.folder, path))


ANYWHERE = Repository()


def annotation(error: MigratorError, repository: Repository = ANYWHERE) -> str:
    """The workflow command that marks the file and line of ``error``: ``::error file=…,line=…,title=…::…``."""
    failure = failure_of(error)
    headline = f"{failure.revision} {failure.headline}" if failure.revision else failure.headline
    properties = {
        "file": repository.path(error.file or ""),
        "line": str(error.line) if error.file and error.line else "",
        "title": f"migrator: {error.exit_code.meaning}",
    }
    named = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
    message = "\n".join((headline, *failure.reasons, *failure.states, *failure.left, *failure.next_lines))
    return f"::error {named}::{_data(message)}"


def finding_error(finding: Finding, repository: Repository = ANYWHERE) -> str:
    """The workflow command that marks what ``check`` found, at its file and line where it has them."""
    line = f"line={finding.line}," if finding.file and finding.line else ""
    where = f"file={_property(repository.path(finding.file))},{line}" if finding.file else ""
    said = "\n".join(text for text in (finding.message, finding.next_step) if text)
    return f"::error {where}title={_property(f'migrator check: {finding.check}')}::{_data(said)}"


def rename_warning(rename: SuspectedRename, file: str | None, repository: Repository = ANYWHERE) -> str:
    """The workflow command that warns of a suspected rename, at the file that was written where there is one."""
    from migrator.report.generated import rename_lines

    where = f"file={_property(repository.path(file))}," if file else ""
    return f"::warning {where}title=migrator%3A suspected rename::{_data(chr(10).join(rename_lines(rename)))}"


def step_summary(document: JsonObject) -> str:
    """The document of a run, a check or a failure as Markdown."""
    error = document["error"]
    command = f"migrator {_text(document['command'])}"
    parts = [f"### {command}: {_headline(document)}"]
    for target in _objects(document["targets"]):
        parts += _target_parts(target)
    checked = _texts(document.get("checked"))
    parts += [f"**Checked** {_text(', '.join(checked))}"] if checked else []
    findings = _objects(document.get("findings"))
    if findings:
        parts.append(_table(("check", "finding", "place", "next"), "llll", _finding_rows(findings)))
    parts += [f"**Note** {note}" for note in map(_text, _texts(document.get("notes")))]
    parts += _generated_parts(document)
    if isinstance(error, dict):
        parts += _error_parts(error, document)
    return "\n\n".join(parts) + "\n"


def write(
    document: JsonObject, error: MigratorError | None, environ: Mapping[str, str], stream: TextIO | None
) -> None:
    """Append the summary to ``GITHUB_STEP_SUMMARY`` and print the annotation, where GitHub reads them. Never raises.

    :param error: what failed, its secrets masked; it is annotated.
    :param stream: where the runner looks for workflow commands (either standard stream); None prints none.
    """
    if not on_github(environ):
        return
    if error is not None and stream is not None:
        Output(stream).line(annotation(error, Repository.of(environ)))
    path = environ.get("GITHUB_STEP_SUMMARY")
    if path:
        try:
            with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(step_summary(document) + "\n")
        except (OSError, ValueError):
            # The summary is a courtesy; the run's verdict does not hang on it.
            return


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _headline(document: JsonObject) -> str:
    code = document["exit_code"]
    if code:
        return f"{_text(document['exit_meaning'])} (exit {code})"
    steps = [
        step
        for target in _objects(document["targets"])
        for step in _objects(target.get("steps"))
        if step["outcome"] == "applied"
    ]
    if not steps:
        if "at_head" in document:
            return _stand(document)
        return "nothing to do" if document["requested"] is not None else _text(document["exit_meaning"])
    count = f"{len(steps)} revision{'s' if len(steps) > 1 else ''}"
    duration = _duration(document["duration_seconds"])
    return f"{count} in {duration}" if duration else count


def _stand(document: JsonObject) -> str:
    targets = _objects(document["targets"])
    pending = sum(len(_objects(target["pending"])) for target in targets)
    ahead = ["the database is ahead"] if any(target["unknown"] for target in targets) else []
    return ", ".join([*([f"{pending} pending"] if pending else []), *ahead]) or "up to date"


def _target_parts(target: JsonObject) -> list[str]:
    where = f"{target['address']}/{target['database']}" if target["database"] else str(target["address"])
    facts = [f"**Target** {_text(where)}" + (f" as {_text(target['user'])}" if target["user"] else "")]
    if target.get("state"):
        facts.append(f"**State** {_text(target['state'])}")
    if "heads" in target:
        facts.append(f"**State** {_text(_names(target['at']))}, wanted {_text(_names(target['heads']))}")
        if target["unknown"]:
            facts.append(f"**Not in this image** {_text(_names(target['unknown']))}")
    parts = ["  \n".join(facts)]
    pending = _objects(target.get("pending"))
    if pending:
        listed = [(one["revision"], one["message"], one["file"]) for one in pending[:LISTED_STEPS]]
        parts.append(_table(("pending", "message", "file"), "lll", listed))
        if len(pending) > LISTED_STEPS:
            parts.append(f"… and {len(pending) - LISTED_STEPS:,} more")
    steps = _objects(target.get("steps"))
    if steps:
        rows = [
            (step["revision"], step["message"], step["outcome"], _duration(step["duration_seconds"]))
            for step in steps[:LISTED_STEPS]
        ]
        parts.append(_table(("revision", "message", "outcome", "duration"), "lllr", rows))
        if len(steps) > LISTED_STEPS:
            parts.append(f"… and {len(steps) - LISTED_STEPS:,} more")
    return parts


def _generated_parts(document: JsonObject) -> list[str]:
    """What autogenerate found; after ``check`` the findings say it already."""
    if document["command"] != "revision":
        return []
    parts = [f"**Written** {_text(one['file'])}" for one in _objects(document.get("written"))]
    differences = _objects(document.get("differences"))
    if differences:
        parts += _risk_parts(differences)
        found = [(one["words"], one["risk"]) for one in differences[:LISTED_STEPS]]
        parts.append(_table(("difference", "risk"), "ll", found))
    renames = _objects(document.get("suspected_renames"))
    if renames:
        rows = [
            (one["kind"], one["table"], one["old"], one["new"], " ".join(_texts(one["code"])))
            for one in renames
        ]
        parts.append(_table(("suspected rename", "in", "old", "new", "write instead"), "lllll", rows))
    return parts


def _names(value: Json) -> str:
    return ", ".join(_texts(value)) or "base"


def _risk_parts(differences: list[JsonObject]) -> list[str]:
    """What nobody should overlook, in a box of its own."""
    risks = [one for one in differences if one["risk"]]
    if not risks:
        return []
    listed = [f"> - {_text(one['words'])}: {_text(one['risk'])}" for one in risks[:LISTED_STEPS]]
    more = [f"> - … and {len(risks) - LISTED_STEPS:,} more"] if len(risks) > LISTED_STEPS else []
    return ["\n".join(["> [!CAUTION]", "> Look at each of these before it is merged:", *listed, *more])]


def _texts(value: Json) -> list[str]:
    return [str(item).strip() for item in value] if isinstance(value, list) else []


def _finding_rows(findings: list[JsonObject]) -> list[tuple[Json, ...]]:
    return [
        (
            finding["check"],
            finding["message"],
            f"{finding['file']}:{finding['line']}"
            if finding["file"] and finding["line"]
            else finding["file"],
            finding["next"],
        )
        for finding in findings[:LISTED_STEPS]
    ]


def _error_parts(error: JsonObject, document: JsonObject) -> list[str]:
    cause = [f"**Cause** {_text(error['message'])}"]
    if error["revision"] and str(error["revision"]) not in str(error["message"]):
        cause = [f"**Cause** {_text(error['revision'])}: {_text(error['message'])}"]
    if error["file"]:
        cause.append(_text(f"{error['file']}:{error['line']}" if error["line"] else error["file"]))
    if error["sqlstate"] and str(error["sqlstate"]) not in str((error["message"], error["details"])):
        cause.append(f"SQLSTATE {_text(error['sqlstate'])}")
    details, left = error["details"], error["left"]
    cause += [_text(detail) for detail in details] if isinstance(details, list) else []
    parts = ["  \n".join(cause)]
    if error["statement"]:
        parts.append(_code(shortened(str(error["statement"]), STATEMENT_LIMIT)))
    if isinstance(left, list) and left:
        parts.append("  \n".join(f"**Left** {_text(item)}" for item in left))
    if error["next"]:
        parts.append(f"**Next** {_text(error['next'])}")
    return parts


def _table(heads: tuple[str, ...], alignment: str, rows: Sequence[tuple[Json, ...]]) -> str:
    rule = ["---:" if letter == "r" else "---" for letter in alignment]
    cells = [heads, rule, *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _code(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    body = "\n".join(lines(text))
    return f"{fence}sql\n{body}\n{fence}"


def _text(value: Json) -> str:
    """``value`` as Markdown that shows it literally, on one line: good for a table cell, too."""
    text = "" if value is None else one_line(str(value))
    return "".join(f"\\{char}" if char in MARKDOWN else char for char in text)


def _duration(value: Json) -> str:
    return format_duration(value) if isinstance(value, (int, float)) and value > 0 else ""


def _objects(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
