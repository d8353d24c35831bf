"""What an attacker with an account tries at Vault's PKI, and how it fails; on the stand-in and on the real server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from support.access_values import csr, key
from support.vault_site import PASSWORD, Site, fake_site, site_of

from pilothouse.access import certificates
from pilothouse.access.csr import parse
from pilothouse.clients.vault import VaultClient
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Denied, Invalid, PilothouseError

DAY = 16 * 3600


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def site(request: Any) -> Iterator[Site]:
    for made in site_of(request):
        made.set_up()
        yield made


def ask(site: Site, path: str, user: str = "alice", **body: Any) -> Any:
    """A request as an engineer may send it past every check of ours; its `data`, or our exception."""
    client = VaultClient(Endpoint(site.url), site.login(user).token)
    return client.write(path, body)


def signed(site: Site, role: str = "developer.payments", user: str = "alice", **body: Any) -> x509.Certificate:
    fields = {"csr": csr(key(user)), "common_name": user, "ttl": "1h", "exclude_cn_from_sans": "true", **body}
    if "not_after" in body:
        del fields["ttl"]  # Vault takes one of both
    data = ask(site, f"{site.pki}/sign/{role}", user, **fields)
    return x509.load_pem_x509_certificate(data["certificate"].encode())


def differences(site: Site, leaf: x509.Certificate, seconds: int = 3600, user: str = "alice") -> list[str]:
    """How a leaf differs from the one that we would have asked for."""
    now = datetime.now(UTC).replace(microsecond=0)
    wanted = certificates.Template(
        user,
        ("ph:developer:payments",),
        parse(csr(key(user))).public_key,
        1,
        now,
        now + timedelta(seconds=seconds + 60),
    )
    authority = x509.load_pem_x509_certificate(site.client.authority(site.pki).encode())
    return [problem.message for problem in certificates.verify_issued(leaf, wanted, authority)]


# ---------------------------------------------------------------- what is signed


def test_a_leaf_says_what_the_role_says_and_nothing_else(site: Site) -> None:
    token = site.login("alice").token
    pem = site.client.sign(token, site.pki, "developer.payments", csr(key("alice")), "alice", 3600)
    leaf = x509.load_pem_x509_certificate(pem.encode())
    assert differences(site, leaf) == []
    assert leaf.serial_number.bit_length() > 64
    backdated = datetime.now(UTC) - leaf.not_valid_before_utc
    assert timedelta(minutes=4) < backdated < timedelta(minutes=6)


def test_what_a_signing_request_asks_for_is_not_looked_at(site: Site) -> None:
    smuggled = csr(
        key("alice"),
        "system:admin",
        x509.SubjectAlternativeName([x509.DNSName("kubernetes.default"), x509.RFC822Name("root@bank.example")]),
        x509.BasicConstraints(ca=True, path_length=3),
        x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]),
    )
    assert differences(site, signed(site, csr=smuggled)) == []


@pytest.mark.parametrize(
    "name", ["bob", "x@alice", "alice@x", "x.alice", "*.alice", "*", "alicex", "localhost", "system:admin", ""]
)
def test_the_name_of_somebody_else_is_not_signed(site: Site, name: str) -> None:
    with pytest.raises(Invalid):
        signed(site, common_name=name)


def test_another_case_of_the_name_is_signed_by_vault_and_withheld_by_us(site: Site) -> None:
    leaf = signed(site, common_name="ALICE")
    assert differences(site, leaf) == ["its user is ('ALICE',), not 'alice'"]


def test_who_logs_in_in_another_case_is_the_same_person(site: Site) -> None:
    shouting = site.login("ALICE")
    assert shouting.entity == site.login("alice").entity
    with pytest.raises(Denied):
        site.login("alice", PASSWORD.upper())
    with pytest.raises(Denied):
        site.login("alice", "")


# ---------------------------------------------------------------- what a request may say


@pytest.mark.parametrize(
    "extra",
    [
        {"not_after": "2099-01-01T00:00:00Z"},
        {"alt_names": "kubernetes.default"},
        {"ip_sans": "10.0.0.1"},
        {"uri_sans": "spiffe://x"},
        {"other_sans": "1.3.6.1.4.1.311.20.2.3;UTF8:root"},
        {"serial_number": "1"},
        {"user_ids": "0"},
        {"issuer_ref": "default"},
        {"remove_roots_from_chain": True},
        {"exclude_cn_from_sans": "false"},
        {"exclude_cn_from_sans": True},
        {"organization": "system:masters"},
        {"key_usage": ["CertSign"]},
    ],
    ids=lambda extra: " ".join(f"{name}={value}" for name, value in extra.items()),
)
def test_a_parameter_that_the_policy_does_not_name_is_refused(site: Site, extra: dict[str, Any]) -> None:
    with pytest.raises(Denied):
        signed(site, **extra)


def test_not_after_would_pass_by_every_limit_where_the_policy_let_it(site: Site) -> None:
    """The escape is there: with a policy that allows any parameter the leaf outlives role and mount."""
    name = f"ph.{site.name}.profile.developer.payments"
    path = f"{site.pki}/sign/developer.payments"
    site.root.write(f"sys/policies/acl/{name}", {"policy": f'{{"path": {{"{path}": {{"capabilities": ["update"]}}}}}}'})
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=300)
    leaf = signed(site, not_after=f"{end:%Y-%m-%dT%H:%M:%SZ}")
    assert leaf.not_valid_after_utc == end
    assert [text for text in differences(site, leaf) if "later than asked for" in text]
    site.set_up()
    with pytest.raises(Denied):
        signed(site, not_after=f"{end:%Y-%m-%dT%H:%M:%SZ}")


def test_too_long_a_life_is_cut_to_that_of_the_role(site: Site) -> None:
    leaf = signed(site, ttl="720h")
    life = leaf.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(seconds=DAY - 120) < life <= timedelta(seconds=DAY)
    life = signed(site, "on-call", "olga", ttl="16h").not_valid_after_utc - datetime.now(UTC)
    assert life <= timedelta(hours=1)


@pytest.mark.parametrize(
    "make",
    [lambda: rsa.generate_private_key(65537, 2048), lambda: ec.generate_private_key(ec.SECP192R1())],
    ids=["rsa", "p192"],
)
def test_keys_of_another_kind_are_refused(site: Site, make: Any) -> None:
    with pytest.raises(Invalid):
        signed(site, csr=csr(make()))


def test_a_disabled_name_check_would_sign_any_name_and_is_seen(site: Site) -> None:
    role = f"{site.pki}/roles/developer.payments"
    kept = site.root.read(role) or {}
    site.root.write(role, {**kept, "cn_validations": ["disabled"]})
    assert certificates.subject_of(signed(site, common_name="root"))[0] == ("root",)
    assert [change.path for change in site.plan().changes] == [role]
    site.set_up()
    with pytest.raises(Invalid):
        signed(site, common_name="root")


# ---------------------------------------------------------------- where a token reaches


@pytest.mark.parametrize(
    "path",
    [
        "{pki}/issue/developer.payments",
        "{pki}/sign-verbatim",
        "{pki}/sign-verbatim/developer.payments",
        "{pki}/issuer/default/sign/developer.payments",
        "{pki}/sign/developer.risk2",
        "{pki}/sign/on-call",
        "{pki}/roles/developer.payments",
        "{pki}/root/sign-intermediate",
        "{pki}/root/generate/internal",
        "{pki}/config/urls",
        "{pki}/revoke",
        "auth/token/create",
        "auth/{login}/groups/engineers",
        "identity/group/name/{group}",
        "sys/policies/acl/x",
        "sys/mounts/x",
    ],
)
def test_an_engineers_token_reaches_nothing_else(site: Site, path: str) -> None:
    full = path.format(pki=site.pki, login=site.login_mount, group=f"ph_{site.name}_payments")
    with pytest.raises(Denied):
        ask(site, full, csr=csr(key("alice")), common_name="alice")


def test_a_token_that_was_ended_signs_nothing(site: Site) -> None:
    token = site.login("alice")
    renewed = site.client.renew(token.token)
    assert renewed.accessor == token.accessor
    site.client.revoke(token.token)
    for call in (
        lambda: site.client.renew(token.token),
        lambda: site.client.sign(token.token, site.pki, "developer.payments", csr(key("alice")), "alice", 3600),
    ):
        with pytest.raises(Denied):
            call()


def test_without_a_token_nothing_is_signed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ambient token is never taken, not even the administrator's."""
    monkeypatch.setenv("VAULT_TOKEN", site.root._token)
    with pytest.raises(Denied):
        site.client.sign("", site.pki, "developer.payments", csr(key("alice")), "alice", 3600)
    with pytest.raises(Denied):
        site.client.read("sys/mounts")


