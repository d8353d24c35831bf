"""Drift by meaning: what is written in another way is none, what decides otherwise about one connection is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from support import builders as make

from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Namespace
from pilothouse.labels import NAMESPACE_NAME_LABEL, ownership
from pilothouse.platform.model import (
    CidrPeer,
    DomainPeer,
    Edge,
    Enforcement,
    Exposure,
    InternetPeer,
    Port,
    PortRef,
    ServicePeer,
)
from pilothouse.policies.compare import drift as drifts
from pilothouse.policies.compare.drift import Drift, drift
from pilothouse.policies.derive import derive
from pilothouse.policies.reading import manifest_of
from pilothouse.problems import Severity

Manifest = dict[str, Any]
Live = list[Manifest]
V3 = "projectcalico.org/v3"


def inputs(calico: str = V3) -> Inputs:
    """Web reaches api (two ports), a partner's range, the internet and a domain; namespace c is staged."""
    api = make.service("b/api", ports=(Port("http", 8080), Port("admin", 9000)))
    web = make.service(
        "a/web",
        exposure=Exposure.EDGE,
        egress=(
            Edge(ServicePeer("b", "api"), (PortRef(number=8080), PortRef(number=9000, end=9001))),
            Edge(CidrPeer(ip_network("203.0.113.0/24")), (PortRef(number=443),)),
            Edge(InternetPeer(), (PortRef(number=8443),)),
            Edge(DomainPeer("x.example"), (PortRef(number=443),)),
        ),
    )
    job = make.service("a/job", egress=(Edge(ServicePeer("b", "api"), (PortRef(number=8080),)),))
    late = make.service("c/late", egress=(Edge(ServicePeer("b", "api"), (PortRef(number=8080),)),))
    pods = [
        make.pod("a/web.1", ips=("10.40.0.1",)),
        make.pod("a/job.1", ips=("10.40.0.2",)),
        make.pod("b/api.1", ips=("10.40.0.3",)),
        make.pod("c/late.1", ips=("10.40.0.4",)),
        make.pod("kube-system/dns.1", {"k8s-app": "kube-dns"}, ips=("10.40.0.5",)),
        make.pod("ingress/i.1", {"app.kubernetes.io/name": "ingress-controller"}, ips=("10.40.0.6",)),
    ]
    cluster = make.cluster(
        calico_api=calico,
        enforcement=Enforcement.ENFORCED,
        namespace_enforcement={"c": Enforcement.STAGED},
        domain_addresses={"x.example": (ip_network("192.0.2.1/32"), ip_network("192.0.2.2/32"))},
    )
    return make.inputs([web, job, api, late], pods=pods, on=cluster)


def rendered(given: Inputs) -> Live:
    return [copy.deepcopy(dict(item)) for item in derive(given).artifacts.under("policies/").manifests()]


def found(change: Callable[[Live], None], given: Inputs | None = None) -> Drift:
    """The drift where what is live is what was rendered, changed."""
    given = given or inputs()
    live = rendered(given)
    change(live)
    policies = tuple(manifest_of(item) for item in live)
    return drift(replace(given, snapshot=replace(given.snapshot, policies=policies)))


def one(live: Live, name: str) -> Manifest:
    """`a/web-ingress`: our policy of that namespace and part; `x.example`: the set."""
    namespace, _, part = name.rpartition("/")
    (item,) = [
        item
        for item in live
        if item["metadata"].get("namespace", "") == namespace
        and item["metadata"]["name"].removeprefix("default.") == f"pilothouse-{part}"
    ]
    return item


def spec(live: Live, name: str) -> Any:
    return one(live, name)["spec"]


# ---------------------------------------------------------------- no drift


def nothing(live: Live) -> None:
    """As rendered."""


