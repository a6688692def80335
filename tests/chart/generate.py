"""The chart's files that say what another file says: made anew, compared by a test, and written (``make chart``).

``values.schema.json`` and the table of the chart's README come from ``values.yaml``: a comment ``# -- text`` above
a key is its description, ``# @schema: {…}`` (a JSON schema as YAML) adds to what its default shows. What settings
there are comes from ``migrator.settings``, what the exit codes ask for from ``migrator.errors``. The templates cannot
read the defaults of values that Helm takes away for a null: ``files/nulls.yaml`` tells them what was there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from migrator.configured import SECRET_URLS
from migrator.errors import ExitCode
from migrator.settings import Settings, setting_name
from tests import harness

CHART: Final = harness.REPOSITORY / "helm" / "migrator"
VALUES: Final = CHART / "values.yaml"
SCHEMA: Final = CHART / "values.schema.json"
README: Final = CHART / "README.md"
GUIDE: Final = harness.REPOSITORY / "docs" / "kubernetes.md"
EXIT_CODES: Final = CHART / "files" / "exit-codes.yaml"
NULLS: Final = CHART / "files" / "nulls.yaml"

DEFINITIONS: Final[dict[str, Any]] = {
    "duration": {
        "description": "1.5 (seconds), 500ms, 30s, 10m, 1h, 1m30s",
        "anyOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": r"^([0-9.]+|([0-9.]+ ?(h|m|s|ms) ?)+)$"},
        ],
    },
    "named": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string", "minLength": 1}},
    },
    "sidecar": {
        "type": "object",
        "required": ["name", "image"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "not": {"const": "migrate"}},
            "image": {"type": "string", "minLength": 1},
            "restartPolicy": {"const": "Always"},
        },
    },
    "env": {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "value": {"type": "string"},
            "valueFrom": {"type": "object", "minProperties": 1},
        },
    },
    "mount": {
        "type": "object",
        "required": ["name", "mountPath"],
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "mountPath": {"type": "string", "minLength": 1},
        },
    },
    "labels": {
        "type": "object",
        "additionalProperties": {"type": ["string", "null"], "maxLength": 63},
    },
    # Hooks are the mode's: Argo CD ignores Helm's where it sees its own.
    "annotations": {
        "type": "object",
        "propertyNames": {"not": {"pattern": r"^(helm\.sh|argocd\.argoproj\.io)/(hook|sync-wave)"}},
        "additionalProperties": {"type": ["string", "null"]},
    },
}

REFUSED_BY_THE_TEMPLATES: Final = {
    "description": "Refused: the URL is in a Secret that existingSecret names."
}
"""What many expect to be a value: a template says what to do instead, and a schema could not."""

DURATIONS: Final = frozenset(
    name for name, field in Settings.model_fields.items() if "float" in str(field.annotation)
)
NOT_IN_THE_CHART: Final = frozenset({*SECRET_URLS, "json_output"})
"""URLs come from Secrets, and an answer on standard output has no reader in a pod."""


@dataclass(frozen=True)
class Value:
    """A key of values.yaml: its path from the top, its node, what is written above it."""

    path: tuple[str, ...]
    node: yaml.Node
    description: str
    schema: dict[str, Any] | None
    settings: bool

    @property
    def default(self) -> Any:
        return yaml.SafeLoader("").construct_object(self.node, deep=True)

    @property
    def described_keys(self) -> bool:
        """Whether its keys are values of their own, and not one object of Kubernetes'."""
        free = self.schema is not None and ("additionalProperties" in self.schema or "$ref" in self.schema)
        return isinstance(self.node, yaml.MappingNode) and bool(self.node.value) and not free

    @property
    def empty(self) -> Any:
        """What null stands for: the empty value of its kind; None where there is none that would do."""
        if self.described_keys:
            return None
        if isinstance(self.node, yaml.SequenceNode):
            return None if (self.schema or {}).get("minItems") else []
        if isinstance(self.node, yaml.MappingNode):
            return {}
        return "" if self.default == "" else None


def values(text: str | None = None) -> Iterator[Value]:
    """Every key of values.yaml that has a meaning of its own, in its order."""
    text = VALUES.read_text() if text is None else text
    root = yaml.compose(text, yaml.SafeLoader)
    yield from _values_in(root, (), text.splitlines())


def _values_in(mapping: yaml.Node, path: tuple[str, ...], lines: list[str]) -> Iterator[Value]:
    for key, node in mapping.value:
        above = list(_comment_above(lines, key.start_mark.line))
        description, schema, settings = _read(above)
        value = Value((*path, key.value), node, description, schema, settings)
        yield value
        if value.described_keys:
            yield from _values_in(node, value.path, lines)


def _comment_above(lines: list[str], line: int) -> list[str]:
    found: list[str] = []
    while line > 0 and lines[line - 1].strip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].strip().removeprefix("#").strip())
    return found


def _read(above: list[str]) -> tuple[str, dict[str, Any] | None, bool]:
    description: list[str] = []
    schema = None
    for text in above:
        if text.startswith("@schema:"):
            schema = yaml.safe_load(text.removeprefix("@schema:"))
        elif text.startswith("-- "):
            description = [text.removeprefix("-- ")]
        elif description and not text.startswith("@"):
            description.append(text)
    return " ".join(description), schema, "@settings" in above


