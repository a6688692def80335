"""What somebody with a part of the rights tries: the registry's password, a branch, another image that is signed."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.harness import Database
from tests.pipeline.act import WORKFLOWS, Caller
from tests.pipeline.conftest import Keys, Registry
from tests.pipeline.outage import front_of
from tests.pipeline.shop import ONE_ENVIRONMENT, ORDERS, Shop
from tests.pipeline.test_promotion import image, stopped

pytestmark = pytest.mark.pipeline
__all__ = ["image"]

COSIGN_IS_AWAY = """\
#!/usr/bin/env bash
if [ "$1" = verify-attestation ] && [[ "$*" = *"${AWAY_FOR-}"* ]]; then
  echo "Error: Get https://registry.example.com/v2/: dial tcp: connect: connection refused" >&2
  exit 1
fi
exec REAL "$@"
"""
DOCKER_WITH_A_RACE = """\
#!/usr/bin/env bash
REAL "$@" || exit
if [ "$1 $2 $3" = "buildx imagetools create" ]; then crane tag EVIL "${5##*:}" >/dev/null; fi
"""
# It answers as GitHub does for what lies in a directory, and writes down what it was asked.
GH = """\
#!/usr/bin/env bash
[ "$1" = attestation ] || exit 1
printf '%s\\n' "$*" >>DIRECTORY/asked
if [ -s DIRECTORY/no ]; then
  cat DIRECTORY/no >&2
  exit 1
fi
case "$*" in
  *slsa*) cat DIRECTORY/provenance ;;
  *) cat DIRECTORY/records ;;
