"""Vault's audit devices: what is declared and not there is enabled; nothing is ever disabled.

An audit device cannot be changed, only disabled and enabled anew, and between the two nothing would be written: that is
left to people, and said. A Vault with one device alone answers nobody while that one cannot be written to
(https://developer.hashicorp.com/vault/docs/audit/best-practices), so there should be two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pilothouse.access.vault import AUDIT
from pilothouse.platform.model import Cluster
from pilothouse.problems import Denied, Problem, error, warning
from pilothouse.workflows.vault_state import Change, Server, differences

ENOUGH = 2
Body = Mapping[str, Any]


def look(server: Server, cluster: Cluster, wanted: Mapping[str, Body]) -> tuple[list[Change], list[Problem]]:
    """(devices to enable, what was found). `wanted` are all documents of the cluster by path."""
    devices = {path.removeprefix(AUDIT): body for path, body in wanted.items() if path.startswith(AUDIT)}
    try:
        there = {name.rstrip("/"): body for name, body in (server.read("sys/audit") or {}).items() if _is_device(body)}
    except Denied as failure:
        why = f"which audit devices the Vault of {cluster.name} has cannot be seen: {failure.message}"
        hint = "give the token `read` and `sudo` on sys/audit"
        return [], [warning("access/vault-audit-missing", why, cluster.place, hint, cluster=cluster.name)]
    changes = [Change("create", f"{AUDIT}{name}", body=body) for name, body in devices.items() if name not in there]
    problems = [*_differing(cluster, devices, there), *_raw(cluster, there)]
    if len({*devices, *there}) < ENOUGH:
        problems.append(_too_few(cluster, tuple({*devices, *there})))
    return changes, problems


def _is_device(body: Any) -> bool:
    return isinstance(body, Mapping) and "type" in body


def _differing(cluster: Cluster, devices: Mapping[str, Body], there: Mapping[str, Any]) -> Iterator[Problem]:
    for name, body in devices.items():
        found = there.get(name)
        if found is None:
            continue
        differs = differences({"type": body["type"]}, found)
        differs += differences(body["options"], found.get("options") or {})
        if differs:
            yield warning(
                "access/vault-audit-differs",
                f"the audit device `{name}` of the Vault of {cluster.name} is not as declared: {differs[0]}",
                cluster.place,
                f"while another device writes: `vault audit disable {name}`, then apply again",
                cluster=cluster.name,
            )


def _raw(cluster: Cluster, there: Mapping[str, Any]) -> Iterator[Problem]:
    for name, found in sorted(there.items()):
        if str((found.get("options") or {}).get("log_raw", "")).lower() in ("true", "1", "t"):
            yield error(
                "access/vault-audit-raw",
                f"the audit device `{name}` of the Vault of {cluster.name} writes tokens and secrets in the clear"
                " (log_raw)",
                cluster.place,
                f"`vault audit disable {name}`, enable it without log_raw, and treat what it wrote as leaked",
                cluster=cluster.name,
            )


def _too_few(cluster: Cluster, names: tuple[str, ...]) -> Problem:
    said = (
        f"the Vault of {cluster.name} has one audit device, `{names[0]}`: where that cannot be written, Vault answers"
        " nobody"
        if names
        else f"the Vault of {cluster.name} has no audit device: a signature past the portal is seen by nobody"
    )
    hint = "declare two in secrets/vault/settings.yaml, spec.audit.devices"
    return warning("access/vault-audit-missing", said, cluster.place, hint, cluster=cluster.name)
