"""Two sites held against each other: what changes is told, what only looks otherwise is not."""

from __future__ import annotations

import copy
import random
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import builders as make

from pilothouse.inventory.model import Owner, Pod
from pilothouse.policies.compare.diff import Diff, as_data, diff
from pilothouse.policies.compare.groups import What, by_team
from pilothouse.policies.reading import manifest_of
from pilothouse.policies.site import Site, of_platform, of_snapshot

Manifest = dict[str, Any]
PODS = tuple(
    make.pod(
        f"{space}/{name}-{number}",
        {"app": name, "tier": "front" if name == "web" else "back"},
        ips=(f"10.{index}.{place}.{number}",),
        owner=Owner("Deployment", name),
    )
    for index, space in enumerate(("a", "b"), 1)
    for place, name in enumerate(("web", "api", "db"))
    for number in (1, 2)
)


def policy(name: str, app: str = "", *, namespace: str = "a", **spec: Any) -> Manifest:
    labels = {"matchLabels": {"app": app}} if app else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": labels, **spec},
    }


def calico(name: str, namespace: str = "a", **spec: Any) -> Manifest:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def site(*policies: Manifest, pods: tuple[Pod, ...] = PODS) -> Site:
    snapshot = make.snapshot(pods, policies=tuple(manifest_of(item) for item in policies))
    return of_snapshot(snapshot)


def told(found: Diff) -> list[str]:
    return [str(change) for change in found.changes]


FROM_WEB = {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}
DB = policy("db", "db", ingress=[{**FROM_WEB, "ports": [{"port": 5432}]}])


def test_nothing_differs() -> None:
    found = diff(site(DB), site(DB))
    assert found.is_empty
    assert found.summary == "changes no connection"
    assert found.notes == ()


def test_connections_appear_and_vanish() -> None:
    other = policy("db", "db", ingress=[{**FROM_WEB, "ports": [{"port": 5433, "endPort": 5434}]}])
    found = diff(site(DB), site(other))
    assert told(found) == ["+ a/web → a/db at 5433-5434", "- a/web → a/db at 5432"]
    assert found.changes[0].example == "a/web-1 → a/db-1"
    assert found.summary == "adds 1, removes 1 connection"
    assert [change.ports for change in found.of(What.VANISHES)] == ["5432"]
    assert found.isolation == ()


def test_a_condition_is_a_change_of_verdict() -> None:
    rule = {"action": "Allow", "source": {"selector": "app == 'web'"}, "protocol": "TCP"}
    always = calico("db", selector="app == 'db'", ingress=[rule])
    some = calico("db", selector="app == 'db'", ingress=[{**rule, "http": {"methods": ["GET"]}}])
    never = calico("db", selector="app == 'db'", types=["Ingress"])
    assert told(diff(site(always), site(some))) == ["~ a/web → a/db at every TCP port (allow becomes conditional)"]
    assert told(diff(site(some), site(always))) == ["~ a/web → a/db at every TCP port (conditional becomes allow)"]
    assert told(diff(site(never), site(some))) == ["+ a/web → a/db at every TCP port (some requests)"]
    assert told(diff(site(some), site(never))) == ["- a/web → a/db at every TCP port (some requests)"]
    assert diff(site(always), site(some)).summary == "changes 1 connection"


def test_isolation_is_one_sentence() -> None:
    found = diff(site(), site(DB))
    assert told(found) == []
    assert [str(item) for item in found.isolation] == ["ingress of 2 pods in a comes under policy: db-1, db-2"]
    assert found.summary == "changes isolation only"
    back = diff(site(DB), site())
    assert [str(item) for item in back.isolation] == ["ingress of 2 pods in a is left without any policy: db-1, db-2"]


def test_a_policy_that_allows_everything_changes_nothing() -> None:
    assert diff(site(), site(policy("all", "db", ingress=[{}]))).is_empty


def test_some_pods_only() -> None:
    one = make.pod("a/web-3", {"app": "web", "canary": "yes"}, ips=("10.1.0.9",), owner=Owner("Deployment", "web"))
    pods = (*PODS, one)
    canary = policy("canary", "db", ingress=[{"from": [{"podSelector": {"matchLabels": {"canary": "yes"}}}]}])
    shut = policy("canary", "db", ingress=[])
    (change,) = diff(site(shut, pods=pods), site(canary, pods=pods)).changes
    assert change.some
    assert str(change) == "+ a/web → a/db at everything (some pods)"
    assert change.example == "a/web-3 → a/db-1"


def test_workloads_of_one_side_are_named() -> None:
    less = tuple(pod for pod in PODS if "/api-" not in pod.key)
    found = diff(site(DB, pods=PODS), site(DB, pods=less))
    assert (found.only_before, found.only_after) == (("a/api", "b/api"), ())
    assert found.notes == ("2 workloads only in the first, not compared: a/api, b/api",)
    found = diff(site(DB, pods=less), site(DB, pods=PODS))
    assert found.notes == ("2 workloads only in the second, both sets of policies were tried on them: a/api, b/api",)


def test_policies_alone_are_asked_about_the_pods_of_the_other() -> None:
    other = policy("db", "db", ingress=[{**FROM_WEB, "ports": [{"port": 5433}]}])
    found = diff(site(DB), site(other, pods=()))
    assert told(found) == ["+ a/web → a/db at 5433", "- a/web → a/db at 5432"]
    assert found.notes == ()