esac
"""


@pytest.fixture
def shop(
    caller: Caller, registry: Registry, keys: Keys, runner_image: str, new_database: Callable[..., Database]
) -> Shop:
    """A shop with the databases of dev and prod."""
    return Shop(caller, registry, keys, {name: new_database() for name in ("dev", "prod")})


def instead_of(tool: str, script: str, directory: Path) -> dict[str, str]:
    """Surroundings in which a script stands before a tool, which it can call as ``REAL``."""
    directory.mkdir(exist_ok=True)
    file = directory / tool
    file.write_text(script.replace("REAL", shutil.which(tool) or "false"))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def only_dev(shop: Shop) -> None:
    """Let the promotion of the document end in dev."""
    path = ".github/workflows/with-environments.yml"
    text = (shop.caller.path / path).read_text()
    shop.caller.write(path, text.replace("      builder:", "      environments: dev\n      builder:"))


def test_an_older_image_under_a_commits_tag_is_not_taken_for_that_commits(shop: Shop, image: str) -> None:
    older = shop.publish(image)
    shop.sign(older, commit="0" * 40)
    only_dev(shop)
    shop.move(f"git-{shop.caller.commit()}", older)
    url = shop.databases["dev"].url
    run = shop.promote("with-environments.yml", secrets={"MIGRATOR_DATABASE_URL": url})
    assert run.returncode == 0, run.output
    assert "is no image that was built and signed for this commit" in run.said("image")
    assert shop.digest("dev") not in ("", older)


def test_an_image_that_was_built_under_another_name_is_stopped(shop: Shop, image: str) -> None:
    digest = shop.publish(image)
    shop.sign(digest, name=f"{shop.name}-of-another-team")
    run = shop.promote_this({"image": f"{shop.name}@{digest}"})
    stopped(run, "verify", digest, "no valid signature", "under this name")

    # The same for a record.
    shop.sign(digest)
    shop.record(digest, "test", name=f"{shop.name}-of-another-team")
    run = shop.promote_this({"image": f"{shop.name}@{digest}", "after": "test"})
    stopped(run, "verify", "never ran in test", digest)
    assert shop.visits("prod") == 0


def test_a_record_is_no_signature(shop: Shop, image: str) -> None:
    digest = shop.publish(image)
    shop.record(digest, "test")
    run = shop.promote_this({"image": f"{shop.name}@{digest}", "after": "test"})
    stopped(run, "verify", "no valid signature")
    assert shop.visits("prod") == 0


@pytest.mark.parametrize("kind", ["slsa.dev", "urn:migrator:deployment"])
def test_an_outage_is_not_told_as_a_missing_signature(
    shop: Shop, image: str, tmp_path: Path, kind: str
) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    shop.record(digest, "test")
    away = instead_of("cosign", COSIGN_IS_AWAY, tmp_path / "bin")
    given = {"image": f"{shop.name}@{digest}", "after": "test"}
    run = shop.promote_this(given, env={**away, "AWAY_FOR": kind})
    stopped(run, "verify", "could not be asked", "Run the failed jobs again")
    assert "connection refused" in run.said("verify")
    assert shop.visits("prod") == 0


def test_an_outage_is_no_reason_to_build_again(shop: Shop, image: str, tmp_path: Path) -> None:
    only_dev(shop)
    digest = shop.publish(image)
    commit = shop.caller.commit()
    shop.sign(digest, commit=commit)
    shop.move(f"git-{commit}", digest)
    away = instead_of("cosign", COSIGN_IS_AWAY, tmp_path / "bin")
    run = shop.promote("with-environments.yml", env=away)
    stopped(run, "image", "could not be asked", "Nothing was built")
    assert shop.digest(f"git-{commit}") == digest


def test_a_registry_that_tells_of_no_signature_is_not_taken_for_one_that_has_none(
    shop: Shop, image: str
) -> None:
    """cosign asks for what belongs to an image, and takes an answer like 503 for none."""
    only_dev(shop)
    with front_of(shop.registry.host) as front:
        shop.name = shop.name.replace(shop.registry.host, front.host)
        digest = shop.publish(image)
        commit = shop.caller.commit()
        shop.sign(digest, commit=commit)
        shop.move(f"git-{commit}", digest)
        front.away = True
        run = shop.promote("with-environments.yml")
        stopped(run, "image", "could not be asked", "Nothing was built")
        run = shop.promote_this({"image": f"{shop.name}@{digest}", "environments": "dev"})
        stopped(run, "verify", "could not be asked", "Nothing of dev was used")
        assert "503" in run.said("verify")
        front.away = False
        run = shop.promote(
            "with-environments.yml", secrets={"MIGRATOR_DATABASE_URL": shop.databases["dev"].url}
        )
        assert run.returncode == 0, run.output
        assert "is not built again" in run.said("image")


def test_a_tag_that_is_moved_during_the_build_is_not_signed(shop: Shop, image: str, tmp_path: Path) -> None:
    only_dev(shop)
    evil = shop.another(image)
    script = DOCKER_WITH_A_RACE.replace("EVIL", f"{shop.name}@{evil}")
    run = shop.promote("with-environments.yml", env=instead_of("docker", script, tmp_path / "bin"))
    stopped(run, "image", "somebody moved the tag", "Nothing was signed")
    assert len(run.jobs()) == 1


def answers(shop: Shop, digest: str, directory: Path) -> dict[str, str]:
    """Surroundings in which GitHub knows a signature of that digest, and that it ran in test."""
    subject = [{"name": shop.name, "digest": {"sha256": digest.partition(":")[2]}}]
    record = {"environment": "test", "image": f"{shop.name}@{digest}"}
    for name, kind, predicate in (
        ("provenance", "https://slsa.dev/provenance/v1", {"buildDefinition": {}}),
        ("records", "urn:migrator:deployment:1", record),
    ):
        statement = {"subject": subject, "predicateType": kind, "predicate": predicate}
        (directory / name).write_text(json.dumps([{"verificationResult": {"statement": statement}}]))
    return instead_of("gh", GH.replace("DIRECTORY", str(directory)), directory / "bin")


@pytest.mark.parametrize("signer", ["", "platform/migrator"])
def test_github_is_asked_for_this_workflow_and_the_protected_branch(
    shop: Shop, image: str, tmp_path: Path, signer: str
) -> None:
    digest = shop.publish(image)
    shop.move("test", digest)
    given = {"image": f"{shop.name}@{digest}", "after": "test", "signature": "github", "signer": signer}
    run = shop.promote_this(given, env=answers(shop, digest, tmp_path))
    assert run.returncode == 0, run.output
    assert shop.databases["prod"].revisions == [ORDERS]
    asked = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
    assert len(asked) == 2
    for words, workflow in zip(asked, ("promote.yml", "promote-environment.yml"), strict=True):
        options = dict(zip(words[3::2], words[4::2], strict=True))
        assert words[:3] == ["attestation", "verify", f"oci://{shop.name}@{digest}"]
        assert options["--repo"] == "example/shop"
        assert options["--source-ref"] == "refs/heads/main"
        place = f"{signer or 'example/shop'}/.github/workflows/{workflow}@"
        assert options["--signer-workflow"] == place


def test_another_image_that_github_has_a_signature_of_is_stopped(
    shop: Shop, image: str, tmp_path: Path
) -> None:
    digest = shop.publish(image)
    surroundings = answers(shop, digest, tmp_path)
    told = (tmp_path / "provenance").read_text()
    (tmp_path / "provenance").write_text(told.replace(shop.name, f"{shop.name}-of-another-team"))
    given = {"image": f"{shop.name}@{digest}", "signature": "github"}
    run = shop.promote_this(given, env=surroundings)
    stopped(run, "verify", "no valid signature", "signer", "refs/heads/main of example/shop")


@pytest.mark.parametrize(
    "no",
    [
        "expected SourceRepositoryRef to be refs/heads/main, got refs/heads/x",
        "expected SourceRepositoryDigest to be 11, got 22",
        "expected BuildSignerURI to match ^https://github.com/example/shop/, got https://github.com/x/",
        "no attestations found",
    ],
)
def test_what_github_refuses_is_no_outage(shop: Shop, image: str, tmp_path: Path, no: str) -> None:
    digest = shop.publish(image)
    surroundings = answers(shop, digest, tmp_path)
    (tmp_path / "no").write_text(f"Error: {no}\n")
    given = {"image": f"{shop.name}@{digest}", "signature": "github"}
    run = shop.promote_this(given, env=surroundings)
    stopped(run, "verify", "no valid signature", "signer", "refs/heads/main of example/shop")
    assert no in run.said("verify")
    assert shop.visits("prod") == 0


def test_an_image_that_another_commit_left_under_this_ones_tag_is_built_anew_also_by_github(
    shop: Shop, image: str, tmp_path: Path
) -> None:
    path = ".github/workflows/dispatched.yml"
    here = "    with:\n      builder: default\n      attestations: false\n"
    shop.caller.write(path, (shop.caller.path / path).read_text().replace("    with:\n", here))
    shop.move(f"git-{shop.caller.commit()}", shop.publish(image))
    surroundings = answers(shop, f"sha256:{'0' * 64}", tmp_path)
    (tmp_path / "no").write_text("Error: expected SourceRepositoryDigest to be 11, got 22\n")
    run = shop.promote_this({"name": shop.name, "signature": "github"}, env=surroundings)
    assert "is no image that was built and signed for this commit" in run.said("image")
    assert run.errors("image") == []


def test_a_run_for_another_branch_is_told_that_its_signature_would_not_count(
    caller: Caller, registry: Registry, keys: Keys
) -> None:
    given = {"name": "registry.example.com/shop", "signature": "github", "ref": "refs/heads/release"}
    run = Shop(caller, registry, keys, {}).promote("dispatched.yml", event="workflow_dispatch", inputs=given)
    stopped(run, "image", "refs/heads/main", "refs/heads/release")


FENCE = 'op.execute("SELECT 1 /*\\n```\\n::error title=evil::by a revision\\n### prod: 0 pending\\n*/")'


def test_sql_does_not_break_out_of_the_plan(shop: Shop) -> None:
    only_dev(shop)
    shop.project.add_revision("a4e27c", ORDERS, FENCE, message="evil")
    shop.caller.commit("evil")
    url = shop.databases["dev"].url
    given = {"MIGRATOR_DATABASE_URL": url, "MIGRATOR_PLAN_DATABASE_URL": url}
    run = shop.promote("with-environments.yml", secrets=given)
    assert run.returncode == 0, run.output
    assert run.errors() == []
    plan = run.summary("plan")
    assert "````sql" in plan
    assert plan.index("### prod: 0 pending") < plan.rindex("\n````")


def test_one_database_for_all_environments_is_refused(caller: Caller, registry: Registry, keys: Keys) -> None:
    shop = Shop(caller, registry, keys, {})
    given = {"name": "registry.example.com/shop", "environments": "dev, test"}
    for secret, words in (
        ("MIGRATOR_DATABASE_URL", ("one database would be dev test", "in each GitHub environment")),
        ("MIGRATOR_PLAN_DATABASE_URL", ("would be shown as dev test", "each GitHub environment NAME-plan")),
    ):
        url = {secret: "postgresql://owner@db/shop"}
        run = shop.promote("dispatched.yml", event="workflow_dispatch", inputs=given, secrets=url)
        message = stopped(run, "image", secret, *words, "shared-database")
        assert "or of the GitHub environment" not in message
    given["image-environment"] = "dev"
    run = shop.promote("dispatched.yml", event="workflow_dispatch", inputs=given, secrets=url)
    stopped(run, "image", "or of the GitHub environment dev, which must be one of its own")


def test_a_name_that_github_has_held_back_is_told(caller: Caller) -> None:
    empty = '      name: ""\n      digest: ""\n'
    caller.write(".github/workflows/empty.yml", ONE_ENVIRONMENT + empty)
    caller.commit()
    run = caller.act("empty.yml")
    stopped(run, "verify", "contains a secret", "variable")
    assert len(run.jobs()) == 1


def test_repeated_steps_are_equal() -> None:
    """A called workflow sees no file of this repository: what several jobs do stands in each of them."""
    scripts: dict[str, set[str]] = {}
    for name in ("promote.yml", "promote-environment.yml"):
        for job in yaml.safe_load((WORKFLOWS / "workflows" / name).read_text())["jobs"].values():
            for step in job.get("steps", []):
                scripts.setdefault(step.get("name", ""), set()).add(step.get("run", ""))
    for name in ("Log in to the registry", "Find cosign", "Check the key", "Log out"):
        assert len(scripts[name]) == 1, name


def test_both_workflows_ask_in_the_same_words() -> None:
    def asking(name: str) -> list[str]:
        text = (WORKFLOWS / "workflows" / name).read_text()
        jobs = yaml.safe_load(text)["jobs"].values()
        scripts = [step.get("run", "") for job in jobs for step in job.get("steps", [])]
        return [
            script[script.index("# What is signed") : script.index("# Whether one of them")]
            for script in scripts
            if "statements() {" in script
        ]

    assert asking("promote.yml") == asking("promote-environment.yml")
    assert len(asking("promote.yml")) == 1
