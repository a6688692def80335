"""Mode `helm`: the migrations are a hook, before everything else of a release."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest

from migrator import ExitCode
from tests.cluster.helm import PATIENT, SECRET, Release
from tests.cluster.kube import Namespace
from tests.cluster.postgres import Postgres
from tests.cluster.shop import journal, orders_in_use, wait_until_altering
from tests.harness import Database
from tests.image.engine import run

pytestmark = pytest.mark.cluster

ON_ROLLBACK = {"helm": {"onRollback": True}}

PHASES = '{{.metadata.name}} {{.status.phase}}{{"\\n"}}'


def test_an_install_brings_an_empty_database_to_head(any_release: Release, database: Database) -> None:
    any_release.upgrade("v1")
    assert (database.revisions, database.tables) == (["a1"], ["journal", "orders"])
    ended = any_release.namespace.job_ended(any_release.job)
    assert (ended.outcome, ended.exit_codes) == ("Complete", [0])
    assert ended.pods[0].message["at"] == ["a1"]


def test_an_upgrade_with_a_new_image_applies_what_is_new(release: Release, database: Database) -> None:
    release.upgrade("v1")
    release.upgrade("v2")
    assert (database.revisions, journal(database)) == (["b2"], ["a1", "b2"])
    log = release.namespace.kubectl("logs", f"job/{release.job}").stdout
    assert "1 pending: a1 → b2" in log


@pytest.mark.parametrize("mode", ["helm", "job"])
def test_the_commands_that_the_notes_name_show_the_log_and_the_outcome(release: Release, mode: str) -> None:
    notes = release.upgrade("v1", {"mode": mode}).stdout
    (job,) = release.namespace.names("jobs")
    assert release.namespace.job_ended(job).outcome == "Complete"
    commands = [line.strip() for line in notes.splitlines() if line.startswith("  kubectl ")]
    told = [run(*shlex.split(command)).stdout for command in commands]
    assert "verified  at a1" in told[0]
    assert mode == "job" or '"message":"1 revision applied"' in told[1]


def test_a_failing_migration_fails_helm_at_once_and_leaves_its_log(
    any_release: Release, at_v1: Database
) -> None:
    failed = any_release.upgrade("broken", check=False)
    assert failed.returncode != 0, failed.output
    ended = any_release.namespace.job_ended(any_release.job)
    assert (ended.outcome, ended.reason) == ("Failed", "PodFailurePolicy")
    assert ended.exit_codes == [ExitCode.MIGRATION_FAILED] == [20]
    message = ended.pods[0].message
    assert (message["exit_code"], message["revision"], message["sqlstate"]) == (20, "c3", "23502")
    log = any_release.namespace.kubectl("logs", f"job/{any_release.job}").stdout
    assert "rolled back: c3" in log
    assert "ALTER TABLE orders ADD COLUMN note text NOT NULL" in failed.stdout + failed.stderr
    assert any_release.status == "failed"
    assert (at_v1.revisions, journal(at_v1)) == (["b2"], ["a1", "b2"])


def test_after_a_failed_upgrade_a_mended_image_goes_on(release: Release, at_v1: Database) -> None:
    assert release.upgrade("broken", check=False).returncode != 0
    release.upgrade("v2")
    assert (release.status, at_v1.revisions) == ("deployed", ["b2"])


def test_a_wrong_password_is_not_tried_again(
    release: Release, postgres: Postgres, database: Database
) -> None:
    wrong = "not-the-password"
    release.namespace.secret("wrong", url=postgres.inside(database, password=wrong))
    failed = release.upgrade("v1", {"database": {"existingSecret": "wrong"}}, check=False)
    assert failed.returncode != 0, failed.output
    ended = release.namespace.job_ended(release.job)
    assert (ended.outcome, ended.reason) == ("Failed", "PodFailurePolicy")
    assert ended.exit_codes == [ExitCode.REFUSED] == [24]
    assert wrong not in failed.output + release.namespace.described()
    assert not database.tables


def test_a_secret_that_is_not_there_is_told_before_anything_runs(release: Release) -> None:
    refused = release.upgrade("v1", {"database": {"existingSecret": "later"}}, check=False)
    assert f"there is no Secret later in the namespace {release.namespace.name}" in refused.stderr
    assert not release.namespace.names("jobs")


def test_a_key_that_the_secret_lacks_is_told_before_anything_runs(any_release: Release) -> None:
    refused = any_release.upgrade("v1", {"database": {"secretKey": "uri"}}, check=False)
    assert (
        f"the Secret {SECRET} has no key uri, which database.secretKey names; it has: url." in refused.stderr
    )
    assert not any_release.namespace.names("jobs")


def test_a_ca_that_is_not_there_is_told_before_anything_runs(any_release: Release) -> None:
    tls = {"database": {"tls": {"existingConfigMap": "ca"}}}
    refused = any_release.upgrade("v1", tls, check=False)
    assert f"there is no ConfigMap ca in the namespace {any_release.namespace.name}" in refused.stderr
    any_release.namespace.kubectl("create", "configmap", "ca", "--from-literal=root.crt=x")
    refused = any_release.upgrade("v1", tls, check=False)
    assert (
        "the ConfigMap ca has no key ca.crt, which database.tls.caKey names; it has: root.crt."
        in refused.stderr
    )
    assert not any_release.namespace.names("jobs")


def test_an_older_image_is_refused_at_once_and_describe_says_why(
    release: Release, database: Database
) -> None:
    release.upgrade("v2")
    assert release.upgrade("v1", check=False).returncode != 0
    ended = release.namespace.job_ended(release.job)
    assert (ended.reason, ended.exit_codes) == ("PodFailurePolicy", [ExitCode.HISTORY]), ended
    described = release.namespace.kubectl("describe", "pod", ended.pods[0].name).stdout
    assert "Exit Code:    23" in described
    assert '"message":"' + ended.pods[0].message["message"] in described
    assert "b2" in ended.pods[0].message["message"]
    assert database.revisions == ["b2"]


def test_helm_rollback_does_not_undo_migrations(release: Release, database: Database) -> None:
    release.upgrade("v1")
    release.upgrade("v2")
    release.run("rollback", release.name, "1")
    assert release.status == "deployed"
    assert (database.revisions, journal(database)) == (["b2"], ["a1", "b2"])
    notes = release.run("get", "notes", release.name).stdout
    assert "runs no migrations: the Job above stays that of the last install or upgrade" in notes
    job = release.namespace.get("job", release.job)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":v2")


def test_helm_rollback_is_refused_before_any_pod_changes_where_the_hook_runs_then(
    release: Release, database: Database
) -> None:
    release.upgrade("v1", ON_ROLLBACK)
    release.upgrade("v2", ON_ROLLBACK)
    refused = release.run("rollback", release.name, "1", check=False)
    assert refused.returncode != 0, refused.output
    assert release.namespace.job_ended(release.job).exit_codes == [ExitCode.HISTORY]
    assert database.revisions == ["b2"]


def test_uninstall_leaves_the_database_and_the_log(release: Release, database: Database) -> None:
    release.upgrade("v1")
    release.run("uninstall", release.name)
    assert (database.revisions, database.tables) == (["a1"], ["journal", "orders"])
    assert "verified" in release.namespace.kubectl("logs", f"job/{release.job}").stdout
    release.upgrade("v1")
    assert "nothing to do" in release.namespace.kubectl("logs", f"job/{release.job}").stdout


def test_helm_test_passes_at_head_and_fails_behind(any_release: Release, at_v1: Database) -> None:
    any_release.upgrade("v1")
    any_release.run("test", any_release.name)
    at_v1.query("UPDATE alembic_version SET version_num = 'a0'")
    failed = any_release.run("test", any_release.name, check=False)
    assert failed.returncode != 0, failed.output


def test_two_upgrades_of_a_release_at_the_same_moment_apply_once(release: Release, at_v1: Database) -> None:
    release.upgrade("v1")
    both = [release.start_upgrade("v2") for _ in range(2)]
    codes = [one.wait(300).returncode for one in both]
    assert 0 in codes, [one.output for one in both]
    assert (at_v1.revisions, journal(at_v1)) == (["b2"], ["a1", "b2"])


def test_two_releases_with_one_database_at_the_same_moment_apply_once(
    new_release: Callable[..., Release], at_v1: Database, namespace: Namespace
) -> None:
    releases = [new_release("blue"), new_release("green")]
    with orders_in_use(at_v1):
        both = [one.start_upgrade("v2", PATIENT) for one in releases]
        wait_until_altering(at_v1)
        for one in releases:
            namespace.await_line("pods", PHASES, f"^{one.job}-.* Running$")
    assert [one.wait(300).returncode for one in both] == [0, 0], [one.output for one in both]
    assert (at_v1.revisions, journal(at_v1)) == (["b2"], ["a1", "b2"])


def test_the_database_is_named_by_a_file_where_variables_may_hold_no_secret(
    release: Release, database: Database
) -> None:
    release.upgrade("v1", {"database": {"mountAs": "file"}})
    pod = release.namespace.job_ended(release.job).pods[0]
    assert SECRET not in str(pod.object["spec"]["containers"][0]["env"])
    assert database.revisions == ["a1"]
