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
    # Images
    "a tag alone": (
        {"image": {"digest": "", "tag": "1.4.2"}},
        r"image\.tag 1\.4\.2 without image\.digest.*image\.allowTag=true",
    ),
    "latest": (
        {"image": {"digest": "", "tag": "latest", "allowTag": True}},
        r"image\.tag latest.*write the digest .* into image\.digest",
    ),
    "latest beside a digest": ({"image": {"tag": "latest"}}, r"image\.tag latest"),
    "a digest that is none": ({"image": {"digest": "sha256:abc"}}, r"/image/digest.*pattern"),
    "another digest": ({"image": {"digest": "md5:" + "0" * 64}}, r"/image/digest.*pattern"),
    "a tag in the repository": (
        {"image": {"repository": "registry.example.com/shop:1.4"}},
        r"image\.repository \S+ has a tag or a digest: write the name alone, the digest into image\.digest",
    ),
    "a digest in the repository": (
        {"image": {"repository": "registry.example.com:5000/shop@sha256:00"}},
        r"image\.repository \S+ has a tag or a digest: write the name alone, the digest into image\.digest",
    ),
    "a registry's credentials in the repository": (
        {"image": {"repository": "robot:secret@registry.example.com:5000/shop"}},
        r"image\.repository has credentials in it \(\*\*\*@registry\.example\.com:5000/shop\).*imagePullSecrets",
    ),
    "a repository that is an address": (
        {"image": {"repository": "https://registry.example.com/shop"}},
        r"image\.repository \S+ is no name of an image: write it like registry\.example\.com/team/shop",
    ),
    "a repository in capitals": ({"image": {"repository": "Shop"}}, r"image\.repository Shop is no name"),
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
    "a run of minutes longer than the Job": (
        {"settings": {"deadline": "3m 50.1s"}},
        r"settings\.deadline \(3m 50\.1s\) \+ terminationGracePeriodSeconds \(30\).* \(260\)",
    ),
    "a deadline that is no duration": (
        {"settings": {"deadline": "1.2.3"}},
        r'settings\.deadline: "1\.2\.3" is not a duration\. Write seconds \(210\) or numbers with units',
    ),
    "no time at all": ({"settings": {"deadline": "0s"}}, r"settings\.deadline must be more than 0"),
    "too little grace": ({"terminationGracePeriodSeconds": 5}, r"/terminationGracePeriodSeconds"),
    "removed at once": ({"ttlSecondsAfterFinished": 0}, r"/ttlSecondsAfterFinished"),
    "removed too soon": ({"ttlSecondsAfterFinished": 59}, r"/ttlSecondsAfterFinished"),
    "tried for ever": ({"backoffLimit": 100}, r"/backoffLimit"),
    # Hooks
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
    "a URL as a value": (
        {"database": {"url": "postgresql://shop:secret@db/shop"}},
        r"database\.url is no value.*Make a Secret .*database\.existingSecret",
    ),
    "a URL as a value beside the Secret's name": (
        {"database": {"url": "postgresql://db/shop", "existingSecret": "shop"}},
        r"database\.url is no value",
    ),
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
        r"extraEnv has a URL with a password in plain text.*database\.existingSecret",
    ),
    "libpq's password in plain text": (
        {"extraEnv": [{"name": "PGPASSWORD", "value": "secret"}]},
        r"extraEnv: PGPASSWORD in plain text.*secretKeyRef",
    ),
    "a password of the waiting container": (
        {"waitForHead": {"extraEnv": [{"name": "MYSQL_PWD", "value": "secret"}]}},
        r"waitForHead\.extraEnv: MYSQL_PWD in plain text.*secretKeyRef",
    ),
    "a URL with a password in a variable of any name": (
        {"extraEnv": [{"name": "SHOP_DSN", "value": "mysql+pymysql://shop:secret@db/shop"}]},
        r"extraEnv has a URL with a password in plain text",
    ),
    "a URL with a password among the arguments": (
        {"args": ["upgrade", "-x", "url=postgresql://shop:secret@db/shop"]},
        r"args has a URL with a password in plain text.*database\.existingSecret",
    ),
    "a URL with a password in a setting": (
        {"settings": {"x": "url=postgresql://shop:se/cr%40t@db/shop"}},
        r"settings has a URL with a password in plain text",
    ),
    "a URL with a password as its parameter": (
        {"extraEnv": [{"name": "DSN", "value": "postgresql://db/shop?user=shop&password=secret"}]},
        r"extraEnv has a URL with a password in plain text",
    ),
    "a URL with MySQL's name of the parameter": (
        {"extraEnv": [{"name": "DSN", "value": "mysql://db/shop?user=shop&passwd=secret"}]},
        r"extraEnv has a URL with a password in plain text",
    ),
    "a URL with a number for a password": (
        {"extraEnv": [{"name": "DSN", "value": "postgresql://shop:1234@db/shop"}]},
        r"extraEnv has a URL with a password in plain text",
    ),
    "a URL with a password that has a dollar in it": (
        {"extraEnv": [{"name": "DSN", "value": "postgresql://shop:se$cret@db/shop"}]},
        r"extraEnv has a URL with a password in plain text",
    ),
    "a URL with a password after one without": (
        {
            "args": [
                "upgrade",
                "-x",
                "a=postgresql://shop@db/shop",
                "-x",
                "b=postgresql://shop:secret@db/shop",
            ]
        },
        r"args has a URL with a password in plain text",
    ),
    "a URL with a password in a sidecar": (
        {"sidecars": [{**PROXY, "env": [{"name": "UPSTREAM", "value": "https://shop:secret@db/"}]}]},
        r"sidecars has a URL with a password in plain text",
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
    "two containers of one name": (
        {"sidecars": [PROXY], "initContainers": [PROXY]},
        r"sidecars: proxy is the name of a container of initContainers already",
    ),
    "a container in the name of the one of helm test": (
        {"initContainers": [{**PROXY, "name": "status"}]},
        r"initContainers: status is the name of a container of this chart already",
    ),
    "a volume in the name of the file with the URL": (
        {"database": {"mountAs": "file"}, "extraVolumes": [{"name": "migrator-database", "emptyDir": {}}]},
        r"extraVolumes: a volume called migrator-database is there already.*Choose another name",
    ),
    "a volume in the name of the certificates": (
        {"database": {"tls": {"existingSecret": "ca"}}, "extraVolumes": [{"name": "migrator-tls"}]},
        r"extraVolumes: a volume called migrator-tls is there already",
    ),
    "a volume twice": (
        {"extraVolumes": [{"name": "tmp"}, {"name": "tmp"}]},
        r"extraVolumes: a volume called tmp is there already",
    ),
    "a mount without its volume": (
        {"extraVolumeMounts": [{"name": "files", "mountPath": "/files"}]},
        r"extraVolumeMounts: there is no volume called files\. Add it to extraVolumes, or set checkVolumeMounts=false",
    ),
    "a mount where the certificates are": (
        {
            "database": {"tls": {"existingSecret": "ca"}},
            "extraVolumes": [{"name": "files"}],
            "extraVolumeMounts": [{"name": "files", "mountPath": "/etc/migrator/tls/"}],
        },
        r"extraVolumeMounts: something is mounted at /etc/migrator/tls/ already",
    ),
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
    "a name with an underscore": (
        {"nameOverride": "shop_db"},
        r"nameOverride: shop-shop_db is no name of a Job: .*, or set fullnameOverride",
    ),
    "a full name with an underscore": ({"fullnameOverride": "shop_db"}, r"/fullnameOverride"),
    "a full name with two dots": (
        {"fullnameOverride": "shop..db"},
        r"fullnameOverride: shop\.\.db is no name",
    ),
    "a name with a space": ({"nameOverride": "shop db"}, r"/nameOverride"),
    "a name that ends with a dash": ({"nameOverride": "shop-"}, r"/nameOverride"),
    "a name that is too long": ({"nameOverride": "a" * 53}, r"/nameOverride"),
    "a number for a name": ({"nameOverride": 123}, r"/nameOverride.*want (null or string|string or null)"),
    "a number for a Secret": ({"database": {"existingSecret": 123}}, r"/existingSecret.*string"),
    "a number for a key": ({"database": {"secretKey": 1e3}}, r"/secretKey.*got number, want string"),
    "a number for a tag": ({"image": {"tag": 1.4}}, r"/image/tag.*got number, want"),
    "a number for a revision": ({"args": ["upgrade", 12e3]}, r"/args/1.*got number, want string"),
    "a number for an annotation": ({"podAnnotations": {"a/b": 1}}, r"/podAnnotations/a~1b.*got number, want"),
    "a yes for a label": ({"podLabels": {"inject": False}}, r"/podLabels/inject.*got boolean, want"),
}


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_the_chart_refuses(helm: Helm, values: Mapping[str, Any], message: str) -> None:
    refused = helm.template(usual(values))
    assert refused.returncode != 0, "it was rendered"
    assert re.search(message, refused.stderr.replace("\n", " ")), refused.stderr


