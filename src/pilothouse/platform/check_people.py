"""Teams, clusters and access profiles: is there somebody to reach, and is each cluster its own?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product

from pilothouse.platform.model import AlertSeverity, Cluster, Network, Platform, Service, Team
from pilothouse.problems import Problem, error, nearest, one_of, warning


def teams(platform: Platform) -> Iterator[Problem]:
    """Somebody receives, is on call and approves, and every name among them is a member's."""
    for team in platform.teams.values():
        yield from _people(team)
        services = platform.services_of(team.name)
        if services or team.platform:
            yield from _reachable(team, services)
    platforms = [team for team in platform.teams.values() if team.platform]
    if platform.teams and not platforms and not _unread(platform, "Team"):
        yield error(
            "platform/no-platform-team",
            "no team is the platform team",
            next(iter(platform.teams.values())).place,
            "set `platform: true` on the team that owns the clusters: alerts that nobody else owns end there",
            teams=tuple(platform.teams),
        )
    for team in platforms[1:]:
        yield error(
            "platform/two-platform-teams",
            f"`{platforms[0].name}` and `{team.name}` are both the platform team",
            team.place,
            "keep `platform: true` on one of them",
            related=(platforms[0].place,),
            teams=(platforms[0].name, team.name),
        )


def _people(team: Team) -> Iterator[Problem]:
    users = [member.user for member in team.members]
    for user, count in Counter(users).items():
        if count > 1:
            yield warning(
                "platform/duplicate-member",
                f"`{user}` is a member of team `{team.name}` {count} times",
                team.place,
                "keep one entry for each person",
                teams=(team.name,),
            )
    if not users:  # the members come from the directory, and nobody can be looked up here
        return
    named = [(user, team.place, "an approver") for user in team.approvers]
    if team.rotation:
        named += [(user, team.rotation.place, "on call") for user in dict.fromkeys(team.rotation.users)]
    for user, place, role in named:
        if user not in users:
            yield error(
                "platform/unknown-user",
                f"`{user}` is {role} in team `{team.name}` and is none of its members",
                place,
                nearest(user, users) or one_of(users),
                teams=(team.name,),
            )


def _reachable(team: Team, services: tuple[Service, ...]) -> Iterator[Problem]:
    alerts = [alert for service in services for alert in service.alerts]
    if not team.receivers:
        yield error(
            "platform/no-receiver",
            f"the alerts of team `{team.name}` end nowhere: it has no receivers",
            team.place,
            "add `receivers:`, such as {severity: page, email: team@company.example}",
            teams=(team.name,),
        )
    elif team.receiver(AlertSeverity.PAGE) is None and any(a.severity is AlertSeverity.PAGE for a in alerts):
        yield error(
            "platform/no-receiver",
            f"team `{team.name}` declares alerts that page and has no receiver for pages",
            team.receivers[0].place,
            "add a receiver of `severity: page`",
            teams=(team.name,),
        )
    if team.rotation is None:
        yield warning(
            "platform/no-rotation",
            f"nobody of team `{team.name}` is on call",
            team.place,
            "add `onCall:`, so that an alert ends at a person",
            teams=(team.name,),
        )
    if not team.approvers:
        yield warning(
            "platform/no-approver",
            f"nobody approves for team `{team.name}`",
            team.place,
            "add `approvers:`; two people, because nobody approves a proposal of their own",
            teams=(team.name,),
        )


def clusters(platform: Platform) -> Iterator[Problem]:
    """Ranges that tell pods, services and nodes apart; an authority of its own; namespaces that exist."""
    if not platform.clusters and not _unread(platform, "Cluster"):
        yield error(
            "platform/no-cluster",
            "no cluster is declared",
            hint="add a Cluster document: everything is derived for a cluster",
        )
    for cluster in platform.clusters.values():
        yield from _ranges(cluster)
        yield from _namespaces(platform, cluster)
    for one, other in combinations(platform.clusters.values(), 2):
        if one.authority.mount and one.authority.mount == other.authority.mount and _vault(one) == _vault(other):
            yield error(
                "platform/shared-authority",
                f"clusters `{one.name}` and `{other.name}` share the authority at mount `{one.authority.mount}`",
                other.place,
                f"one authority per cluster: give `{other.name}` a mount of its own, such as pki-{other.name}",
                related=(one.place,),
            )


def _vault(cluster: Cluster) -> str:
    return cluster.servers.vault.url if cluster.servers.vault else ""


def _ranges(cluster: Cluster) -> Iterator[Problem]:
    kinds = {"pod": cluster.pod_cidrs, "service": cluster.service_cidrs, "node": cluster.node_cidrs}
    for kind, networks in kinds.items():
        for one, other in combinations(networks, 2):
            if _overlap(one, other):
                yield error(
                    "platform/overlapping-cidrs",
                    f"the {kind} ranges {one} and {other} of cluster `{cluster.name}` overlap",
                    cluster.place,
                    "keep the wider one, or correct the prefix lengths",
                )
    for (kind, networks), (other_kind, others) in combinations(kinds.items(), 2):
        for one, other in product(networks, others):
            if not _overlap(one, other):
                continue
            # Where pods get addresses of the nodes' subnets, as in some clouds, the overlap is no mistake.
            report = warning if {kind, other_kind} == {"pod", "node"} else error
            yield report(
                "platform/overlapping-cidrs",
                f"the {kind} range {one} and the {other_kind} range {other} of cluster `{cluster.name}` overlap",
                cluster.place,
                "correct one of them; where pods share the nodes' subnets, a rule about nodes opens to pods too"
                if report is warning
                else "an address must say what it belongs to: correct one of them",
            )


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _namespaces(platform: Platform, cluster: Cluster) -> Iterator[Problem]:
    known = {service.namespace for service in platform.services_on(cluster.name)}
    for namespace in cluster.namespace_enforcement:
        if namespace not in known and not _unread(platform, "Service"):
            yield warning(
                "platform/unknown-namespace",
                f"cluster `{cluster.name}` sets the enforcement of `{namespace}`, where no service is declared",
                cluster.place,
                nearest(namespace, known) or one_of(known),
            )


def profiles(platform: Platform) -> Iterator[Problem]:
    """Groups of Kubernetes itself are never handed out: `system:masters` passes by every rule there is."""
    for profile in platform.profiles.values():
        for group in (*profile.groups, *profile.approver_groups):
            if group.startswith("system:"):
                yield error(
                    "platform/system-group",
                    f"profile `{profile.name}` names `{group}`, a group of Kubernetes itself",
                    profile.place,
                    "name a directory group; what it may do follows from `rules`",
                )


def _unread(platform: Platform, kind: str) -> bool:
    """Whether a document of that kind may exist that could not be read."""
    return any(item.startswith(f"{kind} ") or " " not in item for item in platform.unreadable)
