"""Plans evaluated step by step: what each phase does to traffic, and that a step which opens or cuts is found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import builders as make

from pilothouse.artifacts.objects import ObjectKey
from pilothouse.artifacts.ordering import Change, Phase, Step, order
from pilothouse.labels import ownership
from pilothouse.policies.compare.judge import Judge
from pilothouse.policies.compare.rollout import Rollout, Standing, as_data, breach_data

Manifest = dict[str, Any]
Keyed = dict[ObjectKey, Manifest]
Allowed = set[tuple[str, str, str]]

SPACES = ("shop", "desk")
APPS = ("a", "b", "c")
ELSEWHERE = "elsewhere"
"""A peer that no rule names."""
WHOLE = frozenset({("networking.k8s.io", "NetworkPolicy")})
SNAPSHOT = make.snapshot(
    make.pod(f"{space}/{app}.1", ips=(f"10.40.{one}.{two}",))
    for one, space in enumerate(SPACES)
    for two, app in enumerate(APPS, 1)
)


def policy(
    name: str, selector: str | None, space: str = "shop", ours: bool = True, **rules: list[Manifest]
) -> Manifest:
    """A policy on the pods `app: selector` (None: all), isolating each direction that is named."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": space, "labels": ownership("dev") if ours else {}},
        "spec": {
            "podSelector": {"matchLabels": {"app": selector}} if selector else {},
            "policyTypes": [item.capitalize() for item in ("ingress", "egress") if item in rules],
            **{key: value for key, value in rules.items() if value},
        },
    }


def to(*apps: str) -> list[Manifest]:
    return [{"to": [{"podSelector": {"matchLabels": {"app": app}}}]} for app in apps]


def by(*apps: str) -> list[Manifest]:
    return [{"from": [{"podSelector": {"matchLabels": {"app": app}}}]} for app in apps]


def deny(space: str = "shop") -> Manifest:
    return policy("deny", None, space, ingress=[], egress=[])


def keyed(policies: Iterable[Manifest]) -> Keyed:
    return {ObjectKey.of(item): item for item in policies}


def changes(old: Keyed, new: Keyed) -> list[Change]:
    found = [Change(key, old.get(key), item) for key, item in new.items() if old.get(key) != item]
    return found + [Change(key, item, None) for key, item in old.items() if key not in new]


def judge(**cluster: Any) -> Judge:
    return Judge(SNAPSHOT, make.cluster(**cluster))


def rollout(old: Iterable[Manifest], steps: Sequence[Step]) -> Rollout:
    return judge().rollout(Standing(keyed(old), WHOLE), steps)


def planned(old: list[Manifest], new: list[Manifest], others: Sequence[Manifest] = ()) -> Rollout:
    before = [*old, *others]
    return rollout(before, order(changes(keyed(old), keyed(new)), before, "dev"))


def in_this_order(old: Keyed, wanted: Iterable[Change]) -> list[Step]:
    """The changes as they come, with no care at all."""
    return [
        Step(
            Phase.ALLOW, "delete" if item.after is None else "apply", item.key, item.after or old[item.key], item.before
        )
        for item in wanted
    ]


# ---------------------------------------------------------------- the plain way


def allowed(policies: Iterable[Manifest]) -> Allowed:
    """(direction, pod, peer) of the namespace `shop` that the policies allow, worked out the plain way."""
    listed = [item for item in policies if item["metadata"]["namespace"] == "shop"]
    found: Allowed = set()
    for direction, field in (("ingress", "from"), ("egress", "to")):
        for pod in APPS:
            mine = [
                item["spec"]
                for item in listed
                if direction.capitalize() in item["spec"]["policyTypes"]
                and item["spec"]["podSelector"].get("matchLabels", {}).get("app") in (None, pod)
            ]
            peers = {
                end["podSelector"]["matchLabels"]["app"] if end else "*"
                for spec in mine
                for rule in spec.get(direction, ())
                for end in rule.get(field) or [None]
            }
            everybody = (*APPS, ELSEWHERE)
            found |= {(direction, pod, peer) for peer in everybody if not mine or peer in peers or "*" in peers}
    return found


def plainly(old: Keyed, steps: Iterable[Step]) -> Iterator[tuple[str, bool]]:
    """(direction, opened) wherever a state allows too much, or too little."""
    states = [dict(old)]
    for step in steps:
        present = dict(states[-1])
        if step.action == "apply":
            present[step.key] = dict(step.manifest)
        else:
            del present[step.key]
        states.append(present)
    was, becomes = allowed(old.values()), allowed(states[-1].values())
    for state in states[1:]:
        now = allowed(state.values())
        yield from ((direction, True) for direction, _, _ in now - was - becomes)
        yield from ((direction, False) for direction, _, _ in was & becomes - now)


