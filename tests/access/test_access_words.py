import base64
from datetime import timedelta

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from support.access_values import NOW, authority, elevated, key, profile, template
from support.builders import platform, service

from pilothouse.access import certificates, words
from pilothouse.access.inspect import inspect
from pilothouse.platform.model import RbacRule, Scope
from pilothouse.problems import Invalid


def said(*rules):
    return [(s.text, s.weight.value) for s in words.of_rules(RbacRule(*rule) for rule in rules)]


def test_rules_in_words_from_the_strongest_to_the_weakest():
    assert said(
        (("",), ("pods", "pods/log", "configmaps"), ("get", "list", "watch")),
        (("",), ("pods/portforward",), ("create",)),
        (("apps",), ("deployments", "deployments/scale"), ("get", "patch")),
        (("",), ("pods/exec",), ("create",)),
        (("batch",), ("jobs",), ("create", "update", "delete")),
        (("",), ("secrets",), ("get",)),
        (("batch",), ("cronjobs",), ("create",)),
        (("",), ("pods",), ("delete",), ("web-1",)),
        ((), (), ("get",), (), ("/healthz",)),
        (("certificates.k8s.io",), ("signers",), ("approve",)),
        (("metrics.k8s.io",), ("pods",), ("get",)),
    ) == [
        ("open a shell in pods", "power"),
        ("see Secrets", "power"),
        ("approve signers", "power"),
        ("forward ports of pods", "change"),
        ("scale deployments", "change"),
        ("change deployments", "change"),
        ("create and change jobs", "change"),
        ("delete jobs and pods (only web-1)", "change"),
        ("create CronJobs", "change"),
        ("see pods, logs, ConfigMaps, deployments and pods metrics", "read"),
        ("read the URLs /healthz", "read"),
    ]


def test_wildcards_in_words():
    assert said((("*",), ("*",), ("*",))) == [("do everything with everything", "power")]
    assert said((("apps",), ("*",), ("get",))) == [("see everything of apps", "read")]
    assert said((("", "apps"), ("*",), ("patch",))) == [("change everything of the core and apps", "change")]
    assert said((("apps",), ("deployments/scale",), ("get",))) == []


def test_roles_of_kubernetes_itself_in_words():
    assert words.may_do(elevated())[0].text == "do everything, on every resource"
    assert words.may_do(profile(cluster_role="view"))[0].weight == "read"
    assert words.may_do(profile(cluster_role="ours"))[0].text == "do what the cluster's role `ours` allows"
    assert words.may_do(profile())[0].text == "see pods and logs"


def test_where_and_on_what_terms():
    given = platform([service("b/x", team="one"), service("a/x", team="one"), service("c/x", team="two")])
    assert words.where(profile(), given, "dev", ["one"]) == "in namespaces a and b"
    assert words.where(profile(), given, "dev", ["one", "two"]) == "in namespaces a, b and c"
    assert words.where(profile(), given, "dev", []) == "in no namespace"
    assert words.where(profile(scope=Scope.NAMESPACES, namespaces=("x",)), given, "dev", []) == "in namespace x"
    assert words.where(elevated(), given, "dev", []) == "everywhere on dev"
    assert words.terms(profile()) == "At once, for 16 h."
    assert words.terms(elevated()) == (
        "With a reason, after another person of platform-admins agrees; 30 min, at most 1 h."
    )
    assert words.terms(elevated(approval=False, lifetime=5400, max_lifetime=5400)) == (
        "With a reason, at once; 1 h 30 min."
    )
    assert words.terms(elevated(ticket="PLAT-[0-9]+")).startswith("With a reason and a ticket, after another person")
    assert words.duration(45) == "45 s"
    assert words.to_dict(profile())["may"] == [{"text": "see pods and logs", "weight": "read"}]


# ---------------------------------------------------------------- certificates in words


def leaf(**fields):
    return certificates.sign(template(**fields), *authority())


def test_a_certificate_in_words():
    pem = certificates.pem(leaf(groups=("ph:developer:payments", "ph:elevated:cluster-admin")))
    (found,) = inspect(pem, NOW + timedelta(hours=1))
    assert found.sentences == (
        "Whoever holds its key is user `alice` to the cluster.",
        "Group `ph:developer:payments`: the profile developer in the namespaces of team payments.",
        "Group `ph:elevated:cluster-admin`: the elevated profile cluster-admin.",
        "It ends in 15 h, at 2026-11-22 04:00 UTC.",
        "It can log in and nothing else.",
    )
    assert (found.user, found.issuer, found.serial, found.oddities) == ("alice", "dev access", "4711", ())
    assert (
        found.fingerprint
        == leaf(groups=("ph:developer:payments", "ph:elevated:cluster-admin")).fingerprint(hashes.SHA256()).hex()
    )


def test_before_and_after_its_time():
    pem = certificates.pem(leaf())
    (early,) = inspect(pem, NOW - timedelta(minutes=15))
    assert "It is not valid yet: it begins in 10 min." in early.sentences
    (late,) = inspect(pem, NOW + timedelta(hours=18))
    assert "It ended 2 h ago, at 2026-11-22 04:00 UTC." in late.sentences


def test_a_kubeconfig_in_words():
    data = base64.b64encode(certificates.pem(leaf()).encode()).decode()
    users = [{"name": "dev", "user": {"client-certificate-data": data}}, {"name": "token", "user": {"token": "x"}}]
    (found,) = inspect(yaml.safe_dump({"kind": "Config", "users": users}), NOW)
    assert (found.source, found.user) == ("user dev", "alice")


def odd(subject, *extensions):
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in subject]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Somebody")]))
        .public_key(key().public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return certificates.pem(builder.sign(key(), hashes.SHA256()))


def test_what_is_odd_is_said():
    pem = odd(
        [
            (NameOID.COMMON_NAME, "root"),
            (NameOID.COMMON_NAME, "alice"),
            (NameOID.ORGANIZATION_NAME, "system:masters"),
            (NameOID.ORGANIZATION_NAME, "a,b"),
        ],
        x509.SubjectAlternativeName([x509.DNSName("root")]),
        x509.BasicConstraints(ca=True, path_length=None),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    )
    (found,) = inspect(pem, NOW)
    text = " ".join(found.oddities)
    for part in ("system:masters", "2 users", "comma", "alternative names", "clientAuth", "server's", "authority"):
        assert part in text
    assert "Further groups: `system:masters`, `a,b`." in found.sentences
    assert found.issuer == "O=Somebody"
    (plain,) = inspect(odd([]), NOW)
    assert plain.sentences[0] == "It names no user."
    assert plain.oddities == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no certificate"),
        ("users: 3", "no certificate"),
        ("users: [3, {name: x}]", "no certificate"),
        ("users: [{name: x, user: [3]}]", "no certificate"),
        ("a: [", "neither a PEM"),
        ("[" * 100_000, "neither a PEM"),
        ("a: !!timestamp 2026-13-45", "neither a PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        ("users: [{name: x, user: {client-certificate-data: '?'}}]", "no base64"),
        ("x" * 1_000_001, "too large"),
    ],
)
def test_what_is_no_certificate(text, message):
    with pytest.raises(Invalid, match=message):
        inspect(text, NOW)


def test_a_renewed_profile_says_how_soon_it_ends():
    assert words.terms(profile(renewal=3600)) == (
        "At once, for 16 h from the login, in certificates of 1 h: account, groups and locks are checked again"
        " before each."
    )
