"""Signing requests: only the public key of one is ever used.

Subject, groups, alternative names and extensions that a request asks for are not looked at, so they cannot
be smuggled into a certificate. What is checked: size, form, that the requester holds the key (the
signature), and that the key is of a kind and size that lasts a day.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pilothouse.problems import Invalid

MAX_BYTES = 8192
"""An RSA-4096 request takes about 1.7 kB."""
RSA_SIZES = (2048, 3072, 4096)

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Request:
    """The public key of a request, and its SHA-256 (of the SubjectPublicKeyInfo, hex) by which it is known again."""

    public_key: PublicKey
    spki_sha256: str


def parse(pem: str) -> Request:
    """The key of a CSR in PEM; `Invalid` says what is wrong with it."""
    if len(pem) > MAX_BYTES:
        raise Invalid(f"the signing request is larger than {MAX_BYTES} bytes", "paste the CSR alone")
    if "PRIVATE KEY" in pem:
        raise Invalid(
            "this holds a private key, which must never leave your machine",
            "make a new key, and send only the block CERTIFICATE REQUEST",
        )
    if pem.count("-----BEGIN") != 1 or "CERTIFICATE REQUEST-----" not in pem:
        raise Invalid("this is no signing request", "paste one block that begins with BEGIN CERTIFICATE REQUEST")
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii"))
        valid = request.is_signature_valid
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature, TypeError) as failure:
        raise Invalid("the signing request cannot be read", "make it anew with `pilothouse access cert`") from failure
    if not valid:
        raise Invalid("the signing request is not signed by its own key", "make it anew: it may have been altered")
    return Request(_accepted(key), spki(key))


def _accepted(key: object) -> PublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1):
            return key
        raise Invalid(f"keys on the curve {key.curve.name} are not accepted", "use P-256")
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in RSA_SIZES:
            raise Invalid(f"RSA keys of {key.key_size} bits are not accepted", "use P-256, or RSA of 2048 to 4096 bits")
        if key.public_numbers().e != 65537:
            raise Invalid("RSA keys need the public exponent 65537", "use P-256")
        return key
    raise Invalid(f"keys of the kind {type(key).__name__} are not accepted", "use P-256")


def spki(key: PublicKeyTypes) -> str:
    """SHA-256 of a public key's SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
