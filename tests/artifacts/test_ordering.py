"""Every step of an apply, looked at by the evaluator: nothing is opened and nothing is cut on the way."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.artifacts.objects import ObjectKey
from pilothouse.artifacts.ordering import PART, SHELTER, TRANSITION, Change, Phase, Step, is_transition, order
from pilothouse.labels import ownership

Manifest = dict[str, Any]
APPS = ("a", "b", "c", "d")
NAMESPACE = "shop"


def policy(name: str, selector: str | None, **rules: list[Manifest]) -> Manifest:
    """A policy on the pods `app: selector` (None: all), isolating each direction that is named."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": ownership("dev")},
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


DENY = policy("deny", None, ingress=[], egress=[])


def allowed(policies: Iterable[Manifest]) -> set[tuple[str, str, str]]:
    """(direction, pod, peer) that the policies allow, worked out the plain way."""
    found = set()
    listed = list(policies)
    for direction, field in (("ingress", "from"), ("egress", "to")):
        for pod, peer in product(APPS, APPS):
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
            if not mine or peer in peers or "*" in peers:
                found.add((direction, pod, peer))
    return found


def keyed(policies: Iterable[Manifest]) -> dict[ObjectKey, Manifest]:
    return {ObjectKey.of(item): item for item in policies}


def changes(old: Mapping[ObjectKey, Manifest], new: Mapping[ObjectKey, Manifest]) -> list[Change]:
    """What our part of `old` must become."""
    found = [Change(key, old.get(key), item) for key, item in new.items() if old.get(key) != item]
    return found + [Change(key, item, None) for key, item in old.items() if key not in new]


def states(
    old: Mapping[ObjectKey, Manifest], steps: Sequence[Step], others: Iterable[Manifest] = ()
) -> Iterator[tuple[Step, list[Manifest]]]:
    """The policies after each step."""
    present = dict(old)
    for step in steps:
        if step.action == "apply":
            present[step.key] = dict(step.manifest)
        else:
            del present[step.key]
        yield step, [*present.values(), *others]


def follow(old: list[Manifest], new: list[Manifest]) -> list[Step]:
    """The steps from the one to the other, each looked at."""
    before, after = keyed(old), keyed(new)
    steps = order(changes(before, after), before.values(), "dev")
    was, becomes = allowed(old), allowed(new)
    last = old
    for step, last in states(before, steps):
        now = allowed(last)
        assert was & becomes <= now, f"cut by {step.action} {step.key}: {sorted(was & becomes - now)}"
        assert now <= was | becomes, f"opened by {step.action} {step.key}: {sorted(now - was - becomes)}"
    assert keyed(last) == after
    return list(steps)


def test_a_namespace_is_adopted_without_a_cut() -> None:
    new = [
        DENY,
        policy("dns", None, egress=to("d")),
        policy("a-egress", "a", egress=to("b")),
        policy("b-in", "b", ingress=by("a")),
    ]
    steps = follow([], new)
    assert [step.phase for step in steps if step.key.name == SHELTER] == [Phase.SHELTER, Phase.UNSHELTER]
    assert steps[-2].key.name == "deny"


def test_a_namespace_is_given_up_without_a_cut() -> None:
    follow([DENY, policy("dns", None, egress=to("d")), policy("a-egress", "a", egress=to("b"))], [])


def test_rules_that_move_between_policies_are_never_missing() -> None:
    old = [DENY, policy("x", "a", egress=to("b", "c")), policy("y", "a", egress=to("d"))]
    new = [DENY, policy("x", "a", egress=to("d")), policy("y", "a", egress=to("c", "b"))]
    steps = follow(old, new)
    assert sum(step.passing for step in steps) == 4  # two copies come and go


def test_a_service_that_is_renamed_is_never_cut() -> None:
    steps = follow([DENY, policy("old", "a", egress=to("b"))], [DENY, policy("new", "a", egress=to("b"))])
    assert [(step.action, step.key.name) for step in steps] == [("apply", "new"), ("delete", "old")]


def test_one_more_rule_is_one_request() -> None:
    steps = follow([DENY, policy("x", "a", egress=to("b"))], [DENY, policy("x", "a", egress=to("b", "c"))])
    assert [(step.action, step.phase) for step in steps] == [("apply", Phase.ALLOW)]


def test_one_rule_less_is_one_request_at_the_end() -> None:
    steps = follow([DENY, policy("x", "a", egress=to("b", "c"))], [DENY, policy("x", "a", egress=to("b"))])
    assert [(step.action, step.phase) for step in steps] == [("apply", Phase.DENY)]


