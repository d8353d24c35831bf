"""Profiles, keys and certificates for tests of access."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pilothouse.access.certificates import Template, create_authority
from pilothouse.platform.model import AccessProfile, RbacRule, Scope

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
READ_PODS = RbacRule(("",), ("pods", "pods/log"), ("get", "list", "watch"))


def profile(name: str = "developer", **fields: Any) -> AccessProfile:
    defaults: dict[str, Any] = {
        "title": name.capitalize(),
        "description": "",
        "groups": ("engineers",),
        "rules": () if fields.get("cluster_role") else (READ_PODS,),
    }
    return AccessProfile(name, **{**defaults, **fields})


def elevated(name: str = "cluster-admin", **fields: Any) -> AccessProfile:
    defaults: dict[str, Any] = {
        "groups": ("platform-admins",),
        "scope": Scope.CLUSTER,
        "cluster_role": "cluster-admin",
        "lifetime": 1800,
        "max_lifetime": 3600,
        "elevated": True,
        "approval": True,
        "approver_groups": ("platform-admins",),
    }
    return profile(name, **{**defaults, **fields})


@cache
def key(name: str = "leaf") -> ec.EllipticCurvePrivateKey:
    """A key per name, made once in a run."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def authority(name: str = "dev") -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    signing = key(f"authority {name}")
    return create_authority(f"{name} access", signing, 7, NOW - timedelta(days=30)), signing


def csr(signing: Any = None, common_name: str = "root", *extensions: x509.ExtensionType) -> str:
    """A signing request in PEM that asks for more than it will get."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
            ]
        )
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signing or key(), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def template(**fields: Any) -> Template:
    defaults: dict[str, Any] = {
        "user": "alice",
        "groups": ("ph:developer:payments",),
        "public_key": key().public_key(),
        "serial": 4711,
        "now": NOW,
        "not_after": NOW + timedelta(hours=16),
    }
    return Template(**{**defaults, **fields})
