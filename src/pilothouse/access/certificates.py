"""Client certificates for the Kubernetes API: how one is made, and what one that was made must look like.

CN is the user and each O a group (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates).
A leaf of ours says nothing else: clientAuth only, no alternative name, no authority. Moments, serial
numbers and keys are handed in; signatures are deterministic (RFC 6979), so the same inputs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from pilothouse.access.csr import PublicKey, spki
from pilothouse.access.names import GroupName, is_system
from pilothouse.problems import Invalid, Problem, error

BACKDATE = timedelta(minutes=5)
"""Kubernetes' own signer backdates as much, so that clocks may differ a little."""
AUTHORITY_LIFETIME = timedelta(days=3650)
MAX_USER = 64
"""X.520's limit of a common name."""


@dataclass(frozen=True, slots=True)
class Template:
    """What a leaf is to say. `not_after` is the end; the beginning is `now` less `BACKDATE`."""

    user: str
    groups: tuple[str, ...]
    public_key: PublicKey
    serial: int
    now: datetime
    not_after: datetime


def check(template: Template) -> None:
    """`Invalid` for a name that no certificate of ours may carry."""
    if not template.user or len(template.user) > MAX_USER or not template.user.isprintable():
        raise Invalid(f"{template.user!r} cannot be the user of a certificate")
    if template.user != template.user.strip() or "," in template.user:
        raise Invalid(f"{template.user!r} cannot be the user of a certificate")
    if is_system(template.user):
        raise Invalid(f"`{template.user}` is a user of Kubernetes itself and is never signed")
    if not template.groups:
        raise Invalid(f"a certificate of {template.user} would have no group")
    for group in template.groups:
        if is_system(group):
            raise Invalid(f"`{group}` is a group of Kubernetes itself and is never signed")
        if GroupName.parse(group) is None:
            raise Invalid(f"`{group}` is no group of pilothouse")
    if not 0 < template.serial < 1 << 159:
        raise Invalid("a serial number has 1 to 20 octets")
    if template.not_after <= template.now:
        raise Invalid("the certificate would have ended already")


def sign(template: Template, authority: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """The leaf, signed; `Invalid` where `check` refuses the template."""
    check(template)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(template.user, template.groups))
        .issuer_name(authority.subject)
        .public_key(template.public_key)
        .serial_number(template.serial)
        .not_valid_before(max(template.now - BACKDATE, authority.not_valid_before_utc))
        .not_valid_after(min(template.not_after, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(_authority_key(authority), critical=False)
    )
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)


def _subject(user: str, groups: tuple[str, ...]) -> x509.Name:
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in sorted(set(groups))),
            x509.NameAttribute(NameOID.COMMON_NAME, user),
        ]
    )


def _key_usage(*, digital_signature: bool = False, authority: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def create_authority(common_name: str, key: ec.EllipticCurvePrivateKey, serial: int, now: datetime) -> x509.Certificate:
    """A self-signed authority that may sign leaves and nothing else (path length 0)."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    )


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as it is handed out; `authority` is the cluster's CA certificate, both in PEM."""

    cluster: str
    user: str
    profile: str
    groups: tuple[str, ...]
    serial: str
    fingerprint: str
    not_after: datetime
    pem: str
    authority: str
    grant_id: str = ""
    renewed_until: datetime | None = None
    """Until when the login gets the next ones, where the profile has `renewal`."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        until = self.renewed_until.isoformat() if self.renewed_until else None
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {
            "groups": list(self.groups),
            "not_after": self.not_after.isoformat(),
            "renewed_until": until,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Issued:
        """The other way round; KeyError, TypeError or ValueError where something is missing."""
        values = {field.name: data[field.name] for field in fields(cls) if field.name != "renewed_until"}
        until = data.get("renewed_until")
        return cls(
            **values | {"groups": tuple(values["groups"]), "not_after": datetime.fromisoformat(values["not_after"])},
            renewed_until=datetime.fromisoformat(until) if until else None,
        )


# ---------------------------------------------------------------- what came back

_EXPECTED = frozenset(
    (
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    )
)
CODE = "access/unexpected-certificate"


def verify_issued(certificate: x509.Certificate, wanted: Template, authority: x509.Certificate) -> tuple[Problem, ...]:
    """How a leaf differs from what was asked for; one that differs at all is never handed on.

    The serial is the issuer's own choice and is only checked for its form.
    """
    return tuple(
        error(CODE, text, hint="do not use it; look at the authority")
        for text in _differences(certificate, wanted, authority)
    )


def _differences(certificate: x509.Certificate, wanted: Template, authority: x509.Certificate) -> Iterator[str]:
    if not is_signed_by(certificate, authority):
        yield "it is not signed by the cluster's authority"
    if spki(certificate.public_key()) != spki(wanted.public_key):
        yield "it holds another key than the request"
    if certificate.version is not x509.Version.v3:
        yield "it is no version 3 certificate"
    if not 0 < certificate.serial_number < 1 << 160:
        yield "its serial number is not positive"
    users, groups, rest = subject_of(certificate)
    if users != (wanted.user,):
        yield f"its user is {users!r}, not {wanted.user!r}"
    if sorted(groups) != sorted(set(wanted.groups)):
        yield f"its groups are {sorted(groups)}, not {sorted(set(wanted.groups))}"
    if rest:
        yield f"its subject also holds {', '.join(rest)}"
    yield from _extensions(certificate)
    if certificate.not_valid_after_utc > wanted.not_after:
        yield f"it ends at {certificate.not_valid_after_utc:%F %T}, later than asked for"
    if certificate.not_valid_before_utc > wanted.now:
        yield f"it begins at {certificate.not_valid_before_utc:%F %T}, later than now"
    if certificate.not_valid_before_utc < wanted.now - 2 * BACKDATE:
        yield f"it begins at {certificate.not_valid_before_utc:%F %T}, too long ago"


def _extensions(certificate: x509.Certificate) -> Iterator[str]:
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension) as failure:
        yield f"its extensions cannot be read: {failure}"
        return
    for extension in extensions:
        if extension.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME:
            yield "it carries alternative names"
        elif extension.oid not in _EXPECTED:
            yield f"it carries the extension {extension.oid.dotted_string}"
        elif isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            yield "it is an authority"
        elif isinstance(extension.value, x509.KeyUsage) and extension.value != _key_usage(digital_signature=True):
            yield "its key may be used for more than digital signatures"
    usages = extended_usages(certificate)
    if usages != (ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string,):
        yield f"its extended key usages are {list(usages)}, not clientAuth alone"


def is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's key signed it, and it names that authority."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def subject_of(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """(users, groups, other attributes as `name=value`) of a certificate's subject."""
    users, groups, rest = [], [], []
    for attribute in certificate.subject:
        text = attribute.value if isinstance(attribute.value, str) else attribute.value.hex()
        if attribute.oid == NameOID.COMMON_NAME:
            users.append(text)
        elif attribute.oid == NameOID.ORGANIZATION_NAME:
            groups.append(text)
        else:
            rest.append(f"{attribute.rfc4514_attribute_name}={text}")
    return tuple(users), tuple(groups), tuple(rest)


def extended_usages(certificate: x509.Certificate) -> tuple[str, ...]:
    """The dotted OIDs of the extended key usages; empty where the extension is absent."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(usage.dotted_string for usage in found)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate in hex, as `credential-id` of the API server's audit events holds it
    (https://kubernetes.io/docs/reference/access-authn-authz/authentication/)."""
    return certificate.fingerprint(hashes.SHA256()).hex()
