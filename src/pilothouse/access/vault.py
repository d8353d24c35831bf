"""What Vault holds for a cluster: PKI mount and roles, policies, and the roles of workloads.

The documents mirror Vault's API: `vault/<path>.json` is the body that is written to `<path>`
(a policy's file is the policy itself, which `vault policy write NAME FILE` takes). There is one PKI
mount and one Kubernetes auth mount per cluster, so that nothing that holds on dev holds on prod.

Names of policies and roles join their parts with `.`, which no part can hold, so that two never meet.

A PKI role takes O from its own `organization` alone, never from a request, so there is one role
for each group of ours: `<profile>`, or `<profile>.<team>` where the profile holds in a team's namespaces
(https://developer.hashicorp.com/vault/api-docs/secret/pki#create-update-role).

Where Vault is the cluster's authority, a directory group of a profile is mapped to the policies of its roles. A role
of a team wants more: the policy's path holds the team's name as a template, which Vault fills in for members of the
team's identity group alone and leaves out for everybody else
(https://developer.hashicorp.com/vault/docs/concepts/policies#templated-policies). That is how it is said that both,
the profile's group and the team's, are needed; mappings of groups to policies only know
"or".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pilothouse.access import accounts, names, vault_elevation
from pilothouse.access.content import PathRule, VaultContent
from pilothouse.artifacts.model import Document, Format
from pilothouse.platform.model import AccessProfile, Cluster, Platform, Scope, Service

Body = dict[str, Any]

POLICY_PREFIX = "ph."
GROUP_PREFIX = "ph_"
AUDIT = "sys/audit/"
REQUESTS = "profile.requests_"
"""The name of the policy to sign for one's own requests, after the cluster's prefix: no profile is called so."""
WORKLOADS = "secrets."
"""What the names of workloads' policies go on with, after the cluster's prefix."""


@dataclass(frozen=True, slots=True)
class PkiRole:
    """A role of the cluster's PKI mount: its name there, the group that it signs, and what Vault is told."""

    name: str
    profile: AccessProfile
    team: str
    group: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Policy:
    """A Vault policy by name, as path → rule."""

    name: str
    rules: tuple[PathRule, ...]

    def body(self) -> Body:
        """The policy in Vault's JSON form (https://developer.hashicorp.com/vault/docs/concepts/policies)."""
        paths: Body = {}
        for rule in self.rules:
            entry: Body = {"capabilities": list(rule.capabilities)}
            if rule.allowed_parameters is not None:
                entry["allowed_parameters"] = {key: list(value) for key, value in rule.allowed_parameters.items()}
            if rule.denied_parameters:
                entry["denied_parameters"] = {key: list(value) for key, value in rule.denied_parameters.items()}
            if rule.required_parameters:
                entry["required_parameters"] = list(rule.required_parameters)
            paths[rule.path] = entry
        return {"path": paths}


def mount(cluster: Cluster, content: VaultContent) -> str:
    """The PKI mount of the cluster."""
    return cluster.authority.mount or content.authority_mount.format(cluster=cluster.name)


def roles(platform: Platform, cluster: Cluster, content: VaultContent) -> Iterator[PkiRole]:
    """Every standing PKI role of the cluster, by profile and team.

    An elevated profile has none: a role that stands could be signed under without a request.
    """
    for profile in platform.profiles.values():
        if profile.elevated or not profile.holds_on(cluster.name):
            continue
        for team in _teams(profile, platform, cluster):
            name = role_name(profile, team)
            group = names.group(profile, team)
            yield PkiRole(name, profile, team, group, _role_body(profile, group, cluster, content))


def role_name(profile: AccessProfile, team: str = "") -> str:
    """The name of a PKI role; `team` is "" unless the profile holds in teams' namespaces."""
    return f"{profile.name}.{team}" if team else profile.name


def identity_group(cluster: str, team: str) -> str:
    """Vault's identity group of a team on a cluster. `_` stands in no name of ours, so that two never meet; a `.`
    would end the name in a template."""
    return f"{GROUP_PREFIX}{cluster}_{team}"


def _gate(cluster: str, team: str) -> str:
    """The team's name for members of its identity group; for anybody else Vault leaves the rule out."""
    return f"{{{{identity.groups.names.{identity_group(cluster, team)}.metadata.team}}}}"


