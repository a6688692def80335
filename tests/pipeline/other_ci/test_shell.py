"""promote.sh of docs/other-ci.md: one image through three databases, and everything that stops it on the way."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.harness import Completed, query, start, table_revision, wait_until
from tests.image.engine import docker
from tests.pipeline.other_ci.conftest import Keys
from tests.pipeline.other_ci.shop import ENVIRONMENTS, TOOLS, Shop, block
from tests.pipeline.outage import front_of

pytestmark = pytest.mark.pipeline

NEEDS_EMPTY_TABLE = 'op.execute("ALTER TABLE t_a1 ADD COLUMN placed_at date NOT NULL")'

SLOW = 'op.execute("SELECT pg_sleep(600)")'
ASLEEP = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"


@pytest.fixture
def line(shop: Shop, tmp_path: Path) -> Callable[..., Completed]:
    """Go all the way, as the page says; the credentials are in files of the CI, of dev none for the plan."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name, url in shop.urls.items():
        if name != "dev-plan":
            (secrets / name).write_text(url)

    def run(check: bool = True, folder: str = str(secrets)) -> Completed:
        return shop.run("sh", "-euc", block("line"), env={"SECRETS": folder}, check=check)

    return run


def schema(url: str) -> list[tuple[object, ...]]:
    """The columns and indexes of the schema public, from the catalogs."""
    return query(
        url,
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns "
        "WHERE table_schema = 'public' UNION ALL SELECT tablename, indexname, indexdef, '', '' FROM pg_indexes "
        "WHERE schemaname = 'public' ORDER BY 1, 2",
    )


def refused(done: Completed, cause: str) -> bool:
    """Whether it stopped for that cause, with the exit code of a configuration and a next step."""
    return done.returncode == 2 and cause in done.stderr and "\nnext      " in done.stderr


def push_image(shop: Shop, *tags: str, commit: str = "0" * 40) -> str:
    """Another image under these tags, pushed by someone with the registry's password and no key; its reference."""
    shop.write("Dockerfile", f"FROM migrator:runner\nLABEL tampered={commit}\n")
    tag = f"{shop.name}:tampered"
    shop.run("docker", "build", "--quiet", "--tag", tag, ".")
    shop.run("docker", "push", "--quiet", tag, env={"DOCKER_CONFIG": str(shop.home / "push")})
    digest = shop.crane("digest", tag).strip()
    for name in tags:
        shop.crane("tag", f"{shop.name}@{digest}", name)
    return f"{shop.name}@{digest}"


def test_one_image_goes_through_all_environments_by_its_digest(
    shop: Shop, line: Callable[..., Completed]
) -> None:
    nowhere = line(check=False, folder="")
    assert nowhere.returncode != 0
    assert "SECRETS: the folder of the credentials" in nowhere.stderr
    assert shop.tagged("dev") == ""
    done = line()
    assert "promote   dev: MIGRATOR_PLAN_DATABASE_URL is not set here" in done.stderr
    assert "promote   test: MIGRATOR_PLAN" not in done.stderr
    image = shop.tagged("prod")
    assert image
    assert {shop.tagged(environment) for environment in ENVIRONMENTS} == {image}
    assert shop.at == {environment: ["b2"] for environment in ENVIRONMENTS}, done.output
    schemas = [schema(database.url) for database in shop.databases.values()]
    assert schemas[0] == schemas[1] == schemas[2] != []
    assert "CREATE TABLE t_a1" in done.stdout  # what was pending, before it was applied
    started = [
        words for words in map(str.split, shop.arguments.read_text().splitlines()) if words[1] == "run"
    ]
    assert started
    assert all(image in words for words in started)
    again = line()
    assert "is not built again" in again.stderr
    assert again.stderr.count("nothing to do: at b2") == 3
    assert shop.tagged("prod") == image


def test_what_fails_in_test_leaves_prod_as_it_was_and_a_rerun_goes_on(
    shop: Shop, line: Callable[..., Completed]
) -> None:
    line()
    first = shop.tagged("prod")
    shop.databases["test"].query("INSERT INTO t_a1 VALUES (1)")
    shop.project.add_revision("c3", "b2", NEEDS_EMPTY_TABLE)
    shop.commit()
    stopped = line(check=False)
    assert stopped.returncode == 20, stopped.output
    second = shop.tagged("dev")
    assert second != first
    assert (shop.tagged("test"), shop.tagged("prod")) == (first, first)
    assert shop.at == {"dev": ["c3"], "test": ["b2"], "prod": ["b2"]}
    assert refused(shop.promote("verify", "prod", second, check=False), "test is at ")
    assert refused(shop.migrate("prod", second, check=False), "test is at ")
    assert shop.databases["prod"].revisions == ["b2"]
    shop.databases["test"].query("DELETE FROM t_a1")
    continued = line()
    assert "is not built again" in continued.stderr
    assert {shop.tagged(environment) for environment in ENVIRONMENTS} == {second}
    assert shop.at == {environment: ["c3"] for environment in ENVIRONMENTS}


