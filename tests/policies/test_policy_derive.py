from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from policies.manifest_schema import complaints
from support import builders as make

from pilothouse.artifacts.write import serialise
from pilothouse.inputs import Content, Inputs
from pilothouse.inventory.model import ContainerPort, Namespace, Snapshot
from pilothouse.labels import LabelSelector, Requirement
from pilothouse.platform.model import (
    ApiServerPeer,
    CidrPeer,
    Cluster,
    DomainPeer,
    Edge,
    Enforcement,
    Exposure,
    InternetPeer,
    Metrics,
    PodsPeer,
    Port,
    PortRef,
    Protocol,
    Secret,
    Service,
    ServicePeer,
)
from pilothouse.policies import PoliciesDerived, derive, prove
from pilothouse.problems import Place, Severity

HTTPS = (PortRef(number=443),)
BASELINE = "policies/baseline.yaml"


def enforced(**fields: Any) -> Cluster:
    return make.cluster(**{"enforcement": Enforcement.ENFORCED, **fields})


def calico(**fields: Any) -> Cluster:
    return enforced(**{"calico_api": "projectcalico.org/v3", **fields})


def named(derived: PoliciesDerived, namespace: str, name: str) -> Mapping[str, Any]:
    found = [p for p in derived.policies[namespace] if p["metadata"]["name"] == f"pilothouse-{name}"]
    assert len(found) == 1, [p["metadata"]["name"] for p in derived.policies[namespace]]
    return found[0]


def egress(peer: Any, ports: tuple[PortRef, ...] = HTTPS, on: Cluster | None = None, **more: Any) -> PoliciesDerived:
    service = make.service("a/web", egress=(Edge(peer, ports, place=Place("a/web.yaml", 7)),), **more)
    others = [make.service("b/api", ports=(Port("http", 8080), Port("dns", 53, Protocol.UDP), Port("dns", 53)))]
    inputs = make.inputs([service, *others], pods=[make.pod("a/web", ips=("10.40.0.1",))], on=on or enforced())
    derived = derive(inputs)
    assert [c for manifest in derived.artifacts.manifests() for c in complaints(manifest)] == []
    assert prove(inputs, derived) == ()
    return derived


def codes(derived: PoliciesDerived) -> list[str]:
    return [problem.code.removeprefix("policies/") for problem in derived.problems]


def bank() -> Inputs:
    """One of everything, on a cluster with Calico."""
    http = (PortRef(name="http"),)
    place = Place("services/shop.yaml", 4, 7)
    shop = make.service(
        "shop/web",
        exposure=Exposure.EDGE,
        ports=(Port("http", 8080), Port("metrics", 9102)),
        metrics=Metrics("metrics"),
        secrets=(Secret("shop/db", "/secrets/db"),),
        place=Place("services/shop.yaml", 1),
        egress=(
            Edge(ServicePeer("shop", "cart"), http, place=place),
            Edge(ServicePeer("pay", "pay"), http, place=place),
            Edge(PodsPeer(LabelSelector.of(app="redis"), LabelSelector.of(tier="data")), (PortRef(number=6379),)),
            Edge(DomainPeer("api.card.example"), HTTPS, reason="cards", place=place),
            Edge(CidrPeer(ip_network("203.0.113.0/24")), (PortRef(number=8000, end=8010),), place=place),
            Edge(InternetPeer(), HTTPS, reason="hooks", place=place),
            Edge(ApiServerPeer(), place=place),
        ),
    )
    pay = make.service(
        "pay/pay", place=Place("services/pay.yaml", 1), ingress=(Edge(ServicePeer("shop", "web"), http),)
    )
    on = calico(
        domain_addresses={"api.card.example": (ip_network("192.0.2.7/32"), ip_network("2001:db8::7/128"))},
        api_server=(ip_network("10.60.0.10/32"),),
        node_local_dns=(ip_network("169.254.20.10/32"),),
        namespace_enforcement={"pay": Enforcement.STAGED, "lab": Enforcement.OFF},
    )
    pods = [
        make.pod("shop/web.1", ips=("10.40.0.1", "fd00:40::1"), ports=(ContainerPort("http", 8080),)),
        make.pod("shop/cart.1", ips=("10.40.0.2",)),
        make.pod("pay/pay.1", ips=("10.40.0.3",)),
        make.pod("data/redis.1", ips=("10.40.0.4",)),
        make.pod("lab/any.1", ips=("10.40.0.5",)),
        make.pod("monitoring/p.1", {"app.kubernetes.io/name": "prometheus"}, ips=("10.40.0.6",)),
        make.pod("kube-system/dns.1", {"k8s-app": "kube-dns"}, ips=("10.40.0.7",)),
        make.pod("vault/v.1", {"app.kubernetes.io/name": "vault"}, ips=("10.40.0.8",)),
        make.pod("ingress/i.1", {"app.kubernetes.io/name": "ingress-controller"}, ips=("10.40.0.9",)),
    ]
    more = [
        make.service(key, place=Place("services/more.yaml", line))
        for line, key in ((1, "shop/cart"), (9, "data/redis"))
    ]
    inputs = make.inputs([shop, pay, *more], pods=pods, on=on)
    spaces = tuple(
        replace(n, labels={**n.labels, "tier": "data"}) if n.name == "data" else n for n in inputs.snapshot.namespaces
    )
    return replace(inputs, snapshot=replace(inputs.snapshot, namespaces=spaces))


