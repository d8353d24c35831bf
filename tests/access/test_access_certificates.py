import dataclasses
import hashlib
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from support.access_values import NOW, authority, csr, key, template

from pilothouse.access import certificates
from pilothouse.access.csr import parse
from pilothouse.problems import Invalid

# ---------------------------------------------------------------- signing requests


def test_only_the_key_of_a_request_is_used():
    smuggled = csr(key(), "root", x509.SubjectAlternativeName([x509.DNSName("root")]), x509.BasicConstraints(True, 3))
    request = parse(smuggled)
    leaf = certificates.sign(template(public_key=request.public_key), *authority())
    users, groups, rest = certificates.subject_of(leaf)
    assert (users, groups, rest) == (("alice",), ("ph:developer:payments",), ())
    assert [e.oid._name for e in leaf.extensions] == [
        "basicConstraints",
        "keyUsage",
        "extendedKeyUsage",
        "authorityKeyIdentifier",
    ]
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert len(request.spki_sha256) == 64


def private(signing):
    return signing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def flipped(pem):
    """The request with one bit of its signature changed."""
    request = x509.load_pem_x509_csr(pem.encode())
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (lambda: "", "no signing request"),
        (lambda: csr() + csr(), "no signing request"),
        (lambda: csr() + private(key()), "private key"),
        (lambda: "x" * 9000, "larger than"),
        (lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "cannot be read"),
        (lambda: csr().replace("M", "é", 1), "cannot be read"),
        (lambda: flipped(csr()), "not signed by its own key"),
        (lambda: csr(ec.generate_private_key(ec.SECP384R1())), "curve secp384r1"),
        (lambda: csr(ec.generate_private_key(ec.SECP256K1())), "curve secp256k1"),
        (lambda: csr(rsa.generate_private_key(65537, 1024)), "RSA keys of 1024 bits"),
        (lambda: csr(rsa.generate_private_key(3, 2048)), "65537"),
    ],
)
def test_requests_that_are_refused(pem, message):
    with pytest.raises(Invalid, match=message):
        parse(pem())


def test_rsa_of_2048_bits_is_accepted():
    assert parse(csr(rsa.generate_private_key(65537, 2048))).public_key.key_size == 2048


def test_other_kinds_of_keys_are_refused():
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    pem = request.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM).decode()
    with pytest.raises(Invalid, match="Ed25519PublicKey"):
        parse(pem)


# ---------------------------------------------------------------- leaves


def test_a_leaf_says_who_and_for_how_long_and_nothing_else():
    leaf = certificates.sign(template(groups=("ph:b", "ph:a", "ph:b")), *authority())
    assert certificates.subject_of(leaf) == (("alice",), ("ph:a", "ph:b"), ())
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert leaf.not_valid_after_utc == NOW + timedelta(hours=16)
    assert leaf.serial_number == 4711
    assert certificates.extended_usages(leaf) == (ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string,)
    assert certificates.fingerprint(leaf) == hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest()


def test_the_same_inputs_give_the_same_bytes():
    once, twice = (certificates.pem(certificates.sign(template(), *authority())) for _ in range(2))
    assert once == twice


def test_one_authority_per_cluster():
    leaf = certificates.sign(template(), *authority("dev"))
    assert certificates.is_signed_by(leaf, authority("dev")[0])
    assert not certificates.is_signed_by(leaf, authority("prod")[0])
    same_name = certificates.create_authority("dev access", key("another"), 7, NOW)
    assert not certificates.is_signed_by(leaf, same_name)


def test_an_authority_signs_leaves_only():
    certificate, _ = authority()
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.value.ca, constraints.value.path_length, constraints.critical) == (True, 0, True)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)


