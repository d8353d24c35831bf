"""Flows replayed say of each what the evaluator says of its ends, whoever those are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from policies.cases import packets, random_world
from policies.engine_worlds import packet_of
from policies.reference import End

from pilothouse.inventory.parse import at, parse
from pilothouse.policies.engine import Engine
from pilothouse.policies.engine.connections import ICMP, ICMPV6
from pilothouse.policies.engine.decide import both, decide
from pilothouse.policies.flows.model import EndKind, Flow, FlowEnd, Observed, PolicyHit
from pilothouse.policies.flows.replay import Replay, as_data, findings, judged, replay
from pilothouse.policies.flows.verdicts import STANDINGS, Standing, packet
from pilothouse.policies.parties import Parties
from pilothouse.policies.reading import read
from pilothouse.policies.rules import Direction
from pilothouse.policies.site import Site, of_snapshot
from pilothouse.problems import Place
from policies import raw

POLICY = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}


def site(*objects: dict[str, Any]) -> Site:
    snapshot, problems = parse((each, at(Place("world"))) for each in objects)
    assert not problems, problems
    return of_snapshot(snapshot)


def pod(namespace: str, name: str) -> FlowEnd:
    return FlowEnd(EndKind.POD, namespace, name)


def address(text: str) -> FlowEnd:
    return FlowEnd(EndKind.ADDRESS, address=text)


def ingress(name: str, app: str, port: int, caller: str = "web") -> dict[str, Any]:
    rule = {"from": [{"podSelector": {"matchLabels": {"app": caller}}}], "ports": [{"port": port}]}
    spec = {"podSelector": {"matchLabels": {"app": app}}, "ingress": [rule]}
    return {**POLICY, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


PODS = (
    raw.namespace("shop"),
    raw.node("n1", "192.168.0.1"),
    raw.pod("shop/web-7d98456675-abcde", "10.0.0.1", {"app": "web"}),
    raw.pod("shop/api-68d9f5d5f5-fghij", "10.0.0.2", {"app": "api"}),
    raw.pod("shop/db-0", "10.0.0.3", {"app": "db"}),
    raw.service("shop/api", {"app": "api"}, 80, 8080, "TCP"),
)
WEB, API = pod("shop", "web-7d98456675-abcde"), pod("shop", "api-68d9f5d5f5-fghij")
DB = pod("shop", "db-0")


def alone(flow: Flow, *policies: dict[str, Any], before: tuple[dict[str, Any], ...] = ()) -> Replay:
    """One flow under these policies, and before under those."""
    return replay([flow], site(*PODS, *before), site(*PODS, *policies))


def standing(flow: Flow, *policies: dict[str, Any], before: tuple[dict[str, Any], ...] = ()) -> Standing:
    (group,) = alone(flow, *policies, before=before).groups
    return group.standing


# ---------------------------------------------------------------- the evaluator


@pytest.mark.parametrize("batch", range(4))
def test_it_agrees_with_the_evaluator_on_random_worlds(batch: int) -> None:
    met = set()
    for seed in range(batch * 25, batch * 25 + 25):
        met |= _agrees(seed)
    assert {Standing.STILL_ALLOWED, Standing.STILL_DENIED, Standing.NEWLY_DENIED, Standing.NEWLY_ALLOWED} <= met


def _agrees(seed: int) -> set[Standing]:
    """The standings met."""
    world = random_world(seed)
    snapshot, _ = parse((each, at(Place("world"))) for each in world.objects)
    policies = read(snapshot.policies).policies.enforced()
    half = policies.with_policies(policies.policies[::2])
    was, now = Engine.together(snapshot, [half, policies])
    universe = now.universe
    found = set()
    for source, destination, probe in packets(world, limit=20, seed=seed):
        asked = packet_of(probe)
        port = None if asked.protocol in (ICMP, ICMPV6) else asked.destination_port
        one, other = (_end(end) for end in (source, destination))
        if one is None or other is None or one == other:
            continue
        flow = Flow(one, other, asked.protocol, port)
        result = judged([flow], was, now, Parties(None, universe))
        (verdict,) = result.verdicts
        for pair in verdict.pairs:
            outcomes = tuple(both(*decide(engine, pair[0], pair[1], packet(pair))) for engine in (was, now))
            expected = STANDINGS.get(outcomes, Standing.CONDITIONAL)  # type: ignore[arg-type]
            assert verdict.standing in (expected, Standing.MIXED)
        if verdict.standing is Standing.NEWLY_DENIED:
            assert result.groups[0].rules
            assert result.groups[0].side
        found.add(verdict.standing)
    return found


def _end(end: End) -> FlowEnd | None:
    if end.pod:
        namespace, name = end.pod.split("/")
        return pod(namespace, name)
    return None if end.host else address(end.address)


# ---------------------------------------------------------------- ends


def test_a_pod_that_is_gone_is_judged_by_those_of_its_workload() -> None:
    gone = Flow(pod("shop", "web-7d98456675-zzzzz"), API, 6, 8080)
    assert standing(gone, ingress("api", "api", 8080)) is Standing.STILL_ALLOWED
    assert standing(gone, ingress("api", "api", 9090)) is Standing.NEWLY_DENIED


@pytest.mark.parametrize("name", ["web-7d98456675-*", "web-*"])
def test_a_workload_is_its_pods(name: str) -> None:
    flow = Flow(FlowEnd(EndKind.WORKLOAD, "shop", name), API, 6, 8080)
    assert standing(flow, ingress("api", "api", 9090)) is Standing.NEWLY_DENIED


def test_pods_that_differ_are_mixed_and_still_told_of() -> None:
    flow = Flow(FlowEnd(EndKind.WORKLOAD, "shop", "db-*"), API, 6, 8080)
    other = raw.pod("shop/db-1", "10.0.0.4", {"app": "db", "role": "replica"})
    policy = ingress("api", "api", 8080, "db")
    policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]["role"] = "replica"
    result = replay([flow], site(*PODS, other), site(*PODS, other, policy))
    (group,) = result.groups
    assert group.standing is Standing.MIXED
    assert group.denies
    assert result.denied == (group,)
    assert group.rules == ("no rule of shop/api",)


@pytest.mark.parametrize(
    "flow", [Flow(WEB, pod("shop", "api"), 6, 80), Flow(WEB, FlowEnd(EndKind.PRIVATE), 6, 80, "shop/api")]
)
def test_a_service_is_its_backends_at_their_port(flow: Flow) -> None:
    assert standing(flow, ingress("api", "api", 8080)) is Standing.STILL_ALLOWED
    assert standing(flow, ingress("api", "api", 80)) is Standing.NEWLY_DENIED
    (group,) = alone(replace(flow, port=81)).groups
    assert group.reason == "the Service shop/api has no backend at that port"


@pytest.mark.parametrize("kind", [EndKind.PUBLIC, EndKind.PRIVATE, EndKind.UNKNOWN])
def test_what_the_log_does_not_tell_apart_is_unknown(kind: EndKind) -> None:
    (group,) = alone(Flow(WEB, FlowEnd(kind, name="x" if kind is EndKind.UNKNOWN else ""), 6, 443)).groups
    assert group.standing is Standing.UNKNOWN
    assert group.reason.startswith("the log says no more than")
    assert group.source.name == "shop/web-7d98456675-abcde"


def test_an_unknown_pod_says_so() -> None:
    (group,) = alone(Flow(pod("shop", "ghost-1"), API, 6, 443)).groups
    assert group.reason == "the snapshot has no pod shop/ghost-1 and none like it"


def test_a_host_is_its_addresses_and_a_pod_cannot_shut_itself_out() -> None:
    closed = {**POLICY, "metadata": {"name": "closed", "namespace": "shop"}, "spec": {"podSelector": {}}}
    assert standing(Flow(FlowEnd(EndKind.HOST, name="n1"), API, 6, 8080), closed) in (
        Standing.STILL_ALLOWED,
        Standing.NEWLY_DENIED,
    )
    assert standing(Flow(FlowEnd(EndKind.HOST, name="n9"), API, 6, 8080), closed) is Standing.UNKNOWN
    assert standing(Flow(API, API, 6, 8080), closed) is Standing.STILL_ALLOWED
    assert standing(Flow(WEB, API, 6, 8080), closed) is Standing.NEWLY_DENIED


def test_ends_of_two_families_do_not_meet() -> None:
    (group,) = alone(Flow(WEB, address("2001:db8::1"), 6, 443)).groups
    assert (group.standing, group.reason) == (Standing.UNKNOWN, "its ends have no address family in common")


# ---------------------------------------------------------------- groups


def test_flows_are_put_together_by_party_and_port() -> None:
    flows = [
        Flow(WEB, DB, 6, 5432, count=3, bytes=10, last_seen=5.0),
        Flow(pod("shop", "web-7d98456675-zzzzz"), DB, 6, 5432, count=4, bytes=20, last_seen=9.0),
        Flow(WEB, DB, 6, 5433, count=1),
    ]
    result = replay(flows, site(*PODS), site(*PODS, ingress("db", "db", 5433)))
    (denied,) = result.of(Standing.NEWLY_DENIED)
    assert (denied.amount.flows, denied.amount.count, denied.amount.bytes, denied.amount.last_seen) == (2, 7, 30, 9.0)
    assert (denied.port, denied.side, denied.rules) == ("5432/TCP", Direction.INGRESS, ("no rule of shop/db",))
    assert result.amount(Standing.STILL_ALLOWED).count == 1
    assert result.total.count == 8
    data = as_data(result)
    assert data["standings"]["newly-denied"]["count"] == 7
    assert data["groups"][0]["rules"] == ["no rule of shop/db"]


def test_the_other_way_round() -> None:
    flow = Flow(WEB, DB, 6, 5432)
    assert standing(flow, before=(ingress("db", "db", 1),)) is Standing.NEWLY_ALLOWED
    assert standing(flow, ingress("db", "db", 2), before=(ingress("db", "db", 1),)) is Standing.STILL_DENIED


# ---------------------------------------------------------------- what was observed


def test_rules_that_were_met_are_held_against_the_prediction() -> None:
    hit = PolicyHit("NetworkPolicy", "db", "shop", "default", "deny", 0)
    flow = Flow(WEB, DB, 6, 5432, count=2, action=Observed.DENY, enforced=(hit,), pending=(hit,))
    agreement = alone(flow, ingress("db", "db", 1)).agreement
    assert (agreement.compared, agreement.agreed) == (1, 0)
    (item,) = agreement.disagreements
    assert item.before
    assert item.observed == "deny by NetworkPolicy shop/db rule 0"
    assert item.predicted == "allow: not isolated"


def test_pending_rules_are_held_against_the_new_policies() -> None:
    staged = PolicyHit("StagedKubernetesNetworkPolicy", "db", "shop", "default", "deny")
    flow = Flow(WEB, DB, 6, 5432, action=Observed.ALLOW, pending=(staged,))
    agreement = alone(flow, ingress("db", "db", 1)).agreement
    assert (agreement.compared, agreement.agreed) == (2, 2)
    assert alone(flow).agreement.agreed == 1


def test_a_report_of_one_side_is_held_against_that_side() -> None:
    allowed = PolicyHit("Profile", "kns.shop", action="allow")
    flow = Flow(WEB, DB, 6, 5432, action=Observed.ALLOW, reporter=Direction.EGRESS, enforced=(allowed,))
    closed = (ingress("db", "db", 1),)
    assert alone(flow, *closed, before=closed).agreement.agreed == 1


def test_what_one_side_let_through_says_nothing_of_the_other() -> None:
    closed = (ingress("db", "db", 1),)
    flow = Flow(WEB, DB, 6, 5432, action=Observed.ALLOW)
    assert alone(flow, *closed, before=closed).agreement.agreed == 0
    assert alone(replace(flow, reporter=Direction.EGRESS), *closed, before=closed).agreement.agreed == 1
    assert alone(replace(flow, reporter=Direction.INGRESS), *closed, before=closed).agreement.agreed == 0


def test_a_disagreement_is_a_finding() -> None:
    closed = (ingress("db", "db", 1),)
    flow = Flow(WEB, DB, 6, 5432, action=Observed.ALLOW)
    (problem,) = findings(alone(flow, *closed, before=closed))
    assert problem.code == "policies/flow-disagrees"
    assert "for 1 of 1 flows" in problem.message
    assert problem.message.endswith("observed allow, by the policies that were in force deny: no rule of shop/db")
    assert findings(alone(flow)) == ()
