"""The self-test where Vault signs: the known escapes, tried at the live mount with a token such as engineers have.

What would change something if it worked is not tried: Vault is asked whether the token may. A token that may set
Vault up is refused. Keys are made for the attempt and thrown away, certificates last a minute at most where Vault
keeps to what is asked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pilothouse.access import certificates, escapes, vault
from pilothouse.access import content as vault_content
from pilothouse.access.certificates import Template
from pilothouse.access.escapes import Attempt, Outcome, Report, Try
from pilothouse.inputs import Content
from pilothouse.platform.model import Endpoint, Platform
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError

TTL = "60s"
SKEW = timedelta(seconds=60)
NOWHERE = Endpoint("http://127.0.0.1:1")
"""An address where nothing listens: what is refused by a client of it was refused before anything was sent."""


class Mount(Protocol):
    """`clients.vault.VaultClient` with the token that is tested."""

    def read(self, path: str) -> dict[str, Any] | None: ...
    def write(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]: ...
    def authority(self, mount: str) -> str: ...
    def sign(self, token: str, mount: str, role: str, csr: str, common_name: str, seconds: int) -> str: ...
    def login_ldap(self, mount: str, user: str, password: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Place:
    """What the attempts need to know: the mount, its authority, whose token it is, the clock's moment."""

    client: Mount
    mount: str
    login: str
    authority: x509.Certificate
    user: str
    key: ec.EllipticCurvePrivateKey
    now: datetime

    def wanted(self, role: vault.PkiRole) -> Template:
        """The most that a certificate under that role may say."""
        latest = self.now + timedelta(seconds=role.profile.max_lifetime) + SKEW
        return Template(self.user, (role.group,), self.key.public_key(), 1, self.now, latest)

    def sign(self, role: str, body: Mapping[str, Any] | None = None, csr: str = "") -> x509.Certificate:
        fields: dict[str, Any] = {
            "csr": csr or request(self.key),
            "common_name": self.user,
            "ttl": TTL,
            "exclude_cn_from_sans": "true",
        } | dict(body or {})
        answer = self.client.write(
            f"{self.mount}/sign/{role}", {name: value for name, value in fields.items() if value is not None}
        )
        return x509.load_pem_x509_certificate(str(answer.get("certificate", "")).encode())


def vault_mount(
    client: Mount, unreachable: Mount, platform: Platform, name: str, content: Content, now: datetime, user: str = ""
) -> Report:
    """Try every escape with the client's token. `unreachable` is a client of an address where nothing listens: what it
    refuses was refused before anything was sent. `user` is whose token it is (default: as Vault has it).
    """
    cluster = platform.clusters[name]
    settings, _ = vault_content.read(content)
    if settings is None:
        return _untested(cluster.name, "the folder secrets/vault has errors: run `pilothouse check`")
    mount = vault.mount(cluster, settings)
    try:
        known = client.read("auth/token/lookup-self") or {}
        user = user or str((known.get("meta") or {}).get("username") or "")
        held = {str(item) for item in (*(known.get("policies") or ()), *(known.get("identity_policies") or ()))}
        roles = {role.name: role for role in vault.roles(platform, cluster, settings)}
        reached = _capabilities(client, (f"{mount}/sign/{name}" for name in roles))
        admin = _capabilities(client, ("sys/mounts/x", "sys/policies/acl/x"))
        pem = client.authority(mount)
        authority = x509.load_pem_x509_certificate(pem.encode()) if pem else None
    except PilothouseError as failure:
        return _untested(cluster.name, failure.message)
    except ValueError:
        return _untested(cluster.name, f"what Vault has as authority of `{mount}` cannot be read")
    if "root" in held or any(found != {"deny"} for found in admin.values()):
        return _untested(cluster.name, "the token may change Vault itself; an engineer's own is needed")
    if authority is None:
        return _untested(cluster.name, f"Vault has no authority in `{mount}`")
    if not user:
        return _untested(cluster.name, "whose token it is cannot be seen: name the user")
    place = Place(
        client,
        mount,
        cluster.authority.login,
        authority,
        user,
        ec.generate_private_key(ec.SECP256R1()),
        now.replace(microsecond=0),
    )
    mine = [role for role in roles.values() if reached[f"{mount}/sign/{role.name}"] != {"deny"}]
    attempts = [*_roles(place, mine, held)]
    signing = []
    for role in mine:
        ordinary = _ordinary(place, role)
        if ordinary is not None:
            attempts.append(ordinary)
            signing.append(role)
    if not signing:
        return _untested(cluster.name, f"the token of {user} signs under no role of `{mount}`: nothing can be held")
    for role in signing:
        attempts += _role(place, role)
    attempts += _paths(place, signing[0].name)
    attempts += [_name(place, unreachable, name, what) for name in escapes.LEAVING for what in ("user", "role")]
    attempts.append(_tried(lambda: _without_token(place, signing[0].name), "token", "no token", Outcome.OPEN))
    order = list(escapes.TITLES)
    attempts.sort(key=lambda item: order.index(item.escape))
    return Report(cluster.name, "vault", tuple(attempts))


