"""What a wrong secret, a missing program or a missing file of one environment says, and what was used by then."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Database, Role
from tests.image.engine import build_from, docker
from tests.pipeline.act import Caller, Run
from tests.pipeline.conftest import Keys, Registry
from tests.pipeline.shop import ONE_ENVIRONMENT, Shop
from tests.pipeline.test_promotion import image, stopped

pytestmark = pytest.mark.pipeline
__all__ = ["image"]

PLAN, OWNER = "MIGRATOR_PLAN_DATABASE_URL", "MIGRATOR_DATABASE_URL"
NOWHERE = "    with:\n      network: no-such-network\n"
# With the secrets of that environment alone.
WITH_ITS_SECRETS = f"""\
{ONE_ENVIRONMENT}\
      name: ${{{{ vars.IMAGE }}}}
      digest: DIGEST
      cosign-public-key: ${{{{ vars.COSIGN_PUBLIC_KEY }}}}
    secrets: inherit
"""
CLUSTER = """\
apiVersion: v1
kind: Config
clusters: [{name: shop, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: shop, user: {token: none}}]
contexts: [{name: shop, context: {cluster: shop, user: shop}}]
current-context: shop
"""


@pytest.fixture
def shop(
    caller: Caller, registry: Registry, keys: Keys, runner_image: str, new_database: Callable[..., Database]
) -> Shop:
    """A shop with the database of prod."""
    return Shop(caller, registry, keys, {"prod": new_database()})


def path_without(program: str, directory: Path) -> dict[str, str]:
    """PATH, with a copy of each directory that holds the program in which it is not."""
    places: list[str] = []
    for place in os.environ["PATH"].split(os.pathsep):
        if not (Path(place) / program).exists():
            places.append(place)
            continue
        copy = directory / f"bin{len(places)}"
        copy.mkdir(parents=True)
        for found in Path(place).iterdir():
            if found.name != program:
                (copy / found.name).symlink_to(found)
        places.append(str(copy))
    return {"PATH": os.pathsep.join(places)}


# The database of the plan


def test_a_wrong_url_for_the_plan_is_told_by_the_name_and_place_that_it_is_set_by(
    shop: Shop, image: str, new_role: Callable[[], Role]
) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    prod, reader = shop.databases["prod"], new_role()
    wrong_password = prod.server.url_of(prod.name, user=reader.name, password="wrong-on-purpose")
    for url, words in (
        ("nonsense%20", (f"{PLAN} is not a database URL", "postgresql://USER:PASSWORD@HOST")),
        (wrong_password, ("password authentication failed",)),
    ):
        run = shop.promote_this({"image": f"{shop.name}@{digest}"}, secrets={PLAN: url})
        told = stopped(run, "plan", "The plan for prod could not be made", PLAN, "prod-plan", *words)
        assert "**Cause** The plan for prod" in run.summary("plan")
        assert "**Next** " in run.summary("plan")
        for text in (told, run.summary("plan"), run.said("plan")):
            assert OWNER not in text
        assert not any(job.endswith("migrate") for job in run.jobs())
    # Without a plan it is the migration that says so.
    run = shop.promote_this({"image": f"{shop.name}@{digest}"}, secrets={PLAN: "", OWNER: wrong_password})
    assert run.jobs("failure")[-1].endswith("migrate"), run.output
    assert "password authentication failed" in run.errors("migrate")[0]
    for told in (run.output, run.summary("migrate")):
        assert f"{OWNER} is a secret of the GitHub environment prod" in told
    assert prod.revisions == []


def test_the_plans_user_may_have_no_rights_before_the_first_promotion_and_needs_one_after_it(
    shop: Shop, image: str, new_role: Callable[[], Role]
) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    prod, reader = shop.databases["prod"], new_role()
    url = prod.server.url_of(prod.name, user=reader.name, password=reader.password)
    given = {"image": f"{shop.name}@{digest}"}
    first = shop.promote_this(given, secrets={PLAN: url})
    assert first.returncode == 0, first.output
    assert "### prod: 2 pending" in first.summary("plan")
    second = shop.promote_this(given, secrets={PLAN: url})
    stopped(second, "plan", "permission denied for table alembic_version", "GRANT SELECT ON alembic_version")
    prod.query(f"GRANT SELECT ON alembic_version TO {reader.name}")
    third = shop.promote_this(given, secrets={PLAN: url})
    assert third.returncode == 0, third.output
    assert "### prod: 0 pending" in third.summary("plan")
    assert not any(job.endswith("migrate") for job in third.jobs())


def test_each_environment_can_have_runners_of_its_own(shop: Shop, image: str) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    given = {"image": f"{shop.name}@{digest}", "environment-runner": "vault-{environment}"}
    run = shop.promote_this(given)
    # act has no such machine, and says which one it would be.
    assert run.jobs() == [name for name in run.jobs() if name.endswith("image")] != [], run.output
    assert "vault-prod" in run.output
    assert shop.databases["prod"].revisions == []


def test_a_plan_that_docker_cannot_start_says_where_to_look(shop: Shop, image: str) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    path = ".github/workflows/dispatched.yml"
    shop.caller.write(path, (shop.caller.path / path).read_text().replace("    with:\n", NOWHERE))
    run = shop.promote_this({"image": f"{shop.name}@{digest}"})
    stopped(run, "plan", "docker run ended with 125", "input network")
    assert "no-such-network" in run.said("plan")
    # Without a plan it is the migration that says so.
    run = shop.promote_this({"image": f"{shop.name}@{digest}"}, secrets={PLAN: ""})
    stopped(run, "migrate", "ended with 125", "input network", "Nothing was changed")
    assert "no-such-network" in run.said("migrate")
    assert "could not start the image in prod" in run.summary("migrate")


def test_an_image_that_does_nothing_is_neither_recorded_nor_tagged(
    shop: Shop, registry: Registry, tmp_path: Path
) -> None:
    tag = f"{registry.host}/does-nothing/migrate:one"
    (tmp_path / "nothing").mkdir()
    build_from(tag, 'FROM migrator:runner\nENTRYPOINT ["true"]\n', tmp_path / "nothing")
    docker("push", "--quiet", tag)
    digest = shop.publish(registry.index(tag))
    shop.sign(digest)
    for url, job in ((shop.databases["prod"].url, "plan"), ("", "migrate")):
        run = shop.promote_this({"image": f"{shop.name}@{digest}"}, secrets={PLAN: url})
        stopped(run, job, "does not say where the database of prod stands", "leave its ENTRYPOINT")
    assert shop.digest("prod") == ""


def test_a_wrong_setting_is_not_blamed_on_the_url(shop: Shop, image: str) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    given = {"image": f"{shop.name}@{digest}", "settings": "MIGRATOR_LOCK_TIMEUOT=5s"}
    for url, job in ((shop.databases["prod"].url, "plan"), ("", "migrate")):
        run = shop.promote_this(given, secrets={PLAN: url})
        assert "Did you mean MIGRATOR_LOCK_TIMEOUT?" in run.errors(job)[0], run.output
        assert "input settings" in run.summary(job)
        assert "GitHub environment" not in run.summary(job)


# Programs of the runner


def test_githubs_signatures_without_the_command_gh_say_so_and_build_nothing(
    shop: Shop, image: str, tmp_path: Path
) -> None:
    digest = shop.publish(image)
    env = path_without("gh", tmp_path)
    for given, job in (({"image": f"{shop.name}@{digest}"}, "verify"), ({"name": shop.name}, "image")):
        run = shop.promote_this({**given, "signature": "github"}, env=env)
        stopped(run, job, "no command gh", "Install the GitHub CLI", "signature to cosign")
        assert run.jobs("failure") == [name for name in run.jobs() if name.endswith(job)]
    assert shop.digest(f"git-{shop.caller.git('rev-parse', 'HEAD')}") == ""
    assert shop.visits("prod") == 0


# The key


def test_a_key_that_cannot_sign_is_noticed_before_anything_is_built(
    caller: Caller, registry: Registry, keys: Keys, new_keys: Callable[[], Keys]
) -> None:
    shop = Shop(caller, registry, keys, {})
    for wrong, words in (
        ({"COSIGN_PASSWORD": "wrong"}, ("cannot be opened with COSIGN_PASSWORD", "decryption failed")),
        ({"COSIGN_PRIVATE_KEY": "no key"}, ("cannot be opened with COSIGN_PASSWORD", "invalid pem block")),
        ({"COSIGN_PRIVATE_KEY": new_keys().private}, ("not the other half of cosign-public-key",)),
    ):
        run = shop.promote(
            "dispatched.yml", event="workflow_dispatch", inputs={"name": shop.name}, secrets=wrong
        )
        stopped(run, "image", "COSIGN_PRIVATE_KEY", "in the repository", *words)
        assert run.jobs() == run.jobs("failure")
    assert shop.digest(f"git-{caller.git('rev-parse', 'HEAD')}") == ""


def test_an_environment_whose_key_cannot_sign_is_not_migrated(
    shop: Shop, image: str, new_keys: Callable[[], Keys]
) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    shop.caller.write(".github/workflows/one.yml", WITH_ITS_SECRETS.replace("DIGEST", digest))
    shop.caller.commit()
    for wrong in ({"COSIGN_PASSWORD": "wrong"}, {"COSIGN_PRIVATE_KEY": new_keys().private}):
        run = shop.promote("one.yml", secrets={OWNER: shop.databases["prod"].url, **wrong})
        stopped(run, "migrate", "COSIGN_PRIVATE_KEY", "GitHub environment prod", "Nothing was changed")
        assert "**Cause** COSIGN_PRIVATE_KEY" in run.summary("migrate")
    assert (shop.visits("prod"), shop.digest("prod")) == (0, "")


# By Helm


def test_what_is_missing_or_wrong_for_helm_is_told_before_the_cluster_is_changed(
    shop: Shop, image: str, tmp_path: Path
) -> None:
    assert shutil.which("helm"), "not on PATH: helm"
    digest = shop.publish(image)
    shop.sign(digest)
    shop.caller.write("chart/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    shop.caller.commit("a chart")

    def promote(inputs: dict[str, str], cluster: str = CLUSTER, env: dict[str, str] | None = None) -> Run:
        given = {"image": f"{shop.name}@{digest}", "helm-release": "shop-migrate", "helm-chart": "chart"}
        secrets = {"KUBECONFIG": cluster, PLAN: ""}
        return shop.promote_this({**given, **inputs}, secrets=secrets, env=env or {})

    run = promote({}, env=path_without("helm", tmp_path))
    stopped(run, "migrate", "no command helm on this runner", "Install Helm", "input runner")
    run = promote({"helm-chart": "deploy/chart"})
    stopped(run, "migrate", "no chart deploy/chart", "input helm-chart", "oci://")
    run = promote({"helm-values": "deploy/{environment}.yaml"})
    stopped(run, "migrate", "no file deploy/prod.yaml", "input helm-values")
    for cluster in ("nothing that Kubernetes knows", CLUSTER):
        run = promote({}, cluster)
        stopped(run, "migrate", "The cluster of prod does not tell about the release", "KUBECONFIG")
        assert "**Cause** The cluster of prod" in run.summary("migrate")
    assert shop.digest("prod") == ""