def server_fields(live: Live) -> None:
    for item in live:
        item["metadata"] |= {
            "uid": "1",
            "resourceVersion": "7",
            "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        item["status"] = {}


def renamed(live: Live) -> None:
    one(live, "a/web-egress")["metadata"]["name"] = "something-else"


def rules_reversed(live: Live) -> None:
    spec(live, "a/web-egress")["egress"].reverse()


def peers_reversed(live: Live) -> None:
    for item in live:
        for rule in item["spec"].get("ingress", []):
            rule.get("from", []).reverse()


def ports_reversed(live: Live) -> None:
    for rule in spec(live, "a/web-egress")["egress"]:
        rule.get("ports", []).reverse()


def types_left_out(live: Live) -> None:
    del spec(live, "b/api-ingress")["policyTypes"]


def protocol_left_out(live: Live) -> None:
    for rule in spec(live, "a/web-egress")["egress"]:
        for port in rule.get("ports", []):
            del port["protocol"]


def range_halved(live: Live) -> None:
    for rule in spec(live, "a/web-egress")["egress"]:
        if rule["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}]:
            rule["to"] = [{"ipBlock": {"cidr": f"203.0.113.{n}/25"}} for n in (0, 128)]
            return
    raise AssertionError("there is no such rule")


def order_moved(live: Live) -> None:
    spec(live, "a/web-domains")["order"] = 950


def stored_form(live: Live) -> None:
    for item in live:
        if item["apiVersion"] == V3:
            item["apiVersion"] = "crd.projectcalico.org/v1"
            if item["kind"] == "NetworkPolicy":
                item["metadata"]["name"] = f"default.{item['metadata']['name']}"


def split_in_two(live: Live) -> None:
    item = one(live, "a/web-egress")
    first, *rest = item["spec"]["egress"]
    other = copy.deepcopy(item)
    item["spec"]["egress"] = [first]
    other["metadata"]["name"], other["spec"]["egress"] = "pilothouse-web-more", rest
    live.append(other)


def twice(live: Live) -> None:
    other = copy.deepcopy(one(live, "b/api-ingress"))
    other["metadata"]["name"] = "copy"
    live.append(other)


def of_nobody(live: Live) -> None:
    """A policy that selects no pod."""
    other = copy.deepcopy(one(live, "b/api-ingress"))
    other["metadata"]["name"] = "of-nobody"
    other["spec"]["podSelector"] = {"matchLabels": {"app": "not-here"}}
    live.append(other)


def expressions(live: Live) -> None:
    spec(live, "b/api-ingress")["podSelector"] = {
        "matchExpressions": [{"key": "app", "operator": "In", "values": ["api"]}]
    }


def as_calico(live: Live) -> None:
    """The same in Calico's words."""
    live.remove(one(live, "b/api-ingress"))
    live.append(
        {
            "apiVersion": V3,
            "kind": "NetworkPolicy",
            "metadata": {"name": "api", "namespace": "b", "labels": ownership("dev")},
            "spec": {
                "selector": "app == 'api'",
                "ingress": [
                    {
                        "action": "Allow",
                        "protocol": "TCP",
                        "source": {
                            "selector": "app == 'web'",
                            "namespaceSelector": "kubernetes.io/metadata.name == 'a'",
                        },
                        "destination": {"ports": [8080, "9000:9001"]},
                    },
                    {
                        "action": "Allow",
                        "protocol": "TCP",
                        "source": {
                            "selector": "app in {'job', 'late'}",
                            "namespaceSelector": "kubernetes.io/metadata.name in {'a', 'c'}",
                        },
                        "destination": {"ports": [8080]},
                    },
                ],
            },
        }
    )


def notes_changed(live: Live) -> None:
    one(live, "a/web-egress")["metadata"]["annotations"] = {"note": "by hand"}


SAME = (
    nothing, server_fields, renamed, rules_reversed, peers_reversed, ports_reversed, types_left_out, protocol_left_out,
    range_halved, order_moved, stored_form, split_in_two, twice, of_nobody, expressions, as_calico, notes_changed,
)  # fmt: skip


@pytest.mark.parametrize("change", SAME, ids=lambda change: change.__name__)
def test_what_means_the_same_is_no_drift(change: Callable[[Live], None]) -> None:
    result = found(change)
    assert [str(item) for item in result.deviations] == []
    assert result.isolation == ()
    assert result.is_empty
    assert result.summary == "what runs on dev means what is declared"


def test_what_is_only_written_differently_is_information() -> None:
    result = found(rules_reversed)
    assert result.written_differently == ("NetworkPolicy a/pilothouse-web-egress",)
    (problem,) = drifts.problems(result)
    assert (problem.code, problem.severity) == ("policies/written-differently", Severity.INFO)
    assert drifts.problems(found(nothing)) == ()


# ---------------------------------------------------------------- drift


def port_changed(live: Live) -> None:
    spec(live, "b/api-ingress")["ingress"][0]["ports"][0]["port"] = 8081


def end_moved(live: Live) -> None:
    for rule in (*spec(live, "b/api-ingress")["ingress"], *spec(live, "a/web-egress")["egress"]):
        for port in rule.get("ports", []):
            if "endPort" in port:
                port["endPort"] = 9002


def protocol_changed(live: Live) -> None:
    spec(live, "a/job-egress")["egress"][0]["ports"][0]["protocol"] = "UDP"


def rule_gone(live: Live) -> None:
    del spec(live, "a/web-egress")["egress"][0]


def rule_more(live: Live) -> None:
    spec(live, "b/api-ingress")["ingress"].append({"ports": [{"port": 22}]})


def label_changed(live: Live) -> None:
    spec(live, "a/job-egress")["egress"][0]["to"][0]["podSelector"] = {"matchLabels": {"app": "other"}}


def namespace_dropped(live: Live) -> None:
    del spec(live, "a/job-egress")["egress"][0]["to"][0]["namespaceSelector"]


def deny_gone(live: Live) -> None:
    live.remove(one(live, "a/default-deny"))


def dns_gone(live: Live) -> None:
    live.remove(one(live, "a/dns"))


def exceptions_gone(live: Live) -> None:
    for rule in spec(live, "a/web-egress")["egress"]:
        for peer in rule["to"]:
            peer.get("ipBlock", {}).pop("except", None)


def range_widened(live: Live) -> None:
    for rule in spec(live, "a/web-egress")["egress"]:
        for peer in rule["to"]:
            if peer.get("ipBlock", {}).get("cidr") == "203.0.113.0/24":
                peer["ipBlock"]["cidr"] = "203.0.112.0/23"


def everybody(live: Live) -> None:
    del spec(live, "b/api-ingress")["ingress"][0]["from"]


def address_more(live: Live) -> None:
    spec(live, "domain-x.example")["nets"].append("192.0.2.3/32")


def set_gone(live: Live) -> None:
    live.remove(one(live, "domain-x.example"))


def action_changed(live: Live) -> None:
    spec(live, "a/web-domains")["egress"][0]["action"] = "Deny"


def pods_changed(live: Live) -> None:
    spec(live, "a/job-egress")["podSelector"] = {"matchLabels": {"app": "web"}}


def staged_changed(live: Live) -> None:
    spec(live, "c/late-egress")["egress"][0]["ports"][0]["port"] = 9090


def enforced_too_soon(live: Live) -> None:
    item = one(live, "c/default-deny")
    item["apiVersion"], item["kind"] = "networking.k8s.io/v1", "NetworkPolicy"
    del item["spec"]["stagedAction"]


def egress_forgotten(live: Live) -> None:
    spec(live, "b/default-deny")["policyTypes"] = ["Ingress"]
    live.remove(one(live, "b/dns"))


CHANGED = {
    port_changed: ["live policies deny a/job → b/api at 8080, which is declared: the declared ingress rule 1"],
    end_moved: [
        "live policies allow a/web → b/api at 9002, which is not declared: egress rule 2 of NetworkPolicy a/pil"
    ],
    protocol_changed: ["live policies deny a/job → b/api at 8080, which is declared: the declared egress rule 1"],
    rule_gone: [
        "live policies deny a/web → 203.0.113.0/24 at 443, which is declared: the declared egress rule 1 of Net"
    ],
    rule_more: ["live policies allow every address → b/api at 22, which is not declared: ingress rule"],
    label_changed: ["live policies deny a/job → b/api at 8080"],
    namespace_dropped: ["live policies deny a/job → b/api at 8080"],
    deny_gone: ["ingress of 1 pod in a is left without any policy: job.1; it is declared and not live"],
    dns_gone: ["live policies deny a/web → cluster DNS at 53, 53/UDP, which is declared: the declared egress rule"],
    exceptions_gone: ["live policies allow a/web → cluster DNS at 8443", "8443, which is not declared: egress rule"],
    range_widened: ["live policies allow a/web → 203.0.112.0/24 at 443"],
    everybody: ["live policies allow every address → b/api at"],
    address_more: [
        "live policies allow a/web → 192.0.2.3/32 at 443, which is not declared: egress rule 1 of NetworkPolicy"
    ],
    set_gone: ["live policies deny a/web → x.example at 443"],
    action_changed: [
        "live policies deny a/web → x.example at 443, which is declared: egress rule 1 of NetworkPolicy a/pil"
    ],
    pods_changed: ["live policies deny a/job → b/api at 8080, which is declared: the declared egress rule 1"],
    staged_changed: ["staged policies would deny c/late → b/api at 8080, which is declared"],
    enforced_too_soon: ["egress of 1 pod in c comes under policy: late.1; it is live and not declared"],
    egress_forgotten: ["egress of 1 pod in b is left without any policy: api.1; it is declared and not live"],
}


@pytest.mark.parametrize("change", CHANGED, ids=lambda change: change.__name__)
def test_what_decides_otherwise_is_drift(change: Callable[[Live], None]) -> None:
    result = found(change)
    assert not result.is_empty
    text = "\n".join(problem.message for problem in drifts.problems(result))
    for wanted in CHANGED[change]:
        assert wanted in text, text


def test_there_are_thirty_pairs() -> None:
    assert len(SAME) >= 15
    assert len(CHANGED) >= 15


def test_what_opens_is_worse_than_what_cuts() -> None:
    (opened,) = [item for item in drifts.problems(found(end_moved)) if item.code == "policies/drift"]
    assert (opened.severity, opened.teams, opened.cluster) == (Severity.ERROR, ("a", "b"), "dev")
    (cut,) = [item for item in drifts.problems(found(protocol_changed)) if item.code == "policies/drift"]
    assert cut.severity is Severity.WARNING
    assert {item.severity for item in drifts.problems(found(staged_changed))} == {Severity.WARNING}
    isolation = next(item for item in drifts.problems(found(deny_gone)) if "left without" in item.message)
    assert isolation.severity is Severity.ERROR


def test_the_object_and_the_rule() -> None:
    (item,) = found(end_moved).deviations
    assert [(cause.object, cause.rule) for cause in item.causes] == [
        ("NetworkPolicy a/pilothouse-web-egress", "egress rule 2"),
        ("NetworkPolicy b/pilothouse-api-ingress", "ingress rule 2"),
    ]
    assert item.change.example == "a/web.1 → b/api.1"


def test_nothing_of_ours_is_there() -> None:
    def nothing_left(live: Live) -> None:
        live.clear()

    result = found(nothing_left)
    assert result.absent == 12
    assert result.summary == "no policy of ours is live on dev; 12 are declared"
    (problem,) = drifts.problems(result)
    assert problem.severity is Severity.ERROR


def test_policies_of_others_stand_on_both_sides() -> None:
    other = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "theirs", "namespace": "b"},
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 7000}]}]},
    }
    assert found(lambda live: live.append(other)).is_empty


