"""The reference evaluator says what the specifications say, and random cases are worlds it can judge."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from policies.cases import packets, random_world, worlds
from policies.reference import End, Packet, World, verdict
from policies.reference_selectors import parse
from policies.table import CASES, Case

KINDS = {
    *("Namespace", "Pod", "ServiceAccount", "Node", "Service", "EndpointSlice"),
    *("NetworkPolicy", "GlobalNetworkPolicy", "Tier", "NetworkSet", "GlobalNetworkSet", "Profile", "HostEndpoint"),
    *("StagedNetworkPolicy", "StagedGlobalNetworkPolicy", "StagedKubernetesNetworkPolicy"),
    *("AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.item}: {case.name}")
def test_the_reference_says_what_the_specification_says(case: Case) -> None:
    """Items of the checklist by number; the sources stand at the head of the tables."""
    world = World(case.objects)
    said = {
        (source, destination, packet): verdict(world, source, destination, packet, case.preview, case.own_traffic)
        for source, destination, packet, _ in case.probes
    }
    assert said == {(source, destination, packet): expected for source, destination, packet, expected in case.probes}


def test_every_item_has_a_case() -> None:
    assert {case.item for case in CASES} == set(range(1, 31))
    assert len({(case.item, case.name) for case in CASES}) == len(CASES)


def test_a_seed_gives_the_same_world_and_packets() -> None:
    first, second = random_world(7), random_world(7)
    assert first.objects == second.objects
    assert packets(first, seed=3) == packets(second, seed=3)
    assert packets(first, seed=3) != packets(first, seed=4)


def test_random_worlds_hold_every_kind_and_answers_of_every_sort() -> None:
    kinds: set[str] = set()
    answers: set[str] = set()
    previews = 0
    for seed in range(60):
        world = random_world(seed)
        kinds |= {each["kind"] for each in world.objects}
        for source, destination, packet in packets(world, limit=40, seed=seed):
            now = verdict(world, source, destination, packet)
            answers.add(now)
            previews += now != verdict(world, source, destination, packet, preview=True)
    assert kinds == KINDS
    assert answers == {"allow", "deny", "conditional"}
    assert previews > 0


@given(worlds())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_reference_judges_every_packet_of_a_drawn_world(world: World) -> None:
    for source, destination, packet in packets(world, limit=20):
        assert verdict(world, source, destination, packet) in ("allow", "deny", "conditional")


@given(worlds())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_order_of_manifests_means_nothing(world: World) -> None:
    turned = World(world.objects[::-1])
    for source, destination, packet in packets(world, limit=20):
        assert verdict(world, source, destination, packet) == verdict(turned, source, destination, packet)


def test_two_families_in_one_packet_are_refused() -> None:
    with pytest.raises(ValueError, match="one family"):
        verdict(World([]), End("10.0.0.1"), End("fd00::1"), Packet(6))


@pytest.mark.parametrize(
    "text",
    ["a ==", "a == b", "== 'a'", "a = 'b'", "has()", "all(x)", "a in {'b'", "(a == 'b'", "a == 'b' )", "a near 'b'"],
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="selector"):
        parse(text)