def _teams(profile: AccessProfile, platform: Platform, cluster: Cluster) -> tuple[str, ...]:
    if profile.scope is not Scope.TEAM_NAMESPACES:
        return ("",)
    return tuple(team for team in platform.teams if platform.namespaces_of(team, cluster.name))


def _role_body(profile: AccessProfile, group: str, cluster: Cluster, content: VaultContent) -> Body:
    accessor = content.accessors.get(cluster.name)
    return dict(content.role) | {
        "allowed_domains": [f"{{{{identity.entity.aliases.{accessor}.name}}}}"] if accessor else [],
        "organization": [group],
        "ttl": f"{profile.leaf}s",
        "max_ttl": f"{profile.longest_leaf}s",
    }


def engineer_policy(role: PkiRole, cluster: Cluster, content: VaultContent) -> Policy:
    """What a token needs to have a key signed under that role."""
    values = {
        "cluster": cluster.name,
        "mount": mount(cluster, content),
        "profile": role.profile.name,
        "role": role_name(role.profile, _gate(cluster.name, role.team) if role.team else ""),
    }
    return Policy(policy_name(cluster.name, role.name), _fill(content.policies_for("profile"), values))


def policies_of_requests(platform: Platform, cluster: Cluster, content: VaultContent) -> tuple[Policy, ...]:
    """(what the worker may, what engineers need to have a key signed for a request of theirs); none where Vault signs
    for no requests. Until the accessor of the LDAP mount is known the worker may write no role."""
    if not vault_elevation.signs(platform, cluster):
        return ()
    pki, accessor = mount(cluster, content), content.accessors.get(cluster.name, "")
    values = {"cluster": cluster.name, "mount": pki, "profile": "requests", "role": vault_elevation.OWN}
    return (
        Policy(
            f"{prefix(cluster.name)}{vault_elevation.APPROLE}",
            vault_elevation.elevator_rules(pki, content, accessor) if accessor else (),
        ),
        Policy(
            f"{prefix(cluster.name)}{REQUESTS}",
            # By the lookup the signer learns whose token it was given, which is the first part of the role's name.
            (*_fill(content.policies_for("profile"), values), PathRule("auth/token/lookup-self", ("read",))),
        ),
    )


def policy_name(cluster: str, role: str) -> str:
    """The policy of a PKI role."""
    return f"{prefix(cluster)}profile.{role}"


def prefix(cluster: str) -> str:
    """What every policy of a cluster begins with."""
    return f"{POLICY_PREFIX}{cluster}."


def engineers(platform: Platform, cluster: Cluster, content: VaultContent) -> dict[str, tuple[str, ...]]:
    """Directory group → the policies that its members get when they log in at the cluster's LDAP mount."""
    found: dict[str, set[str]] = {}
    for role in roles(platform, cluster, content):
        for group in role.profile.groups:
            found.setdefault(group, set()).add(policy_name(cluster.name, role.name))
    if vault_elevation.signs(platform, cluster):
        # Harmless for whoever never asks: no role carries their entity then. So those of a break-glass, who may be in
        # no group of their own, have it by any group that lets them log in.
        for profile in platform.profiles.values():
            for group in profile.groups if profile.holds_on(cluster.name) else ():
                found.setdefault(group, set()).add(f"{prefix(cluster.name)}{REQUESTS}")
    return {group: tuple(sorted(policies)) for group, policies in sorted(found.items())}


def team_groups(platform: Platform, cluster: Cluster, content: VaultContent) -> dict[str, tuple[str, ...]]:
    """Team → the directory groups whose members Vault takes for the team's, for teams that have a role of their own."""
    teams = {role.team for role in roles(platform, cluster, content) if role.team}
    return {team: tuple(sorted(platform.teams[team].groups)) for team in sorted(teams)}


def workload_policy(service: Service, cluster: Cluster, content: VaultContent) -> Policy:
    """What the token of a workload may read: the secrets that its Service declares for this cluster."""
    rules: dict[str, PathRule] = {}
    for secret in service.secrets:
        if secret.holds_on(cluster.name):
            values = {
                "cluster": cluster.name,
                "kv": content.key_value_mount.format(cluster=cluster.name),
                "namespace": service.namespace,
                "path": secret.path,
                "service": service.name,
            }
            rules |= {rule.path: rule for rule in _fill(content.policies_for("secret"), values)}
    return Policy(f"{prefix(cluster.name)}{WORKLOADS}{service.namespace}.{service.name}", tuple(rules.values()))


