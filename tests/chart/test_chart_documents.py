"""The chart's files that say what other files say: up to date, complete, and valid without Helm."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from migrator.configured import SECRET_URLS
from migrator.errors import ExitCode
from migrator.settings import Settings, setting_name
from tests.chart import generate
from tests.chart.rendering import CHART, WAYS, way_names


@pytest.mark.parametrize("path", generate.generated(), ids=lambda path: path.name)
def test_a_generated_file_of_the_chart_is_what_make_chart_writes(path: Path) -> None:
    assert path.read_text() == generate.generated()[path], "make chart writes it anew"


def test_every_value_is_described() -> None:
    silent = [
        ".".join(value.path)
        for value in generate.values()
        if not value.described_keys and not value.description
    ]
    assert not silent


def test_the_schema_is_a_schema_and_takes_the_defaults() -> None:
    schema = json.loads(generate.SCHEMA.read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(yaml.safe_load(generate.VALUES.read_text()))


def test_the_schema_knows_every_setting_that_is_no_secret() -> None:
    known = generate.schema()["properties"]["settings"]["properties"]
    names = {setting_name(name) for name in Settings.model_fields if name not in SECRET_URLS}
    assert set(known) == names - {"json"}
    assert all(known[name].get("description") for name in known)


def test_no_object_of_the_schema_that_is_ours_takes_an_unknown_key() -> None:
    def open_objects(schema: dict, path: str) -> list[str]:
        found = [] if "additionalProperties" in schema or schema.get("type") != "object" else [path]
        for name, inner in schema.get("properties", {}).items():
            found += open_objects(inner, f"{path}.{name}")
        return found

    assert open_objects(generate.schema(), "") == []


def test_the_template_of_a_typo_in_a_nested_value_names_the_value() -> None:
    errors = [
        error.message
        for error in jsonschema.Draft7Validator(generate.schema()).iter_errors({"image": {"digset": "x"}})
    ]
    assert len(errors) == 1
    assert "digset" in errors[0]


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: str(int(code)))
def test_an_exit_code_fails_the_job_at_once_unless_trying_again_may_help(code: ExitCode) -> None:
    listed = {row["code"]: row["action"] for row in yaml.safe_load(generate.EXIT_CODES.read_text())["codes"]}
    expected = "Complete" if code == 0 else "Count" if code.retry_may_help else "FailJob"
    assert listed[int(code)] == expected


@pytest.mark.parametrize("way", WAYS, ids=way_names())
def test_a_values_file_says_what_it_is_for(way: Path) -> None:
    assert way.read_text().startswith("# ")


def test_the_values_files_use_every_mode_and_nearly_every_value() -> None:
    used: set[tuple[str, ...]] = set()
    for way in WAYS:
        used |= set(_paths(yaml.safe_load(way.read_text()), ()))
    unused = {
        ".".join(value.path)
        for value in generate.values()
        if not value.described_keys and not any(path[: len(value.path)] == value.path for path in used)
    }
    assert unused <= {"enabled", "nameOverride", "global", "resources", "securityContext", *_DEFAULTS_THAT_DO}
    assert {yaml.safe_load(way.read_text()).get("mode", "helm") for way in WAYS} == {"helm", "argocd", "job"}


_DEFAULTS_THAT_DO = {
    "database.checkSecret",
    "database.tls.mountPath",
    "database.tls.caKey",
    "helm.outputLog",
    "waitForHead.resources",
    "test.enabled",
}


def _paths(value: object, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [path]
    return [path, *(inner for key, each in value.items() for inner in _paths(each, (*path, key)))]


def test_the_chart_has_the_version_of_the_package() -> None:
    import migrator

    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == migrator.__version__
