"""Plans beside policies of others: a shelter where it opens nothing, a pause that is named where it would."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import builders as make
from support.kube_fake import FakeServer
from support.rollouts import (
    SNAPSHOT,
    V3,
    Manifest,
    allowing,
    calico,
    keyed,
    kubernetes,
    opened,
    others_of,
    ours_of,
    rule,
    states,
)

from pilothouse.artifacts.ordering import SHELTER
from pilothouse.clients.kubernetes import Forbidden
from pilothouse.clients.kubernetes.kinds import Kind
from pilothouse.inventory.model import Snapshot
from pilothouse.policies.compare.judge import Judge
from pilothouse.policies.reading import manifest_of
from pilothouse.workflows import apply_plan, applying
from pilothouse.workflows.apply_plan import Planned

ON = make.cluster(calico_api=V3)


class Calico(FakeServer):
    """With Calico's own API."""

    def served(self) -> frozenset[str]:
        return super().served() | {V3}


class Unseen(Calico):
    """Which does not say what policies for the whole cluster there are."""

    def objects(self, kind: Kind, page: int = 500, selector: str = "") -> list[Any]:
        if kind.name == "GlobalNetworkPolicy":
            raise Forbidden("403", "")
        return super().objects(kind, page, selector)


class Always:
    """A turn that nobody takes away."""

    def keep(self) -> None:
        return


def server_with(items: Iterable[Manifest]) -> Calico:
    found = Calico({"shop"})
    for item in items:
        found.create(item)
    return found


def planned(others: list[Manifest], old: list[Manifest], new: list[Manifest]) -> tuple[Planned, Judge, Calico]:
    """From `old` to `new`; both are ours."""
    tiers = tuple(manifest_of(item) for item in others if item["kind"] == "Tier")
    judge = Judge(Snapshot(SNAPSHOT.source, SNAPSHOT.namespaces, pods=SNAPSHOT.pods, policies=tiers), ON)
    server = server_with(others)
    applying.run(server, apply_plan.plan(server, ON, old, judge=judge), Always(), judge=judge)
    return apply_plan.plan(server, ON, new, judge=judge), judge, server


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_stands_beside_ours_nothing_is_opened_and_every_cut_is_named(seed: int) -> None:
    chance = random.Random(seed)
    others, old, new = others_of(chance), ours_of(chance), ours_of(chance)
    plan, judge, server = planned(others, old, new)
    assert plan.held == ()
    broken = opened(SNAPSHOT, states(keyed(old), plan.steps), others)
    assert [item for item in broken if item[2]] == []
    assert {direction for _, direction, _ in broken} == {str(item.direction) for item in plan.rollout.pauses}
    assert plan.shared == (("shop",) if broken else ())
    assert applying.run(server, plan, Always(), judge=judge) is bool(plan.steps)
    assert apply_plan.plan(server, ON, new, judge=judge).steps == ()


def ours() -> list[Manifest]:
    to_c = [{"to": [{"podSelector": {"matchLabels": {"app": "c"}}}]}]
    return [kubernetes("more", "", egress=to_c), *allowing(["b"])]


def theirs(tier: str, *rules: Manifest) -> list[Manifest]:
    found = [calico("early", "Tier", False, order=50, defaultAction="Pass")]
    spec = {"tier": tier, "order": 10, "selector": "all()", "types": ["Egress"], "egress": list(rules)}
    return [*found, calico("theirs" if tier == "default" else f"{tier}.theirs", "GlobalNetworkPolicy", False, **spec)]


def shelters(plan: Planned) -> list[str]:
    return [step.action for step in plan.steps if step.key.name == SHELTER]


@pytest.mark.parametrize("adopted", [True, False])
def test_a_policy_in_an_earlier_tier_that_passes_on_leaves_room_for_a_shelter(adopted: bool) -> None:
    others = theirs("early", rule("Deny", "egress", "d"))
    plan, _, _ = planned(others, *(([], ours()) if adopted else (ours(), [])))
    assert shelters(plan) == ["apply", "delete"]
    assert (plan.rollout.pauses, plan.shared, plan.held) == ((), (), ())


def test_where_a_shelter_would_open_what_others_deny_there_is_none() -> None:
    """Theirs isolates every pod in our tier as well: beside it a shelter allows everything."""
    others = theirs("default", rule("Allow", "egress", "c"))
    plan, _, _ = planned(others, [], ours())
    assert shelters(plan) == []
    assert plan.held == ()


def test_a_policy_of_others_that_nobody_can_read_leaves_no_room() -> None:
    broken = calico("broken", "GlobalNetworkPolicy", False, selector="(")
    plan, _, _ = planned([*theirs("early", rule("Deny", "egress", "d")), broken], [], ours())
    assert shelters(plan) == []
    assert plan.rollout.unread
    assert {item.excuse.partition(":")[0] for item in plan.rollout.pauses} == {
        "policies of others stand there, and to open it meanwhile might open what they deny"
    }


def test_a_kind_that_may_not_be_listed_leaves_no_room() -> None:
    plan = apply_plan.plan(Unseen({"shop"}), ON, ours(), judge=Judge(SNAPSHOT, ON))
    assert shelters(plan) == []
