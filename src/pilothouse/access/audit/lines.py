"""A line of an audit log as a record.

Vault: https://developer.hashicorp.com/vault/docs/audit, API server:
https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from pilothouse.access.audit.model import ClusterRecord, Kind, Record, VaultRecord
from pilothouse.access.certificates import fingerprint

CREDENTIAL = "authentication.kubernetes.io/credential-id"
"""The field of `user.extra`: https://kubernetes.io/docs/reference/access-authn-authz/authentication/ (from 1.32)."""
_X509 = "X509SHA256="
_HMAC = "hmac-sha256:"
_STAGES = ("ResponseStarted", "ResponseComplete", "Panic")
_LONGEST = 500


def kind_of(line: bytes) -> Kind | None:
    """Which program wrote it; None where that cannot be said."""
    try:
        held = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(held, dict):
        return None
    if str(held.get("apiVersion", "")).startswith("audit.k8s.io/"):
        return Kind.KUBERNETES
    return Kind.VAULT if held.get("type") in ("request", "response") and "request" in held else None


def parse(kind: Kind, line: bytes) -> Record | None:
    """The record; None for a line that is whole and of no use. `ValueError` says what is wrong with it."""
    try:
        held = json.loads(line)
    except RecursionError as failure:
        raise ValueError("it is nested too deeply") from failure
    except ValueError as failure:
        raise ValueError("it is no JSON") from failure
    if not isinstance(held, dict):
        raise ValueError("it is no JSON object")
    return _vault(held) if kind is Kind.VAULT else _cluster(held)


# ---------------------------------------------------------------- Vault


def _vault(held: Mapping[str, Any]) -> VaultRecord | None:
    kind = held.get("type")
    if kind not in ("request", "response"):
        raise ValueError("its type is neither request nor response")
    asked, auth = _mapping(held, "request"), _mapping(held, "auth")
    if not (request_id := _text(asked, "id")):
        raise ValueError("it has no request.id")
    path = _text(asked, "path")
    user, workload = _vault_user(auth)
    data = _mapping(_mapping(held, "response"), "data")
    serial, print_, hidden = _signed(data)
    name = _text(_mapping(asked, "data"), "common_name")
    return VaultRecord(
        request_id=request_id,
        type=str(kind),
        at=moment(held.get("time")),
        operation=_text(asked, "operation"),
        path=path,
        mount=_text(asked, "mount_point").rstrip("/") or path.split("/")[0],
        user=user,
        entity=_text(auth, "entity_id"),
        workload=workload,
        address=_text(asked, "remote_address"),
        error=_text(held, "error"),
        common_name="" if name.startswith(_HMAC) else name,
        serial=serial,
        fingerprint=print_,
        hidden=hidden,
    )


def _vault_user(auth: Mapping[str, Any]) -> tuple[str, bool]:
    """(name, whether a workload): of the login's metadata, which each login method fills in its own way."""
    metadata = _mapping(auth, "metadata")
    account, namespace = _text(metadata, "service_account_name"), _text(metadata, "service_account_namespace")
    if account and namespace:
        return f"{namespace}/{account}", True
    return _text(metadata, "username") or _text(auth, "display_name"), False


def _signed(data: Mapping[str, Any]) -> tuple[str, str, bool]:
    """(serial, fingerprint, hidden) of what Vault signed, where it signed anything."""
    pem, shown = data.get("certificate"), data.get("serial_number")
    if not isinstance(shown, str) and not isinstance(pem, str):
        return "", "", False
    hidden = any(isinstance(value, str) and value.startswith(_HMAC) for value in (pem, shown))
    serial = serial_of(shown) if isinstance(shown, str) and not shown.startswith(_HMAC) else ""
    if isinstance(pem, str) and pem.startswith("-----BEGIN"):
        try:
            leaf = x509.load_pem_x509_certificate(pem.encode())
        except ValueError:
            return serial, "", hidden
        return str(leaf.serial_number), fingerprint(leaf), hidden and not serial
    return serial, "", hidden and not serial


