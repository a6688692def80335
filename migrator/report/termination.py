"""The Kubernetes termination message: what `kubectl describe pod` shows of a finished container.

The kubelet reads at most 4,096 bytes of the file
(https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/), and half a JSON object
is none: so the least important facts go first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from migrator.report.safe import Json, JsonObject, lines, one_line, shortened, statement_words
from migrator.results import Step

LIMIT_BYTES = 4096

NAME_LIMIT, TITLE_LIMIT = 64, 200
"""How much of a revision's id and of its message goes into ``message``, so that the reason has room there."""

ALWAYS = ("exit_code", "outcome", "message", "next", "revision")
"""The fields that are there however little room there is."""


def message(document: JsonObject, running: Step | None = None) -> bytes:
    """The most important facts of a ``--json`` document: a JSON object of at most 4,096 bytes of UTF-8.

    ``message`` names the revision that failed, or that a stop or a broken connection found at work, with the reason.

    Always has the fields of ``ALWAYS``; the others, as room permits, are ``file``, ``line``, ``command``,
    ``exit_meaning``, ``at``, ``sqlstate``, ``statement``, ``details``, ``left`` and ``steps``.

    :param running: the step that was at work when the process ended by force, so that nobody asked the database.
    """
    facts = _facts(document, running)
    for reduce in REDUCTIONS:
        encoded = _encoded(facts)
        if len(encoded) <= LIMIT_BYTES:
            return encoded
        reduce(facts)
    encoded = _encoded(facts)
    while len(encoded) > LIMIT_BYTES:
        _halve_the_longest(facts)
        encoded = _encoded(facts)
    return encoded


def write(document: JsonObject, path: Path, running: Step | None = None) -> None:
    """Write :func:`message` into ``path`` if that file exists and can be written. Never creates it, never raises."""
    try:
        # This mode neither creates a file nor opens a directory or a terminal.
        with path.open("r+b") as file:
            file.truncate()
            file.write(message(document, running))
    except (OSError, ValueError):
        # Without it Kubernetes shows the exit code and the end of the log, which say the same.
        return


def _facts(document: JsonObject, running: Step | None) -> JsonObject:
    targets = [target for target in _list(document["targets"]) if isinstance(target, dict)]
    steps = [step for target in targets for step in _list(target.get("steps")) if isinstance(step, dict)]
    applied = [step for step in steps if step["outcome"] == "applied"]
    error = document["error"]
    at = [revision for target in targets for revision in _list(target.get("at"))]
    facts: JsonObject = {
        "exit_code": document["exit_code"],
        "outcome": document["outcome"],
        "message": _success(len(applied)),
        "next": "",
        "revision": None,
        "command": document["command"],
        "exit_meaning": document["exit_meaning"],
        "at": at,
    }
    if not any(isinstance(target.get("at"), list) for target in targets):
        del facts["at"]
    if isinstance(error, dict):
        for name in ("message", "next", "revision", "file", "line", "sqlstate"):
            facts[name] = error[name]
        statement = error["statement"]
        facts["statement"] = statement_words(statement, LIMIT_BYTES) if isinstance(statement, str) else None
        facts["details"] = list(_list(error["details"]))
        _name_the_revision(facts, steps, running, stopped=bool(error["retryable"]))
        facts["left"] = list(_list(error["left"]))
    elif document["exit_code"] or document["requested"] is None:
        facts["message"] = document["exit_meaning"]
    facts["steps"] = [
        {name: step[name] for name in ("revision", "outcome", "duration_seconds")} for step in steps
    ]
    return {
        name: value for name, value in facts.items() if name in (*ALWAYS, "at") or value not in (None, [])
    }


def _name_the_revision(
    facts: JsonObject, steps: Sequence[JsonObject], running: Step | None, *, stopped: bool
) -> None:
    """What a person has to know at least, in the one sentence that is read first: which revision, and why.

    :param stopped: what failed is no revision by itself (a deadline, a signal, a broken connection), but one was
        at work.
    """
    step: JsonObject | None = None
    if facts["revision"] is not None:
        step = next((one for one in steps if one["revision"] == facts["revision"]), None)
    elif stopped:
        step = next((one for one in reversed(steps) if one["outcome"] in ("failed", "rolled back")), None)
        if step is None and running is not None and not steps:
            step = {"revision": running.revision, "message": running.message, "file": running.file}
        if step is not None:
            facts["revision"], facts["file"] = step["revision"], facts["file"] or step["file"]
    if facts["revision"] is None:
        return
    revision, title = one_line(str(facts["revision"])), one_line(str(step["message"])) if step else ""
    said, details = one_line(str(facts["message"])), _list(facts["details"])
    said = "" if said in (title, revision) else said.removeprefix(f"{title}: ")
    parts = [f"{shortened(revision, NAME_LIMIT)} {shortened(title, TITLE_LIMIT)}".rstrip()]
    # A short id is part of many words.
    named = re.search(rf"(?<!\w){re.escape(revision)}(?!\w)", said)
    parts = [said] if named else [*parts, said]
    reason = next((line for detail in details for line in lines(str(detail))), "")
    if reason and reason not in said:
        parts.append(reason)
        facts["details"] = details[1:] if lines(str(details[0])) == [reason] else details
    facts["message"] = ": ".join(part for part in parts if part)


def _success(applied: int) -> str:
    if not applied:
        return "nothing to do"
    return f"{applied} revision{'s' if applied > 1 else ''} applied"


def _only_unfinished_steps(facts: JsonObject) -> None:
    facts["steps"] = [
        step
        for step in _list(facts.get("steps"))
        if isinstance(step, dict) and step["outcome"] not in ("applied", "not tried")
    ]


def _without(name: str) -> Callable[[JsonObject], None]:
    def drop(facts: JsonObject) -> None:
        facts.pop(name, None)

    return drop


def _short_details(facts: JsonObject) -> None:
    if "details" in facts:
        facts["details"] = [str(detail)[:200] for detail in _list(facts["details"])[:3]]


def _short_texts(facts: JsonObject) -> None:
    for name in ("message", "next"):
        facts[name] = shortened(str(facts[name]), 500)


def _short_statement(facts: JsonObject) -> None:
    statement = facts.get("statement")
    if isinstance(statement, str):
        facts["statement"] = statement_words(statement)


REDUCTIONS: tuple[Callable[[JsonObject], None], ...] = (
    _only_unfinished_steps,
    _without("steps"),
    _short_details,
    _without("details"),
    _short_statement,
    _without("statement"),
    _short_texts,
    _without("left"),
    _without("at"),
    _without("exit_meaning"),
    _without("command"),
    _without("sqlstate"),
    _without("file"),
    _without("line"),
)


def _halve_the_longest(facts: JsonObject) -> None:
    texts = {name: value for name, value in facts.items() if isinstance(value, str)}
    longest = max(texts, key=lambda name: len(texts[name]))
    facts[longest] = texts[longest][: len(texts[longest]) // 2].rstrip("…") + "…"


def _encoded(facts: JsonObject) -> bytes:
    import json

    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