def schema() -> dict[str, Any]:
    """The JSON schema of the values."""
    root: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart migrator",
        "type": "object",
        "additionalProperties": False,
        "properties": {},
        "definitions": DEFINITIONS,
    }
    for value in values():
        parent = root
        for name in value.path[:-1]:
            parent = parent["properties"][name]
        parent["properties"][value.path[-1]] = _schema_of(value)
    root["properties"]["database"]["properties"]["url"] = REFUSED_BY_THE_TEMPLATES
    return root


def _schema_of(value: Value) -> dict[str, Any]:
    found: dict[str, Any] = {"description": value.description} if value.description else {}
    if value.described_keys:
        properties = _settings() if value.settings else {}
        return {**found, "type": "object", "additionalProperties": False, "properties": properties}
    explicit = value.schema or {}
    # Beside $ref, draft 7 ignores everything else.
    if "$ref" in explicit:
        return {**found, **_alone_or_null(explicit, value)}
    if "type" not in explicit:
        kind = _type_of(value.default)
        found["type"] = kind if value.empty is None else [kind, "null"]
    return {**found, **explicit}


def _alone_or_null(reference: dict[str, Any], value: Value) -> dict[str, Any]:
    return {"allOf": [reference]} if value.empty is None else {"anyOf": [reference, {"type": "null"}]}


def _type_of(default: Any) -> str:
    names = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
    return names[type(default)]


def _settings() -> dict[str, Any]:
    """The settings as values: what a variable can say; null is as if it were not there."""
    found: dict[str, Any] = {}
    for attribute, field in Settings.model_fields.items():
        if attribute in NOT_IN_THE_CHART:
            continue
        words = re.findall(r"'(\w+)'", str(field.annotation)) if "Literal" in str(field.annotation) else []
        kinds: list[dict[str, Any]] = [{"type": "null"}]
        if words:
            kinds.append({"enum": words})
        elif attribute in DURATIONS:
            kinds.append({"$ref": "#/definitions/duration"})
        elif field.annotation is bool:
            kinds.append({"type": "boolean"})
        else:
            kinds.append({"type": "string"})
        found[setting_name(attribute)] = {"description": field.description, "anyOf": kinds}
    return found


def schema_text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def table() -> str:
    """The table of the chart's README."""
    rows = []
    for value in values():
        if not value.described_keys or value.settings:
            default = {} if value.settings else value.default
            rows.append(f"| `{'.'.join(value.path)}` | {_shown(default)} | {value.description} |")
    return "| value | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _shown(default: Any) -> str:
    return "–" if default in ("", None) else f"`{json.dumps(default, ensure_ascii=False)}`"


def action(code: ExitCode) -> str:
    """What the Job does about an exit code, in the words of podFailurePolicy where it has one for it.

    Run again, a bug and a wrong setting fail again: only what ``retry_may_help`` says is tried again, and counts.
    """
    if code is ExitCode.OK:
        return "Complete"
    return "Count" if code.retry_may_help else "FailJob"


def exit_codes_text() -> str:
    """files/exit-codes.yaml: what the templates read."""
    rows = [{"code": int(code), "action": action(code), "meaning": code.meaning} for code in ExitCode]
    head = (
        "# Made by `make chart` from migrator/errors.py.\n"
        "# FailJob: the Job fails at once; Count: tried again, up to backoffLimit times.\n"
    )
    return head + yaml.safe_dump({"codes": rows}, sort_keys=False, allow_unicode=True, width=200)


def nulls_text() -> str:
    """files/nulls.yaml: each value that null takes away, parents first."""
    rows = []
    for value in values():
        row: dict[str, Any] = {"path": list(value.path)}
        if value.empty is not None:
            rows.append({**row, "empty": value.empty})
        elif value.described_keys:
            rows.append(row)
        elif value.default is not None:
            rows.append({**row, "default": json.dumps(value.default)})
    head = (
        "# Made by `make chart` from values.yaml: Helm takes away a value that is set to null, with its default.\n"
        "# empty: what null means there; default: what a refusal names.\n"
    )
    return head + yaml.safe_dump({"values": rows}, sort_keys=False, default_flow_style=None, width=200)


def exit_codes_table() -> str:
    """The table of the guide."""
    words = {
        "Complete": "is complete",
        "FailJob": "fails at once",
        "Count": "tries again, `backoffLimit` times",
    }
    rows = [f"| {int(code)} | {code.meaning} | {words[action(code)]} |" for code in ExitCode]
    return "| code | meaning | the Job |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def with_block(document: Path, name: str, block: str) -> str:
    """A document with a block of today between ``<!-- name -->`` and ``<!-- /name -->``."""
    before, begin, rest = document.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    assert begin, f"{document} has no place for {name}"
    assert end, f"{document} has no end of {name}"
    return f"{before}{begin}{block}{end}{after}"


def generated() -> dict[Path, str]:
    """Each generated file with what it should hold."""
    return {
        SCHEMA: schema_text(),
        EXIT_CODES: exit_codes_text(),
        NULLS: nulls_text(),
        README: with_block(README, "values", table()),
        GUIDE: with_block(GUIDE, "exit-codes", exit_codes_table()),
    }


def main() -> None:
    for path, text in generated().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
