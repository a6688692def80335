"""The promotion as it really runs: one digest, three databases, nothing in prod that was not verified before."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.harness import Database, Role, table_revision, write_project
from tests.image.engine import build_from, docker
from tests.pipeline import document
from tests.pipeline.act import Caller, Run
from tests.pipeline.conftest import Keys, Registry
from tests.pipeline.shop import DOCKERFILE, ENVIRONMENTS, ORDERS, REVISIONS, Shop
from tests.scenarios.catalogs import schema

pytestmark = pytest.mark.pipeline


@pytest.fixture
def shop(
    caller: Caller,
    registry: Registry,
    keys: Keys,
    runner_image: str,
    new_database: Callable[..., Database],
) -> Shop:
    """A shop with three empty databases."""
    return Shop(caller, registry, keys, {name: new_database() for name in ENVIRONMENTS})


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory, registry: Registry, runner_image: str) -> str:
    """The shop's image in the registry, an index by its digest, without a signature."""
    project = write_project(tmp_path_factory.mktemp("image") / "shop", None, revisions=REVISIONS)
    tag = f"{registry.host}/made-before/migrate:one"
    build_from(tag, DOCKERFILE, project.path)
    docker("push", "--quiet", tag)
    return registry.index(tag)


def stopped(run: Run, job: str, *words: str) -> str:
    """The one message of a run that was stopped in that job, which names the words."""
    assert run.returncode != 0, run.output
    (message,) = run.errors(job)
    for word in words:
        assert word in message, message
    cause, _, following = message.partition("\n")
    assert cause, message
    assert following, f"nothing says what to do next: {message}"
    return message


def migrated(run: Run) -> list[str]:
    """The environments in which the job ``migrate`` ran, in order."""
    return [job.partition("/")[0] for job in run.jobs() if job.endswith("/migrate")]


def test_one_digest_is_applied_to_three_databases_and_a_second_run_has_nothing_to_do(shop: Shop) -> None:
    run = shop.promote()
    assert run.returncode == 0, run.output
    assert migrated(run) == ["dev", "test", "prod"]
    assert shop.revisions() == {name: [ORDERS] for name in ENVIRONMENTS}
    schemas = [schema(database) for database in shop.databases.values()]
    assert schemas[0] == schemas[1] == schemas[2]
    assert {"customers", "orders"} <= {row[0] for row in schemas[0]["columns"]}

    digest = shop.digest("prod")
    assert digest
    assert [shop.digest(name) for name in ENVIRONMENTS] == [digest] * 3
    assert sum(": built and signed" in line for line in run.said("image").splitlines()) == 1
    assert run.said("prod").count("signature  valid") == 1

    records = shop.predicates(digest, "urn:migrator:deployment:1")
    assert sorted(record["environment"] for record in records) == sorted(ENVIRONMENTS)
    assert all(record["revisions"] == [ORDERS] for record in records)
    (provenance,) = shop.predicates(digest, "slsaprovenance1")
    (source,) = provenance["buildDefinition"]["resolvedDependencies"]
    assert source["digest"] == {"gitCommit": shop.caller.git("rev-parse", "HEAD")}

    assert "CREATE TABLE orders" in run.summary("prod/promote to one environment/plan")
    for database in shop.databases.values():
        assert urlsplit(database.url).password not in run.output

    plan = "prod/promote to one environment/plan"
    document.shown("promotion", document.log_block(run, shop.name, shop.databases))
    document.shown("plan", document.summary_block(run, plan, shop.name, shop.databases))

    again = shop.promote()
    assert again.returncode == 0, again.output
    assert "It is not built again" in again.said("dev/promote/image")
    assert migrated(again) == []
    assert [shop.digest(name) for name in ENVIRONMENTS] == [digest] * 3


def test_a_failure_in_test_leaves_prod_untouched_and_a_rerun_goes_on_after_the_fix(shop: Shop) -> None:
    column = "ALTER TABLE orders ADD COLUMN code text NOT NULL DEFAULT 'same'"
    for database in shop.databases.values():
        shop.project.migrator("upgrade", env={"MIGRATOR_DATABASE_URL": database.url}, check=True)
        database.query(column)
    shop.databases["test"].query("INSERT INTO orders VALUES (1), (2)")
    before, visits = schema(shop.databases["prod"]), shop.visits("prod")
    unique = 'op.create_unique_constraint("codes", "orders", ["code"])'
    shop.project.add_revision("a4e27c", ORDERS, unique, message="codes are unique")
    shop.caller.commit("codes are unique")

    run = shop.promote()
    assert run.returncode != 0, run.output
    assert migrated(run) == ["dev", "test"]
    (error,) = run.errors("test")
    assert "could not create unique index" in error
    assert "could not create unique index" in run.summary("test/promote to one environment/migrate")
    assert shop.visits("prod") == visits
    assert schema(shop.databases["prod"]) == before
    job = "test/promote to one environment/migrate"
    document.shown("stopped", document.summary_block(run, job, shop.name, shop.databases))
    digest = shop.digest("dev")
    assert (shop.digest("test"), shop.digest("prod")) == ("", "")

    shop.databases["test"].query("UPDATE orders SET code = id::text")
    again = shop.promote()
    assert again.returncode == 0, again.output
    assert "It is not built again" in again.said("dev/promote/image")
    assert migrated(again) == ["test", "prod"]
    assert [shop.digest(name) for name in ENVIRONMENTS] == [digest] * 3
    assert shop.revisions() == {name: ["a4e27c"] for name in ENVIRONMENTS}


