"""What can match nothing, whatever pods there will be: contradictions in selectors, ranges and protocols."""

from __future__ import annotations

from collections.abc import Iterator

from pilothouse.policies.engine.traffic import connections, names
from pilothouse.policies.lint.check import Finding, Findings
from pilothouse.policies.lint.context import Context
from pilothouse.policies.rules import Family, Peer, Rule, Scope, Traffic
from pilothouse.policies.selectors import ALL
from pilothouse.policies.selectors.space import TooComplex, example

_FIELDS = (("selector",), ("podSelector",), ("pods",), ("ipBlock",), ("notNets",), ("nets",), ("notSelector",))


def impossible(context: Context) -> Findings:
    for policy in context.written:
        for peer in policy.subjects:
            if is_impossible(context, peer):
                yield Finding(
                    f"{policy.key}: its selector contradicts itself: no endpoint can ever match it",
                    context.places.subject(policy),
                    "remove one of the conditions",
                )
    for policy, direction, rule in context.rules():
        if all(_is_empty(traffic) for traffic in rule.traffic):
            yield Finding(
                f"{policy.key}: `{direction}[{rule.index}]` matches no connection: its protocols or ports"
                " exclude each other",
                context.places.rule(policy, rule),
                "remove the condition that takes back the other, or the rule",
            )
            continue
        for number in _contradictions(context, rule):
            yield Finding(
                f"{policy.key}: `{direction}[{rule.index}]` has a peer that nobody can ever be: its"
                " conditions exclude each other",
                context.places.peer(policy, rule, direction, number, _FIELDS if policy.family is Family.CALICO else ()),
                "remove one of the conditions, or the peer",
            )


def _contradictions(context: Context, rule: Rule) -> Iterator[int]:
    versions = {traffic.ip_version for traffic in rule.traffic}
    version = versions.pop() if len(versions) == 1 else None
    for number, peer in enumerate(rule.peers):
        if is_impossible(context, peer) or (version is not None and _is_other_family(peer, version)):
            yield number


def _is_other_family(peer: Peer, version: int) -> bool:
    return peer.nets is not None and all(item.version != version for nets in peer.nets for item in nets.ranges)


def is_impossible(context: Context, peer: Peer) -> bool:
    """Whether no endpoint and no address could ever be meant by a peer. Selectors too complex to be decided count as
    possible."""
    known = context.impossible_peers
    found = known.get(peer)
    if found is None:
        found = known[peer] = _contradicts(peer) or _has_no_address(context, peer)
    return found


def _contradicts(peer: Peer) -> bool:
    if peer.scope is Scope.NODES:
        return False
    without = () if peer.not_selector is None else (peer.not_selector,)
    try:
        # What a `notSelector` excludes are endpoints and sets: an address that is none of them is always left.
        if (peer.selector is not None or peer.scope is not Scope.ANY) and (
            example((peer.selector or ALL,), without) is None
        ):
            return True
        return peer.namespace_selector is not None and example((peer.namespace_selector,)) is None
    except TooComplex:
        return False


def _has_no_address(context: Context, peer: Peer) -> bool:
    if peer.nets is None:
        return False
    return not context.compiler.peer(Peer(nets=peer.nets, not_nets=peer.not_nets))


def _is_empty(traffic: Traffic) -> bool:
    """Whether no packet is meant, whatever the port names mean."""
    if names(traffic, True) or names(traffic, False):
        return False
    return not connections(traffic)