def test_a_plan_shows_what_is_pending_to_a_user_who_may_only_read(shop: Shop) -> None:
    image = shop.build()
    reader = {"MIGRATOR_PLAN_DATABASE_URL": shop.urls["dev-plan"]}
    plan = shop.promote("plan", "dev", image, env=reader)
    assert "2 pending: a1, b2" in plan.stdout
    assert "CREATE TABLE t_a1" in plan.stdout
    assert shop.databases["dev"].tables == []
    shop.migrate("dev", image)
    plan = shop.promote("plan", "dev", image, env=reader)
    assert "up to date" in plan.stdout
    assert "BEGIN" not in plan.stdout
    shop.project.add_revision("c3", "b2", NEEDS_EMPTY_TABLE)
    shop.commit()
    plan = shop.promote("plan", "dev", shop.build(), env=reader)
    assert "placed_at date" in plan.stdout
    assert "t_b2" not in plan.stdout


def test_a_plan_without_a_url_says_what_to_set_and_the_line_goes_on(shop: Shop) -> None:
    plan = shop.promote("plan", "dev", shop.build())
    assert "MIGRATOR_PLAN_DATABASE_URL is not set here" in plan.stderr


def test_a_plan_goes_on_where_a_revision_asks_the_database(shop: Shop) -> None:
    shop.project.add_revision("c3", "b2", "op.get_bind().exec_driver_sql('SELECT 1').scalar()")
    shop.commit()
    plan = shop.promote(
        "plan", "dev", shop.build(), env={"MIGRATOR_PLAN_DATABASE_URL": shop.urls["dev-plan"]}
    )
    assert "CREATE TABLE t_a1" in plan.stdout
    assert "no SQL from there on" in plan.stderr


def test_a_tampered_image_is_stopped_before_any_credential(shop: Shop) -> None:
    image = shop.build()
    for environment in ("dev", "test"):
        shop.migrate(environment, image)
    tampered = push_image(shop, "dev", "test")
    assert refused(shop.promote("verify", "prod", tampered, check=False), "no signature of this key")
    assert refused(
        shop.promote("verify", "prod", image, check=False), f"test is at {tampered.partition('@')[2]}"
    )
    assert refused(shop.migrate("prod", tampered, check=False), "no signature of this key")
    assert shop.databases["prod"].revisions == []


def test_the_signature_of_another_key_is_none(shop: Shop, new_locked_keys: Callable[[], object]) -> None:
    image = shop.build()
    other = {"COSIGN_PUBLIC_KEY": new_locked_keys().public}
    done = shop.promote("verify", "dev", image, env=other, check=False)
    assert refused(done, "no signature of this key"), done.output


def test_a_signature_for_another_name_is_none(shop: Shop) -> None:
    """The same key signs for every application of a team."""
    image = push_image(shop)
    config = str(shop.home / "signing-config.json")
    shop.run("cosign", "signing-config", "create", "--out", config)
    options = ("--yes", "--key", "env://COSIGN_PRIVATE_KEY", "--signing-config", config)
    pushing = {"DOCKER_CONFIG": str(shop.home / "push")}
    named = ("--annotations", f"image={shop.name}-of-another-team")
    shop.run("cosign", "sign", *options, *named, image, env=pushing)
    done = shop.promote("verify", "dev", image, check=False)
    assert refused(done, "no signature of this key"), done.output


def test_a_registry_that_does_not_answer_is_told_as_that(shop: Shop) -> None:
    nowhere = {"NAME": "localhost:1/shop", "REGISTRY_USER": ""}
    image = f"localhost:1/shop@sha256:{'0' * 64}"
    done = shop.promote("verify", "dev", image, env=nowhere, check=False)
    assert refused(done, "the registry does not say what is signed")


def test_a_tag_that_someone_moved_is_no_record(shop: Shop) -> None:
    image = shop.build()
    shop.migrate("dev", image)
    shop.crane("tag", image, "test")
    assert refused(shop.promote("verify", "prod", image, check=False), "nobody signed that it ran in test")