@pytest.mark.parametrize(
    "values",
    [
        {"extraEnv": [{"name": "DB_PASSWORD", "value": "hunter22"}]},
        {"extraEnv": [{"name": "DSN", "value": "postgresql://shop:hunter22@db/shop"}]},
        {"settings": {"x": "url=postgresql://shop:hunter22@db/shop"}},
        {"database": {"url": "postgresql://shop:hunter22@db/shop"}},
        {"image": {"repository": "robot:hunter22@registry.example.com/shop"}},
        {"image": {"repository": "https://robot:hunter22@registry.example.com/shop:1.4"}},
        {"image": {"repository": "robot:hunter22/x@registry.example.com"}},
    ],
    ids=["variable", "url", "setting", "database", "repository", "address", "slash"],
)
def test_a_refusal_shows_no_password(helm: Helm, values: Mapping[str, Any]) -> None:
    refused = helm.template(usual(values))
    assert refused.returncode != 0
    assert "hunter22" not in refused.stderr + refused.stdout


ACCEPTED: Mapping[str, Mapping[str, Any]] = {
    "limits that fit exactly": {"settings": {"deadline": 230}, "activeDeadlineSeconds": 260},
    "a Job as long as it likes where no helm waits": {"mode": "argocd", "activeDeadlineSeconds": 86400},
    "a minute until it is removed": {"ttlSecondsAfterFinished": 60},
    "a mount of a volume that a webhook adds": {
        "checkVolumeMounts": False,
        "extraVolumeMounts": [{"name": "files", "mountPath": "/files"}],
    },
    "a name with a dot": {"nameOverride": "shop.migrations"},
    "a full name with a dot": {"fullnameOverride": "shop.migrations"},
    "a name for labels alone": {"nameOverride": "Shop_DB", "fullnameOverride": "shop"},
    "a registry with an address": {"image": {"repository": "[fd00::1]:5000/shop"}},
    "a registry with an underscore": {"image": {"repository": "my_registry:5000/shop"}},
    "a registry with a port": {"image": {"repository": "localhost:5000/team/shop_app"}},
    "a deadline with units that just fits": {"settings": {"deadline": "3m 49.9s"}},
    "a deadline shorter than a second": {"settings": {"deadline": "500ms"}},
    "a URL without a password": {
        "extraEnv": [{"name": "DATABASE_URL", "value": "postgresql://shop@db/shop"}]
    },
    "a password that Kubernetes fills in": {
        "extraEnv": [
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "password"}}},
            {"name": "PGPASSWORD", "value": "$(SECRET)"},
            {"name": "DATABASE_URL", "value": "postgresql://shop:$(SECRET)@db:5432/shop"},
        ]
    },
    "a password that a shell fills in": {
        "initContainers": [{**PROXY, "args": ["sh", "-c", "nc https://shop:${SECRET}@db/"]}]
    },
    "an image of an OCI registry with a port": {
        "initContainers": [{**PROXY, "args": ["pull", "oci://localhost:5000/files@sha256:00"]}]
    },
    "a URL of a parent's": {"global": {"url": "postgresql://shop:secret@db/shop"}},
    "the same mount path with another parent": {
        "extraVolumes": [{"name": "a"}, {"name": "b"}],
        "extraVolumeMounts": [{"name": "a", "mountPath": "/x/y"}, {"name": "b", "mountPath": "/z/y"}],
    },
    "a duration without a unit": {"settings": {"lock-timeout": 0.5}},
    "a duration of several units": {"settings": {"wait-timeout": "1m 30s"}},
    "values of a parent": {"global": {"anything": {"at": "all"}}},
}