def _fill(rules: tuple[PathRule, ...], values: Mapping[str, str]) -> tuple[PathRule, ...]:
    return tuple(replace(rule, path=rule.path.format(**values)) for rule in rules)


def workload_role(service: Service, cluster: Cluster, content: VaultContent) -> Body:
    """The Kubernetes-auth role: bound to one ServiceAccount of one namespace, and to our audience
    (https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#create-update-role)."""
    return {
        "bound_service_account_names": [service.service_account],
        "bound_service_account_namespaces": [service.namespace],
        "audience": content.audience,
        # The uid, so that an account that is made anew under the old name is another identity.
        "alias_name_source": "serviceaccount_uid",
        "token_policies": [workload_policy(service, cluster, content).name],
        "token_no_default_policy": True,
        "token_type": "service",
        "token_ttl": content.token_ttl,
        "token_max_ttl": content.token_max_ttl,
        "token_bound_cidrs": list(content.token_networks.get(cluster.name, ())),
    }


def workload_role_name(service: Service) -> str:
    """The name of a service's role in the cluster's Kubernetes auth mount."""
    return f"{service.namespace}.{service.name}"


def documents(platform: Platform, cluster: Cluster, content: VaultContent) -> Iterator[Document]:
    """Every document below `vault/`."""
    pki = mount(cluster, content)
    yield _json(
        f"sys/mounts/{pki}",
        {
            "type": "pki",
            "description": f"Client certificates of cluster {cluster.name}",
            # The API server's view and Vault's are joined by serial: https://developer.hashicorp.com/vault/docs/audit
            "config": {
                "max_lease_ttl": content.max_lease_ttl,
                "audit_non_hmac_request_keys": ["common_name", "csr", "ttl", "not_after"],
                "audit_non_hmac_response_keys": ["certificate", "serial_number"],
            },
        },
    )
    for device in content.audit.get(cluster.name, ()):
        yield _json(f"{AUDIT}{device.path}", device.body())
    for role in roles(platform, cluster, content):
        yield _json(f"{pki}/roles/{role.name}", dict(role.body))
        yield _policy(engineer_policy(role, cluster, content))
    for policy in policies_of_requests(platform, cluster, content):
        yield _policy(policy)
    for path, body in vault_elevation.documents(platform, cluster, prefix(cluster.name)):
        yield _json(path, body)
    if cluster.authority.backend == "vault":
        yield from _people(platform, cluster, content)
    workloads = accounts.with_secrets(platform, cluster)
    if workloads:
        auth = content.workload_mount.format(cluster=cluster.name)
        yield _json(
            f"sys/auth/{auth}",
            {"type": "kubernetes", "description": f"Workloads of cluster {cluster.name}"},
        )
        key_value = content.key_value_mount.format(cluster=cluster.name)
        yield _json(
            f"sys/mounts/{key_value}",
            {
                "type": "kv",
                "description": f"Secrets of the workloads of cluster {cluster.name}",
                "options": {"version": "2"},
            },
        )
        for service in workloads:
            yield _json(f"auth/{auth}/role/{workload_role_name(service)}", workload_role(service, cluster, content))
            yield _policy(workload_policy(service, cluster, content))


def _people(platform: Platform, cluster: Cluster, content: VaultContent) -> Iterator[Document]:
    """What the directory's groups become in Vault."""
    for team in team_groups(platform, cluster, content):
        yield _json(
            f"identity/group/name/{identity_group(cluster.name, team)}",
            {"type": "internal", "metadata": {"cluster": cluster.name, "team": team}},
        )
    for group, policies in engineers(platform, cluster, content).items():
        yield _json(f"auth/{cluster.authority.login}/groups/{group}", {"policies": list(policies)})


def _policy(policy: Policy) -> Document:
    return _json(f"sys/policies/acl/{policy.name}", policy.body())


def _json(path: str, body: Body) -> Document:
    return Document(f"vault/{path}.json", body, Format.JSON)
