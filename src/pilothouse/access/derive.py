"""Everything that access derives for one cluster: RBAC, Vault, ServiceAccounts."""

from __future__ import annotations

from collections.abc import Iterator

from pilothouse.access import (
    accounts,
    apiserver,
    checks,
    content,
    fence,
    pod,
    prove,
    rbac,
    vault,
    vault_elevation,
    workloads,
)
from pilothouse.access.content import VaultContent
from pilothouse.artifacts.model import Artifacts, Derived, Document
from pilothouse.inputs import Inputs
from pilothouse.problems import Problem, error, ordered, warning


def derive(inputs: Inputs) -> Derived:
    """Documents below `rbac/`, `vault/`, `accounts/`, `apiserver/` and `workloads/`, and every problem found.

    Where the folder `secrets/vault` cannot be read, the rest is derived all the same.
    """
    platform, cluster = inputs.platform, inputs.cluster
    problems: list[Problem] = [
        *checks.profiles(inputs),
        *checks.secrets(inputs),
        *fence.problems(inputs),
        *pod.problems(inputs.platform, inputs.cluster),
        *apiserver.problems(cluster),
    ]
    documents: list[Document] = [*rbac.documents(platform, cluster), *fence.documents(platform, cluster)]
    documents += accounts.documents(platform, cluster)
    documents += apiserver.documents(cluster)
    settings, found = content.read(inputs.content)
    problems += found
    if settings is not None:
        documents += vault.documents(platform, cluster, settings)
        documents += workloads.documents(inputs, settings)
        problems += workloads.problems(inputs, settings)
        problems += _vault(inputs, settings)
    return Derived(Artifacts.of(documents), ordered(problems))


def _vault(inputs: Inputs, settings: VaultContent) -> Iterator[Problem]:
    """The proof of what was rendered for Vault, and what is missing before it can serve."""
    platform, cluster = inputs.platform, inputs.cluster
    if cluster.authority.backend == "vault" and cluster.name not in settings.accessors:
        yield warning(
            "access/ldap-accessor-missing",
            f"Vault is the authority of cluster {cluster.name}, and the accessor of its LDAP mount is not declared",
            settings.settings_node.at("spec", "engineers", "accessors"),
            f"`pilothouse access vault apply {cluster.name}` reads it from Vault; or add `{cluster.name}: auth_ldap_…`",
            cluster=cluster.name,
        )
    if cluster.authority.backend == "vault":
        yield from _teams(inputs, settings)
    lifetimes = (profile.longest_leaf for profile in platform.profiles.values())
    longest = max((seconds for seconds in lifetimes if seconds <= checks.MAX_SECONDS), default=0)
    if longest > content.seconds(settings.max_lease_ttl):
        yield error(
            "access/lifetime",
            f"a profile lasts {longest} s, longer than the PKI mount allows ({settings.max_lease_ttl})",
            settings.settings_node.at("spec", "authority", "maxLeaseTtl"),
            "raise `maxLeaseTtl`, or shorten the profile",
        )
    mount = vault.mount(cluster, settings)
    mounts = {other.name: vault.mount(other, settings) for other in platform.clusters.values()}
    for other, theirs in mounts.items():
        if other < cluster.name and theirs == mount:
            yield error(
                "access/shared-mount",
                f"clusters {other} and {cluster.name} share the PKI mount `{mount}`",
                cluster.place,
                "give each cluster an `authority.mount` of its own: what is signed for one must fail on the other",
            )
    roles = tuple(vault.roles(platform, cluster, settings))
    known = {role.name for role in roles}
    seen: set[tuple[str, object]] = set()
    for role in roles:
        policy = vault.engineer_policy(role, cluster, settings)
        for problem in (
            *prove.role(role, settings),
            *prove.engineer_policy(policy, mount, role.name, sorted({*mounts.values()}), sorted(known)),
        ):
            # One line of the content makes the same mistake in every role: it is told once.
            if (problem.code, problem.place) not in seen:
                seen.add((problem.code, problem.place))
                yield problem
    for policy in vault.policies_of_requests(platform, cluster, settings)[1:]:
        own = f"{vault_elevation.PREFIX}own"
        yield from prove.engineer_policy(policy, mount, own, sorted({*mounts.values()}), sorted(known))
    yield from _workloads(inputs, settings)


def _teams(inputs: Inputs, settings: VaultContent) -> Iterator[Problem]:
    """Vault knows who is in a team by directory groups alone, not by the names that a Team document lists."""
    for team, groups in vault.team_groups(inputs.platform, inputs.cluster, settings).items():
        if not groups:
            yield warning(
                "access/team-without-group",
                f"team {team} names no directory group, so Vault signs nothing for its members",
                inputs.platform.teams[team].place,
                "add `groups:` to the team: Vault does not read the list of members",
                teams=(team,),
                cluster=inputs.cluster.name,
            )


def _workloads(inputs: Inputs, settings: VaultContent) -> Iterator[Problem]:
    cluster = inputs.cluster
    key_value = settings.key_value_mount.format(cluster=cluster.name)
    services = accounts.with_secrets(inputs.platform, cluster)
    paths = {
        service.key: {secret.path for secret in service.secrets if secret.holds_on(cluster.name)}
        for service in services
    }
    owners = {path: key for key, mine in paths.items() for path in sorted(mine)}
    secrets = prove.SecretPaths(owners, key_value)
    seen: set[object] = set()
    for service in services:
        policy = vault.workload_policy(service, cluster, settings)
        for problem in prove.workload_policy(policy, paths[service.key], secrets):
            if problem.place not in seen:
                seen.add(problem.place)
                yield problem
