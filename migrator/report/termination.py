"""The Kubernetes termination message: what `kubectl describe pod` shows of a finished container.

The kubelet reads at most 4,096 bytes of the file
(https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/), and half a JSON object
is none: so the least important facts go first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from migrator.report.safe import Json, JsonObject, shortened, statement_words

LIMIT_BYTES = 4096

ALWAYS = ("exit_code", "outcome", "message", "next", "revision")
"""The fields that are there however little room there is."""


def message(document: JsonObject) -> bytes:
    """The most important facts of a ``--json`` document: a JSON object of at most 4,096 bytes of UTF-8.

    Always has the fields of ``ALWAYS``; the others, as room permits, are ``command``, ``exit_meaning``, ``at``,
    ``file``, ``line``, ``sqlstate``, ``statement``, ``details``, ``left`` and ``steps``.
    """
    facts = _facts(document)
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


def write(document: JsonObject, path: Path) -> None:
    """Write :func:`message` into ``path`` if that file exists and can be written. Never creates it, never raises."""
    try:
        # This mode neither creates a file nor opens a directory or a terminal.
        with path.open("r+b") as file:
            file.truncate()
            file.write(message(document))
    except (OSError, ValueError):
        # Without it Kubernetes shows the exit code and the end of the log, which say the same.
        return


def _facts(document: JsonObject) -> JsonObject:
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
        facts["left"] = list(_list(error["left"]))
    elif document["exit_code"] or document["requested"] is None:
        facts["message"] = document["exit_meaning"]
    facts["steps"] = [
        {name: step[name] for name in ("revision", "outcome", "duration_seconds")} for step in steps
    ]
    return {
        name: value for name, value in facts.items() if name in (*ALWAYS, "at") or value not in (None, [])
    }


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
    _without("file"),
    _without("line"),
    _without("command"),
    _without("sqlstate"),
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