def _untested(cluster: str, why: str) -> Report:
    return Report(cluster, "vault", untested=why)


def _capabilities(client: Mount, paths: Iterable[str]) -> dict[str, set[str]]:
    """What the token may on each path (https://developer.hashicorp.com/vault/api-docs/system/capabilities-self)."""
    wanted = tuple(paths)
    if not wanted:
        return {}
    found = client.write("sys/capabilities-self", {"paths": list(wanted)})
    return {path: {str(item) for item in found.get(path) or ("unknown",)} for path in wanted}


# ---------------------------------------------------------------- signatures


def _roles(place: Place, mine: list[vault.PkiRole], held: set[str]) -> Iterator[Attempt]:
    """A role that is reached without its own policy is reached by a way that nobody meant."""
    cluster = place.mount
    for role in mine:
        named = any(policy.endswith(f".profile.{role.name}") for policy in held)
        yield Attempt(
            "other-role",
            f"sign/{role.name}",
            Outcome.REFUSED if named else Outcome.OPEN,
            "its policy is the token's own" if named else f"reached in {cluster} without its policy",
        )


def _ordinary(place: Place, role: vault.PkiRole) -> Attempt | None:
    """What came of an ordinary request, None where it was not signed: a refusal of anything else says nothing then."""
    try:
        leaf = place.sign(role.name)
    except (PilothouseError, ValueError):
        return None
    excess = _excess(place, leaf, role)
    outcome = Outcome.OPEN if excess else Outcome.HARMLESS
    how = "; ".join(excess) or "signed, as its profile says"
    return Attempt("role", f"{role.name}: an ordinary request", outcome, how, str(leaf.serial_number))


def _role(place: Place, role: vault.PkiRole) -> Iterator[Attempt]:
    far = f"{place.now + timedelta(days=300):%Y-%m-%dT%H:%M:%SZ}"
    for one in escapes.signature_tries(place.user, far):
        yield _signature(place, role, one)
    for what, csr in hostile_requests(place.key, place.user):
        yield _signature(place, role, Try("csr", what), csr=csr)
    for what, key in other_keys():
        yield _signature(place, role, Try("key", what, refuse=True), csr=request(key))


def _signature(place: Place, role: vault.PkiRole, one: Try, csr: str = "") -> Attempt:
    tried = f"{role.name}: {one.tried}"
    try:
        leaf = place.sign(role.name, one.body, csr)
    except (Denied, Invalid, Conflict) as refused:
        return Attempt(one.escape, tried, Outcome.REFUSED, _said(refused))
    except (PilothouseError, ValueError) as failure:
        return Attempt(one.escape, tried, Outcome.UNTRIED, str(failure))
    excess = _excess(place, leaf, role)
    serial = str(leaf.serial_number)
    if one.refuse:
        return Attempt(one.escape, tried, Outcome.OPEN, "it was signed", serial)
    if not excess:
        return Attempt(one.escape, tried, Outcome.HARMLESS, _harmless(one, leaf, place.now), serial)
    if one.escape == "name-case" and len(excess) == 1:
        how = f"Vault does not tell cases apart, pilothouse does: {excess[0]}"
        return Attempt(one.escape, tried, Outcome.WITHHELD, how, serial)
    return Attempt(one.escape, tried, Outcome.OPEN, "; ".join(excess), serial)


def _excess(place: Place, leaf: x509.Certificate, role: vault.PkiRole) -> tuple[str, ...]:
    """What the certificate says beyond the profile, by the check that every certificate has to pass."""
    return tuple(item.message for item in certificates.verify_issued(leaf, place.wanted(role), place.authority))


def _harmless(one: Try, leaf: x509.Certificate, now: datetime) -> str:
    if one.escape == "ttl":
        hours = (leaf.not_valid_after_utc - now).total_seconds() / 3600
        return f"signed, and cut to {hours:.1f} h"
    return "signed, with nothing of it in the certificate"