_PEERS = st.lists(st.sampled_from(APPS), max_size=2, unique=True)
_RULES = st.dictionaries(st.sampled_from(["p", "q", "r"]), st.tuples(_PEERS, _PEERS), max_size=3)
_OWN = {"p": "a", "q": "a", "r": "b"}


def _namespace(found: Mapping[str, tuple[list[str], list[str]]], governed: bool) -> list[Manifest]:
    if not governed:
        return []
    made = [deny()]
    for name, (out, into) in sorted(found.items()):
        if out:
            made.append(policy(f"{name}-egress", _OWN[name], egress=to(*out)))
        if into:
            made.append(policy(f"{name}-ingress", _OWN[name], ingress=by(*into)))
    return made


@settings(max_examples=100, deadline=None)
@given(_RULES, _RULES, st.booleans(), st.booleans())
def test_no_plan_opens_or_cuts_anything(
    before: dict[str, tuple[list[str], list[str]]],
    after: dict[str, tuple[list[str], list[str]]],
    was: bool,
    becomes: bool,
) -> None:
    old, new = _namespace(before, was), _namespace(after, becomes)
    found = planned(old, new)
    assert (found.breaches, found.pauses) == ((), ())
    if allowed(old) == allowed(new):
        assert all(stage.difference.is_empty for stage in found.stages)
        assert judge().difference(Standing(keyed(old), WHOLE), Standing(keyed(new), WHOLE)).is_empty


