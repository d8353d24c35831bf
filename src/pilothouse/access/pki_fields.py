"""Which values of a PKI role's fields are safe, and which defaults of Vault are not
(https://developer.hashicorp.com/vault/api-docs/secret/pki#create-update-role)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# field → (Vault's default, is it safe, what an unsafe value does)
MUST: dict[str, tuple[Any, Callable[[Any], bool], str]] = {
    "allow_any_name": (False, lambda v: v is False, "any name can be signed"),
    "allow_subdomains": (False, lambda v: v is False, "`x.alice` can be signed for alice"),
    "allow_glob_domains": (False, lambda v: v is False, "names that match a pattern can be signed"),
    "allow_wildcard_certificates": (True, lambda v: v is False, "names with `*` can be signed"),
    "allow_localhost": (True, lambda v: v is False, "`localhost` can be signed"),
    "allow_ip_sans": (True, lambda v: v is False, "addresses can be put into the certificate"),
    "allowed_uri_sans": ([], lambda v: not v, "URIs can be put into the certificate"),
    "allowed_other_sans": ([], lambda v: not v, "other names can be put into the certificate"),
    "allowed_user_ids": ([], lambda v: not v, "a user id of the request's choice can be signed"),
    "allowed_serial_numbers": ([], lambda v: not v, "a serial number attribute of the request's choice can be signed"),
    "allowed_domains_template": (False, lambda v: v is True, "the name template is taken literally"),
    "allow_bare_domains": (False, lambda v: v is True, "the engineer's own name is refused"),
    "enforce_hostnames": (True, lambda v: v is True, "names are not checked"),
    "cn_validations": (
        ["email", "hostname"],
        lambda v: v == ["hostname"],
        "`disabled` skips allowed_domains, and `email` accepts `x@alice` for alice",
    ),
    "use_csr_common_name": (True, lambda v: v is False, "the CSR chooses the user name"),
    "use_csr_sans": (True, lambda v: v is False, "the CSR chooses alternative names"),
    "server_flag": (True, lambda v: v is False, "the certificate can serve as a server's"),
    "client_flag": (True, lambda v: v is True, "the certificate cannot log in"),
    "code_signing_flag": (False, lambda v: v is False, "the certificate can sign code"),
    "email_protection_flag": (False, lambda v: v is False, "the certificate can sign mail"),
    "ext_key_usage": ([], lambda v: not v, "further key usages are given"),
    "ext_key_usage_oids": ([], lambda v: not v, "further key usages are given"),
    "key_type": ("rsa", lambda v: v == "ec", "other kinds of keys are accepted"),
    "key_bits": (0, lambda v: v == 256, "keys of another size are accepted"),
    "key_usage": (
        ["DigitalSignature", "KeyAgreement", "KeyEncipherment"],
        lambda v: v == ["DigitalSignature"],
        "the key may be used for more than to log in",
    ),
    "basic_constraints_valid_for_non_ca": (False, lambda v: v is False, "constraints of authorities are written"),
    "require_cn": (True, lambda v: v is True, "a certificate without a user can be signed"),
    "not_before_duration": ("30s", lambda v: v in ("5m", "300s"), "clocks that are 5 minutes apart refuse it"),
    "no_store": (False, lambda v: v is False, "the serial is not kept and cannot be revoked"),
}

NEEDED = frozenset(field for field, (default, is_safe, _) in MUST.items() if not is_safe(default))
"""Fields that have to be given, since what Vault takes without them is not safe."""