def test_the_stored_group_where_the_cluster_has_it() -> None:
    given = inputs("crd.projectcalico.org/v1")
    assert found(nothing, given).is_empty
    assert not found(action_changed, given).is_empty


def test_as_data() -> None:
    data = drifts.as_data(found(end_moved))
    assert data["drift"] is True
    assert data["summary"] == "dev: 1 connection opened"
    (item,) = data["connections"]
    assert item["causes"][0] == {"object": "NetworkPolicy a/pilothouse-web-egress", "rule": "egress rule 2"}
    assert (item["opens"], item["staged"], item["ports"]) == (True, False, "9002")
    assert drifts.as_data(found(nothing))["drift"] is False


def test_an_unread_policy_is_named() -> None:
    def broken(live: Live) -> None:
        spec(live, "a/web-egress")["egress"][0]["ports"][0]["port"] = 0

    result = found(broken)
    assert not result.is_empty
    assert result.unread


def test_many_differences_are_counted() -> None:
    services = [
        make.service(f"s/n{number}", egress=(Edge(ServicePeer("s", "hub"), (PortRef(number=8080),)),))
        for number in range(60)
    ]
    pods = [make.pod(f"s/n{number}.1", ips=(f"10.40.1.{number}",)) for number in range(60)]
    pods.append(make.pod("s/hub.1", ips=("10.40.2.1",)))
    given = make.inputs(
        [*services, make.service("s/hub")], pods=pods, on=make.cluster(calico_api=V3, enforcement=Enforcement.ENFORCED)
    )
    assert Namespace("s", {NAMESPACE_NAME_LABEL: "s"}) in given.snapshot.namespaces

    def shut(live: Live) -> None:
        spec(live, "s/hub-ingress")["ingress"].clear()

    result = drifts.problems(found(shut, given))
    assert len([item for item in result if item.code == "policies/drift"]) == drifts.MAX_FINDINGS + 1
    assert any("10 more groups of connections differ on cluster dev" in item.message for item in result)