def test_a_whole_namespace(golden: Callable[[str, str], None]) -> None:
    inputs = bank()
    derived = derive(inputs)
    assert sorted(derived.artifacts.documents) == [
        "policies/_cluster.yaml",
        "policies/data.yaml",
        "policies/pay.yaml",
        "policies/shop.yaml",
    ]
    for name in ("shop", "pay", "_cluster"):
        golden(f"policies/{name}.yaml", serialise(derived.artifacts[f"policies/{name}.yaml"]).decode())
    assert [c for manifest in derived.artifacts.manifests() for c in complaints(manifest)] == []
    assert prove(inputs, derived) == ()
    assert derive(inputs).artifacts == derived.artifacts


def test_every_object_is_ours_and_names_its_declaration() -> None:
    for manifest in derive(bank()).artifacts.manifests():
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "pilothouse"
        assert labels["pilothouse.dev/cluster"] == "dev"
        if labels["pilothouse.dev/part"] in ("ingress", "egress", "domains"):
            assert "pilothouse.dev/source" in manifest["metadata"]["annotations"]
            rules = manifest["spec"].get("ingress") or manifest["spec"]["egress"]
            assert manifest["metadata"]["annotations"]["pilothouse.dev/rules"].count("\n") == len(rules)


def test_default_deny_shuts_both_directions_and_comes_last() -> None:
    policies = derive(bank()).policies["shop"]
    assert policies[-1]["metadata"]["name"] == "pilothouse-default-deny"
    assert policies[-1]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_stored_calico_kinds_carry_the_tier_in_their_name() -> None:
    on = calico(calico_api="crd.projectcalico.org/v1", domain_addresses={"x.example": (ip_network("192.0.2.1/32"),)})
    derived = egress(DomainPeer("x.example"), on=on)
    names = [(p["apiVersion"], p["metadata"]["name"]) for p in derived.policies["a"]]
    assert ("crd.projectcalico.org/v1", "default.pilothouse-web-domains") in names
    assert derived.sets[0]["apiVersion"] == "crd.projectcalico.org/v1"


# ---------------------------------------------------------------- adoption


def test_a_namespace_with_undeclared_pods_is_staged_and_the_pods_are_named() -> None:
    pods = [make.pod("a/web.1"), make.pod("a/stray.1"), make.pod("a/host.1", host_network=True)]
    pods.append(make.pod("a/done.1", phase="Succeeded"))
    inputs = make.inputs([make.service("a/web")], pods=pods, on=calico())
    derived = derive(inputs)
    assert derived.modes["a"].mode == "staged"
    problem = derived.problems[0]
    assert (problem.code, problem.severity) == ("policies/not-adopted", Severity.WARNING)
    assert "stray.1" in problem.message
    assert "host.1" not in problem.message
    assert problem.teams == ("a",)
    kinds = {manifest["kind"] for manifest in derived.artifacts.manifests()}
    assert kinds == {"StagedKubernetesNetworkPolicy"}
    assert [c for manifest in derived.artifacts.manifests() for c in complaints(manifest)] == []
    assert derived.in_force() == ()
    adopted = derive(make.inputs([make.service("a/web"), make.service("a/stray")], pods=pods, on=calico()))
    assert adopted.modes["a"].mode == "enforced"
    assert adopted.problems == ()