def test_a_leaf_does_not_outlive_its_authority():
    signing = key("old")
    old = certificates.create_authority("old", signing, 1, NOW - certificates.AUTHORITY_LIFETIME + timedelta(hours=1))
    leaf = certificates.sign(template(), old, signing)
    assert leaf.not_valid_after_utc == old.not_valid_after_utc


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user": "system:admin"}, "never signed"),
        ({"user": " System:node"}, "cannot be the user"),
        ({"user": "SYSTEM:node"}, "never signed"),
        ({"user": ""}, "cannot be the user"),
        ({"user": "a\nb"}, "cannot be the user"),
        ({"user": "a,b"}, "cannot be the user"),
        ({"user": "a" * 65}, "cannot be the user"),
        ({"groups": ()}, "no group"),
        ({"groups": ("system:masters",)}, "never signed"),
        ({"groups": ("ph:a", "admins")}, "no group of pilothouse"),
        ({"serial": 0}, "serial"),
        ({"serial": 1 << 159}, "serial"),
        ({"not_after": NOW}, "ended already"),
    ],
)
def test_templates_that_are_refused(fields, message):
    with pytest.raises(Invalid, match=message):
        certificates.sign(template(**fields), *authority())


# ---------------------------------------------------------------- what a foreign authority answers


def answer(**changes):
    """A leaf made without our rules: what a broken or hostile authority could send back."""
    issuer, signing = authority()
    values = {
        "subject": [(NameOID.ORGANIZATION_NAME, "ph:developer:payments"), (NameOID.COMMON_NAME, "alice")],
        "key": key().public_key(),
        "before": NOW - timedelta(minutes=5),
        "after": NOW + timedelta(hours=16),
        "ca": False,
        "usages": [ExtendedKeyUsageOID.CLIENT_AUTH],
        "usage": certificates._key_usage(digital_signature=True),
        "more": [],
        "signing": signing,
        "issuer": issuer.subject,
        **changes,
    }
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in values["subject"]]))
        .issuer_name(values["issuer"])
        .public_key(values["key"])
        .serial_number(99)
        .not_valid_before(values["before"])
        .not_valid_after(values["after"])
        .add_extension(x509.BasicConstraints(values["ca"], None), True)
        .add_extension(values["usage"], True)
    )
    if values["usages"]:
        builder = builder.add_extension(x509.ExtendedKeyUsage(values["usages"]), False)
    for extension in values["more"]:
        builder = builder.add_extension(extension, False)
    return builder.sign(values["signing"], hashes.SHA256())


def told(certificate):
    return [p.message for p in certificates.verify_issued(certificate, template(), authority()[0])]


def test_what_was_asked_for_passes():
    assert told(certificates.sign(template(), *authority())) == []
    assert told(answer()) == []


USER = (NameOID.COMMON_NAME, "alice")
TEAM = (NameOID.ORGANIZATION_NAME, "ph:developer:payments")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signing": key("other")}, "not signed by the cluster's authority"),
        ({"issuer": x509.Name([])}, "not signed by the cluster's authority"),
        ({"key": key("other").public_key()}, "another key"),
        ({"subject": [TEAM, (NameOID.COMMON_NAME, "ALICE")]}, "its user is"),
        ({"subject": [TEAM, USER, (NameOID.COMMON_NAME, "root")]}, "its user is"),
        ({"subject": [TEAM]}, "its user is"),
        ({"subject": [TEAM, USER, (NameOID.ORGANIZATION_NAME, "system:masters")]}, "its groups are"),
        ({"subject": [USER]}, "its groups are"),
        ({"subject": [TEAM, USER, (NameOID.USER_ID, "0")]}, "also holds UID=0"),
        ({"ca": True}, "an authority"),
        ({"usages": []}, "not clientAuth alone"),
        ({"usages": [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]}, "not clientAuth alone"),
        ({"usage": certificates._key_usage(authority=True)}, "more than digital signatures"),
        ({"more": [x509.SubjectAlternativeName([x509.DNSName("alice")])]}, "alternative names"),
        ({"more": [x509.OCSPNoCheck()]}, "carries the extension"),
        ({"after": NOW + timedelta(hours=17)}, "later than asked for"),
        ({"before": NOW + timedelta(minutes=1)}, "later than now"),
        ({"before": NOW - timedelta(hours=1)}, "too long ago"),
    ],
)
def test_what_differs_is_withheld(changes, message):
    assert any(message in text for text in told(answer(**changes)))


def test_a_leaf_for_another_request_is_told_apart():
    other = dataclasses.replace(template(), user="bob")
    problems = certificates.verify_issued(certificates.sign(template(), *authority()), other, authority()[0])
    assert [p.code for p in problems] == ["access/unexpected-certificate"]
