"""What a declaration may ask of the network (`policies/guardrails.yaml`), and who must agree to a proposal.

`check_guardrails` judges what is declared; `review` compares a service before and after a proposal and lists
the agreements that it needs, each with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

from pilothouse.inputs import Content, Inputs
from pilothouse.platform.model import (
    CidrPeer,
    DomainPeer,
    Edge,
    InternetPeer,
    Network,
    Platform,
    Sensitivity,
    Service,
    ServicePeer,
)
from pilothouse.policies.addresses import is_private
from pilothouse.policies.content import Baseline, Consent, Guardrails, read
from pilothouse.problems import NOWHERE, Place, Problem, Problems, error, ordered


def check_guardrails(inputs: Inputs) -> Problems:
    """Every declared edge of the cluster that the guardrails do not allow. An expired edge has no rule: left out."""
    content = read(inputs.content)
    if content.baseline is None or content.guardrails is None:
        return content.problems
    judge = _Judge(content.baseline, content.guardrails, inputs.cluster.cluster_networks)
    found: list[Problem] = []
    for service in inputs.platform.services_on(inputs.cluster.name):
        for edge in service.egress:
            if edge.holds_on(inputs.cluster.name) and not edge.expired(inputs.today):
                found.extend(judge.egress(service, edge))
                found.extend(judge.addresses(service, edge, inputs))
                if edge.expires is not None and judge.is_public(edge):
                    found.extend(judge.too_far(service, edge, (edge.expires - inputs.today).days))
    return ordered(found)


class _Judge:
    def __init__(self, baseline: Baseline, rails: Guardrails, own: tuple[Network, ...]) -> None:
        self.baseline = baseline
        self.rails = rails
        self.own = own

    def is_public(self, edge: Edge) -> bool:
        """Whether the edge leaves for addresses that are neither private nor the cluster's own."""
        match edge.peer:
            case InternetPeer() | DomainPeer():
                return True
            case CidrPeer(network):
                return not is_private(network, self.baseline.private_ranges, self.own)
        return False

    def egress(self, service: Service, edge: Edge) -> Iterator[Problem]:
        def found(code: str, message: str, hint: str) -> Problem:
            return error(code, f"{service.key}: {message}", edge.place, hint, teams=(service.team,))

        rails = self.rails
        if isinstance(edge.peer, CidrPeer):
            for item in rails.forbidden_destinations:
                if item.network.version == edge.peer.network.version and item.network.overlaps(edge.peer.network):
                    yield found(
                        "policies/forbidden-destination",
                        f"{edge.peer} touches {item.network}, which nobody may reach: {item.why}",
                        "name a narrower `cidr` that leaves it out",
                    )
        if isinstance(edge.peer, DomainPeer):
            name = edge.peer.name.lower()
            for pattern in rails.forbidden_domains:
                if fnmatchcase(name, pattern.pattern):
                    yield found(
                        "policies/forbidden-domain",
                        f"{edge.peer} matches {pattern.pattern}, which may not be declared: {pattern.why}",
                        "name the destination that is meant by its public name, or as a `service`",
                    )
            if rails.allowed_domains and not any(fnmatchcase(name, item) for item in rails.allowed_domains):
                yield found(
                    "policies/forbidden-domain",
                    f"{edge.peer} matches none of the allowed domains",
                    "allowed: " + ", ".join(rails.allowed_domains),
                )
        if isinstance(edge.peer, InternetPeer) and not self._may_name_internet(service):
            yield found(
                "policies/internet-not-allowed",
                "only edge services and those that guardrails.yaml lists may name the whole internet",
                "name a `domain` or a `cidr`, or ask the platform team to list the service under `internet.services`",
            )
        if not self.is_public(edge):
            return
        if len(edge.reason.strip()) < rails.min_reason_length:
            yield found(
                "policies/public-egress-reason",
                f"egress to {edge.peer} leaves the platform without a reason",
                f"add `reason:` with at least {rails.min_reason_length} characters",
            )
        if rails.require_expiry and edge.expires is None:
            yield found(
                "policies/public-egress-expiry",
                f"egress to {edge.peer} leaves the platform without an end",
                "add `expires:` with the last day on which it is needed, such as 2027-01-31",
            )
        if isinstance(edge.peer, CidrPeer):
            network = edge.peer.network
            widest = rails.widest_ipv4 if network.version == 4 else rails.widest_ipv6
            if network.prefixlen < widest:
                yield found(
                    "policies/cidr-too-wide",
                    f"{network} is wider than the /{widest} that a public range may have",
                    "name the ranges that the destination really uses",
                )
        for forbidden in rails.forbidden_ports:
            if _opens(edge, forbidden.port):
                yield found(
                    "policies/forbidden-port",
                    f"port {forbidden.port} may not be reached at {edge.peer}: {forbidden.why}",
                    "name the ports that are needed, without this one",
                )

    def addresses(self, service: Service, edge: Edge, inputs: Inputs) -> Iterator[Problem]:
        """What a domain is here, where that is a forbidden destination. Resolved ones were refused before
        (`policies.domains`), so that it is the Cluster document that says so."""
        if not isinstance(edge.peer, DomainPeer):
            return
        cluster = inputs.cluster
        for network in inputs.domain_addresses(edge.peer.name):
            for item in self.rails.forbidden_destinations:
                if item.network.version == network.version and item.network.overlaps(network):
                    yield error(
                        "policies/forbidden-destination",
                        f"{service.key}: {edge.peer} is {network} on cluster {cluster.name}, which touches "
                        f"{item.network}, which nobody may reach: {item.why}",
                        edge.place,
                        "correct `domainAddresses` of the Cluster document",
                        related=(cluster.place,),
                        teams=(service.team,),
                        cluster=cluster.name,
                    )

    def too_far(self, service: Service, edge: Edge, days: int) -> Iterator[Problem]:
        if self.rails.max_days and days > self.rails.max_days:
            yield error(
                "policies/public-egress-expiry",
                f"{service.key}: egress to {edge.peer} ends in {days} days, and {self.rails.max_days} is the most",
                edge.place,
                "choose an earlier day, and renew it when it comes",
                teams=(service.team,),
            )

    def _may_name_internet(self, service: Service) -> bool:
        return service.exposure in self.rails.internet_exposures or any(
            fnmatchcase(service.key, pattern) for pattern in self.rails.internet_services
        )


