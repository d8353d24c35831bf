"""What the domains that services name are: merged from what DNS answers now and what it answered lately.

DNS hands out other addresses from one minute to the next, and pods keep the ones they got. So an address stays for a
while after an answer last held it, and no longer: what nobody refreshes ends by itself.

- A seen address lasts `max(keep, its TTL)`. It is renewed only once less than half of that is left, so that what
  is derived from it does not change with each look. From the last answer that held it on it stands for at least half of
  that time, and at most all of it.
- A name that resolves into the cluster must not open it (DNS rebinding): addresses of `barred` ranges are refused.
- A name that does not resolve keeps what is left of its addresses, with a finding.

Pinned domains are not resolved: they are what the Cluster document says.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from typing import Protocol

from pilothouse.inputs import Content, Resolved, SeenAddress
from pilothouse.platform.model import Cluster, DomainPeer, Edge, Network, Platform, Service
from pilothouse.policies.content import read
from pilothouse.problems import NOWHERE, Place, Problem, Problems, ordered, warning

Address = IPv4Address | IPv6Address
NAT64 = IPv6Network("64:ff9b::/96")

KEEP = timedelta(hours=6)
"""How long a seen address lasts at least; cf. the one hour that Cilium kept polled names for by default
(https://github.com/cilium/cilium/commit/72d95c704e578c0bde58cd2d29c0abc1b5ca2e29), twice renewed."""
LONGEST_TTL = timedelta(days=1)
"""A TTL is the domain owner's word, up to 68 years of it (https://www.rfc-editor.org/rfc/rfc2181#section-8)."""
MAX_ADDRESSES = 128
"""Of one domain; a name that answers without end must not fill every node's tables."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a resolver says of one name. `failure` says why it could not; `ttl` is zero where it is not known."""

    addresses: tuple[Address, ...] = ()
    ttl: timedelta = timedelta(0)
    failure: str = ""


class Resolver(Protocol):
    def resolve(self, names: Sequence[str]) -> Mapping[str, Answer]:
        """The A and AAAA records of each name, within a time of its own; never raises for a name."""
        ...


# ---------------------------------------------------------------- which


@dataclass(frozen=True, slots=True)
class Use:
    """A service that names a domain, and where."""

    service: Service
    edge: Edge


def named(platform: Platform, cluster: str, today: date) -> dict[str, tuple[Use, ...]]:
    """Domain → who names it on that cluster, of edges that have not expired; sorted by name."""
    found: dict[str, list[Use]] = {}
    for service in platform.services_on(cluster):
        for edge in service.egress:
            if isinstance(edge.peer, DomainPeer) and edge.holds_on(cluster) and not edge.expired(today):
                found.setdefault(edge.peer.name, []).append(Use(service, edge))
    return {name: tuple(found[name]) for name in sorted(found)}


def to_resolve(names: Iterable[str], cluster: Cluster) -> tuple[str, ...]:
    """Those of the names that are neither pinned nor wildcards, which are no names in DNS."""
    return tuple(name for name in names if name not in cluster.domain_addresses and "*" not in name)


# ---------------------------------------------------------------- what may not be


@dataclass(frozen=True, slots=True)
class Barred:
    """Addresses that no name may open, and what they are."""

    network: Network
    why: str


def barred(content: Content, cluster: Cluster) -> tuple[Barred, ...] | None:
    """Private ranges, forbidden destinations, and the cluster's own. None where baseline or guardrails cannot be read:
    nothing may be resolved then."""
    found = read(content)
    if found.baseline is None or found.guardrails is None:
        return None
    ranges: list[tuple[Iterable[Network], str]] = [
        (cluster.pod_cidrs, "a pod of the cluster"),
        (cluster.service_cidrs, "a service of the cluster"),
        (cluster.node_cidrs, "a node of the cluster"),
        (cluster.api_server, "the API server"),
        (cluster.node_local_dns, "the node-local DNS cache"),
        *(([item.network], item.why) for item in found.guardrails.forbidden_destinations),
        (found.baseline.private_ranges, "a private address"),
    ]
    return tuple(Barred(network, why) for networks, why in ranges for network in networks)


def why_barred(address: Address, ranges: Sequence[Barred]) -> str:
    """Why the address may not be opened, "" where it may. An address within another one counts as well."""
    for item in _meant(address):
        if item.is_loopback or item.is_link_local or item.is_multicast or item.is_unspecified or _is_reserved(item):
            return "no address of the internet"
        for each in ranges:
            if item.version == each.network.version and item in each.network:
                return each.why
    return ""


def _meant(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 addresses that a tunnel or a translation on the way would make of it."""
    yield address
    if isinstance(address, IPv6Address):
        if address in NAT64:
            yield IPv4Address(int(address) & 0xFFFFFFFF)
        if address.ipv4_mapped:
            yield address.ipv4_mapped
        if address.sixtofour:
            yield address.sixtofour
        if address.teredo:
            yield from address.teredo


def _is_reserved(address: Address) -> bool:
    """The prefix of NAT64 is; where a platform takes it from its private ranges, it is in use."""
    return address.is_reserved and not (isinstance(address, IPv6Address) and address in NAT64)


# ---------------------------------------------------------------- refreshing


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What came of it. `refused` are the addresses that were not taken, with why; `failed` the names that gave no
    usable answer, with why; `dropped` how many addresses of a name were too many."""

    resolved: Mapping[str, Resolved] = field(default_factory=dict)
    refused: Mapping[str, tuple[tuple[Address, str], ...]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)


def refresh(
    previous: Mapping[str, Resolved],
    answers: Mapping[str, Answer],
    now: datetime,
    ranges: Sequence[Barred],
    keep: timedelta = KEEP,
    limit: int = MAX_ADDRESSES,
) -> Refreshed:
    """The domains of `answers`, as of now; others of `previous` are forgotten. `now` is an aware moment."""
    resolved: dict[str, Resolved] = {}
    refused: dict[str, tuple[tuple[Address, str], ...]] = {}
    failed: dict[str, str] = {}
    dropped: dict[str, int] = {}
    standing = held(previous, now, ranges, max(keep, LONGEST_TTL))
    for name in sorted(answers):
        answer = answers[name]
        judged = [(item, why_barred(item, ranges)) for item in dict.fromkeys(map(_plain, answer.addresses))]
        good = {ip_network(item) for item, why in judged if not why}
        if bad := tuple((item, why) for item, why in judged if why):
            refused[name] = bad
        if not good:
            failed[name] = answer.failure or ("all its addresses are refused" if bad else "it has no address")
        before = {item.network: item for item in standing[name].addresses} if name in standing else {}
        merged = {**before, **{net: _seen(net, before.get(net), answer.ttl, now, keep) for net in good}}
        # Of more answers than may stand, those that stand already go first, so that the same answer changes nothing.
        chosen = sorted(merged.values(), key=partial(_rank, good, before))
        if len(chosen) > limit:
            dropped[name] = len(chosen) - limit
        if chosen[:limit]:
            resolved[name] = Resolved(name, tuple(sorted(chosen[:limit], key=_by)))
    return Refreshed(resolved, refused, failed, dropped)


def held(
    resolved: Mapping[str, Resolved], now: datetime, ranges: Sequence[Barred], longest: timedelta | None = None
) -> dict[str, Resolved]:
    """What of it still holds: not expired, and in none of the ranges. Where `longest` is given, nothing lasts longer
    from now on: an expiry that a wrong clock wrote is forgotten."""
    found: dict[str, Resolved] = {}
    for name, item in resolved.items():
        left = tuple(
            seen
            if longest is None or seen.expires <= now + longest
            else SeenAddress(seen.network, min(seen.seen, now), now + longest)
            for seen in item.addresses
            if seen.expires > now and not why_barred(seen.network.network_address, ranges)
        )
        if left:
            found[name] = Resolved(name, left)
    return found


def changes(before: Mapping[str, Resolved], after: Mapping[str, Resolved]) -> dict[str, tuple[list[str], list[str]]]:
    """Domain → (addresses that came, addresses that went), where there are any. A renewed expiry is no change."""
    found = {}
    for name in sorted({*before, *after}):
        old = before[name].networks if name in before else ()
        new = after[name].networks if name in after else ()
        if old != new:
            found[name] = ([str(n) for n in new if n not in old], [str(n) for n in old if n not in new])
    return found


def _seen(network: Network, before: SeenAddress | None, ttl: timedelta, now: datetime, keep: timedelta) -> SeenAddress:
    lasts = max(keep, min(ttl, LONGEST_TTL))
    if before is not None and before.expires - now >= lasts / 2:
        return before
    return SeenAddress(network, now, now + lasts)


def _plain(address: Address) -> Address:
    """IPv4 as such: the API server refuses it in the form of IPv6."""
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _rank(good: Container[Network], known: Container[Network], item: SeenAddress) -> tuple[bool, bool, float, int, int]:
    """Of more answers than may stand, those that stand already go first: the same answer changes nothing."""
    return (item.network not in good, item.network not in known, -item.seen.timestamp(), *_by(item))


def _by(item: SeenAddress) -> tuple[int, int]:
    return item.network.version, int(item.network.network_address)


# ---------------------------------------------------------------- what people should know


def findings(found: Refreshed, uses: Mapping[str, tuple[Use, ...]], cluster: Cluster) -> Problems:
    """What a refresh found, each at the line that first names the domain. The same state gives the same words."""
    problems: list[Problem] = []
    for name, items in found.refused.items():
        what = ", ".join(f"{address} ({why})" for address, why in items[:3])
        more = f" and {len(items) - 3} more" if len(items) > 3 else ""
        problems.append(
            _warning(
                "policies/domain-private-address",
                f"{name} resolves to {what}{more} on cluster {cluster.name}; that is not opened",
                "name what is in the cluster with `service`, other private addresses with `cidr`; pin the domain in "
                "`domainAddresses` where it is meant to be private",
                uses.get(name, ()),
                cluster,
            )
        )
    for name, why in found.failed.items():
        item = found.resolved.get(name)
        if item is not None and item.expires is not None:
            problems.append(
                _warning(
                    "policies/domain-stale",
                    f"{name} no longer resolves on cluster {cluster.name} ({why}); what it was before holds until "
                    f"{item.expires:%Y-%m-%d %H:%M} UTC",
                    "see to the name or the worker's DNS before then, or pin the addresses in `domainAddresses`",
                    uses.get(name, ()),
                    cluster,
                )
            )
        elif name not in found.refused:
            problems.append(
                _warning(
                    "policies/domain-unresolved",
                    f"{name} does not resolve on cluster {cluster.name} ({why}); nothing is allowed",
                    "correct the name or the worker's DNS, or pin its addresses in `domainAddresses`",
                    uses.get(name, ()),
                    cluster,
                )
            )
    for name in found.dropped:
        problems.append(
            _warning(
                "policies/domain-too-many",
                f"{name} has more addresses than the {MAX_ADDRESSES} that a domain may have on cluster {cluster.name}; "
                "those seen longest ago are not opened",
                "name the owner's published ranges with `cidr`, or pin them in `domainAddresses`",
                uses.get(name, ()),
                cluster,
            )
        )
    return ordered(problems)


def _warning(code: str, message: str, hint: str, uses: Sequence[Use], cluster: Cluster) -> Problem:
    places: list[Place] = [use.edge.place for use in uses] or [NOWHERE]
    teams = tuple(sorted({use.service.team for use in uses}))
    return warning(code, message, places[0], hint, related=tuple(places[1:]), teams=teams, cluster=cluster.name)