NO_SECRETS = [
    'psql "postgresql://shop:$DB_PASSWORD@db/shop"',
    "psql postgresql://shop:${DB_PASSWORD:?}@db/shop",
    "psql postgresql://shop:$(</run/pw)@db/shop",
    "psql 'postgresql://db/shop?user=shop&password='$(cat /run/pw)",
    'psql "postgresql://db/shop?user=shop&password=$DB_PASSWORD"',
    'psql "postgresql://db/shop?user=shop&password=$(cat /run/pw)"',
    "postgresql://{{.Data.username}}:{{.Data.password}}@db:5432/shop",
    '{{ with secret "db" }}postgresql://{{ .Data.username }}:{{ .Data.password }}@db:5432/shop{{ end }}',
    "postgresql://shop:${vault:secret/data/a#PASSWORD}@db/shop",
    "postgresql://shop:$(A)$(B)@db/shop",
    "postgresql://shop:prefix-$(A)@db/shop",
    "postgresql://shop:***@db/shop",
    "postgresql://shop:<password>@db/shop",
    "postgresql://db:5432/shop?user=sa@proj.iam",
    "postgresql://[fd00::1]:5432/shop?user=sa@proj.iam",
    "postgresql://one:5432,two:5432/shop?user=sa@proj.iam",
    "postgresql://db:$PORT/shop?user=sa@proj.iam",
    "postgresql://db:5432?application_name=a@b",
    "postgresql://db/shop?application_name=a@b",
    "oci://registry.example.com:5000@sha256:aaa",
    "https://grafana:3000,oncall@example.com",
    "http://proxy:3128\nops@example.com",
    "{address: tcp://h:80,'@type':x}",
    '{"address":"tcp://h:80","@type":"x"}',
]


