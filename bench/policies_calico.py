"""Calico's policies of a made cluster: two tiers ahead of `default`, order, Deny, Pass, sets of addresses.

In every tier but the last, what no rule decides ends at a Pass, so that Kubernetes' policies are still met: a tier
would deny it otherwise (https://docs.tigera.io/calico/latest/reference/resources/tier).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from kubeobjects import Object, World

if TYPE_CHECKING:
    from policies_made import Made

API = "projectcalico.org/v3"
SECURITY, PLATFORM, DEFAULT = "security", "platform", "default"
TIERS = {SECURITY: 100, PLATFORM: 500, DEFAULT: 1_000_000}
PARTNERS = 16
PASS: Object = {"action": "Pass"}

Written = tuple[str, str, Object]
"""Kind, namespace (or ""), spec."""


def write(world: World, made: list[Made], count: int, dice: random.Random) -> None:
    """Tiers, sets and exactly `count` policies: a few for everybody, the others for a team, namespace or service."""
    for name, order in TIERS.items():
        world.plain(API, "Tier", name, spec={"defaultAction": "Deny", "order": order})
    for number in range(PARTNERS):
        labels = {"partner": f"p{number}", "role": "partner"}
        nets = [f"203.0.113.{16 * number}/28", f"2001:db8:{number + 1:x}::/48"]
        world.plain(API, "GlobalNetworkSet", f"partner-{number}", labels=labels, spec={"nets": nets})
    bad = {"nets": [f"198.51.100.{number}/32" for number in range(0, 250, 5)]}
    world.plain(API, "GlobalNetworkSet", "blocked", labels={"role": "blocked"}, spec=bad)
    for item in made[:: max(1, len(made) // 40)][:40]:
        own = {"nets": [f"192.0.2.{item.index % 256}/32"]}
        world.plain(API, "NetworkSet", f"{item.name}-legacy", item.namespace, labels={"role": "legacy"}, spec=own)
    everybody = _everybody()
    kinds, weights = list(_KINDS), list(_KINDS.values())
    for number in range(count):
        if number < min(len(everybody), count // 4):
            name, (kind, namespace, spec) = everybody[number]
        else:
            item = dice.choice(made)
            make = dice.choices(kinds, weights)[0]
            kind, namespace, spec = make(item, made, dice)
            name = f"{item.name if namespace else item.team}-{number}"
        tier = spec["tier"]
        world.plain(API, kind, name if tier == DEFAULT else f"{tier}.{name}", namespace, spec=spec)


def _everybody() -> list[tuple[str, Written]]:
    """What a security and a platform team say for the whole cluster."""
    metadata = {"action": "Deny", "destination": {"nets": ["169.254.169.254/32"]}}
    blocked = {"action": "Deny", "destination": {"selector": "role == 'blocked'"}}
    quarantined: Object = {"selector": "quarantine == 'true'", "types": ["Ingress", "Egress"]}
    zones = {"action": "Deny", "source": {"selector": "zone == 'open'"}}
    scrape = {
        "action": "Allow",
        "destination": {"ports": [9102]},
        "protocol": "TCP",
        "source": {
            "namespaceSelector": "kubernetes.io/metadata.name == 'monitoring'",
            "selector": "app == 'prometheus'",
        },
    }
    return [
        (name, ("GlobalNetworkPolicy", "", {"order": order, "tier": tier, **spec}))
        for name, tier, order, spec in (
            ("quarantine", SECURITY, 1, quarantined),
            ("metadata", SECURITY, 10, _both({"selector": "all()"}, egress=[metadata, blocked, PASS])),
            ("zones", SECURITY, 20, _both({"selector": "zone == 'restricted'"}, ingress=[zones, PASS])),
            ("scrape", PLATFORM, 10, _both({"selector": "has(app)"}, ingress=[scrape, PASS])),
        )
    ]


def _both(spec: Object, ingress: list[Object] | None = None, egress: list[Object] | None = None) -> Object:
    """With those rules, and `types` as the API server fills it in."""
    found = {**spec, "types": [name for name, rules in (("Ingress", ingress), ("Egress", egress)) if rules is not None]}
    if ingress is not None:
        found["ingress"] = ingress
    if egress is not None:
        found["egress"] = egress
    return found


def _team(item: Made, made: list[Made], dice: random.Random) -> Written:
    """The sensitive pods of a team are for the team, and for one other."""
    other = dice.choice(made).team
    ours = {"action": "Pass", "source": {"selector": f"team in {{'{item.team}', '{other}'}}"}}
    deny = {"action": "Deny", "source": {"selector": "has(team)"}}
    selector = f"team == '{item.team}' && sensitivity == 'high'"
    spec = _both({"order": 100 + dice.randrange(400), "selector": selector, "tier": PLATFORM}, [ours, deny, PASS])
    return "GlobalNetworkPolicy", "", spec


def _namespace(item: Made, made: list[Made], dice: random.Random) -> Written:
    """A namespace takes nothing that is no TCP, or nothing from ports that are none of its business."""
    if dice.random() < 0.5:
        rules: list[Object] = [{"action": "Deny", "notProtocol": dice.choice(("TCP", "UDP"))}, PASS]
    else:
        rules = [{"action": "Deny", "destination": {"notPorts": ["1024:65535"]}, "protocol": "TCP"}, PASS]
    spec = _both({"order": 600 + dice.randrange(300), "selector": "sensitivity == 'high'", "tier": PLATFORM}, rules)
    return "NetworkPolicy", item.namespace, spec


def _partners(item: Made, made: list[Made], dice: random.Random) -> Written:
    """Out to partners, whose addresses stand in sets."""
    one = f"partner == 'p{dice.randrange(PARTNERS)}'"
    to = {"namespaceSelector": "global()", "ports": [443, dice.choice(("8443:8450", 5671, 9093))], "selector": one}
    rule = {"action": "Allow", "destination": to, "protocol": "TCP"}
    return "NetworkPolicy", item.namespace, _both(_of(item, 200, dice), egress=[rule])


def _legacy(item: Made, made: list[Made], dice: random.Random) -> Written:
    """In from what has not moved yet, and pings."""
    rule = {
        "action": "Allow",
        "destination": {"ports": [item.port_name]},
        "protocol": "TCP",
        "source": {"selector": "role == 'legacy'"},
    }
    ping = {"action": "Allow", "icmp": {"type": 8}, "protocol": "ICMP"}
    return "NetworkPolicy", item.namespace, _both(_of(item, 300, dice), ingress=[rule, ping])


def _accounts(item: Made, made: list[Made], dice: random.Random) -> Written:
    """In from service accounts, not from labels."""
    other = dice.choice(made)
    source = {
        "namespaceSelector": f"kubernetes.io/metadata.name == '{other.namespace}'",
        "serviceAccounts": {"names": [other.name]},
    }
    rule = {"action": "Allow", "destination": {"ports": [item.port]}, "protocol": "TCP", "source": source}
    return "NetworkPolicy", item.namespace, _both(_of(item, 400, dice), ingress=[rule])


def _backends(item: Made, made: list[Made], dice: random.Random) -> Written:
    """Out to whatever stands behind a Service."""
    other = dice.choice(made)
    rule = {
        "action": "Allow",
        "destination": {"services": {"name": other.name, "namespace": other.namespace}},
        "protocol": "TCP",
    }
    return "NetworkPolicy", item.namespace, _both(_of(item, 500, dice), egress=[rule])


def _unwanted(item: Made, made: list[Made], dice: random.Random) -> Written:
    """Nobody of one namespace, or nobody but products, before Kubernetes' policies are met."""
    if dice.random() < 0.5:
        source: Object = {"namespaceSelector": f"kubernetes.io/metadata.name == '{dice.choice(made).namespace}'"}
    else:
        source = {"notSelector": "tier == 'product' || has(app)"}
    return "NetworkPolicy", item.namespace, _both(_of(item, 50, dice), [{"action": "Deny", "source": source}])


def _afterwards(item: Made, made: list[Made], dice: random.Random) -> Written:
    """After Kubernetes' policies: what they left open is logged and refused, but for the team's own."""
    team = {"action": "Allow", "protocol": "TCP", "source": {"selector": f"team == '{item.team}'"}}
    spec = _both(_of(item, 1500, dice), [team, {"action": "Log"}, {"action": "Deny"}])
    return "NetworkPolicy", item.namespace, spec


def _staged(item: Made, made: list[Made], dice: random.Random) -> Written:
    kind, namespace, spec = _unwanted(item, made, dice)
    return f"Staged{kind}", namespace, spec | {"stagedAction": "Set"}


def _of(item: Made, order: int, dice: random.Random) -> Object:
    return {"order": order + dice.randrange(40), "selector": f"app == '{item.name}'", "tier": DEFAULT}


_KINDS: dict[Callable[[Made, list[Made], random.Random], Written], int] = {
    _team: 6,
    _namespace: 8,
    _partners: 24,
    _legacy: 12,
    _accounts: 14,
    _backends: 10,
    _unwanted: 12,
    _afterwards: 10,
    _staged: 4,
}
"""How often each is written."""
