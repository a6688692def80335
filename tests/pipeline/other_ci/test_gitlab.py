"""The .gitlab-ci.yml of docs/other-ci.md, as the page has it: valid, and its jobs really run."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.pipeline.other_ci.gitlab import pipeline, set_variables
from tests.pipeline.other_ci.shop import ENVIRONMENTS, Shop, block

pytestmark = pytest.mark.pipeline

SCOPES = tuple(name for environment in ENVIRONMENTS for name in (environment, f"{environment}-plan"))
MODELS = """
import sqlalchemy as sa

target_metadata = sa.MetaData()
for name in ("t_a1", "t_b2", "items"):
    sa.Table(name, target_metadata, sa.Column("id", sa.Integer, primary_key=True))
"""


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    """The jobs of the file, without templates, each with what it extends."""
    file = yaml.safe_load(block("gitlab-ci"))
    return {
        name: {**file.get(job.get("extends"), {}), **job}
        for name, job in file.items()
        if isinstance(job, dict) and "stage" in job
    }


def test_gitlabs_schema_accepts_the_file(shop: Shop) -> None:
    shop.run("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", ".gitlab-ci.yml")


def test_each_environment_has_one_job_at_a_time_that_is_never_interrupted(jobs: dict[str, Any]) -> None:
    assert yaml.safe_load(block("gitlab-ci"))["default"]["interruptible"] is False
    for environment in ENVIRONMENTS:
        migrate = jobs[f"migrate:{environment}"]
        assert migrate["environment"]["name"] == migrate["resource_group"] == environment
        assert "interruptible" not in migrate


def test_nothing_is_verified_in_an_environment_or_planned_in_the_owners(jobs: dict[str, Any]) -> None:
    for environment in ENVIRONMENTS:
        assert "environment" not in jobs[f"verify:{environment}"]
        assert jobs[f"plan:{environment}"]["environment"] == {
            "name": f"{environment}-plan",
            "action": "access",
        }


def test_what_nobody_has_reviewed_shares_no_runner_with_a_job_that_has_a_credential(
    jobs: dict[str, Any],
) -> None:
    default = yaml.safe_load(block("gitlab-ci"))["default"]["tags"]
    by_runner: dict[str, set[str]] = {}
    for name, job in jobs.items():
        (tag,) = job.get("tags", default)
        by_runner.setdefault(tag, set()).add(name)
    assert {"revision"} in by_runner.values()
    assert {"migrate:prod"} in by_runner.values()


def test_only_prod_waits_for_a_person_and_holds_the_pipeline(jobs: dict[str, Any]) -> None:
    rules = {name: job["rules"] for name, job in jobs.items() if "rules" in job}
    manual = {name for name, given in rules.items() if any(rule.get("when") == "manual" for rule in given)}
    assert manual == {"migrate:prod"}
    assert rules["migrate:prod"][0]["allow_failure"] is False


def test_the_pipeline_stops_before_prod_until_someone_starts_it(shop: Shop) -> None:
    set_variables(shop, SCOPES)
    first = pipeline(shop)
    assert shop.at == {"dev": ["b2"], "test": ["b2"], "prod": []}, first.output
    assert shop.tagged("prod") == ""
    assert "CREATE TABLE t_a1" in first.stdout
    approved = pipeline(shop, manual=["migrate:prod"])
    assert shop.at == {environment: ["b2"] for environment in ENVIRONMENTS}, approved.output
    image = shop.tagged("dev")
    assert image
    assert {shop.tagged(environment) for environment in ENVIRONMENTS} == {image}
    started = [
        words for words in map(str.split, shop.arguments.read_text().splitlines()) if words[1] == "run"
    ]
    assert all(image in words for words in started)


def test_what_fails_in_test_ends_the_pipeline_and_a_new_one_goes_on(shop: Shop) -> None:
    set_variables(shop, SCOPES)
    shop.databases["test"].query("CREATE TABLE t_b2 ()")
    failed = pipeline(shop, manual=["migrate:prod"], check=False)
    assert failed.returncode != 0
    assert "42P07" in failed.output
    assert shop.at == {"dev": ["b2"], "test": ["a1"], "prod": []}, failed.output
    image = shop.tagged("dev")
    assert (shop.tagged("test"), shop.tagged("prod")) == ("", "")
    shop.databases["test"].query("DROP TABLE t_b2")
    pipeline(shop, manual=["migrate:prod"])
    assert shop.at == {environment: ["b2"] for environment in ENVIRONMENTS}
    assert {shop.tagged(environment) for environment in ENVIRONMENTS} == {image}


def test_an_environment_without_its_variable_says_what_to_set(shop: Shop) -> None:
    set_variables(shop, ["test"])
    failed = pipeline(shop, check=False)
    assert failed.returncode != 0
    assert "MIGRATOR_DATABASE_URL is not set" in failed.output
    assert "Set it for dev alone" in failed.output
    assert shop.at == {environment: [] for environment in ENVIRONMENTS}


def test_a_merge_request_gets_the_revision_that_its_models_lack(shop: Shop) -> None:
    set_variables(shop, [])
    shop.git("switch", "--quiet", "--create", "items")
    env = shop.project.path / "migrations" / "env.py"
    env.write_text(env.read_text().replace("target_metadata = None\n", MODELS))
    shop.commit()
    request = ("--variable", "CI_PIPELINE_SOURCE=merge_request_event")
    titled = ("--variable", r'CI_MERGE_REQUEST_TITLE=items of $(id) an """order""" \u')
    lacking = pipeline(shop, *request, *titled, check=False)
    assert lacking.returncode != 0
    assert "The models changed, and no revision did" in lacking.output
    assert "build" not in {line.split(" ")[0] for line in lacking.stdout.splitlines()}, lacking.output
    written = [file for file in shop.project.versions.iterdir() if "items" in file.read_text()]
    assert len(written) == 1, lacking.output
    assert "op.create_table('items'" in written[0].read_text()
    shop.commit()
    assert "agree" in pipeline(shop, *request, *titled).output
    assert shop.at == {environment: [] for environment in ENVIRONMENTS}
