"""Checks of what a policy leaves of an endpoint's connections: nothing, everything, or all but names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pilothouse.policies.engine import bitsets
from pilothouse.policies.engine.connections import UDP, Packet
from pilothouse.policies.engine.fold import Chain, Effect
from pilothouse.policies.lint.check import Finding, Findings
from pilothouse.policies.lint.context import Context, isolating
from pilothouse.policies.lint.ranges import is_world
from pilothouse.policies.rules import EVERYTHING, Action, Direction, Family, Peer, Policy, Rule
from pilothouse.problems import NOWHERE

_QUERY = Packet(UDP, 53)
_MOST = 5
_VERBS = {Direction.INGRESS: "be reached by nobody", Direction.EGRESS: "reach nobody"}


def _effects(context: Context, direction: Direction) -> Iterator[tuple[Chain, int, Effect]]:
    """Of the endpoints that policies apply to: (their chain, they, what it allows)."""
    reach = context.engine.reach
    sides = reach.egress if direction is Direction.EGRESS else reach.ingress
    for chain, members in context.chains[direction]:
        if chain.stages:
            yield chain, members, sides[next(bitsets.bits(members))]


def _by_policy(
    context: Context, found: Iterator[tuple[Chain, int]], direction: Direction
) -> dict[int, tuple[Policy, int]]:
    """Endpoints by the policy that is most about them: the narrowest with rules in that direction, else the first."""
    groups: dict[int, tuple[Policy, int]] = {}
    for chain, members in found:
        policies = isolating(chain)
        talking = [policy for policy in policies if policy.rules(direction)] or policies[:1]
        policy = min(talking, key=lambda item: context.subjects(item).bit_count())
        known = groups.get(id(policy), (policy, 0))
        groups[id(policy)] = (policy, known[1] | members)
    return groups


def no_dns(context: Context) -> Findings:
    """Endpoints that may go somewhere and not ask for names: that takes UDP (and TCP) 53 to the DNS pods
    (https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/)."""
    dns = context.dns
    lacking = (
        (chain, members)
        for chain, members, effect in _effects(context, Direction.EGRESS)
        if effect.peers and not _allows(effect, _QUERY, dns)
    )
    for policy, members in _by_policy(context, lacking, Direction.EGRESS).values():
        yield Finding(
            f"{policy.key}: {context.some(members)} may not ask for names: port 53 over UDP is denied",
            context.places.at(policy, ("spec", "egress")),
            "allow UDP and TCP 53 to the cluster's DNS pods"
            + (f", such as {context.dns_pods[0].key}" if context.dns_pods else ""),
        )


def _allows(effect: Effect, packet: Packet, peers: int) -> bool:
    return any((allowed | some) & peers and packets.contains(packet) for packets, allowed, some in effect.cells)


def dns_cut_off(context: Context) -> Findings:
    """The DNS pods themselves, where policies let no pod ask them: every name in the cluster fails."""
    members = 0
    for pod in context.dns_pods:
        members |= bitsets.of(context.universe.pieces_of(pod.key))
    members &= context.isolated[Direction.INGRESS]
    if not members:
        return
    cut = (
        (chain, pieces & members)
        for chain, pieces, effect in _effects(context, Direction.INGRESS)
        if pieces & members and not _allows(effect, _QUERY, context.universe.pods)
    )
    for policy, pieces in _by_policy(context, cut, Direction.INGRESS).values():
        yield Finding(
            f"{policy.key}: {context.some(pieces)} answers DNS, and no pod may ask: port 53 over UDP is denied",
            context.places.subject(policy),
            "allow UDP and TCP 53 to the DNS pods from every namespace, or do not select them",
        )


def all_blocked(context: Context, direction: Direction) -> Findings:
    blocked = ((chain, members) for chain, members, effect in _effects(context, direction) if not effect.peers)
    for policy, members in _by_policy(context, blocked, direction).values():
        yield Finding(
            f"{policy.key}: {context.some(members)} can {_VERBS[direction]}",
            context.places.subject(policy),
            f"if that is not meant, allow what it needs in `spec.{direction}`",
        )


def all_ingress_blocked(context: Context) -> Findings:
    return all_blocked(context, Direction.INGRESS)


def all_egress_blocked(context: Context) -> Findings:
    return all_blocked(context, Direction.EGRESS)


def allow_all(context: Context, direction: Direction) -> Findings:
    """After rules that deny, to allow the rest is a way to write policies."""
    for policy, of, rule in context.rules():
        if of is not direction or not _allows_everything(rule):
            continue
        after = any(other.action is Action.DENY for other in policy.rules(direction)[: rule.index])
        whom = "from everybody" if direction is Direction.INGRESS else "to everybody"
        yield Finding(
            f"{policy.key}: `{direction}[{rule.index}]` allows everything {whom}: no other policy narrows that",
            rule.place,
            "name peers and ports; to leave a direction open, leave it out of the policy's types",
            minor=after or direction is Direction.EGRESS,
        )


def _allows_everything(rule: Rule) -> bool:
    return (
        rule.action is Action.ALLOW
        and rule.subject.is_anyone
        and any(peer.is_anyone for peer in rule.peers)
        and EVERYTHING in rule.traffic
    )


def allow_all_ingress(context: Context) -> Findings:
    return allow_all(context, Direction.INGRESS)


def allow_all_egress(context: Context) -> Findings:
    return allow_all(context, Direction.EGRESS)


def left_out(context: Context) -> Findings:
    """Pods that no policy selects, in a namespace where another policy denies by default."""
    for direction in Direction:
        isolated = context.isolated[direction]
        for policy in context.enforced:
            if not policy.namespace or direction not in policy.directions or policy.rules(direction):
                continue
            free = context.universe.by_namespace.get(policy.namespace, 0) & ~isolated
            if free and context.subjects(policy):
                yield Finding(
                    f"{policy.key}: denies {direction} by default, and not for {context.some(free)} in"
                    f" `{policy.namespace}`, which no policy selects",
                    context.places.subject(policy),
                    "select every pod of the namespace: `podSelector: {}`, or `selector: all()`",
                )


def without_policy(context: Context) -> Findings:
    """Pods that no policy selects in a direction, by namespace: one finding for all of them."""
    if not context.enforced:
        return
    for direction in Direction:
        free = context.universe.pods & ~context.isolated[direction]
        pods = context.pods(free)
        if not pods:
            continue
        spaces = Counter(pod.namespace for pod in pods)
        shown = ", ".join(f"{name} ({count:,})" for name, count in spaces.most_common(_MOST))
        left = len(spaces) - _MOST
        more = f" and {left} namespace{'s' if left > 1 else ''} more" if left > 0 else ""
        count = "1 pod has" if len(pods) == 1 else f"{len(pods):,} pods have"
        yield Finding(
            f"{count} no policy for {direction}: {shown}{more}",
            NOWHERE,
            "deny by default in every namespace, then allow what is needed",
        )


def several(context: Context) -> Findings:
    """Policies that select the same endpoints add up: what one allows, no other of Kubernetes' takes back."""
    for direction in Direction:
        most: tuple[Policy, ...] = ()
        witness = everyone = 0
        for chain, members in context.chains[direction]:
            talking = tuple(policy for policy in isolating(chain) if policy.rules(direction))
            if len(talking) > 1:
                everyone |= members
                if len(talking) > len(most):
                    most, witness = talking, members
        pods = context.pods(everyone)
        if pods:
            names = ", ".join(policy.shown for policy in most[:_MOST])
            more = f" and {len(most) - _MOST} more" if len(most) > _MOST else ""
            count = "1 pod is" if len(pods) == 1 else f"{len(pods):,} pods are"
            yield Finding(
                f"{count} selected by several policies with {direction} rules, which add up; most by {len(most)}:"
                f" {context.some(witness)}, by {names}{more}",
                NOWHERE,
                "read them together: `pilothouse policies explain` shows which one decides",
            )


