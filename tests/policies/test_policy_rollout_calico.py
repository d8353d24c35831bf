"""Plans of Calico's kinds, of sets and tiers and beside policies of others, walked through one step at a time."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import builders as make

from pilothouse.artifacts.objects import ObjectKey
from pilothouse.artifacts.ordering import Change, Phase, Step, order
from pilothouse.inputs import Inputs
from pilothouse.labels import ownership
from pilothouse.platform.model import CidrPeer, Edge, Enforcement, PortRef, ServicePeer
from pilothouse.policies.compare.judge import Judge
from pilothouse.policies.compare.rollout import Rollout, Standing
from pilothouse.policies.derive import derive
from pilothouse.policies.engine import Engine
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.reading import from_data

Manifest = dict[str, Any]
Keyed = dict[ObjectKey, Manifest]
V3 = "projectcalico.org/v3"
APPS = ("a", "b", "c", "d")
SNAPSHOT = make.snapshot(make.pod(f"shop/{app}.1", ips=(f"10.40.0.{n}",)) for n, app in enumerate(APPS, 1))
WHOLE = frozenset({("networking.k8s.io", "NetworkPolicy"), ("projectcalico.org", "NetworkPolicy")})


def calico(name: str, kind: str = "NetworkPolicy", ours: bool = True, **spec: Any) -> Manifest:
    metadata: Manifest = {"name": name}
    if not kind.startswith("Global") and kind != "Tier":
        metadata["namespace"] = "shop"
    if ours:
        metadata["labels"] = ownership("dev")
    return {"apiVersion": V3, "kind": kind, "metadata": metadata, "spec": spec}


def rule(action: str, direction: str, app: str = "", **more: Any) -> Manifest:
    end = "destination" if direction == "egress" else "source"
    return {"action": action, **({end: {"selector": f"app == '{app}'"}} if app else {}), **more}


def keyed(items: Iterable[Manifest]) -> Keyed:
    return {ObjectKey.of(item): item for item in items}


def steps_between(old: Keyed, new: Keyed, others: Iterable[Manifest] = ()) -> tuple[Step, ...]:
    changes = [Change(key, old.get(key), item) for key, item in new.items() if old.get(key) != item]
    changes += [Change(key, item, None) for key, item in old.items() if key not in new]
    return order(changes, [*old.values(), *others], "dev")


def states(old: Keyed, steps: Sequence[Step]) -> list[Keyed]:
    found = [dict(old)]
    for step in steps:
        present = dict(found[-1])
        if step.action == "apply":
            present[step.key] = dict(step.manifest)
        else:
            del present[step.key]
        found.append(present)
    return found


def opened(snapshot: Any, passed: Sequence[Keyed], others: Iterable[Manifest] = ()) -> list[tuple[int, str, bool]]:
    """(step, direction, opened) wherever a state breaks the rule, found endpoint by endpoint and peer by peer."""
    sets = [from_data(*state.values(), *others).policies.enforced() for state in passed]
    engines = Engine.together(snapshot, sets)
    universe = engines[0].universe
    found = []
    for number, engine in enumerate(engines):
        for direction in ("egress", "ingress"):
            for piece in bits(universe.endpoints):
                was, becomes, now = (getattr(one.reach, direction)[piece] for one in (engines[0], engines[-1], engine))
                for peer in bits(universe.everything & universe.family[universe.version(piece)]):
                    old, new, here = (one.allowed(peer) for one in (was, becomes, now))
                    if here - old - new:
                        found.append((number, direction, True))
                    if (old & new) - here:
                        found.append((number, direction, False))
    return found


# ---------------------------------------------------------------- what refuses

_FORBIDDEN = st.lists(st.sampled_from(APPS), max_size=3, unique=True)
_ALLOWED = st.lists(st.sampled_from(APPS), min_size=1, max_size=3, unique=True)


def refusing(apps: Iterable[str]) -> list[Manifest]:
    """Our tier, and a policy in it that refuses these."""
    listed = list(apps)
    if not listed:
        return []
    denied = [rule("Deny", "egress", app, metadata={"annotations": {"why": app}}) for app in listed]
    spec = {"tier": "own", "order": 10, "selector": "all()", "types": ["Egress"]}
    policy = calico("own.forbidden", **spec, egress=[*denied, rule("Pass", "egress")])
    return [calico("own", "Tier", order=100), policy]


def allowing(apps: Iterable[str]) -> list[Manifest]:
    rules = [rule("Allow", "egress", app) for app in apps]
    return [
        calico("out", order=900, selector="all()", types=["Egress"], egress=rules),
        calico("deny", order=2000, selector="all()", types=["Ingress", "Egress"]),
    ]


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


def others_of(chance: random.Random) -> list[Manifest]:
    """A few policies of others: for the whole cluster or the namespace, in a tier of their own or in `default`."""
    found = [
        calico("theirs", "Tier", False, order=chance.choice([50, 500]), defaultAction=chance.choice(["Pass", "Deny"]))
    ]
    for number in range(chance.randint(0, 2)):
        tier = chance.choice(["default", "theirs"])
        kind = chance.choice(["GlobalNetworkPolicy", "NetworkPolicy"])
        direction = chance.choice(["egress", "ingress"])
        actions = [chance.choice(["Allow", "Deny", "Pass"]) for _ in range(chance.randint(0, 2))]
        rules = [rule(action, direction, chance.choice(APPS)) for action in actions]
        spec = {
            "tier": tier,
            "order": chance.choice([1, 950, 3000]),
            "selector": chance.choice(["all()", "app == 'a'", "app in {'b', 'c'}"]),
            "types": [direction.capitalize()],
            direction: rules,
        }
        found.append(
            calico(f"{tier}.theirs-{number}" if tier != "default" else f"theirs-{number}", kind, False, **spec)
        )
    return found


def ours_of(chance: random.Random) -> list[Manifest]:
    """A namespace as we write it, in Kubernetes' kinds or in Calico's, or not at all."""
    if chance.random() < 0.25:
        return []
    return calico_of(chance) if chance.random() < 0.5 else kubernetes_of(chance)


def some(chance: random.Random) -> list[str]:
    return chance.sample(APPS, chance.randint(1, 2))


def calico_of(chance: random.Random) -> list[Manifest]:
    found = [*refusing(chance.sample(APPS, chance.randint(0, 2))), *allowing(some(chance))]
    for number in range(chance.randint(0, 2)):
        for direction in ("egress", "ingress"):
            rules = [rule("Allow", direction, app) for app in some(chance)]
            spec = {"order": 900, "selector": f"app == '{chance.choice(APPS)}'", "types": [direction.capitalize()]}
            found.append(calico(f"{direction}-{number}", **spec, **{direction: rules}))
    return found


def kubernetes(name: str, app: str, **rules: Any) -> Manifest:
    types = [item.capitalize() for item in rules]
    pods = {"matchLabels": {"app": app}} if app else {}
    spec = {"podSelector": pods, "policyTypes": types, **{key: value for key, value in rules.items() if value}}
    meta = {"name": name, "namespace": "shop", "labels": ownership("dev")}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def kubernetes_of(chance: random.Random) -> list[Manifest]:
    found = [kubernetes("deny", "", ingress=[], egress=[])]
    for number in range(chance.randint(0, 3)):
        for direction, end in (("egress", "to"), ("ingress", "from")):
            peers = [{"podSelector": {"matchLabels": {"app": app}}} for app in some(chance)]
            own = chance.choice(["", *APPS])
            found.append(kubernetes(f"{direction}-{number}", own, **{direction: [{end: peers}]}))
    return found


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


_RANGES = tuple(make.ip_network(item) for item in ("198.51.100.0/24", "203.0.113.0/25", "203.0.113.0/24"))


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