def test_an_image_that_was_overtaken_or_never_ran_before_is_refused(shop: Shop) -> None:
    older = shop.build()
    assert refused(shop.promote("verify", "test", older, check=False), "no image ran in dev yet")
    shop.migrate("dev", older)
    shop.project.add(table_revision("c3", "b2"))
    shop.commit()
    newer = shop.build()
    shop.migrate("dev", newer)
    assert refused(shop.migrate("test", older, check=False), f"dev is at {newer.partition('@')[2]}")
    shop.migrate("test", newer)
    assert shop.at == {"dev": ["c3"], "test": ["c3"], "prod": []}


def test_a_database_that_is_ahead_is_told_in_the_plan_and_not_touched(shop: Shop) -> None:
    older = shop.build()
    shop.project.add(table_revision("c3", "b2"))
    shop.commit()
    shop.migrate("dev", shop.build())
    tag = shop.tagged("dev")
    url = {"MIGRATOR_PLAN_DATABASE_URL": shop.urls["dev-plan"]}
    plan = shop.promote("plan", "dev", older, env=url, check=False)
    assert plan.returncode == 23, plan.output
    assert "the database is ahead" in plan.stdout
    assert shop.migrate("dev", older, check=False).returncode == 23
    assert shop.tagged("dev") == tag


def test_a_commits_tag_with_another_image_is_built_anew_and_not_signed_as_it_is(shop: Shop) -> None:
    signed_before = shop.build()
    commit = shop.commit()
    shop.crane("tag", signed_before, f"git-{commit}")
    shop.project.add(table_revision("c3", "b2"))  # so that the new image is another one
    image = shop.build()
    assert image != signed_before
    tampered = push_image(shop, f"git-{commit}")
    shop.git("checkout", "--quiet", "--", "Dockerfile")
    assert shop.build() == image != tampered


def test_a_registry_that_refuses_is_no_reason_to_build(shop: Shop) -> None:
    done = shop.promote("build", env={"REGISTRY_PASSWORD": "wrong"}, check=False)
    assert refused(done, "does not take REGISTRY_USER with REGISTRY_PASSWORD")
    assert "docker build" not in shop.arguments.read_text()


def test_a_login_is_of_one_run_alone(shop: Shop) -> None:
    before = sorted(shop.home.rglob("config.json"))
    shop.build()
    assert sorted(shop.home.rglob("config.json")) == before


@pytest.mark.parametrize("command", ["build", "migrate"])
def test_a_key_that_cannot_sign_is_noticed_before_anything_runs(
    shop: Shop, new_locked_keys: Callable[[], Keys], command: str
) -> None:
    args = ("build",) if command == "build" else ("migrate", "dev", shop.build())
    shop.arguments.write_text("")
    url = {"MIGRATOR_DATABASE_URL": shop.urls["dev"]}
    other = new_locked_keys()
    for wrong, cause in (
        ({"COSIGN_PASSWORD": "wrong"}, "COSIGN_PRIVATE_KEY cannot be opened with COSIGN_PASSWORD"),
        ({"COSIGN_PASSWORD": ""}, "COSIGN_PRIVATE_KEY cannot be opened with COSIGN_PASSWORD"),
        ({"COSIGN_PRIVATE_KEY": "no key"}, "invalid pem block"),
        (
            {"COSIGN_PRIVATE_KEY": other.private, "COSIGN_PASSWORD": other.password},
            "COSIGN_PRIVATE_KEY is not the other half of COSIGN_PUBLIC_KEY",
        ),
    ):
        done = shop.promote(*args, env={**url, **wrong}, check=False)
        assert refused(done, cause), done.output
    assert "docker run" not in shop.arguments.read_text()
    assert "docker build" not in shop.arguments.read_text()
    assert (shop.at["dev"], shop.tagged("dev")) == ([], "")


def test_a_cosign_that_could_not_sign_is_noticed_before_anything_runs(shop: Shop) -> None:
    image = shop.build()
    old = '#!/bin/sh\n[ "$1" != signing-config ] || exit 1\n'
    (shop.home / "bin" / "cosign").write_text(f'{old}exec {shutil.which("cosign")} "$@"\n')
    assert refused(shop.migrate("dev", image, check=False), "this cosign is too old")
    assert (shop.at["dev"], shop.tagged("dev")) == ([], "")


def test_an_image_that_does_nothing_is_neither_signed_for_nor_tagged(shop: Shop) -> None:
    shop.write("Dockerfile", 'FROM migrator:runner\nENTRYPOINT ["true"]\n')
    shop.commit()
    done = shop.migrate("dev", shop.build(), check=False)
    assert refused(done, "does not say where the database of dev stands"), done.output
    assert shop.tagged("dev") == ""