def test_without_calico_staging_means_withholding() -> None:
    pods = [make.pod("a/web.1"), make.pod("a/stray.1"), make.pod("b/web.1")]
    on = enforced(namespace_enforcement={"b": Enforcement.STAGED})
    derived = derive(make.inputs([make.service("a/web"), make.service("b/web")], pods=pods, on=on))
    assert len(derived.artifacts) == 0
    assert codes(derived) == ["not-adopted", "withheld"]
    assert "a/stray.1" in derived.problems[1].message
    assert "a, b" in derived.problems[1].message


def test_an_empty_snapshot_enforces_nothing() -> None:
    inputs = make.inputs([make.service("a/web")], on=calico())
    derived = derive(replace(inputs, snapshot=Snapshot()))
    assert derived.modes["a"].mode == "staged"
    assert codes(derived) == ["no-snapshot"]


def test_exempt_pods_stay_outside() -> None:
    text = make.bundle_content().files[BASELINE].text
    item = "exemptPods:\n    - {namespace: a, label: legacy, values: ['yes'], reason: moves soon}"
    content = make.bundle_content({BASELINE: text.replace("exemptPods: []", item)})
    pods = [make.pod("a/web.1"), make.pod("a/old.1", {"app": "web", "legacy": "yes"})]
    service = make.service("a/web", egress=(Edge(CidrPeer(ip_network("203.0.113.0/24")), HTTPS),))
    inputs = make.inputs([service], pods=pods, on=enforced(), content=content)
    derived = derive(inputs)
    assert derived.modes["a"].mode == "enforced"
    requirement = {"key": "legacy", "operator": "NotIn", "values": ["yes"]}
    for policy in derived.policies["a"]:
        assert policy["spec"]["podSelector"]["matchExpressions"] == [requirement]
    assert prove(inputs, derived) == ()


def test_content_decides_the_exempt_namespaces_and_the_dns_port() -> None:
    text = make.bundle_content().files[BASELINE].text
    changed = text.replace("    - vault\n", "").replace("port: 53", "port: 5353")
    derived = derive(
        make.inputs([], pods=[make.pod("vault/v.1")], on=calico(), content=make.bundle_content({BASELINE: changed}))
    )
    assert derived.modes["vault"].mode == "staged"
    ports = derived.policies["vault"][0]["spec"]["egress"][0]["ports"]
    assert [port["port"] for port in ports] == [5353, 5353]


def test_nothing_is_derived_from_a_broken_baseline() -> None:
    inputs = replace(make.inputs([make.service("a/web")], on=enforced()), content=Content())
    derived = derive(inputs)
    assert len(derived.artifacts) == 0
    assert {problem.code for problem in derived.problems} == {"policies/missing-content"}
    assert prove(inputs, derived) == ()


def test_a_namespace_that_is_off_has_no_policies() -> None:
    on = enforced(namespace_enforcement={"a": Enforcement.OFF})
    inputs = make.inputs([make.service("a/web")], pods=[make.pod("a/web.1"), make.pod("b/x.1")], on=on)
    assert "policies/a.yaml" not in derive(inputs).artifacts


# ---------------------------------------------------------------- peers


def rules(derived: PoliciesDerived) -> Any:
    return named(derived, "a", "web-egress")["spec"]["egress"]


def test_the_internet_is_everything_but_what_is_private_or_ours() -> None:
    on = enforced(pod_cidrs=(ip_network("44.0.0.0/16"), ip_network("2600:1::/32")))
    derived = egress(InternetPeer(), on=on, exposure=Exposure.EDGE)
    four, six = (peer["ipBlock"] for peer in rules(derived)[0]["to"])
    assert four["cidr"] == "0.0.0.0/0"
    assert {"10.0.0.0/8", "44.0.0.0/16", "169.254.0.0/16"} <= set(four["except"])
    assert six["cidr"] == "::/0"
    assert {"fc00::/7", "2600:1::/32"} <= set(six["except"])


