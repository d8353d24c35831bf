"""Policies for walks from one state of a cluster to another: ours in either kind, and those of others beside them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from support import builders as make

from pilothouse.artifacts.objects import ObjectKey
from pilothouse.artifacts.ordering import Change, Step, order
from pilothouse.labels import ownership
from pilothouse.policies.engine import Engine
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.reading import from_data

Manifest = dict[str, Any]
Keyed = dict[ObjectKey, Manifest]
V3 = "projectcalico.org/v3"
APPS = ("a", "b", "c", "d")
SNAPSHOT = make.snapshot(make.pod(f"shop/{app}.1", ips=(f"10.40.0.{n}",)) for n, app in enumerate(APPS, 1))


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


# ---------------------------------------------------------------- ours


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


# ---------------------------------------------------------------- theirs


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
