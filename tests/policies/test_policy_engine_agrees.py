"""The engine and the reference evaluator, which share no code, say the same of every packet."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from policies.cases import packets, random_world, worlds
from policies.engine_worlds import judge
from policies.reference import World, verdict
from policies.table import CASES, Case

WORLDS = int(os.environ.get("PILOTHOUSE_POLICY_WORLDS", "1000"))
"""Random worlds of a run; `make test-policies`, and so the continuous integration, asks for ten times as many."""
BATCHES = 20


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.own_traffic], ids=lambda case: f"{case.item}: {case.name}"
)
def test_the_engine_says_what_the_specification_says(case: Case) -> None:
    judged = judge(World(case.objects), [probe[:3] for probe in case.probes], case.preview)
    said = {probe[:3]: judged.verdict(*probe[:3]) for probe in case.probes}
    assert said == {probe[:3]: probe[3] for probe in case.probes}


def agree(world: World, seed: int, limit: int) -> int:
    """How many packets were asked about, each with and without staged policies."""
    probes = packets(world, limit=limit, seed=seed)
    for preview in (False, True):
        judged = judge(world, probes, preview)
        for source, destination, packet in probes:
            expected = verdict(world, source, destination, packet, preview)
            said = judged.verdict(source, destination, packet)
            assert said == expected, f"{source} to {destination}, {packet}, preview {preview}: {said}, not {expected}"
    return len(probes)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_worlds(batch: int) -> None:
    """Seeded, so that every run asks the same."""
    each = WORLDS // BATCHES
    asked = sum(agree(random_world(seed), seed, 30) for seed in range(batch * each, (batch + 1) * each))
    assert asked > each


@given(worlds())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_drawn_worlds(world: World) -> None:
    """Fewer, but a failure shrinks to a small world."""
    agree(world, 0, 15)
