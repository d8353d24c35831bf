from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from support import builders as make

from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Owner
from pilothouse.platform.model import (
    ApiServerPeer,
    CidrPeer,
    Cluster,
    DomainPeer,
    Edge,
    Enforcement,
    Exposure,
    InternetPeer,
    PortRef,
    Service,
    ServicePeer,
)
from pilothouse.policies.compare import effect

HTTP = (PortRef(name="http"),)
HTTPS = (PortRef(number=443),)
API = Edge(ServicePeer("b", "api"), HTTP)
WEB = make.service("a/web", egress=(API,))


def inputs(*services: Service, **fields: Any) -> Inputs:
    cluster: dict[str, Any] = {"enforcement": Enforcement.ENFORCED, "calico_api": "projectcalico.org/v3", **fields}
    pods = [
        make.pod("a/web.1", ips=("10.40.0.1",)),
        make.pod("a/web.2", ips=("10.40.0.2",)),
        make.pod("b/api.1", ips=("10.40.0.3",)),
        make.pod("ingress/i.1", {"app.kubernetes.io/name": "ingress-controller"}, ips=("10.40.0.4",)),
        make.pod("c/lone-1", owner=Owner("Deployment", "lone"), ips=("10.40.0.5",)),
    ]
    return make.inputs([*services, make.service("b/api")], pods=pods, on=make.cluster(**cluster))


def changes(before: Inputs, after: Inputs) -> list[str]:
    return [str(change) for change in effect.compare(before, after).changes]


def test_nothing_changes() -> None:
    found = effect.compare(inputs(WEB), inputs(WEB))
    assert found.changes == ()
    assert found.summary == "changes no connection"
    assert [(cut.namespace, cut.mode, cut.pods, cut.is_new) for cut in found.cut] == [
        ("c", "staged", ("lone-1",), False)
    ]


def test_connections_that_appear_and_vanish() -> None:
    after = replace(WEB, egress=(Edge(CidrPeer(ip_network("203.0.113.0/24")), HTTPS), Edge(InternetPeer(), HTTPS)))
    found = effect.compare(inputs(WEB), inputs(after))
    assert [str(change) for change in found.changes] == [
        "+ a/web → the internet at 443",
        "- a/web → b/api at 8080",
    ]
    assert found.summary == "adds 1, removes 1 connection"
    assert found.changes[1].example == "a/web.1 → b/api.1"
    assert all(change.in_force for change in found.changes)
    assert found.changes[1].source.team == "a"


def test_ports_count() -> None:
    after = replace(
        WEB, egress=(Edge(ServicePeer("b", "api"), (PortRef(number=8080), PortRef(number=9000, end=9001))),)
    )
    found = effect.compare(inputs(WEB), inputs(after))
    assert [str(change) for change in found.changes] == ["+ a/web → b/api at 9000-9001"]
    assert found.summary == "adds 1 connection"
    assert effect.compare(inputs(after), inputs(WEB)).summary == "removes 1 connection"


def test_addresses_have_names() -> None:
    fields: dict[str, Any] = {
        "domain_addresses": {"x.example": (ip_network("192.0.2.1/32"),)},
        "api_server": (ip_network("10.60.0.10/32"),),
    }
    many = tuple(Edge(CidrPeer(ip_network(f"203.0.113.{n * 4}/32")), HTTPS) for n in range(6))
    after = replace(WEB, egress=(API, Edge(DomainPeer("x.example"), HTTPS), Edge(ApiServerPeer()), *many))
    assert changes(inputs(WEB, **fields), inputs(after, **fields)) == [
        "+ a/web → 203.0.113.0/32, 203.0.113.4/32, 203.0.113.8/32, 203.0.113.12/32 and 2 more ranges at 443",
        "+ a/web → the API server at 6443",
        "+ a/web → x.example at 443",
    ]
    alone = replace(WEB, egress=(API, Edge(DomainPeer("x.example"), HTTPS)))
    assert changes(inputs(WEB, **fields), inputs(alone, **fields)) == ["+ a/web → x.example at 443"]


def test_what_comes_from_outside() -> None:
    after = replace(WEB, ingress=(Edge(CidrPeer(ip_network("203.0.113.0/24")), HTTP),), exposure=Exposure.EDGE)
    assert changes(inputs(WEB), inputs(after)) == [
        "+ 203.0.113.0/24 → a/web at 8080",
        "+ the ingress controllers → a/web at 8080",
    ]


def test_a_staged_end_is_not_in_force() -> None:
    fields: dict[str, Any] = {"namespace_enforcement": {"b": Enforcement.STAGED}}
    found = effect.compare(inputs(WEB, **fields), inputs(replace(WEB, egress=()), **fields))
    assert [(str(change), change.in_force) for change in found.changes] == [("- a/web → b/api at 8080", False)]


def test_what_comes_under_policy_is_said_once() -> None:
    off: dict[str, Any] = {"namespace_enforcement": {"a": Enforcement.OFF, "c": Enforcement.OFF}}
    found = effect.compare(inputs(WEB, **off), inputs(WEB))
    assert [(item.namespace, item.direction, item.begins) for item in found.isolation] == [
        ("a", "egress", True),
        ("c", "egress", True),
        ("a", "ingress", True),
        ("c", "ingress", True),
    ]
    assert str(found.isolation[0]) == "egress of 2 pods in a comes under policy: web.1, web.2"
    assert [(cut.namespace, cut.is_new) for cut in found.cut] == [("c", True)]
    assert found.summary == "changes isolation only"
    back = effect.compare(inputs(WEB), inputs(WEB, **off))
    assert str(back.isolation[0]) == "egress of 2 pods in a is left without any policy: web.1, web.2"
    assert back.cut == ()


def test_a_new_service_takes_its_pods_in() -> None:
    lone = make.service("c/lone", pod_selector=make.LabelSelector.of(app="lone-1"), egress=(API,))
    found = effect.compare(inputs(WEB), inputs(WEB, lone))
    assert [str(change) for change in found.changes] == ["+ c/lone → b/api at 8080"]
    assert found.cut == ()
    assert changes(inputs(WEB, lone), inputs(WEB)) == ["- c/lone → b/api at 8080"]


def test_as_data() -> None:
    data = effect.as_data(effect.compare(inputs(WEB), inputs(replace(WEB, egress=()))))
    assert data["summary"] == "removes 1 connection"
    assert data["changes"] == [
        {
            "what": "vanishes",
            "before": "allow",
            "after": "deny",
            "source": {"kind": "service", "name": "a/web", "team": "a"},
            "destination": {"kind": "service", "name": "b/api", "team": "b"},
            "ports": "8080",
            "some": False,
            "inForce": True,
            "example": "a/web.1 → b/api.1",
        }
    ]
    assert data["cut"] == [{"namespace": "c", "mode": "staged", "pods": ["lone-1"], "new": False}]
    off: Cluster = make.cluster(enforcement=Enforcement.OFF)
    data = effect.as_data(effect.compare(replace(inputs(WEB), cluster=off), inputs(WEB)))
    assert data["isolation"][0]["begins"] is True
