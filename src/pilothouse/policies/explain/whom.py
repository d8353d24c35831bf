"""The ends of a question in words of manifests: pods by labels that they have in common, or ranges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network

from pilothouse.policies import addresses
from pilothouse.policies.addresses import Block
from pilothouse.policies.ask.ends import End, Kind, Point
from pilothouse.policies.ask.pairs import private
from pilothouse.policies.ask.question import Answer, Member
from pilothouse.policies.engine import Packet
from pilothouse.policies.explain import fragments
from pilothouse.policies.explain.fragments import Addresses, Whom
from pilothouse.policies.site import Site


def both(site: Site, answer: Answer, pairs: Sequence[tuple[Member, Packet]]) -> tuple[Whom | None, Whom | None]:
    """(source, destination); None for what no manifest can name in one go."""
    versions = {member.version for member, _ in pairs}
    return (
        _whom(site, answer.source, [member.points[0] for member, _ in pairs], versions),
        _whom(site, answer.destination, [member.points[1] for member, _ in pairs], versions),
    )


def _whom(site: Site, end: End, points: Iterable[Point], versions: set[int]) -> Whom | None:
    if end.kind is Kind.INTERNET:
        blocks = addresses.public(private(site), ())
        return Addresses(tuple(block for block in blocks if block.network.version in versions))
    if end.kind is Kind.RANGE:
        return Addresses(tuple(Block(network) for network in end.networks))
    own = {point.name: point for point in (*end.points, *points)}.values()
    pods = [point.pod for point in own if point.pod is not None]
    if pods and len(pods) == len(own):
        declared = end.declared.pod_selector if end.declared is not None else None
        chosen = dict(declared.match_labels) if declared is not None and not declared.match_expressions else None
        return fragments.pods(site.snapshot, pods, chosen)
    networks = [ip_network(point.address) for point in own if point.address]
    if pods or not networks:
        return None
    return Addresses(tuple(Block(network) for network in networks if network.version in versions))