def test_a_range_leaves_out_pods_and_services() -> None:
    derived = egress(CidrPeer(ip_network("10.0.0.0/8")))
    block = {"cidr": "10.0.0.0/8", "except": ["10.40.0.0/16", "10.50.0.0/16"]}
    assert rules(derived)[0]["to"] == [{"ipBlock": block}]
    assert (codes(derived), derived.problems[0].severity) == (["cidr-covers-cluster"], Severity.WARNING)
    inside = egress(CidrPeer(ip_network("10.40.1.0/24")))
    assert (codes(inside), inside.problems[0].severity) == (["cidr-covers-cluster"], Severity.ERROR)
    assert [p["metadata"]["name"] for p in inside.policies["a"]] == ["pilothouse-dns", "pilothouse-default-deny"]


def test_the_api_server_is_met_after_translation() -> None:
    derived = egress(ApiServerPeer(), (), on=enforced(api_server=(ip_network("10.60.0.10/32"),)))
    assert rules(derived) == [
        {"to": [{"ipBlock": {"cidr": "10.60.0.10/32"}}], "ports": [{"protocol": "TCP", "port": 6443}]}
    ]
    assert codes(egress(ApiServerPeer(), ())) == ["api-server-unknown"]


def test_domains_with_and_without_calico() -> None:
    pinned = {"x.example": (ip_network("192.0.2.1/32"), ip_network("192.0.2.0/32"))}
    plain = egress(DomainPeer("x.example"), on=enforced(domain_addresses=pinned))
    assert rules(plain)[0]["to"] == [{"ipBlock": {"cidr": "192.0.2.0/31"}}]
    assert plain.sets == ()
    for on in (enforced(), calico()):
        derived = egress(DomainPeer("x.example"), on=on)
        assert codes(derived) == ["domain-unresolved"]
        assert derived.sets == ()
    ports = (PortRef(number=80, end=90), PortRef(number=53, protocol=Protocol.UDP))
    held = egress(DomainPeer("x.example"), ports, on=calico(domain_addresses=pinned))
    assert held.sets[0]["spec"] == {"nets": ["192.0.2.0/31"]}
    found = named(held, "a", "web-domains")["spec"]["egress"]
    assert [(rule["protocol"], rule["destination"]["ports"]) for rule in found] == [("TCP", ["80:90"]), ("UDP", [53])]
    every = egress(DomainPeer("x.example"), (), on=calico(domain_addresses=pinned))
    assert named(every, "a", "web-domains")["spec"]["egress"][0].keys() == {"action", "destination"}


def test_a_long_domain_keeps_a_valid_and_stable_label() -> None:
    domain = "a" * 60 + ".b" * 20 + ".example"
    derived = egress(DomainPeer(domain), on=calico(domain_addresses={domain: (ip_network("192.0.2.1/32"),)}))
    value = derived.sets[0]["metadata"]["labels"]["pilothouse.dev/domain"]
    assert len(value) <= 63
    assert value in named(derived, "a", "web-domains")["spec"]["egress"][0]["destination"]["selector"]


def test_selectors_with_expressions_reach_calico_too() -> None:
    requirement = (
        Requirement("tier", "In", ("x", "y")),
        Requirement("app", "Exists"),
        Requirement("old", "DoesNotExist"),
    )
    selector = LabelSelector((("app", "web"),), (*requirement, Requirement("z", "NotIn", ("1",))))
    on = calico(domain_addresses={"x.example": (ip_network("192.0.2.1/32"),)})
    pods = [make.pod("a/web.1", {"app": "web", "tier": "x"}, ips=("10.40.0.1",))]
    service = make.service("a/web", pod_selector=selector, egress=(Edge(DomainPeer("x.example"), HTTPS),))
    inputs = make.inputs([service], pods=pods, on=on)
    derived = derive(inputs)
    text = named(derived, "a", "web-domains")["spec"]["selector"]
    assert text == "app == 'web' && tier in {'x', 'y'} && has(app) && !has(old) && z not in {'1'}"
    assert prove(inputs, derived) == ()


def test_host_network_peers() -> None:
    pods = [make.pod("a/web.1"), make.pod("b/api.1", host_network=True)]
    service = make.service("a/web", egress=(Edge(ServicePeer("b", "api"), (PortRef(name="http"),)),))
    inputs = make.inputs([service, make.service("b/api")], pods=pods, on=enforced())
    derived = derive(inputs)
    assert codes(derived) == ["host-network-peer"]
    assert "b/api.1" in derived.problems[0].message
    text = make.bundle_content().files[BASELINE].text.replace("title: Vault", "title: Vault\n      hostNetwork: true")
    service = make.service("a/web", secrets=(Secret("x", "/x"),))
    inputs = make.inputs([service], pods=pods[:1], on=enforced(), content=make.bundle_content({BASELINE: text}))
    derived = derive(inputs)
    assert rules(derived)[0]["to"] == [{"ipBlock": {"cidr": "10.60.0.0/24"}}]
    assert prove(inputs, derived) == ()


