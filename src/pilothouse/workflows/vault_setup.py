"""Vault set up from what is rendered: read what is there, plan, apply in order, read back.

What is wanted is `access.vault.documents`, with one thing filled in that only Vault knows: the accessor of the LDAP
mount, which stands in the name template of every PKI role. Ours are policies called `ph.<cluster>.…`, roles whose
policies or groups are ours, identity groups called `ph_<cluster>_…`, and in the mappings of directory groups the
policies of ours; nothing else is ever changed or removed. A second apply changes nothing.

Where another authority signs for a cluster, only what its workloads need is written, and only that is removed.

The key of the authority is made inside Vault and never leaves it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pilothouse.access import accounts
from pilothouse.access import content as vault_content
from pilothouse.access import derive as access_derive
from pilothouse.access.content import VaultContent
from pilothouse.access.vault import AUDIT
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Cluster
from pilothouse.problems import (
    Conflict,
    Invalid,
    PilothouseError,
    Problem,
    Severity,
    Unavailable,
    error,
    has_errors,
    ordered,
    warning,
)
from pilothouse.workflows import vault_audit
from pilothouse.workflows.vault_state import Change, Comparison, Server, directory_group

TOKEN_TTL, TOKEN_MAX_TTL = 3600, 16 * 3600
"""Seconds: an hour to the next renewal, at which the directory is asked again, and a day's work in all."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes in the order in which they are made, and what was found on the way."""

    cluster: str
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]

    @property
    def is_empty(self) -> bool:
        return not self.changes


def plan(server: Server, inputs: Inputs, kubernetes_ca: str = "") -> Plan:
    """What would be changed in Vault for one cluster; reads only.

    `kubernetes_ca` is the PEM of the authority that signed the API server's certificate. Where a problem is an error,
    nothing may be applied.
    """
    cluster = inputs.cluster
    signs = cluster.authority.backend == "vault"
    if not signs and not accounts.with_secrets(inputs.platform, cluster):
        raise Invalid(
            f"the authority of cluster {cluster.name} is {cluster.authority.backend}, not vault,"
            " and no service has secrets",
            "declare `authority: {backend: vault}` where Vault is to sign, or `secrets:` of a Service",
        )
    content, problems = vault_content.read(inputs.content)
    if content is None:
        return Plan(cluster.name, (), ordered(problems))
    accessor, found = _login(server, cluster, content) if signs else ("", [])
    problems += found
    # What was derived is proved here too: rights that are too wide must not leave by this door either.
    filled = replace(content, accessors={**content.accessors, cluster.name: accessor})
    derived = access_derive(inputs).problems
    problems += [
        item for item in derived if item.code != "access/ldap-accessor-missing" and (item.severity is not Severity.INFO)
    ]
    if signs and not accessor:
        return Plan(cluster.name, (), ordered(problems))
    looking = Comparison(server, inputs, filled, accessor, kubernetes_ca)
    # Before all else: what follows is to be recorded.
    devices, seen = vault_audit.look(server, cluster, looking.wanted)
    changes = (*devices, *looking.changes())
    return Plan(cluster.name, changes, ordered([*problems, *seen, *looking.problems]))


def apply(server: Server, inputs: Inputs, kubernetes_ca: str = "") -> Plan:
    """Make the changes of a new plan, read everything back; the plan that was carried out.

    `Invalid` where a problem is an error (nothing was changed then), `Conflict` where Vault holds something else
    afterwards.
    """
    wanted = plan(server, inputs, kubernetes_ca)
    if has_errors(wanted.problems):
        first = next(item for item in wanted.problems if item.severity is Severity.ERROR)
        raise Invalid(f"nothing was changed: {first.message}", first.hint, wanted.problems)
    for change in wanted.changes:
        if change.action == "remove":
            server.delete(change.path)
        elif change.path.startswith("identity/group/name/"):
            _write_group(server, change)
        elif change.path.startswith(AUDIT):
            _enable(server, change)
        else:
            server.write(change.path, change.body)
    left = plan(server, inputs, kubernetes_ca)
    if not left.is_empty:
        first_left = left.changes[0]
        why = f": {first_left.differs[0]}" if first_left.differs else ""
        raise Conflict(
            f"Vault does not hold what was written to {first_left.path}{why}",
            "somebody else changes it, or its version knows a field under another name",
        )
    return wanted


def _enable(server: Server, change: Change) -> None:
    try:
        server.write(change.path, change.body)
    except Unavailable:
        raise
    except PilothouseError as failure:
        raise Invalid(
            f"the audit device {change.path.removeprefix(AUDIT)} could not be enabled: {failure.message}",
            "can Vault's user write there? OpenBao takes audit devices from its own configuration file alone:"
            " https://openbao.org/docs/configuration/audit/",
        ) from failure


