"""One suite over all issuers: whatever an authority signs instead of what was asked for is withheld and recorded.

The embedded authority, the stand-in for Vault and the real Vault sign each of these answers themselves; a genuine
signature on a wrong certificate is what a hostile or compromised authority would send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from support.access_values import csr
from support.access_world import make_world
from support.bed.fixtures import Bed
from support.vault_site import Site, fake_site, real_site

from pilothouse.access import certificates
from pilothouse.access.certificates import Template
from pilothouse.problems import Unavailable
from pilothouse.signer.authorities import VaultAuthorities
from pilothouse.store import Store, ledger, sessions
from pilothouse.store import certificates as rows
from pilothouse.store.users import User
from pilothouse.workflows.issuance import Ask, Issuance, Voucher

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Wrong:
    """How a certificate differs from what was asked for; None is as asked."""

    user: str | None = None
    groups: tuple[str, ...] | None = None
    unit: str = ""
    names: tuple[str, ...] = ()
    usages: tuple[x509.ObjectIdentifier, ...] = (CLIENT,)
    key_usage: tuple[str, ...] = ("DigitalSignature",)
    seconds: int = 16 * 3600
    other_key: bool = False
    other_authority: bool = False


ASKED = ("ph:developer:payments",)
MUTATIONS: dict[str, tuple[Wrong, str]] = {
    "another user": (Wrong(user="mallory"), "its user is"),
    "another case": (Wrong(user="ALICE"), "its user is"),
    "a user of Kubernetes": (Wrong(user="system:admin"), "its user is"),
    "one group more": (Wrong(groups=(*ASKED, "system:masters")), "its groups are"),
    "another group": (Wrong(groups=("ph:elevated:cluster-admin",)), "its groups are"),
    "no group": (Wrong(groups=()), "its groups are"),
    "another attribute": (Wrong(unit="admins"), "also holds OU=admins"),
    "an alternative name": (Wrong(names=("alice",)), "alternative names"),
    "a server too": (Wrong(usages=(CLIENT, SERVER)), "not clientAuth alone"),
    "only a server": (Wrong(usages=(SERVER,)), "not clientAuth alone"),
    "further uses of the key": (Wrong(key_usage=("DigitalSignature", "KeyAgreement")), "more than digital signatures"),
    "a later end": (Wrong(seconds=30 * 86400), "later than asked for"),
    "another key": (Wrong(other_key=True), "another key"),
    "another authority": (Wrong(other_authority=True), "not signed by the cluster's authority"),
}
Forge = Callable[[Template, Wrong], x509.Certificate]


class Hostile:
    """`workflows.issuance.Authorities` that sign something else."""

    def __init__(self, inner: Any, forge: Forge, wrong: Wrong) -> None:
        self.certificate = inner.certificate
        self._forge, self._wrong = forge, wrong

    def sign(self, cluster: str, template: Template, voucher: Voucher) -> x509.Certificate:
        return self._forge(template, self._wrong)


@dataclass
class Issuer:
    issuance: Issuance
    ask: Ask
    forge: Forge
    store: Store

    def hostile(self, wrong: Wrong) -> Issuance:
        return replace(self.issuance, authorities=Hostile(self.issuance.authorities, self.forge, wrong))

    def kinds(self) -> list[str]:
        return [item.entry.kind for item in ledger.everything(self.store)]


def _with_key(key: ec.EllipticCurvePrivateKey, authority: x509.Certificate) -> Forge:
    """What whoever holds the authority's key can sign."""

    def forge(template: Template, wrong: Wrong) -> x509.Certificate:
        signing, issuer = key, authority
        if wrong.other_authority:
            signing = ec.generate_private_key(ec.SECP256R1())
            issuer = certificates.create_authority("another", signing, 7, template.now)
        public = ec.generate_private_key(ec.SECP256R1()).public_key() if wrong.other_key else template.public_key
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(template, wrong))
            .issuer_name(issuer.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(template.now - timedelta(minutes=1))
            .not_valid_after(template.now + timedelta(seconds=wrong.seconds))
            .add_extension(_usage(wrong.key_usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage(wrong.usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        if wrong.names:
            names = x509.SubjectAlternativeName([x509.DNSName(name) for name in wrong.names])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(signing, hashes.SHA256())

    return forge


def _by_root(site: Site) -> Forge:
    """What an administrator of the real Vault can have it sign: a request as it stands, by its own authority."""

    def forge(template: Template, wrong: Wrong) -> x509.Certificate:
        if wrong.other_authority or wrong.other_key:
            key = ec.generate_private_key(ec.SECP256R1())
            if wrong.other_authority:
                rogue = certificates.create_authority("another", key, 7, template.now)
                return _with_key(key, rogue)(template, replace(wrong, other_authority=False))
        else:
            key = KEY
        builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(template, wrong))
        if wrong.names:
            names = x509.SubjectAlternativeName([x509.DNSName(name) for name in wrong.names])
            builder = builder.add_extension(names, critical=False)
        words = {CLIENT: "ClientAuth", SERVER: "ServerAuth"}
        end = template.now + timedelta(seconds=wrong.seconds)
        body = {
            "csr": builder.sign(key, hashes.SHA256()).public_bytes(certificates.Encoding.PEM).decode(),
            "key_usage": list(wrong.key_usage),
            "ext_key_usage": [words[usage] for usage in wrong.usages],
            "not_after": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        }
        found = site.root.write(f"{site.pki}/sign-verbatim", body)
        return x509.load_pem_x509_certificate(found["certificate"].encode())

    return forge


KEY = ec.generate_private_key(ec.SECP256R1())


def _subject(template: Template, wrong: Wrong) -> x509.Name:
    groups = template.groups if wrong.groups is None else wrong.groups
    found = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    if wrong.unit:
        found.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, wrong.unit))
    return x509.Name([*found, x509.NameAttribute(NameOID.COMMON_NAME, wrong.user or template.user)])


def _usage(words: tuple[str, ...]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="DigitalSignature" in words,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement="KeyAgreement" in words,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


# ---------------------------------------------------------------- the issuers


@pytest.fixture(params=["embedded", "Vault stand-in", pytest.param("Vault and slapd", marks=pytest.mark.real)])
def issuer(request: Any, tmp_path: Path, bed: Bed) -> Iterator[Issuer]:
    if request.param == "embedded":
        world = make_world(tmp_path)
        with world.authorities() as keys:
            key = _key(world.data / "signer/dev/ca.key", keys.certificate("dev"))
            ask = Ask(world.token("alice"), csr(KEY), "dev", "developer", team="payments")
            yield Issuer(world.issuance(keys), ask, _with_key(key, keys.certificate("dev")), world.store)
        return
    if request.param == "Vault stand-in":
        with fake_site() as site:
            site.set_up()
            assert site.fake is not None
            pki = site.fake.state.pki[site.pki]
            assert pki.key is not None
            assert pki.certificate is not None
            yield _at_vault(site, tmp_path, _with_key(pki.key, pki.certificate))
        return
    with real_site(request.getfixturevalue("vault"), request.getfixturevalue("slapd")) as site:
        site.set_up()
        site.root.write(f"sys/mounts/{site.pki}/tune", {"max_lease_ttl": "87600h"})
        yield _at_vault(site, tmp_path, _by_root(site))


def _key(path: Path, _made: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _at_vault(site: Site, folder: Path, forge: Forge) -> Issuer:
    store = Store(folder / "data")
    store.migrate()
    now = datetime.now(UTC)
    person = User("alice", groups=frozenset(("engineers", "payments-people")))
    token, _ = sessions.start(store, person, now, kind="token")
    platform = site.platform()
    inner = VaultAuthorities(folder / "authorities", lambda: platform, lambda: 0.0)
    (folder / "authorities").mkdir()
    serials = iter(range(1, 1000))
    issuance = Issuance(
        store, lambda: platform, inner, lambda: datetime.now(UTC), lambda: next(serials), lambda _head: None
    )
    vault_token = site.login("alice").token
    ask = Ask(token, csr(KEY), site.name, "developer", team="payments", vault_token=vault_token)
    return Issuer(issuance, ask, forge, store)


# ---------------------------------------------------------------- the suite


@pytest.mark.attack("Bad answer of an authority")
def test_every_wrong_answer_is_withheld_and_recorded(issuer: Issuer) -> None:
    assert len(MUTATIONS) >= 12
    for name, (wrong, said) in MUTATIONS.items():
        with pytest.raises(Unavailable, match="signed something else") as refused:
            issuer.hostile(wrong).issue(issuer.ask)
        entry = list(ledger.everything(issuer.store))[-1]
        assert entry.entry.kind == "certificate.failed", name
        assert said in str(entry.entry.data["why"]), name
        assert "BEGIN" not in refused.value.message
    assert issuer.kinds() == ["certificate.intent", "certificate.failed"] * len(MUTATIONS)
    assert {row.state for row in rows.of_user(issuer.store, "alice")} == {"failed"}
    assert not any(row.pem for row in rows.of_user(issuer.store, "alice"))


@pytest.mark.attack("Bad answer of an authority")
def test_the_answer_that_was_asked_for_is_handed_on(issuer: Issuer) -> None:
    """Without this, a check that withholds everything would pass."""
    assert issuer.issuance.issue(issuer.ask).groups == ASKED
    if issuer.issuance.platform().clusters[issuer.ask.cluster].authority.backend == "embedded":
        assert issuer.hostile(Wrong()).issue(issuer.ask).user == "alice"
    assert issuer.kinds()[-1] == "certificate.issued"