# ---------------------------------------------------------------- ports


def test_a_name_becomes_the_destination_s_number_for_each_protocol() -> None:
    derived = egress(ServicePeer("b", "api"), (PortRef(name="dns"), PortRef(name="http")))
    ports = [(port["protocol"], port["port"]) for port in rules(derived)[0]["ports"]]
    assert ports == [("TCP", 53), ("TCP", 8080), ("UDP", 53)]


@pytest.mark.parametrize(
    ("numbers", "expected", "findings"),
    [((8080, 8080), 8080, []), ((8080, 9000), "http", ["named-port-differs"]), ((), 8080, [])],
)
def test_a_name_stays_a_name_where_pods_differ(numbers: tuple[int, ...], expected: object, findings: list[str]) -> None:
    pods = [make.pod("a/web.1", ips=("10.40.0.1",))]
    for index, number in enumerate(numbers):
        pods.append(make.pod(f"b/api.{index}", ports=(ContainerPort("http", number), ContainerPort("http", 1, "UDP"))))
    service = make.service(
        "a/web", egress=(Edge(ServicePeer("b", "api"), (PortRef(name="http", protocol=Protocol.TCP),)),)
    )
    inputs = make.inputs([service, make.service("b/api")], pods=pods, on=enforced())
    derived = derive(inputs)
    assert rules(derived)[0]["ports"] == [{"protocol": "TCP", "port": expected}]
    assert named(derived, "b", "api-ingress")["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": expected}]
    assert codes(derived) == findings
    assert prove(inputs, derived) == ()


def test_a_name_that_nobody_knows_stays_a_name() -> None:
    peer = PodsPeer(LabelSelector.of(app="later"))
    assert rules(egress(peer, (PortRef(name="http"),)))[0]["ports"] == [{"protocol": "TCP", "port": "http"}]


def test_two_edges_with_one_rule_are_one_rule() -> None:
    edge = Edge(ServicePeer("b", "api"), (PortRef(name="http"),), place=Place("x", 1))
    again = Edge(ServicePeer("b", "api"), (PortRef(number=8080),), place=Place("x", 2))
    service = make.service("a/web", egress=(edge, again))
    derived = derive(make.inputs([service, make.service("b/api")], pods=[make.pod("a/web.1")], on=enforced()))
    assert len(rules(derived)) == 1


def test_a_service_of_another_cluster_gets_nothing() -> None:
    services: list[Service] = [
        make.service("a/web", egress=(Edge(ServicePeer("b", "api"), HTTPS),)),
        make.service("b/api", clusters=frozenset({"prod"})),
    ]
    derived = derive(make.inputs(services, pods=[make.pod("a/web.1")], on=enforced()))
    assert codes(derived) == ["peer-not-here"]
    assert list(derived.policies) == ["a"]


def test_ingress_from_the_internet_and_the_api_server() -> None:
    items = (Edge(InternetPeer(), (PortRef(name="http"),)), Edge(ApiServerPeer(), (PortRef(name="http"),)))
    on = enforced(api_server=(ip_network("10.60.0.10/32"),))
    inputs = make.inputs([make.service("a/web", ingress=items)], pods=[make.pod("a/web.1", ips=("10.40.0.1",))], on=on)
    derived = derive(inputs)
    found = named(derived, "a", "web-ingress")["spec"]["ingress"]
    assert [rule["ports"] for rule in found] == [[{"protocol": "TCP", "port": 8080}]] * 2
    assert prove(inputs, derived) == ()


def test_namespaces_are_known_from_every_side() -> None:
    on = enforced(namespace_enforcement={"declared": Enforcement.STAGED})
    inputs = make.inputs([make.service("service/x")], pods=[make.pod("pod/x.1")], on=on)
    spaces = (*inputs.snapshot.namespaces, Namespace("empty", {}))
    found = derive(replace(inputs, snapshot=replace(inputs.snapshot, namespaces=spaces))).modes
    assert list(found) == ["declared", "empty", "pod", "service"]