def test_with_environments_of_github_one_call_goes_through_all_of_them(shop: Shop) -> None:
    # act knows no secrets of an environment: here the three share a database.
    url = shop.databases["dev"].url
    run = shop.promote("with-environments.yml", secrets={"MIGRATOR_DATABASE_URL": url})
    assert run.returncode == 0, run.output
    order = [job.rpartition("/")[2] for job in run.jobs()]
    assert order == ["image", *["verify", "plan", "migrate"] * 3]
    assert len({shop.digest(name) for name in ENVIRONMENTS}) == 1
    assert shop.databases["dev"].revisions == [ORDERS]


def test_with_environments_of_github_none_starts_after_one_that_failed(shop: Shop) -> None:
    broken = table_revision("a4e27c", ORDERS).text.replace(
        'op.create_table("t_a4e27c"', 'op.create_table("orders"'
    )
    shop.caller.write("migrations/versions/a4e27c_again.py", broken)
    shop.caller.commit("the same table again")
    url = shop.databases["dev"].url
    run = shop.promote("with-environments.yml", secrets={"MIGRATOR_DATABASE_URL": url})
    assert run.returncode != 0, run.output
    steps = [job.rpartition("/")[2] for job in run.jobs()]
    assert steps.count("migrate") == 1, run.output
    # GitHub ends the line here; act does not, and so the registry is asked, and does.
    assert "never ran in dev" in run.errors("verify")[0]
    assert not any(shop.digest(name) for name in ENVIRONMENTS)


def test_a_replaced_image_is_stopped_before_prod(shop: Shop, image: str) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    shop.record(digest, "test")
    evil = shop.another(image)
    shop.move("test", evil)

    run = shop.promote_this({"image": f"{shop.name}@{evil}", "after": "test"})
    stopped(run, "verify", evil, "no valid signature", "Nothing of prod was used")
    assert not any(job.endswith(("plan", "migrate")) for job in run.jobs())

    run = shop.promote_this({"image": f"{shop.name}@{digest}", "after": "test"})
    stopped(run, "verify", "test is at", evil, digest)
    assert shop.visits("prod") == 0
    assert shop.digest("prod") == ""


def test_an_image_signed_by_somebody_else_is_stopped(
    shop: Shop, image: str, new_keys: Callable[[], Keys]
) -> None:
    digest = shop.publish(image)
    other = new_keys()
    shop.sign(digest, other)
    shop.record(digest, "test", other)
    run = shop.promote_this({"image": f"{shop.name}@{digest}", "after": "test"})
    stopped(run, "verify", "no valid signature", "cosign-public-key")
    assert shop.visits("prod") == 0


def test_a_digest_that_never_ran_in_test_is_stopped_before_prod(shop: Shop, image: str) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    run = shop.promote_this({"image": f"{shop.name}@{digest}", "after": "test"})
    stopped(run, "verify", "never ran in test", digest)

    # Who can write to the registry can move the tag, but not write the record.
    shop.move("test", digest)
    run = shop.promote_this({"image": f"{shop.name}@{digest}", "after": "test"})
    stopped(run, "verify", "never ran in test", digest)
    assert shop.visits("prod") == 0


def test_a_promotion_that_a_newer_one_overtook_says_so(shop: Shop, image: str) -> None:
    older = shop.publish(image)
    newer = shop.another(image)
    for digest in (older, newer):
        shop.sign(digest)
        shop.record(digest, "test")
    run = shop.promote_this({"image": f"{shop.name}@{older}", "after": "test"})
    stopped(run, "verify", "overtaken", newer, older)

    image = f"{shop.name}@{newer}"
    run = shop.promote("by-hand.yml", event="workflow_dispatch", inputs={"image": image})
    assert run.returncode == 0, run.output
    assert shop.digest("prod") == newer
    assert shop.databases["prod"].revisions == [ORDERS]