def test_a_registry_that_tells_of_no_signature_is_not_taken_for_one_that_has_none(shop: Shop) -> None:
    host = shop.name.partition("/")[0]
    with front_of(host) as front:
        shop.name = shop.variables["NAME"] = shop.name.replace(host, front.host)
        image = shop.build()
        front.away = True
        for args in (("build",), ("verify", "dev", image)):
            done = shop.promote(*args, check=False)
            assert refused(done, "the registry does not say what is signed for"), done.output
            assert "503" in done.stderr
        front.away = False
        assert shop.build() == image


def test_a_wrong_url_for_the_plan_is_told_by_the_name_that_it_is_set_by(shop: Shop) -> None:
    image = shop.build()
    for url, code in (("nonsense", 2), (shop.urls["dev-plan"].replace("@", "wrong@"), 24)):
        given = {"MIGRATOR_PLAN_DATABASE_URL": url}
        plan = shop.promote("plan", "dev", image, env=given, check=False)
        assert plan.returncode == code, plan.output
        assert "MIGRATOR_PLAN_DATABASE_URL" in plan.stderr
        assert "MIGRATOR_DATABASE_URL" not in plan.output


def test_a_cancelled_script_stops_its_container_and_the_statement_is_rolled_back(shop: Shop) -> None:
    shop.project.add_revision("c3", "b2", SLOW)
    shop.commit()
    image = shop.build()
    url = {"MIGRATOR_DATABASE_URL": shop.urls["dev"]}
    script = start(
        "./promote.sh", "migrate", "dev", image, env={**shop.variables, **url}, cwd=shop.project.path
    )
    dev = shop.databases["dev"]
    wait_until(lambda: dev.query(ASLEEP), "the revision sleeps", timeout=60)
    script.send_signal(signal.SIGTERM)  # to it alone
    ended = script.wait(60)
    (container,) = re.findall("in the container (migrator-dev-.*)", ended.stderr)
    assert ended.returncode == 143, ended.output
    assert "rolled back: c3" in ended.output
    assert (dev.revisions, dev.query(ASLEEP)) == (["b2"], [])
    assert container not in docker("ps", "--all", "--format", "{{.Names}}").stdout.splitlines()


@pytest.mark.parametrize(
    ("args", "variables", "cause"),
    [
        ((), {}, "no command: ''"),
        (("upgrade", "dev", "IMAGE"), {}, "no command: 'upgrade'"),
        (("verify", "production", "IMAGE"), {}, "there is no environment 'production'"),
        (("verify", "dev", "NAME:latest"), {}, "has no digest"),
        (("verify", "dev", "NAME@sha256:12"), {}, "has no digest"),
        (("verify", "dev"), {}, "'' has no digest"),
        (("verify", "dev", "elsewhere.example.com/IMAGE"), {}, "is not "),
        (("verify", "dev", "IMAGE"), {"NAME": ""}, "NAME is not set"),
        (("verify", "dev", "IMAGE"), {"ENVIRONMENTS": ""}, "ENVIRONMENTS is not set"),
        (("verify", "dev", "IMAGE"), {"COSIGN_PUBLIC_KEY": ""}, "COSIGN_PUBLIC_KEY is not set"),
        (("build",), {"COSIGN_PRIVATE_KEY": ""}, "COSIGN_PRIVATE_KEY is not set"),
        (("migrate", "dev", "IMAGE"), {}, "MIGRATOR_DATABASE_URL is not set"),
    ],
)
def test_bad_input_says_what_to_set(
    shop: Shop, args: tuple[str, ...], variables: Mapping[str, str], cause: str
) -> None:
    image = f"{shop.name}@sha256:{'0' * 64}"
    given = [word.replace("IMAGE", image).replace("NAME", shop.name) for word in args]
    assert refused(shop.promote(*given, env=variables, check=False), cause)
    assert "docker run" not in shop.arguments.read_text()


@pytest.mark.parametrize("missing", TOOLS)
def test_a_missing_tool_is_named(shop: Shop, tmp_path: Path, missing: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in TOOLS:
        if tool != missing:
            (tools / tool).symlink_to(shop.home / "bin" / tool)
    for tool in ("mktemp", "printenv", "rm", "sh"):
        (tools / tool).symlink_to(f"/usr/bin/{tool}")
    assert refused(shop.promote("build", env={"PATH": str(tools)}, check=False), f"{missing} is not on PATH")


def test_the_script_is_clean(shop: Shop) -> None:
    shop.run("shellcheck", "promote.sh")
