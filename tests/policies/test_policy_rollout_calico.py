"""Plans of Calico's kinds, of sets and tiers and beside policies of others, walked through one step at a time."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import builders as make
from support.rollouts import (
    APPS,
    SNAPSHOT,
    V3,
    Keyed,
    Manifest,
    allowing,
    keyed,
    opened,
    others_of,
    ours_of,
    refusing,
    states,
    steps_between,
)

from pilothouse.artifacts.ordering import Phase, Step
from pilothouse.inputs import Inputs
from pilothouse.platform.model import CidrPeer, Edge, Enforcement, PortRef, ServicePeer
from pilothouse.policies.compare.judge import Judge
from pilothouse.policies.compare.rollout import Rollout, Standing
from pilothouse.policies.derive import derive

WHOLE = frozenset({("networking.k8s.io", "NetworkPolicy"), ("projectcalico.org", "NetworkPolicy")})


# ---------------------------------------------------------------- what refuses

_FORBIDDEN = st.lists(st.sampled_from(APPS), max_size=3, unique=True)
_ALLOWED = st.lists(st.sampled_from(APPS), min_size=1, max_size=3, unique=True)


@settings(max_examples=60, deadline=None)
@given(_FORBIDDEN, _FORBIDDEN, _ALLOWED, _ALLOWED, st.booleans(), st.booleans())
def test_what_is_refused_and_what_is_allowed_change_together(
    was: list[str], becomes: list[str], allows: list[str], will: list[str], governed: bool, remains: bool
) -> None:
    old = keyed([*refusing(was), *allowing(allows)] if governed else [])
    new = keyed([*refusing(becomes), *allowing(will)] if remains else [])
    steps = steps_between(old, new)
    passed = states(old, steps)
    assert passed[-1] == new
    assert opened(SNAPSHOT, passed) == []
    found = judged(old, steps)
    assert (found.breaches, found.pauses) == ((), ())


def judged(old: Keyed, steps: Sequence[Step], others: Iterable[Manifest] = ()) -> Rollout:
    standing = Standing({**old, **keyed(others)}, WHOLE)
    return Judge(SNAPSHOT, make.cluster(calico_api=V3)).rollout(standing, steps)


def test_what_is_refused_newly_comes_first_and_what_is_no_longer_goes_last() -> None:
    old = keyed([*refusing(["a", "b"]), *allowing(["a", "b"])])
    new = keyed([*refusing(["b", "c"]), *allowing(["c", "d"])])
    steps = steps_between(old, new)
    mine = [step for step in steps if step.key.name == "own.forbidden"]
    assert [(step.phase, step.action) for step in mine] == [(Phase.REFUSE, "apply"), (Phase.RELEASE, "apply")]
    assert (steps[0], steps[-1]) == (mine[0], mine[1])
    actions = [
        (item["action"], item.get("destination", {}).get("selector")) for item in mine[0].manifest["spec"]["egress"]
    ]
    assert actions == [
        ("Deny", "app == 'a'"),
        ("Deny", "app == 'b'"),
        ("Deny", "app == 'c'"),
        ("Pass", None),
    ]


# ---------------------------------------------------------------- beside others


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_the_judge_finds_what_one_step_at_a_time_shows(seed: int) -> None:
    """Whatever stands beside ours: the judge sees every opening and every cut that a walk through single steps sees,
    and names none that is not there."""
    chance = random.Random(seed)
    others, old, new = others_of(chance), keyed(ours_of(chance)), keyed(ours_of(chance))
    steps = steps_between(old, new, others)
    plain = {(direction, more) for _, direction, more in opened(SNAPSHOT, states(old, steps), others)}
    found = judged(old, steps, others)
    mine = {(str(item.direction), item.opened) for item in (*found.breaches, *found.pauses)}
    assert {item for item in mine if item[1]} == {item for item in plain if item[1]}
    assert {direction for direction, _ in mine} == {direction for direction, _ in plain}
    assert mine <= plain


# ---------------------------------------------------------------- what is derived


def declared(chance: random.Random, kinds: str) -> Inputs:
    """Random services of two namespaces, each enforced, staged or off."""
    names = ("shop/a", "shop/b", "desk/c", "desk/d")
    services = []
    for name in chance.sample(names, chance.randint(2, 4)):
        peers: list[Any] = [ServicePeer(*other.split("/")) for other in chance.sample(names, chance.randint(0, 3))]
        peers += [CidrPeer(net) for net in chance.sample(_RANGES, chance.randint(0, 2))]
        egress = tuple(Edge(peer, (PortRef(number=chance.choice([80, 443, 8080])),)) for peer in peers)
        services.append(make.service(name, egress=egress))
    modes = {name: chance.choice([*Enforcement]) for name in ("shop", "desk")}
    on = make.cluster(calico_api=V3, policy_kinds=kinds, namespace_enforcement=modes, enforcement=Enforcement.ENFORCED)
    pods = [make.pod(f"{name}.1", ips=(f"10.40.1.{n}",)) for n, name in enumerate(names, 1)]
    declared_pods = {service.key for service in services}
    return make.inputs(services, pods=[pod for pod in pods if pod.key.removesuffix(".1") in declared_pods], on=on)


_RANGES = tuple(ip_network(item) for item in ("198.51.100.0/24", "203.0.113.0/25", "203.0.113.0/24"))


@pytest.mark.parametrize("kinds", [("kubernetes", "kubernetes"), ("calico", "calico"), ("kubernetes", "calico")])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_from_declarations_to_others_no_step_opens_or_cuts(kinds: tuple[str, str], seed: int) -> None:
    chance = random.Random(seed)
    before, after = (declared(chance, kind) for kind in kinds)
    pods = {pod.key: pod for pod in (*before.snapshot.pods, *after.snapshot.pods)}
    after = replace(after, snapshot=make.snapshot(pods.values()))
    before = replace(before, snapshot=after.snapshot)
    old, new = (keyed(map(dict, derive(item).artifacts.under("policies/").manifests())) for item in (before, after))
    steps = steps_between(old, new)
    assert opened(after.snapshot, states(old, steps)) == []
    found = Judge(after.snapshot, after.cluster, after).rollout(Standing(old, WHOLE), steps)
    assert (found.breaches, found.pauses, found.unread) == ((), (), ())