def test_a_peer_more_in_one_rule_is_no_other_rule() -> None:
    one, two = policy("x", "a", egress=to("b")), policy("x", "a", egress=to("b"))
    two["spec"]["egress"][0]["to"] += to("c")[0]["to"]
    assert len(follow([DENY, one], [DENY, two])) == 1


_NAMES = st.sampled_from(["p", "q", "r", "s"])
_PEERS = st.lists(st.sampled_from(APPS), max_size=3, unique=True)
_POLICIES = st.dictionaries(_NAMES, st.tuples(_PEERS, _PEERS), max_size=4)


def _namespace(found: Mapping[str, tuple[list[str], list[str]]], governed: bool) -> list[Manifest]:
    """Policies as pilothouse derives them: each for one app and one direction, with a default deny."""
    if not governed:
        return []
    made = [DENY]
    for (name, (out, into)), app in zip(sorted(found.items()), APPS, strict=False):
        own = {"p": "a", "q": "a", "r": "b", "s": "c"}[name]
        assert app
        if out:
            made.append(policy(f"{name}-egress", own, egress=to(*out)))
        if into:
            made.append(policy(f"{name}-ingress", own, ingress=by(*into)))
    return made


@settings(max_examples=300, deadline=None)
@given(_POLICIES, _POLICIES, st.booleans(), st.booleans())
def test_whatever_changes_nothing_is_opened_or_cut(
    before: dict[str, tuple[list[str], list[str]]],
    after: dict[str, tuple[list[str], list[str]]],
    was: bool,
    becomes: bool,
) -> None:
    follow(_namespace(before, was), _namespace(after, becomes))


def test_beside_policies_of_others_there_is_no_shelter() -> None:
    theirs = policy("theirs", "a", egress=to("d"))
    theirs["metadata"]["labels"] = {}
    new = [DENY, policy("a-egress", "a", egress=to("b"))]
    steps = order(changes({}, keyed(new)), [theirs], "dev")
    directions = [step.manifest["spec"]["policyTypes"] for step in steps if step.key.name == SHELTER]
    assert directions == [["Ingress"]] * 2  # egress is theirs already: a shelter would open what they deny
    was, becomes = allowed([theirs]), allowed([theirs, *new])
    for step, now in states({}, steps, [theirs]):
        assert allowed(now) <= was | becomes, step


@pytest.mark.parametrize("kind", ["GlobalNetworkPolicy", "AdminNetworkPolicy"])
def test_beside_a_policy_for_the_whole_cluster_there_is_no_shelter(kind: str) -> None:
    group = "projectcalico.org/v3" if kind.startswith("Global") else "policy.networking.k8s.io/v1alpha1"
    theirs = {"apiVersion": group, "kind": kind, "metadata": {"name": "deny"}, "spec": {}}
    assert not any(step.passing for step in order(changes({}, keyed([DENY])), [theirs], "dev"))


def test_what_a_killed_run_left_goes_last() -> None:
    left = policy(SHELTER, None, ingress=[{}], egress=[{}])
    left["metadata"]["labels"] = {**ownership("dev"), PART: TRANSITION}
    old = [left]
    new = [DENY, policy("a-egress", "a", egress=to("b"))]
    steps = order(changes(keyed(old), keyed(new)), old, "dev")
    assert (steps[-1].action, steps[-1].key.name, steps[-1].phase) == ("delete", SHELTER, Phase.UNSHELTER)
    assert is_transition(steps[-1].manifest)
    last: list[Manifest] = []
    for step, last in states(keyed(old), steps):
        assert allowed(new) <= allowed(last), step
    assert keyed(last) == keyed(new)


def thing(kind: str, name: str, **body: Any) -> Manifest:
    group = {"ServiceAccount": "v1", "ConfigMap": "v1", "DaemonSet": "apps/v1"}.get(
        kind, "rbac.authorization.k8s.io/v1"
    )
    group = {"GlobalNetworkSet": "projectcalico.org/v3", "Namespace": "v1"}.get(kind, group)
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name, "labels": ownership("dev")}, **body}


