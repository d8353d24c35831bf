"""Lines of audit logs, written by hand as Vault and an API server write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

BEGIN = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
PRINT = "ab" * 32
SERIAL = "3a:0f:77:12"
DECIMAL = str(int("3a0f7712", 16))


def stamp(minutes: float = 0) -> str:
    return (BEGIN + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def vault_line(minutes: float = 0, **more: Any) -> dict[str, Any]:
    """Alice signs under pki-vaulted; keys with `__` reach into parts, such as `request__path`."""
    line: dict[str, Any] = {
        "time": f"{stamp(minutes)[:-1]}123Z",  # nanoseconds
        "type": "response",
        "auth": {
            "client_token": "hmac-sha256:6a",
            "display_name": "ldap-alice",
            "entity_id": "11d3",
            "metadata": {"username": "alice"},
        },
        "request": {
            "id": f"7f1e-{minutes}",
            "operation": "update",
            "mount_point": "pki-vaulted/",
            "mount_type": "pki",
            "path": "pki-vaulted/sign/developer.payments",
            "remote_address": "10.1.2.3",
            "data": {"common_name": "alice", "csr": "hmac-sha256:11"},
        },
        "response": {"data": {"serial_number": SERIAL, "certificate": "hmac-sha256:77"}},
    }
    return _changed(line, more)


def read_line(minutes: float, path: str, account: str = "payments/payments", **more: Any) -> dict[str, Any]:
    """A workload reads a secret of `kv-vaulted`."""
    namespace, name = account.split("/")
    line = vault_line(
        minutes,
        auth={
            "display_name": "kubernetes-vaulted-payments-payments",
            "metadata": {"service_account_name": name, "service_account_namespace": namespace, "role": "payments"},
        },
        request__id=f"read-{minutes}-{path}",
        request__operation="read",
        request__mount_point="kv-vaulted/",
        request__path=f"kv-vaulted/data/{path}",
        request__remote_address="10.42.0.7",
        response={"data": {"data": {"password": "hmac-sha256:55"}}},
    )
    return _changed(line, more)


def event(minutes: float = 0, **more: Any) -> dict[str, Any]:
    """Alice lists pods with a certificate of ours."""
    line: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": f"a1-{minutes}",
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/payments/pods?limit=500",
        "verb": "list",
        "user": {
            "username": "alice",
            "groups": ["ph:developer:payments", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": [f"X509SHA256={PRINT}"]},
        },
        "sourceIPs": ["192.0.2.1", "10.1.2.3"],
        "userAgent": "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9",
        "objectRef": {"resource": "pods", "namespace": "payments", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": stamp(minutes),
        "stageTimestamp": stamp(minutes),
    }
    return _changed(line, more)


def node(minutes: float) -> dict[str, Any]:
    """A node renews its lease: what nearly all of a log is."""
    return event(
        minutes,
        user__username="system:node:n1",
        user__groups=["system:nodes", "system:authenticated"],
        verb="update",
        objectRef={"resource": "leases", "apiGroup": "coordination.k8s.io", "namespace": "kube-node-lease"},
        auditID=f"node-{minutes}",
    )


def binding_change(minutes: float, user: str, name: str = "ph:developer", **more: Any) -> dict[str, Any]:
    line = event(
        minutes,
        user={"username": user, "groups": ["system:authenticated"]},
        verb="patch",
        requestURI=f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}",
        objectRef={"resource": "clusterrolebindings", "apiGroup": "rbac.authorization.k8s.io", "name": name},
        auditID=f"rbac-{minutes}-{user}",
    )
    return _changed(line, more)


def encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode()


def text(*lines: dict[str, Any]) -> bytes:
    """A whole log."""
    return b"".join(encoded(line) + b"\n" for line in lines)


def _changed(line: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        part, _, name = key.partition("__")
        if name:
            line[part] = line[part] | {name: value}
        else:
            line[part] = value
    return line