def test_a_database_that_is_ahead_is_told_before_the_approval(
    shop: Shop, image: str, new_role: Callable[[], Role]
) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    prod = shop.databases["prod"]
    prod.query("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    prod.query("INSERT INTO alembic_version VALUES ('f9')")
    chosen = {"image": f"{shop.name}@{digest}"}
    # A user with the rights that the document names, and no more.
    reader = new_role()
    prod.query(f"GRANT USAGE ON SCHEMA public TO {reader.name}")
    prod.query(f"GRANT SELECT ON alembic_version TO {reader.name}")
    url = prod.server.url_of(prod.name, user=reader.name, password=reader.password)
    run = shop.promote_this(chosen, secrets={"MIGRATOR_PLAN_DATABASE_URL": url})
    stopped(run, "plan", "ahead", "f9", "MIGRATOR_ALLOW_AHEAD")
    assert not any(job.endswith("migrate") for job in run.jobs())
    run = shop.promote_this(chosen | BY_HELM, secrets={"MIGRATOR_PLAN_DATABASE_URL": url})
    message = stopped(run, "plan", "ahead", "settings.allow-ahead", "helm-values", "prod-plan")
    assert "input settings" not in message

    # Without a URL for the plan it is the migration that stops, and says it in its own words.
    run = shop.promote_this(chosen, secrets={"MIGRATOR_PLAN_DATABASE_URL": ""})
    assert run.returncode != 0, run.output
    assert "f9" in run.errors("migrate")[0]
    assert "f9" in run.summary("migrate")
    assert prod.revisions == ["f9"]
    assert shop.digest("prod") == ""


def test_a_failure_is_shown_at_the_file_of_the_repository_that_holds_the_application_in_a_folder(
    shop: Shop, image: str
) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    shop.databases["prod"].query("CREATE TABLE orders (id int)")
    run = shop.promote_this({"image": f"{shop.name}@{digest}", "context": "backend"})
    (file,) = [line["kvPairs"]["file"] for line in run.lines if "file" in line.get("kvPairs", {})]
    assert file.startswith("backend/migrations/versions/")


def test_a_missing_database_url_is_named_with_the_place_to_set_it(shop: Shop, image: str) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    run = shop.promote_this({"image": f"{shop.name}@{digest}"}, secrets={"MIGRATOR_DATABASE_URL": ""})
    stopped(run, "migrate", "MIGRATOR_DATABASE_URL", "GitHub environment prod", "secrets: inherit")
    # A name that is a typing mistake has no secrets either.
    chosen = {"image": f"{shop.name}@{digest}", "environments": "prdo"}
    run = shop.promote_this(chosen, secrets={"MIGRATOR_DATABASE_URL": ""})
    stopped(run, "migrate", "prdo", "typing mistake")
    # With a chart it is the cluster that is asked for.
    chart = {"image": f"{shop.name}@{digest}", "helm-chart": "chart", "helm-release": "shop-migrate"}
    run = shop.promote_this(chosen | chart)
    stopped(run, "migrate", "KUBECONFIG", "GitHub environment prdo")
    assert shop.databases["prod"].revisions == []
    assert shop.digest("prdo") == ""


def test_without_a_url_for_the_plan_it_says_so_and_goes_on(shop: Shop, image: str) -> None:
    digest = shop.publish(image)
    shop.sign(digest)
    run = shop.promote_this({"image": f"{shop.name}@{digest}"}, secrets={"MIGRATOR_PLAN_DATABASE_URL": ""})
    assert run.returncode == 0, run.output
    assert "MIGRATOR_PLAN_DATABASE_URL" in run.summary("plan")
    assert shop.databases["prod"].revisions == [ORDERS]


def test_a_digest_of_one_platform_or_of_nothing_is_refused(shop: Shop, image: str) -> None:
    shop.publish(image)
    entry = json.loads(shop.registry.crane("manifest", image))["manifests"][0]["digest"]
    run = shop.promote_this({"image": f"{shop.name}@{entry}"})
    stopped(run, "image", entry, "not of an index", "what this workflow built")
    run = shop.promote_this({"image": f"{shop.name}@sha256:{'0' * 64}"})
    stopped(run, "image", "not in the registry")


def test_a_builder_that_cannot_attest_is_told(shop: Shop) -> None:
    workflow = shop.caller.path / ".github/workflows/with-environments.yml"
    workflow.write_text(workflow.read_text().replace("attestations: false", "attestations: true"))
    run = shop.promote("with-environments.yml")
    stopped(run, "image", "not built", "attestations")
    assert not any(shop.digest(name) for name in ENVIRONMENTS)


FORK = {
    "pull_request": {"head": {"repo": {"fork": True, "full_name": "someone/shop"}}, "base": {"ref": "main"}}
}


def test_a_pull_request_of_a_fork_is_stopped_before_anything(shop: Shop) -> None:
    run = shop.promote(
        "with-environments.yml", event="pull_request", payload=FORK, secrets={"COSIGN_PRIVATE_KEY": ""}
    )
    stopped(run, "image", "someone/shop", "no secrets", "push to your main branch")
    assert len(run.jobs()) == 1


GIVEN = "registry.example.com/shop/migrate@sha256:" + "0" * 64
BY_HELM = {"helm-chart": "chart", "helm-release": "shop"}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"image": "registry.example.com/shop:1.2"}, ("no digest", "NAME@sha256:DIGEST")),
        ({"image": "registry.example.com/shop@sha256:12"}, ("no digest", "NAME@sha256:DIGEST")),
        ({"image": GIVEN, "name": "registry.example.com/shop"}, ("Both", "name", "image")),
        ({}, ("name", "registry.example.com/shop/migrate")),
        ({"name": "Shop"}, ("'Shop'", "lower case")),
        ({"name": "shop/migrate"}, ("'shop/migrate'", "with its registry")),
        ({"name": "registry.example.com/shop:1.2"}, ("registry.example.com/shop:1.2", "without a tag")),
        ({"image": GIVEN, "environments": " , "}, ("no environments", "dev, test, prod")),
        ({"image": GIVEN, "environments": "dev test dev"}, ("dev", "twice")),
        ({"image": GIVEN, "environments": "prod", "after": "prod"}, ("prod", "twice")),
        ({"image": GIVEN, "environments": "dev, $(id)"}, ("$(id)", "letters")),
        ({"image": GIVEN, "helm-chart": "chart"}, ("helm-release",)),
        (
            {"image": GIVEN, **BY_HELM, "helm-chart": "oci://registry.example.com/charts/migrator:1.2"},
            ("charts/migrator:1.2 has no digest", "oci://NAME@sha256:DIGEST"),
        ),
        (
            {"image": GIVEN, **BY_HELM, "settings": "MIGRATOR_LOCK_TIMEOUT=5s"},
            ("do not reach the Job", "helm-values", "settings.lock-timeout"),
        ),
        ({"image": f"@{GIVEN.partition('@')[2]}"}, ("contains a secret", "variable")),
        ({"image": f"{GIVEN.partition('@')[0]}@"}, ("contains a secret", "variable")),
        ({"image": GIVEN, "signature": "pgp"}, ("pgp", "github", "cosign")),
    ],
)
def test_inputs_that_cannot_be_meant_are_refused_first(
    caller: Caller, registry: Registry, keys: Keys, inputs: dict[str, str], words: tuple[str, ...]
) -> None:
    run = Shop(caller, registry, keys, {}).promote("dispatched.yml", event="workflow_dispatch", inputs=inputs)
    stopped(run, "image", *words)
    assert len(run.jobs()) == 1