def test_kinds_have_their_order() -> None:
    added = [
        DENY,
        policy("x", "a", egress=to("b")),
        thing("DaemonSet", "d"),
        thing("ClusterRoleBinding", "b"),
        thing("GlobalNetworkSet", "s"),
        thing("ConfigMap", "c"),
        thing("ClusterRole", "r"),
        thing("ServiceAccount", "a"),
        thing("Namespace", "n"),
    ]
    random.Random(7).shuffle(added)
    steps = order([Change(ObjectKey.of(item), None, item) for item in added], [], "dev")
    kinds = [step.key.kind for step in steps if not step.passing]
    assert kinds == [
        "Namespace",
        "ServiceAccount",
        "ClusterRole",
        "ConfigMap",
        "ClusterRoleBinding",
        "DaemonSet",
        "GlobalNetworkSet",
        "NetworkPolicy",
        "NetworkPolicy",
    ]
    removed = order([Change(ObjectKey.of(item), item, None) for item in added], added[:0], "dev")
    gone = [step.key.kind for step in removed]
    assert gone[0] == "ClusterRoleBinding"
    assert gone.index("DaemonSet") < gone.index("ServiceAccount")
    assert gone.index("NetworkPolicy") < gone.index("GlobalNetworkSet")


def test_a_binding_goes_before_its_role_grows() -> None:
    role = thing("ClusterRole", "r", rules=[])
    grown = {**role, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]}]}
    binding = thing("ClusterRoleBinding", "b", roleRef={"name": "r"})
    steps = order([Change(ObjectKey.of(role), role, grown), Change(ObjectKey.of(binding), binding, None)], [], "dev")
    assert [(step.action, step.key.kind) for step in steps] == [
        ("delete", "ClusterRoleBinding"),
        ("apply", "ClusterRole"),
    ]


def test_a_set_gains_before_and_loses_after_the_policies() -> None:
    def nets(*values: str) -> Manifest:
        return thing("GlobalNetworkSet", "s", spec={"nets": list(values)})

    def phase(before: Manifest, after: Manifest) -> Phase:
        (step,) = order([Change(ObjectKey.of(before), before, after)], [], "dev")
        return step.phase

    assert phase(nets("192.0.2.1"), nets("192.0.2.1", "192.0.2.2")) is Phase.SETS
    assert phase(nets("192.0.2.1", "192.0.2.2"), nets("192.0.2.1")) is Phase.RESET


def test_the_name_of_a_copy_fits() -> None:
    long = policy("x" * 250, "a", egress=to("b"))
    other = deepcopy(long)
    other["spec"]["egress"] = to("c")
    steps = order([Change(ObjectKey.of(long), long, other)], [long], "dev")
    copies = {step.key.name for step in steps if step.passing}
    assert len(copies) == 1
    assert all(len(name) <= 253 for name in copies)


def test_a_note_on_a_calico_rule_is_no_change_of_what_it_does() -> None:
    def allowing(note: str, port: int) -> Manifest:
        rule = {
            "action": "Allow",
            "protocol": "TCP",
            "destination": {"ports": [port]},
            "metadata": {"annotations": note},
        }
        return {
            "apiVersion": "projectcalico.org/v3",
            "kind": "NetworkPolicy",
            "metadata": {"name": "web", "namespace": NAMESPACE, "labels": ownership("dev")},
            "spec": {"selector": "app == 'a'", "types": ["Egress"], "egress": [rule]},
        }

    def phases(before: Manifest, after: Manifest) -> list[Phase]:
        found = order([Change(ObjectKey.of(after), before, after)], [before], "dev")
        return [step.phase for step in found]

    assert phases(allowing("line 4", 80), allowing("line 5", 80)) == [Phase.ALLOW]
    assert phases(allowing("line 4", 80), allowing("line 4", 81)) == [Phase.COPY, Phase.ALLOW, Phase.PRUNE_POLICIES]


def test_a_tier_is_there_before_its_policies_and_goes_after_them() -> None:
    tier = {"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": "own"}, "spec": {"order": 100}}
    inside = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkPolicy",
        "metadata": {"name": "own.web", "namespace": NAMESPACE},
        "spec": {"tier": "own", "types": ["Egress"], "egress": [{"action": "Deny"}, {"action": "Pass"}]},
    }
    pairs = [(ObjectKey.of(item), item) for item in (inside, tier)]
    added = order([Change(key, None, item) for key, item in pairs], [], "dev")
    assert [step.key.kind for step in added if not step.passing] == ["Tier", "NetworkPolicy"]
    removed = order([Change(key, item, None) for key, item in pairs], [inside], "dev")
    assert [step.key.kind for step in removed if not step.passing] == ["NetworkPolicy", "Tier"]
