"""Changes of the input that must change no answer: names, order of what is unordered, how a range is written, what
applies to nobody. And changes of one policy, computed on top of what is known or from the start."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from policies.cases import packets, random_world
from policies.engine_worlds import Judged, judge

from pilothouse.policies.engine import Engine, differences
from pilothouse.policies.rules import Action, Policy, PolicySet, Profile, Rule

SEEDS = range(40)
Change = Callable[[PolicySet, random.Random], PolicySet]


def rules(change: Callable[[Rule, random.Random], Rule]) -> Change:
    """Changes every rule of every policy and profile."""

    def both(item: Policy | Profile, dice: random.Random) -> Any:
        return replace(
            item,
            ingress=tuple(change(rule, dice) for rule in item.ingress),
            egress=tuple(change(rule, dice) for rule in item.egress),
        )

    return lambda given, dice: replace(
        given,
        policies=tuple(both(item, dice) for item in given.policies),
        profiles=tuple(both(item, dice) for item in given.profiles),
    )


def shuffled(items: Any, dice: random.Random) -> Any:
    found = list(items)
    dice.shuffle(found)
    return tuple(found)


def _order(given: PolicySet, dice: random.Random) -> PolicySet:
    return PolicySet(
        *(shuffled(getattr(given, name), dice) for name in ("policies", "tiers", "sets", "profiles", "hosts"))
    )


def _peers(rule: Rule, dice: random.Random) -> Rule:
    return replace(rule, peers=shuffled(rule.peers, dice), traffic=shuffled(rule.traffic, dice))


def _split(rule: Rule, dice: random.Random) -> Rule:
    """Every range that is excluded from nothing is written as its two halves."""

    def halves(network: Any) -> tuple[Any, ...]:
        return tuple(network.subnets()) if network.prefixlen < network.max_prefixlen else (network,)

    peers = []
    for peer in rule.peers:
        nets = peer.nets
        if nets is not None:
            nets = tuple(
                replace(item, ranges=tuple(half for net in item.ranges for half in halves(net))) for item in nets
            )
        peers.append(replace(peer, nets=nets))
    return replace(rule, peers=tuple(peers))


def _twice(rule: Rule, dice: random.Random) -> Rule:
    return replace(rule, peers=(*rule.peers, *rule.peers), traffic=(*rule.traffic, *rule.traffic))


def _idle(given: PolicySet, dice: random.Random) -> PolicySet:
    """A policy that selects nobody, though it would deny everything."""
    found = []
    for policy in given.policies[:2]:
        nobody = tuple(replace(peer, namespace="nowhere", namespace_selector=None) for peer in policy.subjects)
        if policy.namespace:
            found.append(replace(policy, name=f"{policy.name}-idle", namespace="nowhere", subjects=nobody))
    return given.with_policies((*given.policies, *found))


def _renamed(given: PolicySet, dice: random.Random) -> PolicySet:
    """The same names with a letter before them, which keeps their order."""
    return replace(
        given,
        policies=tuple(replace(item, name=f"z{item.name}") for item in given.policies),
        sets=tuple(replace(item, name=f"z{item.name}") for item in given.sets),
    )


def _gaps(given: PolicySet, dice: random.Random) -> PolicySet:
    """Other orders in the same sequence."""
    orders = sorted({item.order for item in given.policies})
    places = {order: float(index * 7) for index, order in enumerate(orders)}
    standard = ("default", "kube-admin", "kube-baseline")
    named = {policy.tier for policy in given.policies if policy.tier in standard}
    known = (*given.tiers, *(given.tier(name) for name in sorted(named - {tier.name for tier in given.tiers})))
    tiers = {order: float(i * 3 + 1) for i, order in enumerate(sorted({tier.order for tier in known}))}
    return replace(
        given,
        policies=tuple(replace(item, order=places[item.order]) for item in given.policies),
        tiers=tuple(replace(item, order=tiers[item.order]) for item in known),
    )


CHANGES: dict[str, Change] = {
    "the order of what has none": _order,
    "the order of peers and ports": rules(_peers),
    "ranges in halves": rules(_split),
    "peers and ports twice": rules(_twice),
    "a policy that applies to nobody": _idle,
    "names": _renamed,
    "gaps between orders": _gaps,
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_means_nothing_changes_nothing(name: str) -> None:
    for seed in SEEDS:
        world = random_world(seed)
        probes = packets(world, limit=25, seed=seed)
        judged = judge(world, probes)
        changed = CHANGES[name](judged.engine.policies, random.Random(seed))
        ranges = [ip_network(f"{end.address}") for source, other, _ in probes for end in (source, other)]
        other = Judged.__new__(Judged)
        other.snapshot, other.engine = judged.snapshot, Engine.of(judged.snapshot, changed, ranges=ranges)
        for probe in probes:
            assert other.verdict(*probe) == judged.verdict(*probe), f"seed {seed}: {probe}"


def test_a_change_of_one_policy_on_top_is_the_same_as_from_the_start() -> None:
    patched = 0
    for seed in range(80):
        world = random_world(seed)
        judged = judge(world, packets(world, limit=5, seed=seed))
        engine, dice = judged.engine, random.Random(seed)
        assert list(engine.reach.blocks()) is not None
        for policy in engine.policies.policies:
            changed = dice.choice(
                (
                    replace(policy, ingress=policy.ingress[1:], egress=policy.egress[::-1]),
                    replace(policy, order=dice.choice((1.0, 1000.0, 5000.0))),
                    replace(policy, directions=frozenset()),
                )
            )
            kept = [item for item in engine.policies.policies if item is not policy]
            wanted = engine.policies.with_policies([*kept, changed] if dice.random() < 0.8 else kept)
            one = engine.on(wanted)
            assert one is not None, "the vocabulary of a part is known"
            patched += 1
            fresh = Engine.of(judged.snapshot, wanted, known=engine.universe.vocabulary)
            assert list(one.reach.egress) == list(fresh.reach.egress), f"seed {seed}: {policy.key}"
            assert list(one.reach.ingress) == list(fresh.reach.ingress), f"seed {seed}: {policy.key}"
    assert patched > 100


def test_what_a_universe_cannot_tell_apart_is_computed_from_the_start() -> None:
    world = next(w for w in map(random_world, range(50)) if len(judge(w, []).engine.policies.policies) > 2)
    engine = judge(world, []).engine
    policy = next(item for item in engine.policies.policies if item.namespace)
    peer = replace(policy.subjects[0], nets=None, not_nets=(ip_network("203.0.113.128/25"),))
    changed = replace(policy, ingress=(Rule(Action.ALLOW, (peer,)),))
    wanted = engine.policies.with_policies([changed])
    assert engine.on(wanted) is None
    assert engine.with_policy(changed).policies.policies[-1] == changed


@pytest.mark.parametrize("seed", range(30))
def test_blocks_are_every_pair_once(seed: int) -> None:
    world = random_world(seed)
    engine = judge(world, packets(world, limit=10, seed=seed)).engine
    reach, universe = engine.reach, engine.universe
    found: dict[tuple[int, int], Any] = {}
    for block in reach.blocks():
        for source in range(universe.size):
            for destination in range(universe.size):
                if block.sources >> source & 1 and block.destinations >> destination & 1:
                    key = (source, destination)
                    before = found.get(key)
                    if before is not None and not block.conditional:
                        assert not before & block.connections, "blocks of one pair do not overlap"
                    found[key] = block.connections if before is None else before | block.connections
    for source in range(universe.size):
        for destination in range(universe.size):
            if not (universe.everything >> source & universe.everything >> destination & 1):
                continue
            if universe.is_endpoint(source) or universe.is_endpoint(destination):
                expected = reach.possible(source, destination)
                assert found.get((source, destination), expected - expected) == expected
            else:
                assert (source, destination) not in found


@pytest.mark.parametrize("seed", range(30))
def test_differences_are_the_pairs_that_differ(seed: int) -> None:
    world = random_world(seed)
    judged = judge(world, packets(world, limit=10, seed=seed))
    given, dice = judged.engine.policies, random.Random(seed)
    kept = [policy for policy in given.policies if dice.random() < 0.7]
    one, two = Engine.together(judged.snapshot, [given, given.with_policies(kept)])
    universe = one.universe
    expected = {
        (source, destination)
        for source in range(universe.size)
        for destination in range(universe.size)
        if universe.everything >> source & universe.everything >> destination & 1
        and (universe.is_endpoint(source) or universe.is_endpoint(destination))
        and one.reach.possible(source, destination) != two.reach.possible(source, destination)
    }
    found = list(differences(one.reach, two.reach))
    assert {(item.source, item.destination) for item in found} == expected
    assert len(found) == len(expected)
    for item in found:
        was = one.reach.possible(item.source, item.destination)
        now = two.reach.possible(item.source, item.destination)
        assert (item.before - item.after, item.after - item.before) == (was - now, now - was)
    some = differences(one.reach, two.reach, sources=1, destinations=2)
    assert {(i.source, i.destination) for i in some} == {pair for pair in expected if pair == (0, 1)}