@pytest.mark.parametrize("text", NO_SECRETS)
def test_a_text_without_a_password_in_it_is_taken(one_helm: Helm, text: str) -> None:
    values = {
        "initContainers": [{**PROXY, "args": ["sh", "-c", text]}],
        "podAnnotations": {"example.com/text": text},
        "extraEnv": [{"name": "TEXT", "value": text}],
    }
    assert one_helm.template(usual(values)).job


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASSWORD", "vault:secret/data/shop#PASSWORD"),
        ("DB_PASSWORD", ">>vault:database/creds/shop#PASSWORD"),
        ("DB_PASSWORD", "op://shop/database/password"),
        ("DB_PASSWORD", "arn:aws:secretsmanager:eu-west-1:1:secret:shop"),
        ("DB_PASSWORD", "shop-password@azurekeyvault"),
        ("DB_PASSWORD", "${vault:secret/data/shop#PASSWORD}"),
        ("DB_PASSWORD", "prefix-$(SECRET)"),
        ("DB_PASSWORD", "$(A)$(B)"),
        ("ALLOW_EMPTY_PASSWORD", "yes"),
        ("ALLOW_EMPTY_PASSWORD", "True"),
    ],
)
def test_a_variable_that_names_a_password_or_none_is_taken(one_helm: Helm, name: str, value: str) -> None:
    rendered = one_helm.template(usual({"extraEnv": [{"name": name, "value": value}]}))
    assert rendered.env[name] == value


@pytest.mark.parametrize("values", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_the_chart_takes(helm: Helm, values: Mapping[str, Any]) -> None:
    assert helm.template(usual(values)).job