# ---------------------------------------------------------------- names


NAMES = ("../../token/create", "alice/../bob", "..", ".", "", "alice?x=1", "alice#", "%2e%2e", "ali\nce", "ä", "-x")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "call",
    [
        lambda site, name: site.client.login_ldap(site.login_mount, name, PASSWORD),
        lambda site, name: site.client.login_ldap(f"ldap/{name}/x", "alice", PASSWORD),
        lambda site, name: site.client.login_kubernetes("kubernetes", name, "jwt"),
        lambda site, name: site.client.sign("token", site.pki, "developer", csr(), name, 3600),
        lambda site, name: site.client.sign("token", site.pki, name, csr(), "alice", 3600),
        lambda site, name: site.client.sign("token", f"{site.pki}/{name}/x", "developer", csr(), "alice", 3600),
        lambda site, name: site.client.authority(f"{site.pki}/{name}/x"),
        lambda site, name: site.root.read(f"sys/policies/acl/{name}"),
        lambda site, name: site.root.delete(f"{name}/x"),
    ],
    ids=["user", "mount", "service account", "common name", "role", "pki", "authority", "read", "delete"],
)
def test_a_name_that_would_leave_its_path_is_not_sent(name: str, call: Any) -> None:
    with fake_site() as site:
        before = len(site.fake.state.requests) if site.fake else 0
        with pytest.raises(Invalid):
            call(site, name)
        assert site.fake is not None
        assert len(site.fake.state.requests) == before


# ---------------------------------------------------------------- the directory behind it


def test_a_wrong_name_and_a_wrong_password_are_told_alike(site: Site) -> None:
    said = []
    for user in ("alice", "nobody"):
        with pytest.raises(Denied) as refused:
            site.login(user, "wrong")
        said.append(refused.value.message.replace(user, "X"))
        assert "wrong" not in refused.value.message
    assert said[0] == said[1]


def test_a_directory_that_is_gone_is_no_wrong_password(site: Site) -> None:
    site.stop_directory()
    with pytest.raises(PilothouseError) as refused:
        site.login("alice")
    assert type(refused.value).__name__ == "Unavailable"


def test_a_token_shows_in_no_text(site: Site) -> None:
    token = site.login("alice")
    assert token.token not in repr(token) + repr(site.root) + repr(site.client) + str(token)
    assert site.root._token not in repr(site.root)
