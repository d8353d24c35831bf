"""What a certificate is, in words: whose, for what, until when, and what is odd about it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pilothouse.access import certificates, words
from pilothouse.access.names import GroupName, is_system
from pilothouse.problems import Invalid
from pilothouse.source import plain

MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Inspected:
    """`source` says where in the file it stood; `oddities` say what a certificate of ours would not have."""

    source: str
    user: str
    groups: tuple[str, ...]
    issuer: str
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    profiles: tuple[GroupName, ...]
    sentences: tuple[str, ...]
    oddities: tuple[str, ...]


def inspect(text: str, now: datetime) -> tuple[Inspected, ...]:
    """Every certificate of a PEM file or of a kubeconfig; `Invalid` where there is none."""
    if len(text) > MAX_BYTES:
        raise Invalid("the file is too large for a certificate or a kubeconfig")
    if "-----BEGIN CERTIFICATE-----" in text:
        found = [("", certificate) for certificate in _load(text.encode())]
    else:
        found = list(_kubeconfig(text))
    if not found:
        raise Invalid(
            "there is no certificate in this file",
            "it asks pilothouse for one: without a file, `pilothouse access inspect` shows those you hold"
            if re.search(r"^ *- \"?credential\"?$", text, re.MULTILINE)
            else "give a PEM certificate, or a kubeconfig with `client-certificate-data`",
        )
    return tuple(_one(source, certificate, now) for source, certificate in found)


def _load(data: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as failure:
        raise Invalid("the certificate cannot be read", "is the file complete?") from failure


def _kubeconfig(text: str) -> Iterator[tuple[str, x509.Certificate]]:
    try:
        config = plain(text)
    except yaml.YAMLError as failure:
        raise Invalid("this is neither a PEM certificate nor a kubeconfig") from failure
    users = config.get("users") if isinstance(config, dict) else None
    for item in users if isinstance(users, list) else ():
        user = item.get("user") if isinstance(item, dict) else None
        data = user.get("client-certificate-data") if isinstance(user, dict) else None
        if isinstance(data, str):
            try:
                decoded = base64.b64decode(data, validate=True)
            except binascii.Error as failure:
                raise Invalid(f"the certificate of user {item.get('name')} is no base64") from failure
            for certificate in _load(decoded):
                yield f"user {item.get('name', '')}", certificate


def _one(source: str, certificate: x509.Certificate, now: datetime) -> Inspected:
    users, groups, _ = certificates.subject_of(certificate)
    profiles = tuple(name for name in map(GroupName.parse, groups) if name)
    issuer = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    serial = certificate.serial_number
    return Inspected(
        source=source,
        user=users[0] if users else "",
        groups=groups,
        issuer=str(issuer[0].value) if issuer else certificate.issuer.rfc4514_string(),
        serial=str(serial),
        fingerprint=certificates.fingerprint(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        profiles=profiles,
        sentences=tuple(_sentences(certificate, users, groups, profiles, now)),
        oddities=tuple(_oddities(certificate, users, groups)),
    )


def _sentences(
    certificate: x509.Certificate,
    users: tuple[str, ...],
    groups: tuple[str, ...],
    profiles: tuple[GroupName, ...],
    now: datetime,
) -> Iterator[str]:
    yield f"Whoever holds its key is user `{users[0]}` to the cluster." if users else "It names no user."
    for name in profiles:
        if name.request:
            yield f"Group `{name}`: request {name.request} for an elevated profile; it is bound while that is claimed."
            continue
        kind = "the elevated profile" if name.elevated else "the profile"
        where = f" in the namespaces of team {name.team}" if name.team else ""
        generation = f", generation {name.generation}" if name.generation else ""
        yield f"Group `{name}`: {kind} {name.profile}{where}{generation}."
    others = [group for group in groups if GroupName.parse(group) is None]
    if others:
        yield f"Further groups: {', '.join(f'`{group}`' for group in others)}."
    yield _validity(certificate, now)
    if certificates.extended_usages(certificate) == (ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string,):
        yield "It can log in and nothing else."


def _validity(certificate: x509.Certificate, now: datetime) -> str:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        return f"It is not valid yet: it begins in {words.remaining(begin - now)}."
    if now >= end:
        return f"It ended {words.remaining(now - end)} ago, at {end:%Y-%m-%d %H:%M} UTC."
    return f"It ends in {words.remaining(end - now)}, at {end:%Y-%m-%d %H:%M} UTC."


def _oddities(certificate: x509.Certificate, users: tuple[str, ...], groups: tuple[str, ...]) -> Iterator[str]:
    for name in (*users, *groups):
        if is_system(name):
            yield f"`{name}` is Kubernetes' own; `system:masters` passes by every rule."
    if len(users) > 1:
        yield f"It names {len(users)} users."
    if any("," in group for group in groups):
        yield "A group holds a comma: to Kubernetes that is one group, not several."
    try:
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        yield "It carries alternative names, which a client certificate does not need."
    except x509.ExtensionNotFound:
        pass
    usages = certificates.extended_usages(certificate)
    if usages and ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string not in usages:
        yield "It may not be used to log in: clientAuth is missing, and the API server refuses it."
    if ExtendedKeyUsageOID.SERVER_AUTH.dotted_string in usages:
        yield "It may also be used as a server's certificate."
    try:
        if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            yield "It is an authority: its key can sign certificates."
    except x509.ExtensionNotFound:
        pass
