"""What the exec plugin answers, and how a certificate is got and renewed on an engineer's machine.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from pilothouse.files.wallet import EXEC_VERSIONS, Credential, Wallet
from pilothouse.problems import Denied, Invalid, Unavailable

if TYPE_CHECKING:
    from pilothouse.clients.portal import Signed  # loads what a credential from the disk does not need

AGAIN = timedelta(minutes=1)
"""How long a portal that did not answer is left alone, while the kept certificate is good."""
MARGIN = timedelta(minutes=1)
"""A certificate that ends sooner is renewed, so that no request is under way when it does."""


class Portal(Protocol):
    def certificate(
        self, profile: str, cluster: str, csr: str, seconds: int = 0, team: str = "", vault_token: str = ""
    ) -> Signed: ...
    def claim(self, id: str, csr: str) -> Signed: ...


def make_key(user: str) -> tuple[str, str]:
    """A new P-256 key and its signing request, both PEM. The key is written nowhere but into the wallet."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user[:64] or "engineer")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return pem, request.public_bytes(Encoding.PEM).decode()


def obtain(wallet: Wallet, user: str, sign: Callable[[str], Signed], team: str = "") -> Credential:
    """Make a key, have it signed, check that the answer holds it, keep both. `team` is the one that was asked for."""
    key, csr = make_key(user)
    signed = sign(csr)
    issued = signed.issued
    begun = _check(csr, issued.pem)
    credential = Credential(
        cluster=issued.cluster,
        profile=issued.profile,
        user=issued.user,
        key=key,
        certificate=issued.pem,
        authority=issued.authority,
        serial=issued.serial,
        not_after=issued.not_after,
        server=signed.server,
        grant_id=issued.grant_id,
        team=team,
        renew_at=_renew_at(begun, issued.not_after, issued.renewed_until),
    )
    wallet.keep(credential)
    return credential


def _renew_at(begun: datetime, ends: datetime, until: datetime | None) -> datetime | None:
    """When the last quarter of its life begins: early enough that a portal which is away for minutes cuts nobody off.

    None where the login gets no longer one. Both moments are the authority's, so this machine's clock does not count.
    """
    if until is None or ends >= until:
        return None
    return ends - (ends - begun) / 4


def _check(csr: str, certificate: str) -> datetime:
    """`Invalid` unless the certificate is for the key of that request; when it was signed."""
    from cryptography import x509

    from pilothouse.access.certificates import BACKDATE

    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError as failure:
        raise Invalid("the portal sent what is no certificate") from failure
    if found.public_key() != x509.load_pem_x509_csr(csr.encode()).public_key():
        raise Invalid("the portal sent a certificate for another key", "do not use it; tell the platform team")
    return found.not_valid_before_utc + BACKDATE


def current(
    wallet: Wallet,
    cluster: str,
    profile: str,
    now: datetime,
    portal: Callable[[], Portal | None],
    team: str = "",
    vault_token: Callable[[], str] = str,
) -> Credential:
    """The credential to use now: the kept one, or for a standing profile a new one while the session lives.

    `vault_token` gives the engineer's token at the cluster's Vault, "" where there is none. `Denied` says what to run
    where neither is there. Two kubectl at once make one new certificate.

    One of a profile with `renewal` is renewed before it ends. A portal that does not answer then is asked again a
    little later, and the kept one used; one that refuses is believed at once.
    """
    found = wallet.credential(cluster, profile, team)
    if found and found.is_alive(now + MARGIN) and not found.is_due(now):
        return found
    with wallet.locked():
        found = wallet.credential(cluster, profile, team)
        kept = found if found and found.is_alive(now + MARGIN) else None
        if kept and not kept.is_due(now):
            return kept
        if found and found.grant_id:
            raise Denied(
                f"the elevated access to {cluster} as {profile} has ended",
                f"ask again: pilothouse access elevate {profile} --cluster {cluster}",
            )
        again = f"pilothouse access login && pilothouse access cert {profile} --cluster {cluster}"
        again += f" --team {team}" if team else ""
        client = portal()
        if client is None and kept:
            return kept  # the login is over, and this one is good to its end
        if client is None:
            raise Denied(f"there is no living certificate for {profile} on {cluster}", f"run `{again}`")
        try:
            return obtain(
                wallet,
                found.user if found else "",
                lambda csr: client.certificate(profile, cluster, csr, team=team, vault_token=vault_token()),
                team,
            )
        except Denied as failure:
            raise Denied(failure.message, failure.hint or f"run `{again}`") from failure
        except Unavailable:
            if kept is None:
                raise
            wallet.keep(replace(kept, renew_at=now + AGAIN))
            return kept


def exec_credential(credential: Credential, exec_info: str) -> dict[str, Any]:
    """The ExecCredential in the version that `KUBERNETES_EXEC_INFO` asks for (v1 where it is not set)."""
    return {
        "apiVersion": _version(exec_info),
        "kind": "ExecCredential",
        "status": {
            "clientCertificateData": credential.certificate,
            "clientKeyData": credential.key,
            "expirationTimestamp": credential.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    }


def _version(exec_info: str) -> str:
    if not exec_info:
        return EXEC_VERSIONS[0]
    try:
        wanted = json.loads(exec_info).get("apiVersion")
    except (ValueError, AttributeError) as failure:
        raise Invalid("KUBERNETES_EXEC_INFO cannot be read") from failure
    if wanted not in EXEC_VERSIONS:
        raise Invalid(f"kubectl asks for {wanted!r}", f"known: {', '.join(EXEC_VERSIONS)}")
    return str(wanted)
