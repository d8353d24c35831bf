"""The same declarations in Calico's own kinds: proved as well, and no other in what they allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from policies.manifest_schema import complaints
from support import builders as make

from pilothouse.artifacts.write import serialise
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import ContainerPort, EndpointSlice, KubeService, ServicePort
from pilothouse.labels import LabelSelector
from pilothouse.platform.model import (
    ApiServerPeer,
    CidrPeer,
    DomainPeer,
    Edge,
    Enforcement,
    Exposure,
    InternetPeer,
    Metrics,
    PodsPeer,
    Port,
    PortRef,
    Secret,
    ServicePeer,
)
from pilothouse.policies import PoliciesDerived, calico_form, derive, prove
from pilothouse.policies.engine import Engine, Packet, differences
from pilothouse.policies.engine.decide import Outcome, both, decide
from pilothouse.policies.reading import from_data
from pilothouse.policies.rules import Direction
from pilothouse.problems import Place
from pilothouse.workflows.rendering import inputs_for, open_platform

BANK = Path(__file__).parents[2] / "examples" / "bank"
FORMS = ("projectcalico.org/v3", "crd.projectcalico.org/v1")
CLUSTERS = ("dev", "test", "uat", "prod")
HTTPS = (PortRef(number=443),)
DNS = KubeService("kube-system", "kube-dns", {"k8s-app": "kube-dns"})


def as_calico(inputs: Inputs, form: str = FORMS[0]) -> Inputs:
    return replace(inputs, cluster=replace(inputs.cluster, calico_api=form, policy_kinds="calico"))


def shop(**fields: Any) -> Inputs:
    """One of everything that a declaration can name."""
    http, place = (PortRef(name="http"),), Place("services/shop.yaml", 4, 7)
    web = make.service(
        "shop/web",
        exposure=Exposure.EDGE,
        ports=(Port("http", 8080), Port("metrics", 9102)),
        metrics=Metrics("metrics"),
        secrets=(Secret("shop/db", "/secrets/db"),),
        place=Place("services/shop.yaml", 1),
        egress=(
            Edge(ServicePeer("pay", "pay"), http, place=place),
            Edge(PodsPeer(LabelSelector.of(app="redis"), LabelSelector.of(tier="data")), (PortRef(number=6379),)),
            Edge(DomainPeer("api.card.example"), HTTPS, reason="cards", place=place),
            Edge(CidrPeer(ip_network("203.0.113.0/24")), (PortRef(number=8000, end=8010),), place=place),
            Edge(InternetPeer(), HTTPS, reason="hooks", place=place),
            Edge(ApiServerPeer(), place=place),
        ),
    )
    pay = make.service("pay/pay", place=Place("services/pay.yaml", 1))
    on = make.cluster(
        calico_api=FORMS[0],
        policy_kinds="calico",
        enforcement=Enforcement.ENFORCED,
        domain_addresses={"api.card.example": (ip_network("192.0.2.7/32"), ip_network("2001:db8::7/128"))},
        api_server=(ip_network("10.60.0.10/32"), ip_network("10.60.0.11/32"), ip_network("fd00:60::10/128")),
        node_local_dns=(ip_network("169.254.20.10/32"),),
        **fields,
    )
    pods = [
        make.pod("shop/web.1", ips=("10.40.0.1", "fd00:40::1"), ports=(ContainerPort("http", 8080),)),
        make.pod("pay/pay.1", ips=("10.40.0.3",), ports=(ContainerPort("http", 8080),)),
        make.pod("pay/pay.2", ips=("10.40.0.4",), ports=(ContainerPort("http", 8081),)),
        make.pod("kube-system/dns.1", {"k8s-app": "kube-dns"}, ips=("10.40.0.7",)),
        make.pod("monitoring/p.1", {"app.kubernetes.io/name": "prometheus"}, ips=("10.40.0.6",)),
    ]
    inputs = make.inputs([web, pay], pods=pods, on=on)
    slices = (dns_slice(("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"), ("metrics", 9153, "TCP")),)
    return replace(inputs, snapshot=replace(inputs.snapshot, endpoint_slices=slices, services=(DNS,)))


def dns_slice(*ports: tuple[str, int, str], addresses: tuple[str, ...] = ("10.40.0.7",)) -> EndpointSlice:
    items = tuple(ServicePort(name, number, number, protocol) for name, number, protocol in ports)
    ready = (True,) * len(addresses)
    return EndpointSlice("kube-system", "kube-dns-1", "kube-dns", addresses, ("",) * len(addresses), ready, items)


def named(derived: PoliciesDerived, namespace: str, name: str) -> Mapping[str, Any]:
    (found,) = [p for p in derived.policies[namespace] if p["metadata"]["name"] == name]
    return found


# ---------------------------------------------------------------- both outputs


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_bank_is_proved_in_either_kind_and_both_mean_the_same(cluster: str, form: str) -> None:
    inputs = inputs_for(open_platform(BANK), cluster, date(2026, 11, 21))[0]
    plain = replace(inputs, cluster=replace(inputs.cluster, calico_api=form))
    calico = as_calico(inputs, form)
    one, two = derive(plain), derive(calico)
    assert prove(plain, one) == ()
    assert prove(calico, two) == ()
    assert [item for manifest in two.artifacts.manifests() for item in complaints(manifest)] == []
    kinds = Counter((item["apiVersion"], item["kind"]) for item in two.as_if_enforced())
    assert set(kinds) == {(form, "NetworkPolicy"), (form, "GlobalNetworkSet"), (form, "Tier")}

    sets = [from_data(*derived.as_if_enforced()).policies for derived in (one, two)]
    engines = Engine.together(inputs.snapshot, sets)
    assert list(differences(engines[0].reach, engines[1].reach)) == []
    for direction in Direction:
        assert engines[0].isolated(direction) == engines[1].isolated(direction)


def test_a_whole_namespace(golden: Callable[[str, str], None]) -> None:
    inputs = shop()
    derived = derive(inputs)
    assert prove(inputs, derived) == ()
    assert [item for manifest in derived.artifacts.manifests() for item in complaints(manifest)] == []
    for name in ("shop", "_cluster"):
        golden(f"policies/calico-{name}.yaml", serialise(derived.artifacts[f"policies/{name}.yaml"]).decode())
    assert derive(inputs).artifacts == derived.artifacts


def test_there_is_one_policy_for_each_service_and_direction_and_each_rule_names_its_line() -> None:
    derived = derive(shop())
    names = [item["metadata"]["name"] for item in derived.policies["shop"]]
    assert names == [
        "pilothouse.forbidden",
        "pilothouse-dns",
        "pilothouse-web-ingress",
        "pilothouse-web-egress",
        "pilothouse-default-deny",
    ]
    egress = named(derived, "shop", "pilothouse-web-egress")
    assert egress["metadata"]["annotations"] == {"pilothouse.dev/source": "services/shop.yaml:1"}
    lines = [rule["metadata"]["annotations"]["pilothouse.dev/rule"] for rule in egress["spec"]["egress"]]
    assert "api.card.example, 443: cards (services/shop.yaml:4)" in lines
    assert all(lines)
    assert named(derived, "shop", "pilothouse-default-deny")["spec"] == {
        "tier": "default",
        "order": 2000,
        "selector": "all()",
        "types": ["Ingress", "Egress"],
    }


def test_two_lines_that_ask_for_one_rule_both_stand_on_it() -> None:
    edges = tuple(
        Edge(CidrPeer(ip_network("203.0.113.0/24")), HTTPS, reason=why, place=Place("a.yaml", line))
        for why, line in (("orders", 3), ("refunds", 9))
    )
    on = make.cluster(calico_api=FORMS[0], policy_kinds="calico", enforcement=Enforcement.ENFORCED)
    derived = derive(make.inputs([make.service("a/web", egress=edges)], pods=[make.pod("a/web.1")], on=on))
    (rule,) = named(derived, "a", "pilothouse-web-egress")["spec"]["egress"]
    text = rule["metadata"]["annotations"][calico_form.RULE_ANNOTATION]
    assert text == "203.0.113.0/24, 443: orders (a.yaml:3); 203.0.113.0/24, 443: refunds (a.yaml:9)"


def test_the_stored_form_carries_the_tier_in_each_name() -> None:
    derived = derive(as_calico(shop(), FORMS[1]))
    names = {item["metadata"]["name"] for item in derived.policies["shop"]}
    assert names >= {"default.pilothouse-web-egress", "default.pilothouse-default-deny", "pilothouse.forbidden"}


def test_staged_namespaces_get_the_staged_kind() -> None:
    inputs = shop(namespace_enforcement={"shop": Enforcement.STAGED})
    derived = derive(inputs)
    kinds = {item["kind"] for item in derived.artifacts["policies/shop.yaml"].data}
    assert kinds == {"StagedNetworkPolicy"}
    assert prove(inputs, derived) == ()


# ---------------------------------------------------------------- one rule

_K8S = "projectcalico.org/orchestrator == 'k8s'"


@pytest.mark.parametrize(
    ("direction", "rule", "expected"),
    [
        (
            "ingress",
            {
                "from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                "ports": [{"protocol": "TCP", "port": "http"}],
            },
            [
                {
                    "action": "Allow",
                    "protocol": "TCP",
                    "source": {"selector": f"app == 'web' && {_K8S}"},
                    "destination": {"ports": ["http"]},
                }
            ],
        ),
        (
            "egress",
            {"to": [{"namespaceSelector": {"matchLabels": {"tier": "data"}}}]},
            [{"action": "Allow", "destination": {"selector": _K8S, "namespaceSelector": "tier == 'data'"}}],
        ),
        (
            "egress",
            {
                "to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}, {"ipBlock": {"cidr": "192.0.2.9/32"}}],
                "ports": [
                    {"protocol": "UDP", "port": 53},
                    {"protocol": "TCP", "port": 53},
                    {"protocol": "TCP", "port": 80, "endPort": 90},
                ],
            },
            [
                {
                    "action": "Allow",
                    "protocol": protocol,
                    "destination": {"nets": ["192.0.2.1/32", "192.0.2.9/32"], "ports": ports},
                }
                for protocol, ports in (("UDP", [53]), ("TCP", [53, "80:90"]))
            ],
        ),
        (
            "egress",
            {
                "to": [
                    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}},
                    {"ipBlock": {"cidr": "192.0.2.1/32"}},
                    {"ipBlock": {"cidr": "2001:db8::1/128"}},
                ]
            },
            [
                {"action": "Allow", "destination": {"nets": ["0.0.0.0/0"], "notNets": ["10.0.0.0/8"]}},
                {"action": "Allow", "destination": {"nets": ["192.0.2.1/32"]}},
                {"action": "Allow", "destination": {"nets": ["2001:db8::1/128"]}},
            ],
        ),
        (
            "ingress",
            {"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}}]},
            [{"action": "Allow", "source": {"selector": f"a not in {{'b'}} && {_K8S}"}}],
        ),
    ],
)
def test_a_rule_of_kubernetes_becomes_calicos(
    direction: str, rule: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    assert list(calico_form.rules(direction, rule)) == expected


# ---------------------------------------------------------------- by Service


@pytest.mark.parametrize(
    ("slices", "by_service"),
    [
        ((dns_slice(("dns", 53, "UDP"), ("dns-tcp", 53, "TCP")),), {"UDP", "TCP"}),
        ((dns_slice(("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"), ("metrics", 9153, "TCP")),), {"UDP"}),
        ((dns_slice(("dns", 53, "UDP"), addresses=("10.40.0.7", "10.40.0.9")),), set()),
        ((dns_slice(("dns", 5353, "UDP")),), set()),
        ((), set()),
    ],
    ids=["all of it", "another port of TCP", "another address", "another port", "no slice"],
)
def test_dns_is_named_by_its_service_where_that_opens_nothing_else(
    slices: tuple[EndpointSlice, ...], by_service: set[str]
) -> None:
    given = shop()
    inputs = replace(given, snapshot=replace(given.snapshot, endpoint_slices=slices))
    derived = derive(inputs)
    found = named(derived, "shop", "pilothouse-dns")["spec"]["egress"]
    services = [rule for rule in found if "services" in rule["destination"]]
    assert {rule["protocol"] for rule in services} == by_service
    for rule in services:
        assert rule["destination"] == {"services": {"name": "kube-dns", "namespace": "kube-system"}}
    selected = {rule["protocol"] for rule in found if "selector" in rule["destination"]}
    assert selected == {"UDP", "TCP"} - by_service
    assert prove(inputs, derived) == ()


# ---------------------------------------------------------------- what is refused before all else


def test_what_nobody_may_reach_is_denied_whatever_another_policy_allows() -> None:
    inputs = shop()
    theirs = {
        "apiVersion": FORMS[0],
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "open"},
        "spec": {"order": 1, "types": ["Egress"], "egress": [{"action": "Allow"}]},
    }
    for kinds, expected in (("calico", Outcome.DENY), ("kubernetes", Outcome.ALLOW)):
        on = replace(inputs, cluster=replace(inputs.cluster, policy_kinds=kinds))
        policies = from_data(*derive(on).as_if_enforced(), theirs).policies
        metadata, other = (ip_network(f"{text}/32") for text in ("169.254.169.254", "169.254.169.253"))
        engine = Engine.of(inputs.snapshot, policies, ranges=[metadata, other])
        (source,) = (piece for piece in engine.universe.pieces_of("shop/web.1") if engine.universe.version(piece) == 4)
        packet = Packet(6, 80)
        for network, outcome in ((metadata, expected), (other, Outcome.ALLOW)):
            piece = engine.universe.piece_of_address(str(network.network_address))
            egress, ingress = decide(engine, source, piece, packet)
            assert both(egress, ingress) is outcome, (kinds, network)


def test_a_declaration_does_not_reach_what_is_refused_and_the_proof_knows_it() -> None:
    given = shop()
    edge = Edge(CidrPeer(ip_network("169.254.0.0/16")), HTTPS)
    platform = make.platform([*given.platform.services.values(), make.service("a/web", egress=(edge,))])
    snapshot = make.snapshot((*given.snapshot.pods, make.pod("a/web.1", ips=("10.40.0.11",))))
    inputs = replace(given, platform=platform, snapshot=snapshot)
    assert prove(inputs, derive(inputs)) == ()
    plain = replace(inputs, cluster=replace(inputs.cluster, policy_kinds="kubernetes"))
    codes = {problem.code for problem in prove(plain, derive(plain))}
    assert codes == {"policies/invariant-broken"}


def test_without_a_tier_in_the_baseline_nothing_is_refused() -> None:
    text = make.bundle_content().files["policies/baseline.yaml"].text
    line = "  tier: {name: pilothouse, order: 100}\n"
    assert line in text
    content = make.bundle_content({"policies/baseline.yaml": text.replace(line, "")})
    inputs = replace(shop(), content=content)
    derived = derive(inputs)
    assert "pilothouse.forbidden" not in {item["metadata"]["name"] for item in derived.policies["shop"]}
    assert {item["kind"] for item in derived.sets} == {"GlobalNetworkSet"}
    assert prove(inputs, derived) == ()