def _opens(edge: Edge, port: int) -> bool:
    if not edge.ports:
        return True
    return any(not item.name and item.number <= port <= (item.end or item.number) for item in edge.ports)


# ---------------------------------------------------------------- who must agree


class By(StrEnum):
    SECOND_PERSON = "second-person"
    """Another approver of the service's own team than the proposer."""
    PLATFORM_TEAM = "platform-team"
    OTHER_TEAM = "other-team"
    """The team of the service at the other end."""


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody of `team` must agree, because of `why`. `place` is the line that asks for it."""

    by: By
    team: str
    why: str
    place: Place = field(default=NOWHERE, compare=False, repr=False)


def review(before: Service | None, after: Service | None, content: Content, platform: Platform) -> tuple[Approval, ...]:
    """The agreements that a proposal needs, each once. `before` None: a new service; `after` None: a removed one.

    `platform` is the platform as it is, for the other ends, their teams and the clusters' ranges.
    """
    found = read(content)
    if found.baseline is None or found.guardrails is None:
        team = platform.platform_team
        why = "the guardrails cannot be read, so the platform team must look"
        return (Approval(By.PLATFORM_TEAM, team.name if team else "", why),)
    own = tuple(net for cluster in platform.clusters.values() for net in cluster.cluster_networks)
    judge = _Judge(found.baseline, found.guardrails, own)
    approvals = [*_own(before, after, judge, platform), *_others(before, after, platform)]
    return tuple(dict.fromkeys(approvals))


def _own(before: Service | None, after: Service | None, judge: _Judge, platform: Platform) -> Iterator[Approval]:
    subject = after or before
    if subject is None:
        return
    rails = judge.rails
    for edge in _added(before, after):
        if isinstance(edge.peer, InternetPeer):
            yield from _consent(rails.approve_internet_egress, subject, platform, "it reaches the internet", edge.place)
        elif judge.is_public(edge):
            why = f"{edge.peer} is a public destination"
            yield from _consent(rails.approve_public_egress, subject, platform, why, edge.place)
    high = any(service is not None and service.sensitivity is Sensitivity.HIGH for service in (before, after))
    if high and _network(before) != _network(after):
        why = f"{subject.key} is of high sensitivity"
        yield from _consent(rails.approve_high_sensitivity, subject, platform, why, subject.place)
    if before is not None and after is not None and before.team != after.team:
        yield Approval(By.OTHER_TEAM, before.team, f"{after.key} moves to team {after.team}", after.place)


def _consent(consent: str, subject: Service, platform: Platform, why: str, place: Place) -> Iterator[Approval]:
    if consent == Consent.SECOND_PERSON:
        yield Approval(By.SECOND_PERSON, subject.team, why, place)
    elif consent == Consent.PLATFORM_TEAM:
        team = platform.platform_team
        yield Approval(By.PLATFORM_TEAM, team.name if team else "", why, place)


def _others(before: Service | None, after: Service | None, platform: Platform) -> Iterator[Approval]:
    """Other teams: those whose list does not accept a new egress yet, and those who lose a way in."""
    for edge in _added(before, after):
        other = platform.services.get(str(edge.peer)) if isinstance(edge.peer, ServicePeer) else None
        if after is None or other is None or other.team == after.team or other.ingress is None:
            continue
        if not any(_means(item, after) for item in other.ingress):
            why = f"{other.key} lists who may reach it, and {after.key} is not on the list"
            yield Approval(By.OTHER_TEAM, other.team, why, edge.place)
    if before is None:
        return
    for service in platform.services.values():
        if service.team == before.team or not any(_means(edge, before) for edge in service.egress):
            continue
        if after is None:
            yield Approval(By.OTHER_TEAM, service.team, f"{service.key} reaches {before.key}, which goes", before.place)
        elif _accepts(before, service) and not _accepts(after, service):
            why = f"{service.key} reaches {after.key}, which no longer lets it in"
            yield Approval(By.OTHER_TEAM, service.team, why, after.place)


def _added(before: Service | None, after: Service | None) -> tuple[Edge, ...]:
    """Egress that was not there before in exactly this form: a later `expires` is new as well."""
    known = before.egress if before else ()
    return tuple(edge for edge in (after.egress if after else ()) if edge not in known)


def _network(service: Service | None) -> object:
    """The fields of a service that decide who talks to whom."""
    if service is None:
        return None
    return (service.pod_selector, service.exposure, service.sensitivity, service.ports, service.ingress, service.egress)


def _accepts(service: Service, other: Service) -> bool:
    return service.ingress is None or any(_means(edge, other) for edge in service.ingress)


def _means(edge: Edge, service: Service) -> bool:
    return isinstance(edge.peer, ServicePeer) and str(edge.peer) == service.key
