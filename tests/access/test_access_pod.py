"""What is put into pods, and who may read what."""

import json

import pytest
from support.builders import bundle_content, cluster, inputs, platform, service

from pilothouse.access import accounts, content, derive, pod, prove, secret_readers, vault
from pilothouse.mounted.config import parse
from pilothouse.platform.model import Endpoint, Secret, Servers, Versions
from pilothouse.problems import Invalid, Place

ON = cluster("prod", servers=Servers(vault=Endpoint("https://vault.bank.example:8200")))
DATABASE = Secret("payments/database", "/secrets/database", keys=("user", "password"), place=Place("a.yaml", 7, 3))
SIGNING = Secret("payments/signing", "/secrets/signing")
ELSEWHERE = Secret("payments/sandbox", "/secrets/sandbox", clusters=frozenset(("dev",)))
API = service("payments/api", secrets=(DATABASE, SIGNING, ELSEWHERE))


def settings(*changes):
    text = bundle_content().files["secrets/vault/settings.yaml"].text
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    found, problems = content.read(bundle_content({"secrets/vault/settings.yaml": text}))
    assert found is not None, problems
    return found


def fragment(on=ON, *changes, **named):
    return pod.fragment(API, on, settings(*changes), **named)


def codes(*secrets, on=ON):
    return [item.code for item in pod.problems(platform([service("payments/api", secrets=secrets)], clusters=[on]), on)]


def test_everything_is_there_before_the_service_and_fresh_beside_it():
    spec = fragment()["spec"]
    init, sidecar = spec["initContainers"]
    assert "--once" in init["args"]
    assert "restartPolicy" not in init
    assert "--watch" in sidecar["args"]
    assert sidecar["restartPolicy"] == "Always"
    assert spec["serviceAccountName"] == "api"
    assert [item["emptyDir"] for item in spec["volumes"][1:]] == [{"medium": "Memory", "sizeLimit": "4Mi"}] * 2


def test_the_service_sees_its_secrets_and_not_the_token_that_gets_them():
    (reader,) = fragment(container="app")["spec"]["containers"]
    assert reader == {
        "name": "app",
        "volumeMounts": [
            {"name": "pilothouse-secret-0", "mountPath": "/secrets/database", "readOnly": True},
            {"name": "pilothouse-secret-1", "mountPath": "/secrets/signing", "readOnly": True},
        ],
    }


def test_the_token_is_for_vault_alone_and_short_lived():
    sources = fragment()["spec"]["volumes"][0]["projected"]["sources"]
    assert sources[0]["serviceAccountToken"] == {"audience": "vault", "expirationSeconds": 600, "path": "token"}


def test_the_agent_is_told_what_is_declared_for_the_cluster():
    told = parse(fragment()["metadata"]["annotations"]["pilothouse.dev/secrets"])
    assert (told.url, told.auth_mount, told.role) == (
        "https://vault.bank.example:8200",
        "kubernetes-prod",
        "payments.api",
    )
    assert [(item.path, item.mount_path, item.keys) for item in told.secrets] == [
        ("payments/database", "/secrets/database", ("user", "password")),
        ("payments/signing", "/secrets/signing", ()),
    ]
    mounted = {item["mountPath"] for item in fragment()["spec"]["initContainers"][0]["volumeMounts"]}
    assert {item.folder for item in told.secrets} < mounted
    assert told.token_file.rpartition("/")[0] in mounted


def test_settings_reach_the_pod():
    made = fragment(
        ON,
        ('image: ""', "image: registry.bank.example/pilothouse@sha256:" + "a" * 64),
        ("interval: 30 ", "interval: 300 "),
        ('fileMode: "0444"', 'fileMode: "0440"'),
        ('authorityConfigMap: ""', "authorityConfigMap: vault-ca"),
        ("memory: 64Mi", "memory: 96Mi"),
    )
    told = parse(made["metadata"]["annotations"]["pilothouse.dev/secrets"])
    assert (told.interval, told.file_mode, told.ca_file) == (300, 0o440, "/var/run/pilothouse/ca.crt")
    assert made["spec"]["volumes"][0]["projected"]["sources"][2]["configMap"]["name"] == "vault-ca"
    for container in made["spec"]["initContainers"]:
        assert container["image"].endswith("a" * 64)
        assert container["resources"]["limits"] == {"memory": "96Mi"}


@pytest.mark.parametrize(("version", "native"), [("1.28", False), ("1.29", True), ("1.34", True), ("v1.30.2", True)])
def test_an_api_server_that_knows_no_sidecars_gets_none(version, native):
    on = cluster("prod", servers=ON.servers, versions=Versions(kubernetes=version))
    spec = fragment(on)["spec"]
    assert [item["name"] for item in spec["initContainers"]] == (
        ["pilothouse-secrets-init", "pilothouse-secrets"] if native else ["pilothouse-secrets-init"]
    )
    assert all("restartPolicy" not in item for item in spec["containers"])
    assert ("pilothouse-secrets" in [item["name"] for item in spec["containers"]]) is not native
    assert codes(DATABASE, on=on) == ([] if native else ["access/no-native-sidecar"])