@settings(max_examples=200, deadline=None)
@given(_RULES, _RULES, st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_changes_in_any_order_are_judged_as_the_plain_way_does(
    before: dict[str, tuple[list[str], list[str]]],
    after: dict[str, tuple[list[str], list[str]]],
    was: bool,
    becomes: bool,
    chance: Any,
) -> None:
    old = keyed(_namespace(before, was))
    wanted = changes(old, keyed(_namespace(after, becomes)))
    chance.shuffle(wanted)
    steps = in_this_order(old, wanted)
    found = rollout(old.values(), steps)
    mine = {(str(item.direction), item.opened) for item in (*found.breaches, *found.pauses)}
    plain = set(plainly(old, steps))
    assert {item for item in mine if item[1]} == {item for item in plain if item[1]}
    assert {direction for direction, _ in mine} == {direction for direction, _ in plain}
    assert mine <= plain  # where one state both opens and cuts, the opening is named


# ---------------------------------------------------------------- what is shown


def test_a_namespace_comes_under_policy_when_its_shelter_goes() -> None:
    found = planned([], [deny(), policy("a-out", "a", egress=to("b")), policy("b-in", "b", ingress=by("a"))])
    assert [stage.name for stage in found.stages] == ["shelter", "allow", "deny", "end of shelter"]
    assert [stage.difference.summary for stage in found.stages] == ["", "", "", "3 pods come under policy"]
    assert {(item.namespace, item.direction, item.begins) for item in found.stages[-1].difference.isolation} == {
        ("shop", "egress", True),
        ("shop", "ingress", True),
    }
    assert (found.pods, found.breaches, found.promised) == (6, (), None)


def test_a_rule_that_moves_changes_nothing_and_one_that_comes_or_goes_is_told() -> None:
    old = [deny(), policy("a-out", "a", egress=to("b")), policy("in", None, ingress=by("a", "b", "c"))]
    new = [deny(), policy("a-out", "a", egress=to("c")), policy("in", None, ingress=by("a", "b", "c"))]
    found = planned(old, new)
    told = {stage.name: stage.difference for stage in found.stages}
    assert {name: item.summary for name, item in told.items()} == {
        "copies": "",
        "allow": "1 connection appears",
        "remove": "1 connection vanishes",
    }
    assert [str(item) for item in told["allow"].changes] == ["+ shop/a.1 → shop/c.1 at everything"]
    assert [str(item) for item in told["remove"].changes] == ["- shop/a.1 → shop/b.1 at everything"]
    data = as_data(found)
    assert [phase["summary"] for phase in data["phases"]] == ["", "1 connection appears", "1 connection vanishes"]
    assert data["phases"][1]["objects"] == ["apply NetworkPolicy shop/a-out"]


def test_a_plan_without_policies_is_not_looked_at() -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x", "namespace": "shop"}}
    steps = order([Change(ObjectKey.of(account), None, account)], [], "dev")
    assert rollout([], steps) == Rollout()


def test_a_step_that_opens_is_named_with_a_connection() -> None:
    """The default deny goes first, and with it everything is open for a moment."""
    old = keyed([policy("all", None, ingress=[], egress=[])])
    new = keyed([policy("every", None, ingress=[], egress=[])])
    wanted = sorted(changes(old, new), key=lambda item: item.after is not None)
    found = rollout(old.values(), in_this_order(old, wanted))
    assert {(item.namespace, item.direction, item.opened) for item in found.breaches} == {
        ("shop", "egress", True),
        ("shop", "ingress", True),
    }
    first = found.breaches[0]
    assert str(first).startswith(
        "delete NetworkPolicy shop/all opens for a moment what neither the old nor the new policies allow: shop/"
    )
    assert first.pods == ("shop/a.1", "shop/b.1", "shop/c.1")
    assert breach_data(first)["excuse"] == ""


def test_a_step_that_cuts_is_named_with_a_connection() -> None:
    old = keyed([policy("x", "a", egress=to("b"))])
    new = keyed([policy("y", "a", egress=to("b")), policy("deny", "a", egress=[])])
    wanted = sorted(changes(old, new), key=lambda item: (item.after is not None, item.key.name))
    found = rollout(old.values(), in_this_order(old, [wanted[1], wanted[0], wanted[2]]))
    (only,) = found.breaches
    assert (only.opened, only.pods, only.step.key.name) == (False, ("shop/a.1",), "x")
    assert "cuts for a moment what both the old and the new ones allow: shop/a.1 to shop/b.1 at " in str(only)


@pytest.mark.parametrize("where", ["shop", ""])
def test_beside_policies_of_others_connections_may_pause(where: str) -> None:
    """Theirs isolate pods, so there can be no shelter: what is opened as a whole pauses, and the plan says why."""
    theirs = policy("theirs", "c", ours=False, egress=to("a"), ingress=by("a"))
    if not where:
        theirs = {
            "apiVersion": "projectcalico.org/v3",
            "kind": "GlobalNetworkPolicy",
            "metadata": {"name": "theirs"},
            "spec": {"selector": "app == 'z'", "types": ["Ingress", "Egress"]},
        }
    found = planned([], [deny(), policy("one", None, egress=to("a")), policy("two", None, egress=to("b"))], [theirs])
    assert found.breaches == ()
    assert {item.excuse.partition(":")[0] for item in found.pauses} == {
        "policies of others stand there, and to open it meanwhile might open what they deny"
    }
    assert all("theirs" in str(item) and item.pods for item in found.pauses)


def test_two_namespaces_are_walked_through_together() -> None:
    new = [item for space in SPACES for item in (deny(space), policy("out", "a", space, egress=to("b")))]
    found = planned([], new)
    assert (found.breaches, found.states) == ((), 1 + 4)
    assert found.stages[-1].difference.summary == "6 pods come under policy"


# ---------------------------------------------------------------- staged, and read back


def staged(item: Manifest) -> Manifest:
    return {
        **item,
        "apiVersion": "projectcalico.org/v3",
        "kind": "StagedKubernetesNetworkPolicy",
        "spec": {"stagedAction": "Set", **item["spec"]},
    }


def test_what_is_staged_changes_nothing_and_is_promised() -> None:
    new = [staged(deny())]
    found = planned([], new)
    assert [(stage.name, stage.difference.is_empty) for stage in found.stages] == [("stage", True)]
    assert found.promised is not None
    assert found.promised.summary == "3 pods come under policy"


def test_from_staged_to_enforced_the_staged_ones_go_last() -> None:
    old, new = (
        [staged(deny()), staged(policy("out", "a", egress=to("b")))],
        [deny(), policy("out", "a", egress=to("b"))],
    )
    found = planned(old, new)
    assert [stage.name for stage in found.stages] == ["shelter", "allow", "deny", "end of shelter", "unstage"]
    assert {step.action for step in found.stages[-1].steps} == {"delete"}
    assert found.stages[-2].difference.summary == "3 pods come under policy"
    assert (found.stages[-1].difference.is_empty, found.breaches, found.promised) == (True, (), None)


def test_a_difference_of_meaning_and_one_of_writing() -> None:
    old = [deny(), policy("out", "a", egress=to("b", "c"))]
    same = [deny(), policy("renamed", "a", egress=to("c", "b"))]
    less = [deny(), policy("out", "a", egress=to("b")), policy("in", None, ingress=[{}])]
    standing = [Standing(keyed(items), WHOLE) for items in (old, same, [*old, policy("in", None, ingress=[{}])], less)]
    assert judge().difference(standing[0], standing[1]).is_empty
    found = judge().difference(standing[2], standing[3])
    assert found.named() == "- shop/a.1 → shop/c.1 at everything"
    assert judge().difference(standing[2], standing[0]).named(1).endswith(" more")


def test_a_staged_policy_that_is_gone_is_a_difference() -> None:
    one, other = Standing(keyed([staged(deny())]), WHOLE), Standing({}, WHOLE)
    assert judge().difference(one, other).summary == "3 pods are opened as a whole"