def serial_of(text: str) -> str:
    """A serial in decimal: from Vault's `3a:0f:…` or from decimal; "" for anything else."""
    text = text.strip().lower()
    if text.isdecimal() and text.isascii() and len(text) <= 50:
        return text
    digits = text.replace(":", "")
    if ":" in text and digits and len(digits) <= 40 and set(digits) <= set("0123456789abcdef"):
        return str(int(digits, 16))
    return ""


# ---------------------------------------------------------------- Kubernetes


def _cluster(held: Mapping[str, Any]) -> ClusterRecord | None:
    if not str(held.get("apiVersion", "")).startswith("audit.k8s.io/") or held.get("kind") != "Event":
        raise ValueError("it is no event of audit.k8s.io")
    if held.get("stage") not in _STAGES:
        return None  # RequestReceived says nothing that a later stage does not
    if not (audit_id := _text(held, "auditID")):
        raise ValueError("it has no auditID")
    user = _mapping(held, "user")
    what, status = _mapping(held, "objectRef"), _mapping(held, "responseStatus")
    resource = _text(what, "resource")
    if resource and (group := _text(what, "apiGroup")):
        resource += f".{group}"
    if resource and (sub := _text(what, "subresource")):
        resource += f"/{sub}"
    at = moment(held.get("requestReceivedTimestamp"))
    addresses, groups = held.get("sourceIPs"), user.get("groups")
    return ClusterRecord(
        audit_id=audit_id,
        stage=str(held["stage"]),
        at=at,
        ended=moment(held["stageTimestamp"]) if held.get("stageTimestamp") else at,
        user=_text(user, "username"),
        groups=tuple(_clean(item) for item in groups if isinstance(item, str)) if isinstance(groups, list) else (),
        verb=_text(held, "verb"),
        resource=resource or _text(held, "requestURI").split("?")[0],
        namespace=_text(what, "namespace"),
        name=_text(what, "name"),
        # The last one is the connection's own; those before it are what headers say, which anybody may send.
        address=str(addresses[-1])[:64] if isinstance(addresses, list) and addresses else "",
        agent=_text(held, "userAgent"),
        code=int(status["code"]) if isinstance(status.get("code"), int) else 0,
        fingerprint=_credential(_mapping(user, "extra")),
        uri=_text(held, "requestURI"),
    )


def _credential(extra: Mapping[str, Any]) -> str:
    found = extra.get(CREDENTIAL)
    for value in found if isinstance(found, list) else ():
        if isinstance(value, str) and value.startswith(_X509):
            return value.removeprefix(_X509).lower()[:64]
    return ""


# ---------------------------------------------------------------- parts


def _mapping(held: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = held.get(key)
    return found if isinstance(found, dict) else {}


def _text(held: Mapping[str, Any], key: str) -> str:
    """A text, cut, without what a terminal or PostgreSQL would trip over."""
    found = held.get(key)
    if not isinstance(found, str):
        return ""
    return _clean(found)


def _clean(text: str) -> str:
    text = text[:_LONGEST]
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else "\ufffd" for mark in text)


def moment(value: Any) -> datetime:
    """An aware UTC moment from RFC 3339, with up to nine digits of a second; `ValueError` where it is none."""
    if not isinstance(value, str):
        raise ValueError("it has no time")
    head, dot, rest = value.partition(".")
    if dot:  # Vault writes nanoseconds, with trailing zeros cut
        digits = len(rest) - len(rest.lstrip("0123456789"))
        head += f".{rest[:digits][:6].ljust(6, '0')}"
        value = head + rest[digits:]
    try:
        found = datetime.fromisoformat(value)
    except ValueError as failure:
        raise ValueError(f"its time {value[:40]!r} cannot be read") from failure
    if found.tzinfo is None:
        raise ValueError("its time has no zone")
    return found.astimezone(UTC)