def test_by_team() -> None:
    web, api = make.service("a/web", team="front"), make.service("b/api", team="back")
    pods = (make.pod("a/web.1", ips=("10.40.0.1",)), make.pod("b/api.1", ips=("10.40.0.2",)))
    one = of_platform(make.inputs([web, api], pods=pods), as_if_enforced=True)
    from pilothouse.platform.model import Edge, PortRef, ServicePeer

    more = make.service("a/web", team="front", egress=(Edge(ServicePeer("b", "api"), (PortRef(number=8080),)),))
    two = of_platform(make.inputs([more, api], pods=pods), as_if_enforced=True)
    found = diff(one, two)
    assert told(found) == ["+ a/web → b/api at 8080"]
    assert list(by_team(found.changes)) == ["back", "front"]
    data = as_data(found)
    assert data["teams"] == {"back": 1, "front": 1}
    assert data["changes"][0]["source"] == {"kind": "service", "name": "a/web", "team": "front"}
    assert data["same"] is False


# ---------------------------------------------------------------- what changes nothing


APPS = st.sampled_from(("web", "api", "db"))
PORTS = st.lists(st.builds(lambda port: {"port": port}, st.integers(1, 9)), max_size=3)
SELECTORS = st.one_of(
    st.builds(lambda app: {"podSelector": {"matchLabels": {"app": app}}}, APPS),
    st.builds(lambda app: {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": app}}}, APPS),
    st.builds(
        lambda third, length: {"ipBlock": {"cidr": str(ip_network(f"10.{third}.0.0/{length}", strict=False))}},
        st.integers(1, 2),
        st.integers(8, 23),
    ),
)
RULES = st.lists(
    st.builds(lambda peers, ports: {"peers": peers, "ports": ports}, st.lists(SELECTORS, max_size=3), PORTS), max_size=3
)


@st.composite
def policies(draw: st.DrawFn) -> list[Manifest]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        spec: dict[str, Any] = {"policyTypes": []}
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            if draw(st.booleans()):
                spec["policyTypes"].append(direction.capitalize())
                spec[direction] = [{peers: r["peers"], "ports": r["ports"]} for r in draw(RULES)]
        if spec["policyTypes"]:
            space = draw(st.sampled_from(("a", "b")))
            found.append(policy(f"p{number}", draw(st.sampled_from(("", "web", "db"))), namespace=space, **spec))
    return found


def renamed(items: list[Manifest]) -> None:
    for number, item in enumerate(items):
        item["metadata"]["name"] = f"zz-{number}-{item['metadata']['name']}"


def reordered(items: list[Manifest]) -> None:
    mixed = random.Random(7)  # an order, not a secret
    mixed.shuffle(items)
    for item in items:
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            rules = item["spec"].get(direction, [])
            mixed.shuffle(rules)
            for rule in rules:
                mixed.shuffle(rule[peers])
                mixed.shuffle(rule["ports"])


def halved(items: list[Manifest]) -> None:
    for item in items:
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in item["spec"].get(direction, []):
                rule[peers] = [part for peer in rule[peers] for part in _halves(peer)]


def _halves(peer: Manifest) -> list[Manifest]:
    if "ipBlock" not in peer:
        return [peer]
    return [{"ipBlock": {"cidr": str(half)}} for half in ip_network(peer["ipBlock"]["cidr"]).subnets()]


def irrelevant(items: list[Manifest]) -> None:
    items.append(policy("nobody", "nobody-has-this", ingress=[], egress=[]))
    items.append({**calico("staged", selector="all()", ingress=[{"action": "Deny"}]), "kind": "StagedNetworkPolicy"})


@pytest.mark.parametrize("change", [renamed, reordered, halved, irrelevant], ids=lambda change: change.__name__)
@settings(max_examples=25, deadline=None)
@given(items=policies())
def test_what_means_the_same_differs_in_nothing(change: Any, items: list[Manifest]) -> None:
    other = copy.deepcopy(items)
    change(other)
    found = diff(site(*items), site(*other))
    assert told(found) == []
    assert found.is_empty


@settings(max_examples=40, deadline=None)
@given(one=policies(), two=policies())
def test_the_way_back_is_the_opposite(one: list[Manifest], two: list[Manifest]) -> None:
    there, back = diff(site(*one), site(*two)), diff(site(*two), site(*one))
    turned = {What.APPEARS: What.VANISHES, What.VANISHES: What.APPEARS}
    assert sorted(
        (str(c.source), str(c.destination), c.ports, c.some, turned[c.what]) for c in there.changes
    ) == sorted((str(c.source), str(c.destination), c.ports, c.some, c.what) for c in back.changes)
    assert {(i.namespace, i.direction, i.pods, not i.begins) for i in there.isolation} == {
        (i.namespace, i.direction, i.pods, i.begins) for i in back.isolation
    }


def test_what_holds_for_many_is_one_change() -> None:
    shut = policy("db", "db", ingress=[])
    opened = policy("db", "db", ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": 5432}]}])
    assert told(diff(site(shut), site(opened))) == ["+ every pod of a → a/db at 5432"]
