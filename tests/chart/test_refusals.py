"""Values that the chart refuses, each with a message that names the value and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.chart.rendering import Helm, usual

pytestmark = pytest.mark.chart

PROXY = {"name": "proxy", "image": "proxy:1"}

REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    # What is missing
    "no image": ({"image": {"repository": ""}}, r"image\.repository is needed"),
    "neither digest nor tag": ({"image": {"digest": ""}}, r"image\.digest is needed"),
    "no secret": ({"database": {"existingSecret": ""}}, r"database\.existingSecret is needed.*mountAs=none"),
    "no deadline": ({"settings": {"deadline": None}}, r"settings\.deadline is needed"),
    # Images
    "a tag alone": (
        {"image": {"digest": "", "tag": "1.4.2"}},
        r"image\.tag 1\.4\.2 without image\.digest.*image\.allowTag=true",
    ),
    "latest": ({"image": {"digest": "", "tag": "latest", "allowTag": True}}, r"/image/tag"),
    "a digest that is none": ({"image": {"digest": "sha256:abc"}}, r"/image/digest.*pattern"),
    "another digest": ({"image": {"digest": "md5:" + "0" * 64}}, r"/image/digest.*pattern"),
    "a tag in the repository": (
        {"image": {"repository": "registry.example.com/shop:1.4"}},
        r"/image/repository",
    ),
    "a digest in the repository": ({"image": {"repository": "shop@sha256:00"}}, r"/image/repository"),
    # Limits that do not nest
    "a run longer than the Job": (
        {"settings": {"deadline": 260}},
        r"settings\.deadline \(260\) \+ terminationGracePeriodSeconds \(30\).*activeDeadlineSeconds \(260\)",
    ),
    "a grace that does not fit": (
        {"terminationGracePeriodSeconds": 51},
        r"settings\.deadline \(210\) \+ terminationGracePeriodSeconds \(51\).*activeDeadlineSeconds \(260\)",
    ),
    "a Job longer than helm's timeout": (
        {"activeDeadlineSeconds": 271},
        r"activeDeadlineSeconds \(271\) \+ terminationGracePeriodSeconds \(30\).*helm\.timeoutSeconds \(300\)",
    ),
    "a deadline with a unit": ({"settings": {"deadline": "3m"}}, r"/settings/deadline.*integer"),
    "too little grace": ({"terminationGracePeriodSeconds": 5}, r"/terminationGracePeriodSeconds"),
    "removed at once": ({"ttlSecondsAfterFinished": 0}, r"/ttlSecondsAfterFinished"),
    "removed too soon": ({"ttlSecondsAfterFinished": 59}, r"/ttlSecondsAfterFinished"),
    "tried for ever": ({"backoffLimit": 100}, r"/backoffLimit"),
    # Hooks
    "no mode": ({"mode": None}, r"mode is needed"),
    "an unknown mode": ({"mode": "hook"}, r"/mode"),
    "hooks of Helm by hand": ({"jobAnnotations": {"helm.sh/hook": "post-install"}}, r"/jobAnnotations"),
    "hooks of Argo CD beside Helm's": (
        {"commonAnnotations": {"argocd.argoproj.io/hook": "PreSync"}},
        r"/commonAnnotations",
    ),
    "another delete policy": (
        {"jobAnnotations": {"helm.sh/hook-delete-policy": "hook-failed"}},
        r"/jobAnnotations",
    ),
    # Databases and secrets
    "a URL as a value": ({"database": {"url": "postgresql://shop:secret@db/shop"}}, r"/database.*url"),
    "a URL among the settings": (
        {"settings": {"database-url": "postgresql://db/shop"}},
        r"/settings.*database-url",
    ),
    "a bundled database": ({"postgresql": {"enabled": True}}, r"postgresql"),
    "a password in plain text": (
        {"extraEnv": [{"name": "DB_PASSWORD", "value": "secret"}]},
        r"extraEnv: DB_PASSWORD in plain text.*secretKeyRef",
    ),
    "a URL in plain text": (
        {"extraEnv": [{"name": "TEST_DATABASE_URL", "value": "postgresql://shop:secret@db/shop"}]},
        r"extraEnv: TEST_DATABASE_URL in plain text",
    ),
    "a variable twice": (
        {"extraEnv": [{"name": "MIGRATOR_DEADLINE", "value": "1h"}]},
        r"MIGRATOR_DEADLINE is set twice",
    ),
    "two places for the CA": (
        {"database": {"tls": {"existingSecret": "a", "existingConfigMap": "b"}}},
        r"database\.tls\.existingSecret and database\.tls\.existingConfigMap exclude",
    ),
    "a certificate without its key": (
        {"database": {"tls": {"existingSecret": "a", "certKey": "tls.crt"}}},
        r"database\.tls\.certKey and database\.tls\.keyKey belong together",
    ),
    "TLS that checks nothing": ({"database": {"tls": {"sslMode": "disable"}}}, r"/database/tls/sslMode"),
    # Containers
    "a sidecar that ends": ({"sidecars": [{**PROXY, "restartPolicy": "Never"}]}, r"/sidecars/0"),
    "a sidecar in the name of the Job's": ({"sidecars": [{**PROXY, "name": "migrate"}]}, r"/sidecars/0/name"),
    "a sidecar without an image": ({"sidecars": [{"name": "proxy"}]}, r"/sidecars/0.*image"),
    # Typing mistakes and wrong types
    "a typo at the top": ({"backofLimit": 1}, r"backofLimit"),
    "a typo below": ({"image": {"repositry": "shop"}}, r"/image.*repositry"),
    "a typo among the settings": ({"settings": {"lock_timeout": "1s"}}, r"/settings.*lock_timeout"),
    "a setting that is no duration": ({"settings": {"lock-timeout": "soon"}}, r"/settings/lock-timeout"),
    "a setting that is no choice": ({"settings": {"pooler": "transaction"}}, r"/settings/pooler"),
    "text for a number": ({"backoffLimit": "2"}, r"/backoffLimit.*integer"),
    "text for a yes": ({"enabled": "yes"}, r"/enabled.*boolean"),
    "a number as a variable's value": ({"extraEnv": [{"name": "A", "value": 1}]}, r"/extraEnv/0/value"),
    "a variable without a name": ({"extraEnv": [{"value": "1"}]}, r"/extraEnv/0.*name"),
    "a map of variables": ({"extraEnv": {"A": "1"}}, r"/extraEnv.*array"),
    "one word for arguments": ({"args": "upgrade"}, r"/args.*array"),
    "no argument": ({"args": []}, r"/args"),
    "a port out of range": ({"networkPolicy": {"databasePorts": [70000]}}, r"/networkPolicy/databasePorts/0"),
    "a name with capitals": ({"fullnameOverride": "Shop"}, r"/fullnameOverride"),
}


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_the_chart_refuses(helm: Helm, values: Mapping[str, Any], message: str) -> None:
    refused = helm.template(usual(values))
    assert refused.returncode != 0, "it was rendered"
    assert re.search(message, refused.stderr.replace("\n", " ")), refused.stderr


def test_a_refusal_shows_no_password(helm: Helm) -> None:
    refused = helm.template(usual({"extraEnv": [{"name": "DB_PASSWORD", "value": "hunter22"}]}))
    assert "hunter22" not in refused.stderr + refused.stdout


ACCEPTED: Mapping[str, Mapping[str, Any]] = {
    "limits that fit exactly": {"settings": {"deadline": 230}, "activeDeadlineSeconds": 260},
    "a Job as long as it likes where no helm waits": {"mode": "argocd", "activeDeadlineSeconds": 86400},
    "a minute until it is removed": {"ttlSecondsAfterFinished": 60},
    "a registry with a port": {"image": {"repository": "localhost:5000/team/shop_app"}},
    "a duration without a unit": {"settings": {"lock-timeout": 0.5}},
    "a duration of several units": {"settings": {"wait-timeout": "1m 30s"}},
    "values of a parent": {"global": {"anything": {"at": "all"}}},
}


@pytest.mark.parametrize("values", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_the_chart_takes(helm: Helm, values: Mapping[str, Any]) -> None:
    assert helm.template(usual(values)).job