def _write_group(server: Server, change: Change) -> None:
    """An identity group; those of the directory that it needs are looked up or made first, since Vault names groups
    by id."""
    body = dict(change.body)
    accessor, names = body.pop("accessor"), body.pop("directory_groups")
    members = [
        directory_group(server, name, accessor) or _make_directory_group(server, name, accessor) for name in names
    ]
    server.write(change.path, body | {"member_group_ids": members})


def _make_directory_group(server: Server, name: str, accessor: str) -> str:
    """Shared by all clusters of that Vault, since a second group could not have the same alias; so it is never
    removed."""
    own = f"ph_directory_{hashlib.sha256(f'{accessor} {name}'.encode()).hexdigest()[:12]}"
    server.write(f"identity/group/name/{own}", {"type": "external", "metadata": {"directory_group": name}})
    id = str((server.read(f"identity/group/name/{own}") or {}).get("id", ""))
    server.write("identity/group-alias", {"name": name, "mount_accessor": accessor, "canonical_id": id})
    return id


def _login(server: Server, cluster: Cluster, content: VaultContent) -> tuple[str, list[Problem]]:
    """(accessor of the LDAP mount, what is wrong with it); no accessor where engineers could not log in safely."""
    mount, place = cluster.authority.login, cluster.place
    found = (server.read("sys/auth") or {}).get(f"{mount}/")
    if not isinstance(found, Mapping) or found.get("type") != "ldap":
        what = f"is of type {found.get('type')}" if isinstance(found, Mapping) else "does not exist"
        return "", [
            error(
                "access/vault-login-missing",
                f"the auth mount `{mount}/` at which engineers of {cluster.name} log in {what}",
                place,
                f"enable it: `vault auth enable -path={mount} ldap`, then write `auth/{mount}/config`",
                cluster=cluster.name,
            )
        ]
    accessor = str(found.get("accessor", ""))
    declared = content.accessors.get(cluster.name, accessor)
    if declared != accessor:
        return "", [
            error(
                "access/ldap-accessor-differs",
                f"the LDAP mount `{mount}/` has the accessor {accessor}, and {declared} is declared",
                content.settings_node.at("spec", "engineers", "accessors", cluster.name),
                "was the mount made anew? Take the line out, and pilothouse reads it from Vault",
                cluster=cluster.name,
            )
        ]
    problems = []
    config = server.read(f"auth/{mount}/config") or {}
    for name, bad, why in (
        ("username_as_alias", True, "what was typed would become the name that is signed, and `ALICE` is another user"),
        ("deny_null_bind", False, "an empty password would log in"),
        ("insecure_tls", True, "anybody on the way could pose as the directory"),
    ):
        if config.get(name, not bad) is bad:
            problems.append(
                error(
                    "access/vault-login-unsafe",
                    f"`auth/{mount}/config` has `{name}: {str(bad).lower()}`: {why}",
                    place,
                    f"vault write auth/{mount}/config {name}={str(not bad).lower()}",
                    cluster=cluster.name,
                )
            )
    unsafe = bool(problems)
    problems += _wide(config, cluster, content)
    return ("" if unsafe else accessor), problems


def _wide(config: Mapping[str, Any], cluster: Cluster, content: VaultContent) -> Iterator[Problem]:
    """How long and from where a token that was stolen from an engineer's machine would be good."""
    mount = cluster.authority.login
    found = []
    ttl, most = int(config.get("token_ttl") or 0), int(config.get("token_explicit_max_ttl") or 0)
    if not 0 < ttl <= TOKEN_TTL:
        found.append(("lives longer than an hour without being used", f"token_ttl={TOKEN_TTL}s"))
    if not 0 < most <= TOKEN_MAX_TTL:
        found.append(("can be renewed for longer than 16 h", f"token_explicit_max_ttl={TOKEN_MAX_TTL}s"))
    declared = content.engineer_networks.get(cluster.name, ())
    bound = [str(item) for item in config.get("token_bound_cidrs") or ()]
    if declared and sorted(bound) != sorted(declared):
        said = f"is good from {', '.join(bound) or 'anywhere'}, not from {', '.join(declared)}"
        found.append((said, f"token_bound_cidrs={','.join(declared)}"))
    elif not bound:
        found.append(("is good from anywhere", "token_bound_cidrs=NETWORK,…"))
    for said, setting in found:
        yield warning(
            "access/vault-login-wide",
            f"a token of an engineer of {cluster.name} from `auth/{mount}` {said}",
            cluster.place,
            f"vault write auth/{mount}/config {setting}",
            cluster=cluster.name,
        )