def test_nothing_is_said_of_sidecars_where_nobody_has_secrets():
    assert codes(on=cluster("prod", versions=Versions(kubernetes="1.20"))) == []


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("/secrets/a", "/secrets/b", 0),
        ("/secrets/a", "/secrets/ab", 0),
        ("/secrets/a", "/secrets/a", 1),
        ("/secrets/a", "/secrets/a/", 1),
        ("/secrets/a", "/secrets//a/b", 1),
        ("/secrets/a/b", "/secrets/a", 1),
        ("/secrets/a", "/", 2),
        ("/secrets/a", "/var/run", 1),
        ("/secrets/a", "/var/run/pilothouse/x", 1),
        ("/secrets/a", "/pilothouse/secrets", 1),
    ],
)
def test_mounts_that_meet(first, second, found):
    assert codes(Secret("x/a", first), Secret("x/b", second)) == ["access/secret-mounts-meet"] * found


def test_mounts_of_different_clusters_do_not_meet():
    assert codes(Secret("x/a", "/s", frozenset(("prod",))), Secret("x/b", "/s", frozenset(("dev",)))) == []


def test_the_problems_are_those_of_a_check():
    given = inputs([service("payments/api", secrets=(Secret("x/a", "/s"), Secret("x/b", "/s")))])
    assert "access/secret-mounts-meet" in {problem.code for problem in derive(given).problems}


@pytest.mark.parametrize(
    ("on", "who", "said"),
    [
        (cluster("prod"), API, "declares no Vault"),
        (ON, service("payments/web"), "declares no secret"),
    ],
)
def test_where_nothing_can_be_made(on, who, said):
    with pytest.raises(Invalid, match=said):
        pod.fragment(who, on, settings())


def test_a_patch_for_a_kind():
    made = pod.wrapped(fragment(), API, "Deployment")
    assert made["apiVersion"] == "apps/v1"
    assert made["metadata"] == {"name": "api", "namespace": "payments"}
    assert made["spec"]["template"] == fragment()
    with pytest.raises(Invalid, match="Deploiment"):
        pod.wrapped(fragment(), API, "Deploiment")


# ---------------------------------------------------------------- who may read

OTHER = service("risk/scores", secrets=(Secret("payments/signing", "/s", keys=("key",), place=Place("b.yaml", 3)),))
AWAY = service("risk/dev-only", secrets=(Secret("payments/signing", "/s", clusters=frozenset(("dev",))),))


def explained(*more, text=""):
    given = settings()
    if text:
        given, problems = content.read(bundle_content({"secrets/vault/policies/workload.yaml": text}))
        assert given is not None, problems
    return secret_readers.explain(API, platform([API, *more], clusters=[ON]), ON, given)


def test_where_a_secret_comes_from_and_who_else_reads_it():
    found = explained(OTHER, AWAY)
    assert (found.role, found.policy) == ("payments.api", "ph.prod.secrets.payments.api")
    assert (found.namespace, found.account, found.audience) == ("payments", "api", "vault")
    database, signing = found.secrets
    assert (database.api_path, str(database.declared_at)) == ("kv-prod/data/payments/database", "a.yaml:7:3")
    assert database.files == ("user", "password")
    assert database.other_readers == ()
    assert [(item.service, item.team, str(item.declared_at)) for item in signing.other_readers] == [
        ("risk/scores", "risk", "b.yaml:3")
    ]


def test_a_policy_that_reaches_further_than_what_is_declared_shows():
    text = bundle_content().files["secrets/vault/policies/workload.yaml"].text
    found = explained(OTHER, text=text.replace('"{kv}/data/{path}"', '"{kv}/data/payments/*"'))
    (reader,) = found.secrets[0].other_readers
    assert (reader.service, reader.mount_path, reader.declared_at.path) == ("risk/scores", "", "")


def test_readers_agree_with_every_policy():
    services = [API, OTHER, AWAY]
    found = secret_readers.Readers(platform(services, clusters=[ON]), ON, settings())
    for path in ("payments/database", "payments/signing", "payments/none"):
        slow = [
            item.key
            for item in accounts.with_secrets(platform(services, clusters=[ON]), ON)
            if any(
                prove.matches(rule.path, f"kv-prod/data/{path}")
                for rule in vault.workload_policy(item, ON, settings()).rules
            )
        ]
        assert [reader.service for reader in found.of(path)] == slow


def line(time, path, name="api", **more):
    metadata = {"service_account_name": name, "service_account_namespace": "payments"} if name else {}
    return {
        "type": "response",
        "time": time,
        "auth": {"metadata": metadata},
        "request": {"path": path, "operation": "read"},
        **more,
    }


def test_the_last_read_in_an_audit_log():
    path = "kv-prod/data/payments/database"
    entries = [
        line("2026-11-21T10:00:00Z", path),
        line("2026-11-21T12:00:00Z", path, "other"),
        line("2026-11-21T11:00:00Z", path),
        line("2026-11-21T13:00:00Z", path, error="permission denied"),
        line("2026-11-21T13:00:00Z", path, type="request"),
        line("2026-11-21T13:00:00Z", "kv-prod/metadata/payments/database"),
        line("2026-11-21T09:00:00Z", "kv-prod/data/payments/signing", ""),
        json.loads("{}"),
    ]
    found = secret_readers.last_reads(entries, [path, "kv-prod/data/payments/signing"])
    assert found == {
        path: ("2026-11-21T12:00:00Z", "payments/other"),
        "kv-prod/data/payments/signing": ("2026-11-21T09:00:00Z", ""),
    }