def _said(refused: PilothouseError) -> str:
    """The end of what the client says: the server's own words, else its status."""
    return refused.message.partition(" answered ")[2].replace(" to POST ", " at ") or refused.message


# ---------------------------------------------------------------- other doors


def _paths(place: Place, role: str) -> Iterator[Attempt]:
    body = {"csr": request(place.key), "common_name": place.user, "ttl": TTL, "exclude_cn_from_sans": "true"}
    for escape, path in escapes.other_paths(role):

        def door(path: str = path) -> object:
            return place.client.write(f"{place.mount}/{path}", body)

        yield _tried(door, escape, path, Outcome.OPEN)
    asked = escapes.changing_paths(place.mount, role, place.login)
    try:
        found = _capabilities(place.client, (path for _, path in asked))
    except PilothouseError as failure:
        yield Attempt("mount", "capabilities of the token", Outcome.UNTRIED, failure.message)
        return
    for escape, path in asked:
        closed = found[path] == {"deny"}
        how = "the token may nothing there" if closed else f"the token may {', '.join(sorted(found[path]))}"
        yield Attempt(escape, path, Outcome.REFUSED if closed else Outcome.OPEN, how)


def _tried(call: Any, escape: str, tried: str, otherwise: Outcome) -> Attempt:
    """Refused, or `otherwise` where the call went through; what it answered is not looked at and not kept."""
    try:
        call()
    except (Denied, Invalid, Conflict) as refused:
        return Attempt(escape, tried, Outcome.REFUSED, _said(refused))
    except PilothouseError as failure:
        return Attempt(escape, tried, Outcome.UNTRIED, failure.message)
    return Attempt(escape, tried, otherwise, "it was answered")


def _name(place: Place, unreachable: Mount, name: str, what: str) -> Attempt:
    """`Invalid` comes before a connection is made; anything else means that the name was sent."""
    try:
        if what == "user":
            unreachable.login_ldap(place.login, name, "no password of anybody")
        else:
            unreachable.sign("no token", place.mount, name, "no request", place.user, 60)
    except Invalid as refused:
        return Attempt("path", f"{what} {name}", Outcome.REFUSED, f"not sent: {refused.message}")
    except PilothouseError as failure:
        return Attempt("path", f"{what} {name}", Outcome.OPEN, f"it was sent: {failure.message}")
    return Attempt("path", f"{what} {name}", Outcome.OPEN, "it was sent")


def _without_token(place: Place, role: str) -> str:
    return place.client.sign("", place.mount, role, request(place.key), place.user, 60)


# ---------------------------------------------------------------- signing requests


def request(
    key: CertificateIssuerPrivateKeyTypes, *extensions: x509.ExtensionType, name: x509.Name | None = None
) -> str:
    """A signing request with that key, in PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name or x509.Name([]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode("ascii")


def hostile_requests(key: CertificateIssuerPrivateKeyTypes, user: str) -> tuple[tuple[str, str], ...]:
    """(what it asks for, the request in PEM): each thing that a signing request can ask for, and all at once."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "system:admin"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
        ]
    )
    address = x509.IPAddress(ipaddress.ip_address("10.0.0.1"))
    extensions: dict[str, x509.ExtensionType] = {
        f"the DNS name {user}": x509.SubjectAlternativeName([x509.DNSName(user)]),
        "the DNS name kubernetes.default": x509.SubjectAlternativeName([x509.DNSName("kubernetes.default")]),
        "a mail address": x509.SubjectAlternativeName([x509.RFC822Name("root@bank.example")]),
        "an IP address": x509.SubjectAlternativeName([address]),
        "a URI": x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://x")]),
        "to be an authority": x509.BasicConstraints(ca=True, path_length=3),
        "to be a server": x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CODE_SIGNING]),
    }
    together = (
        x509.SubjectAlternativeName(
            [x509.DNSName("kubernetes.default"), x509.RFC822Name("root@bank.example"), address]
        ),
        extensions["to be an authority"],
        extensions["to be a server"],
    )
    return (
        ("user system:admin and group system:masters", request(key, name=name)),
        *((what, request(key, extension)) for what, extension in extensions.items()),
        ("all of it", request(key, *together, name=name)),
    )


def other_keys() -> tuple[tuple[str, CertificateIssuerPrivateKeyTypes], ...]:
    """Keys that a Vault role of ours takes none of."""
    return (
        ("RSA of 2048 bits", rsa.generate_private_key(65537, 2048)),
        ("P-224", ec.generate_private_key(ec.SECP224R1())),
    )
