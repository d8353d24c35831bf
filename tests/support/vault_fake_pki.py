"""The PKI engine of the Vault stand-in: roles, the root, and what `sign` makes of a request.

It reproduces the traps that a client has to withstand, as Vault 1.21 has them: names match in any case, `disabled`
validations skip the list of names, `not_after` passes by `max_ttl`, an excess `ttl` is cut and not refused, a CN
becomes an alternative name unless told otherwise, and a leaf may not begin before its issuer.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROLE_DEFAULTS: dict[str, Any] = {
    "allow_any_name": False,
    "allow_bare_domains": False,
    "allow_glob_domains": False,
    "allow_ip_sans": True,
    "allow_localhost": True,
    "allow_subdomains": False,
    "allow_wildcard_certificates": True,
    "allowed_domains": [],
    "allowed_domains_template": False,
    "allowed_other_sans": [],
    "allowed_serial_numbers": [],
    "allowed_uri_sans": [],
    "allowed_uri_sans_template": False,
    "allowed_user_ids": [],
    "basic_constraints_valid_for_non_ca": False,
    "client_flag": True,
    "cn_validations": ["email", "hostname"],
    "code_signing_flag": False,
    "email_protection_flag": False,
    "enforce_hostnames": True,
    "ext_key_usage": [],
    "generate_lease": False,
    "issuer_ref": "default",
    "key_bits": 2048,
    "key_type": "rsa",
    "key_usage": ["DigitalSignature", "KeyAgreement", "KeyEncipherment"],
    "max_ttl": 0,
    "no_store": False,
    "not_after": "",
    "not_before_duration": 30,
    "organization": [],
    "ou": [],
    "require_cn": True,
    "serial_number_source": "json-csr",
    "server_flag": True,
    "signature_bits": 256,
    "ttl": 0,
    "use_csr_common_name": True,
    "use_csr_sans": True,
}
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]*[a-z0-9])?)*", re.IGNORECASE)


class Refused(Exception):
    """A 400 with these words."""


def seconds(value: Any) -> int:
    """`16h`, `57600s` or a number, in seconds."""
    text = str(value or 0)
    units = {"s": 1, "m": 60, "h": 3600}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def flag(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() in ("true", "1")


@dataclass
class Pki:
    """One mount; `max_lease_ttl` is the mount's, in seconds."""

    max_lease_ttl: int = 32 * 86400
    key: ec.EllipticCurvePrivateKey | None = None
    certificate: x509.Certificate | None = None
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)

    def generate_root(self, body: dict[str, Any]) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, body["common_name"])])
        lifetime = min(seconds(body.get("ttl")) or self.max_lease_ttl, self.max_lease_ttl)
        public = self.key.public_key()
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=seconds(body.get("not_before_duration", 30))))
            .not_valid_after(now + timedelta(seconds=lifetime))
            .add_extension(x509.BasicConstraints(ca=True, path_length=body.get("max_path_length")), critical=True)
            .add_extension(_usage(["CertSign", "CRLSign"]), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode().strip() if self.certificate else ""

    def write_role(self, name: str, body: dict[str, Any]) -> None:
        """A POST sets every field that it leaves out back to its default."""
        role = ROLE_DEFAULTS | body
        for item in ("ttl", "max_ttl", "not_before_duration"):
            role[item] = seconds(role[item])
        self.roles[name] = role

    def sign(self, role: dict[str, Any], body: dict[str, Any], alias: dict[str, str]) -> dict[str, Any]:
        """`alias` is the caller's name by accessor of the auth mount."""
        if self.key is None or self.certificate is None:
            raise Refused("unable to use issuer: no default issuer currently configured")
        try:
            request = x509.load_pem_x509_csr(str(body.get("csr", "")).encode())
        except ValueError as failure:
            raise Refused("csr contains no data") from failure
        if not request.is_signature_valid:
            raise Refused("request signature invalid")
        _check_key(role, request.public_key())
        user = str(body.get("common_name", ""))
        if role["use_csr_common_name"]:
            user = next((str(a.value) for a in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)), user)
        if role["require_cn"] and not user:
            raise Refused("the common_name field is required")
        sans = [part.strip() for part in str(body.get("alt_names", "")).split(",") if part.strip()]
        if role["use_csr_sans"]:
            sans += _dns_names(request)
        addresses = [part.strip() for part in str(body.get("ip_sans", "")).split(",") if part.strip()]
        if not _allowed(role, user, alias, is_cn=True):
            raise Refused(f"common name {user} not allowed by this role")
        for item in sans:
            if not _allowed(role, item, alias, is_cn=False):
                raise Refused(f"subject alternate name {item} not allowed by this role")
        if addresses and not role["allow_ip_sans"]:
            raise Refused(f"IP Subject Alternative Names are not allowed in this role, but was provided {addresses}")
        if not flag(body.get("exclude_cn_from_sans", False)) and _HOSTNAME.fullmatch(user):
            sans.append(user)
        names = [*map(x509.DNSName, sans), *(x509.IPAddress(ipaddress.ip_address(item)) for item in addresses)]
        return {"certificate": self._leaf(role, body, request.public_key(), user, names)}

    def _leaf(
        self, role: dict[str, Any], body: dict[str, Any], key: Any, user: str, names: list[x509.GeneralName]
    ) -> str:
        assert self.key is not None
        assert self.certificate is not None
        now = datetime.now(UTC).replace(microsecond=0)
        most = min(role["max_ttl"] or self.max_lease_ttl, self.max_lease_ttl)
        wanted = seconds(body.get("ttl")) or role["ttl"] or most
        end = now + timedelta(seconds=min(wanted, most))
        if body.get("not_after") and body.get("ttl"):
            raise Refused(
                "Either ttl or not_after should be provided. Both should not be provided in the same request."
            )
        if body.get("not_after"):  # passes by max_ttl: what a policy's allowed_parameters must close
            end = datetime.fromisoformat(str(body["not_after"]))
        start = now - timedelta(seconds=role["not_before_duration"])
        if start < self.certificate.not_valid_before_utc:
            raise Refused("notBefore before signer's notBefore")
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, item) for item in role["organization"]]
        usages = []
        if role["server_flag"]:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        if role["client_flag"]:
            usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
        own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([*subject, x509.NameAttribute(NameOID.COMMON_NAME, user)]))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(_usage(role["key_usage"]), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode().strip()


def _allowed(role: dict[str, Any], name: str, alias: dict[str, str], *, is_cn: bool) -> bool:
    validations = role["cn_validations"]
    if is_cn and validations == ["disabled"]:
        return True
    base = name
    if "@" in name:
        # The part before the @ is not looked at.
        if is_cn and "email" not in validations:
            return False
        base = name.rpartition("@")[2]
    elif is_cn and "hostname" not in validations:
        return False
    if role["enforce_hostnames"] and not _HOSTNAME.fullmatch(base):
        return False
    if role["allow_any_name"] or (role["allow_localhost"] and base == "localhost"):
        return True
    for domain in role["allowed_domains"]:
        if role["allowed_domains_template"]:
            found = re.fullmatch(r"\{\{identity\.entity\.aliases\.([^.]+)\.name\}\}", domain)
            domain = alias.get(found[1], "") if found else domain
        if not domain:
            continue
        if role["allow_bare_domains"] and base.lower() == domain.lower():
            return True
        if role["allow_subdomains"] and base.lower().endswith(f".{domain.lower()}"):
            return True
    return False


def _dns_names(request: x509.CertificateSigningRequest) -> list[str]:
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(found.get_values_for_type(x509.DNSName))


def _check_key(role: dict[str, Any], key: Any) -> None:
    kind = "ec" if isinstance(key, ec.EllipticCurvePublicKey) else "rsa" if isinstance(key, rsa.RSAPublicKey) else ""
    if role["key_type"] not in ("any", kind):
        raise Refused(f"role requires keys of type {role['key_type']}")
    if role["key_type"] != "any" and role["key_bits"] and key.key_size < role["key_bits"]:
        raise Refused(f"role requires a minimum of a {role['key_bits']}-bit key, but CSR's key is {key.key_size} bits")


def _usage(words: list[str]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="DigitalSignature" in words,
        content_commitment=False,
        key_encipherment="KeyEncipherment" in words,
        data_encipherment=False,
        key_agreement="KeyAgreement" in words,
        key_cert_sign="CertSign" in words,
        crl_sign="CRLSign" in words,
        encipher_only=False,
        decipher_only=False,
    )