def test_keys_that_are_not_there_are_named(caller: Caller, registry: Registry, keys: Keys) -> None:
    shop = Shop(caller, registry, keys, {})
    chosen = {"image": GIVEN}
    run = shop.promote(
        "dispatched.yml", event="workflow_dispatch", inputs=chosen, secrets={"COSIGN_PRIVATE_KEY": ""}
    )
    stopped(run, "image", "COSIGN_PRIVATE_KEY", "Set it in the repository", "secrets: inherit")
    run = shop.promote(
        "dispatched.yml", event="workflow_dispatch", inputs=chosen, variables={"COSIGN_PUBLIC_KEY": ""}
    )
    stopped(run, "image", "cosign-public-key", "vars.COSIGN_PUBLIC_KEY")


def test_one_cluster_for_several_environments_needs_a_place_for_each(
    caller: Caller, registry: Registry, keys: Keys
) -> None:
    shop = Shop(caller, registry, keys, {})
    chosen = {"image": GIVEN, "environments": "dev test", "helm-chart": "chart", "helm-release": "shop"}
    more = {"event": "workflow_dispatch", "secrets": {"KUBECONFIG": "{}"}}
    stopped(
        shop.promote("dispatched.yml", inputs=chosen, **more),
        "image",
        "KUBECONFIG",
        "dev test",
        "{environment}",
    )
    run = shop.promote("dispatched.yml", inputs=chosen | {"helm-namespace": "shop-{environment}"}, **more)
    stopped(run, "image", "not in the registry")


@pytest.mark.parametrize("name", ["inputs", "secrets", "outputs"])
def test_the_reference_tells_what_the_workflow_takes(name: str) -> None:
    document.shown(name, document.reference_blocks()[name])
