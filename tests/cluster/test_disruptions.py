"""What happens to a pod in the middle of a migration, and what its Job does about it."""

from __future__ import annotations

import json

import pytest

from migrator import ExitCode
from tests.cluster.helm import PATIENT, Release
from tests.cluster.shop import journal, orders_in_use, wait_until_altering
from tests.harness import Database

pytestmark = pytest.mark.cluster

NO_TRY_MORE = {"backoffLimit": 0}
IMPATIENT = {"settings": {"lock-timeout": "300ms", "lock-retry-timeout": 0}}
SHORT = {
    "settings": {"lock-timeout": "10m", "deadline": 8},
    "terminationGracePeriodSeconds": 15,
    "activeDeadlineSeconds": 25,
    "backoffLimit": 6,
    "helm": {"timeoutSeconds": 300},
}


def test_an_evicted_pod_is_replaced_and_counts_as_no_try(release: Release, at_v1: Database) -> None:
    with orders_in_use(at_v1):
        helm = release.start_upgrade("v2", PATIENT, NO_TRY_MORE)
        wait_until_altering(at_v1)
        ends = release.namespace.watch_ends(release.job)
        (pod,) = release.namespace.pods(release.job)
        release.namespace.evict(pod.name)
        ends.wait_for_line("^143 ", timeout=120)
    assert helm.wait(300).returncode == 0, helm.output
    ended = release.namespace.job_ended(release.job)
    assert (ended.outcome, ended.exit_codes[-1]) == ("Complete", 0)
    assert ended.pods[-1].name != pod.name
    assert (at_v1.revisions, journal(at_v1)) == (["b2"], ["a1", "b2"])


def test_a_deleted_pod_rolls_back_within_its_grace_and_the_next_ends_at_head(
    release: Release, at_v1: Database
) -> None:
    with orders_in_use(at_v1):
        helm = release.start_upgrade("v2", PATIENT)
        wait_until_altering(at_v1)
        ends = release.namespace.watch_ends(release.job)
        (pod,) = release.namespace.pods(release.job)
        release.namespace.kubectl("delete", "pod", pod.name)
        told = ends.wait_for_line("^([0-9]+) (.*)", timeout=120)
        assert int(told[1]) == ExitCode.TERMINATED == 143  # killed, it would be 137
        message = json.loads(told[2])
        assert (message["at"], message["steps"][0]["outcome"]) == (["a1"], "rolled back"), message
        assert (at_v1.revisions, at_v1.tables) == (["a1"], ["journal", "orders"])
    assert helm.wait(300).returncode == 0, helm.output
    ended = release.namespace.job_ended(release.job)
    assert (ended.outcome, ended.exit_codes[-1]) == ("Complete", 0)
    assert (at_v1.revisions, journal(at_v1)) == (["b2"], ["a1", "b2"])


def test_a_locked_table_is_tried_again_by_the_job_until_it_is_free(release: Release, at_v1: Database) -> None:
    with orders_in_use(at_v1):
        helm = release.start_upgrade("v2", IMPATIENT)
        ends = release.namespace.watch_ends(release.job)
        ends.wait_for_line(f"^{ExitCode.LOCK_TIMEOUT:d} ", timeout=120)
        assert (at_v1.revisions, at_v1.tables) == (["a1"], ["journal", "orders"])
    assert helm.wait(300).returncode == 0, helm.output
    ended = release.namespace.job_ended(release.job)
    assert (ended.outcome, ended.exit_codes) == ("Complete", [12, 0])
    assert (at_v1.revisions, journal(at_v1)) == (["b2"], ["a1", "b2"])


def test_a_stuck_run_ends_by_its_own_deadline_and_the_job_by_its_own(
    release: Release, at_v1: Database
) -> None:
    with orders_in_use(at_v1):
        helm = release.start_upgrade("v2", SHORT)
        ended = release.namespace.job_ended(release.job)
        assert helm.wait(300).returncode != 0, helm.output
        assert (ended.outcome, ended.reason) == ("Failed", "DeadlineExceeded")
        assert ended.exit_codes[0] == ExitCode.DEADLINE == 14
        message = ended.pods[0].message
        assert (message["steps"][0]["revision"], message["at"]) == ("b2", ["a1"])
        assert (at_v1.revisions, at_v1.tables) == (["a1"], ["journal", "orders"])
    assert release.status == "failed"
