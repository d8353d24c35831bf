"""Whatever single change of a policy changes who reaches whom, the proof catches. A sample of all of them, spread over
the bank; `pilothouse policies prove --mutate` makes every one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from policies.reference import End, Packet, World, verdict

from pilothouse.policies.engine import Engine, differences
from pilothouse.policies.prove.mutations import of
from pilothouse.policies.rules import PolicySet
from pilothouse.workflows.policy_proof import Case, sharpness
from pilothouse.workflows.rendering import inputs_for, open_platform

BANK = Path(__file__).parents[3] / "examples" / "bank"
TODAY = date(2026, 11, 21)


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    opened = open_platform(BANK)
    return {name: Case(inputs_for(opened, name, TODAY)[0]) for name in ("dev", "test", "uat", "prod")}


@pytest.mark.parametrize(("cluster", "every"), [("dev", 2), ("test", 37), ("uat", 37), ("prod", 37)])
def test_no_mutation_that_changes_reach_is_missed(cases: dict[str, Case], cluster: str, every: int) -> None:
    found = sharpness(cases[cluster], every)
    assert found.missed == ()
    assert found.caught > 20
    assert found.caught > len(found.idle)


def test_no_mutation_of_calicos_own_kinds_is_missed() -> None:
    inputs = inputs_for(open_platform(BANK), "prod", TODAY)[0]
    case = Case(replace(inputs, cluster=replace(inputs.cluster, policy_kinds="calico")))
    found = sharpness(case, 29)
    assert found.missed == ()
    assert found.caught > 20
    assert found.caught > len(found.idle)


def test_every_part_of_a_calico_rule_is_changed() -> None:
    destination = {"nets": ["10.0.0.0/8"], "notNets": ["10.1.0.0/16"], "ports": [53, "80:90"]}
    policy = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "x", "namespace": "a"},
        "spec": {
            "selector": "app == 'x'",
            "types": ["Egress"],
            "egress": [
                {"action": "Allow", "protocol": "UDP", "destination": destination},
                {"action": "Allow", "protocol": "TCP", "destination": {"services": {"name": "dns"}}},
                {"action": "Pass"},
            ],
        },
    }
    found = [mutation.what for mutation in of(policy)]
    assert len(found) == len(set(found))
    assert {
        "selector all()",
        "egress[0] TCP",
        "egress[0] Deny",
        "egress[0].destination.nets[0] wider",
        "egress[0].destination without notNets 0",
        "egress[0].destination.ports[0] one more",
        "egress[0].destination at every port",
        "egress[1] of every protocol",
        "egress[1].destination without services",
        "egress[2] Allow",
    } <= set(found)


def test_what_is_not_changed_is_proved(cases: dict[str, Case]) -> None:
    for case in cases.values():
        proof = case.proof()
        assert proof.is_proved
        assert proof.policies > 0
        assert not case.changes_reach(case.policies)
        assert case.prover.check_other(case.policies) == ()


def test_the_reference_evaluator_sees_the_same_changes(cases: dict[str, Case]) -> None:
    """Straight from the manifests, packet by packet, with nothing of the engine: at the connection that the engine says
    a mutation changes, the answer is another; at random ones, it is only where the proof complains, too."""
    case, dice = cases["dev"], random.Random(7)
    objects = [*_objects(BANK / "snapshots" / "dev.json"), *(dict(item) for item in case.manifests)]
    before = World(objects)
    ends = before.ends()
    ports = sorted({port for item in case.manifests for port in _ports(item)})
    seen = 0
    for manifest, mutation in dice.sample(list(case.mutations()), 60):
        policies = case.mutated(manifest, mutation)
        if policies is None:
            continue
        kept = [item for item in objects if item != manifest]
        after = World([*kept, dict(mutation.manifest)] if mutation.manifest else kept)
        changed = next(_changed(case, policies), None)
        if changed is not None:
            seen += 1
            assert verdict(before, *changed) != verdict(after, *changed), mutation.what
        for one, other in (dice.sample(ends, 2) for _ in range(20)):
            if (":" in one.address) == (":" in other.address) and one.pod != other.pod:
                probe = (one, other, Packet(6, 40000, dice.choice(ports)))
                if verdict(before, *probe) != verdict(after, *probe):
                    assert case.prover.check_other(policies), mutation.what
    assert seen > 15


def _changed(case: Case, policies: PolicySet) -> Iterator[tuple[End, End, Packet]]:
    """Connections between pods that exist, or addresses, that these policies change."""
    one, two = case.engines(policies)
    for item in differences(one.reach, two.reach):
        found = [_end(one, piece) for piece in (item.source, item.destination)]
        packet = ((item.after - item.before) or (item.before - item.after)).first()
        if found[0] is not None and found[1] is not None and found[0].pod != found[1].pod:
            yield found[0], found[1], Packet(packet.protocol, packet.source_port, packet.destination_port)


def _end(engine: Engine, piece: int) -> End | None:
    universe = engine.universe
    if not universe.is_endpoint(piece):
        return End(str(universe.region(piece).address()))
    if universe.pieces[piece].future:
        return None
    pod, version = universe.pieces[piece].pods[0], universe.version(piece)
    return next((End(ip, pod=pod.key) for ip in pod.ips if (6 if ":" in ip else 4) == version), None)


def test_every_part_of_a_policy_is_changed() -> None:
    policy = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "x", "namespace": "a"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "x", "tier": "y"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [
                        {"podSelector": {"matchLabels": {"app": "w"}}, "namespaceSelector": {}},
                        {"podSelector": {}},
                    ],
                    "ports": [{"port": 80}, {"port": "dns", "protocol": "UDP"}],
                }
            ],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}],
        },
    }
    found = [mutation.what for mutation in of(policy)]
    assert len(found) == len(set(found))
    assert {
        "removed",
        "podSelector emptied",
        "podSelector without app",
        "policyTypes without Egress",
        "ingress[0] removed",
        "ingress[0] without peers",
        "ingress[0].from[0] removed",
        "ingress[0].from[0] without namespaceSelector",
        "ingress[0].from[0].podSelector app of another",
        "ingress[0] at every port",
        "ingress[0].ports[0] one more",
        "ingress[0].ports[0] up to 81",
        "ingress[0].ports[1] another name",
        "ingress[0].ports[1] TCP",
        "egress[0].to[0] wider",
        "egress[0].to[0] without except 0",
    } <= set(found)


def _objects(path: Path) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(path.read_text())["items"]
    wanted = ("Namespace", "Pod", "Node", "ServiceAccount", "Service", "EndpointSlice")
    return [item for item in items if item["kind"] in wanted]


def _ports(manifest: dict[str, Any]) -> Iterator[int]:
    for direction in ("ingress", "egress"):
        for rule in manifest["spec"].get(direction) or ():
            yield from (port["port"] for port in rule.get("ports") or () if isinstance(port.get("port"), int))