def without_effect(context: Context) -> Findings:
    """Policies all of which together deny nothing."""
    if not context.enforced or not context.has_endpoints or not any(context.isolated.values()):
        return
    everything = context.engine.reach.open
    for direction in Direction:
        if any(effect != everything for _, _, effect in _effects(context, direction)):
            return
    count = len(context.enforced)
    yield Finding(
        f"{'the only policy denies' if count == 1 else f'all {count:,} policies together deny'} nothing to any pod",
        context.places.name(context.enforced[0]),
        "look for rules that allow everything, and for policies that select no pod",
    )


def other_end_denies(context: Context) -> Findings:
    """A rule for pods whose own policies allow none of it: a connection needs both ends."""
    for fate in context.fates.rules.values():
        if fate.rule.action is not Action.ALLOW or not fate.takes or fate.met:
            continue
        if not any(True for traffic in fate.rule.traffic if not traffic.http):
            continue
        end = "egress of its sources" if fate.direction is Direction.INGRESS else "ingress of its destinations"
        yield Finding(
            f"{fate.policy.key}: `{fate.direction}[{fate.rule.index}]` allows what the {end} denies, all of it",
            fate.rule.place,
            "allow it at the other end, too, or remove the rule",
        )


def metadata(context: Context) -> Findings:
    """The address at which clouds hand out the machine's own credentials. Named alone, it is meant."""
    for fate in context.fates.rules.values():
        if not fate.to_metadata:
            continue
        policy, rule = fate.policy, fate.rule
        meant = not any(is_world(peer) or _is_broad(peer) for peer in rule.peers)
        number = next((n for n, peer in enumerate(rule.peers) if peer.selector is None), 0)
        exclude = "notNets" if policy.family is Family.CALICO else "except"
        yield Finding(
            f"{policy.key}: `egress[{rule.index}]` lets {context.some(fate.to_metadata)} reach 169.254.169.254, where"
            " clouds hand out the machine's credentials",
            context.places.peer(
                policy, rule, Direction.EGRESS, number, (("ipBlock", "cidr"), ("nets",), ("networks",))
            ),
            f"leave the address out: `{exclude}: [169.254.169.254/32]`",
            minor=meant,
        )


def _is_broad(peer: Peer) -> bool:
    """Whether it names ranges, and not single addresses."""
    return any(item.num_addresses > 1 for nets in peer.nets or () for item in nets.ranges)
