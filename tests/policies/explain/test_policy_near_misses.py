"""Rules that nearly decided otherwise: what differs, and in which order they are told."""

from __future__ import annotations

from typing import Any

import pytest
from policies.asked import shop, site

from pilothouse.policies.ask import parse
from pilothouse.policies.explain import SideStory, explain
from pilothouse.policies.explain.reasons import Kind
from pilothouse.policies.rules import Direction
from policies import raw

API = {"matchLabels": {"app": "api"}}


def told(objects: list[Any], source: str, destination: str, port: str, direction: Direction) -> SideStory:
    story = explain(site(*shop(*objects)), source, destination, parse(port)).stories[0]
    return story.ingress if direction is Direction.INGRESS else story.egress


def ingress(*peers: Any, ports: list[Any] | None = None, pods: Any = None) -> Any:
    rule: dict[str, Any] = {}
    if peers:
        rule["from"] = list(peers)
    if ports:
        rule["ports"] = ports
    return raw.kubernetes("shop/p", API if pods is None else pods, ingress=[rule])


def pods(app: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": app}}}


CALICO_IN: dict[str, Any] = {"types": ["Ingress"]}

NEAR = [
    ("label", ingress(pods("front")), "shop/web", "8080", Kind.LABEL, "shop/web-0 has `app: web`, not `app: front`"),
    (
        "no label",
        ingress({"podSelector": {"matchLabels": {"tier": "x"}}}),
        "shop/web",
        "8080",
        Kind.LABEL,
        "shop/web-0 has no label `tier`, not `tier: x`",
    ),
    (
        "one of",
        ingress({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["x", "y"]}]}}),
        "shop/web",
        "8080",
        Kind.LABEL,
        "shop/web-0 has `app: web`, and it must be one of `x`, `y`",
    ),
    (
        "has none",
        ingress({"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}),
        "shop/web",
        "8080",
        Kind.LABEL,
        "shop/web-0 has a label `app`, and must have none",
    ),
    (
        "must have",
        ingress({"podSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}),
        "shop/web",
        "8080",
        Kind.LABEL,
        "shop/web-0 has no label `x`",
    ),
    (
        "own namespace",
        ingress(pods("db")),
        "data/db",
        "8080",
        Kind.NAMESPACE,
        "it means pods of its own namespace shop, data/db is in data",
    ),
    (
        "namespace by name",
        ingress({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "dat"}}}),
        "data/db",
        "8080",
        Kind.NAMESPACE,
        "it means namespace dat, this is data",
    ),
    (
        "namespace by label",
        ingress({"namespaceSelector": {"matchLabels": {"team": "data"}}}),
        "data/db",
        "8080",
        Kind.NAMESPACE,
        "namespace data has no label `team`, not `team: data`",
    ),
    ("port", ingress(ports=[{"port": 80}]), "shop/web", "8080", Kind.PORT, "wanted port 8080, the rule has 80"),
    (
        "port by name",
        ingress(ports=[{"port": "http"}]),
        "shop/web",
        "9090",
        Kind.PORT,
        "wanted port 9090, the rule has http: `http` is 8080 of shop/api",
    ),
    (
        "unknown name",
        ingress(ports=[{"port": "web"}]),
        "shop/web",
        "8080",
        Kind.PORT,
        "wanted port 8080, the rule has web: `web` is no port of shop/api",
    ),
    (
        "protocol",
        ingress(ports=[{"port": 53, "protocol": "UDP"}]),
        "shop/web",
        "53",
        Kind.PROTOCOL,
        "wanted TCP, the rule is for UDP",
    ),
    (
        "ports and no port",
        ingress(ports=[{"port": 80}]),
        "shop/web",
        "icmp",
        Kind.PROTOCOL,
        "wanted ICMP, the rule is for TCP",
    ),
    (
        "address",
        ingress({"ipBlock": {"cidr": "203.0.113.0/24"}}),
        "8.8.8.8",
        "8080",
        Kind.ADDRESS,
        "8.8.8.8 does not lie in 203.0.113.0/24",
    ),
    (
        "exception",
        ingress({"ipBlock": {"cidr": "8.0.0.0/8", "except": ["8.8.0.0/16"]}}),
        "8.8.8.8",
        "8080",
        Kind.EXCEPTION,
        "8.8.8.8 lies in 8.8.0.0/16, which is excepted from 8.0.0.0/8",
    ),
    (
        "selectors and an address",
        ingress(pods("web")),
        "8.8.8.8",
        "8080",
        Kind.ADDRESS,
        "its selectors mean pods, and 8.8.8.8 is an address that none of them has",
    ),
    (
        "notNets",
        raw.calico("shop/p", "app == 'api'", **CALICO_IN, ingress=[raw.rule(source={"notNets": ["8.8.0.0/16"]})]),
        "8.8.8.8",
        "8080",
        Kind.EXCEPTION,
        "8.8.8.8 lies in 8.8.0.0/16, which `notNets` leaves out",
    ),
    (
        "notSelector",
        raw.calico("shop/p", "app == 'api'", **CALICO_IN, ingress=[raw.rule(source={"notSelector": "app == 'web'"})]),
        "shop/web",
        "8080",
        Kind.LABEL,
        'leaves shop/web-0 out',
    ),
    (
        "notPorts",
        raw.calico(
            "shop/p", "app == 'api'", **CALICO_IN, ingress=[raw.rule(protocol="TCP", destination={"notPorts": [8080]})]
        ),
        "shop/web",
        "8080",
        Kind.PORT,
        "`notPorts` leaves port 8080 out",
    ),
    (
        "source port",
        raw.calico(
            "shop/p", "app == 'api'", **CALICO_IN, ingress=[raw.rule(protocol="TCP", source={"ports": [1000]})]
        ),
        "shop/web",
        "8080",
        Kind.PORT,
        "it asks for source port 1000",
    ),
    (
        "type of ICMP",
        raw.calico(
            "shop/p", "app == 'api'", **CALICO_IN, ingress=[raw.rule(protocol="ICMP", icmp={"type": 3, "code": 1})]
        ),
        "shop/web",
        "icmp",
        Kind.PORT,
        "it is about ICMP type 3 code 1, this is ICMP type 8 code 0",
    ),
    (
        "IP version",
        raw.calico("shop/p", "app == 'api'", **CALICO_IN, ingress=[raw.rule(ipVersion=6)]),
        "shop/web",
        "8080",
        Kind.PROTOCOL,
        "the rule is for IPv6, this is IPv4",
    ),
    (
        "service account",
        raw.calico(
            "shop/p", "app == 'api'", **CALICO_IN, ingress=[raw.rule(source={"serviceAccounts": {"names": ["robot"]}})]
        ),
        "shop/web",
        "8080",
        Kind.LABEL,
        "projectcalico.org/serviceaccount",
    ),
    (
        "global",
        raw.calico("shop/p", "app == 'api'", **CALICO_IN, ingress=[raw.rule(source={"namespaceSelector": "global()"})]),
        "shop/web",
        "8080",
        Kind.NAMESPACE,
        "`global()` means what is in no namespace, shop/web-0 is in shop",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "source", "port", "kind", "sentence"), [row[1:] for row in NEAR], ids=[r[0] for r in NEAR]
)
def test_one_condition_differs(policy: Any, source: str, port: str, kind: Kind, sentence: str) -> None:
    side = told([policy], source, "shop/api", port, Direction.INGRESS)
    assert side.near, side.decision
    [reason] = side.near[0].reasons
    assert reason.kind is kind
    assert sentence in reason.sentence
    assert side.near[0].name.endswith("shop/p ingress[0]")


def test_the_port_of_a_service_for_that_of_its_pods() -> None:
    service = raw.service("shop/api", {"app": "api"}, 80, "http")
    side = told([ingress(ports=[{"port": 80}]), service], "shop/web", "shop/api", "8080", Direction.INGRESS)
    assert str(side.near[0].reasons[0]) == (
        "wanted port 8080, the rule has 80: port 80/TCP of Service shop/api is 8080 of its pods, and policies see the"
        " pod's"
    )
    side = told([ingress(ports=[{"port": 8080}]), service], "shop/web", "pod:shop/api", "80", Direction.INGRESS)
    assert "it is at the pod's port that it is reached" in str(side.near[0].reasons[0])
    through = told([ingress(ports=[{"port": 80}]), service], "shop/web", "svc:shop/api", "80", Direction.INGRESS)
    assert "wanted port 8080, the rule has 80" in str(through.near[0].reasons[0])


def test_the_nearest_comes_first() -> None:
    rules = [
        {"from": [pods("front")], "ports": [{"port": 80}]},
        {"from": [pods("web")], "ports": [{"port": 80}]},
        {"from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {"matchLabels": {"c": "d"}}}],
         "ports": [{"port": 9, "protocol": "UDP"}]},
    ]  # fmt: skip
    side = told([raw.kubernetes("shop/p", API, ingress=rules)], "shop/web", "shop/api", "8080", Direction.INGRESS)
    assert [miss.name.rpartition(" ")[2] for miss in side.near] == ["ingress[1]", "ingress[0]"]
    assert [len(miss.reasons) for miss in side.near] == [1, 2]


def test_a_policy_that_does_not_apply() -> None:
    deny = raw.kubernetes("shop/deny", {}, ingress=[])
    other = ingress(pods("web"), pods={"matchLabels": {"app": "apj"}})
    side = told([deny, other], "shop/web", "shop/api", "8080", Direction.INGRESS)
    [miss] = side.near
    assert str(miss) == "NetworkPolicy shop/p ingress[0]: it does not apply: shop/api has `app: api`, not `app: apj`"
    assert miss.reasons[0].kind is Kind.SUBJECT


def test_a_type_that_is_missing_and_a_rule_the_wrong_way_round() -> None:
    deny = raw.kubernetes("shop/deny", {}, ingress=[])
    typed = raw.kubernetes("shop/p", API, policyTypes=["Egress"], ingress=[{"from": [pods("web")]}], egress=[{}])
    side = told([deny, typed], "shop/web", "shop/api", "8080", Direction.INGRESS)
    assert [miss.reasons[0].kind for miss in side.near] == [Kind.DIRECTION]
    assert "types do not list Ingress" in str(side.near[0])
    wrong = raw.kubernetes("shop/p", API, policyTypes=["Ingress", "Egress"], egress=[{"to": [pods("web")]}])
    side = told([wrong], "shop/web", "shop/api", "8080", Direction.INGRESS)
    assert [str(miss) for miss in side.near] == [
        "NetworkPolicy shop/p egress[0]: it is an egress rule: about connections that it opens, and this is ingress"
    ]


def test_a_rule_that_comes_too_late() -> None:
    first = raw.calico("shop/first", "all()", types=["Ingress"], order=1, ingress=[raw.rule("Deny")])
    side = told([first, ingress(pods("web"))], "shop/web", "shop/api", "8080", Direction.INGRESS)
    assert [str(miss) for miss in side.near] == [
        "NetworkPolicy shop/p ingress[0]: it comes too late: shop/first ingress[0] decides before it"
    ]
    assert side.near[0].reasons[0].kind is Kind.ORDER
    behind = raw.calico("shop/q", "app == 'api'", types=["Ingress"], ingress=[raw.rule("Deny"), raw.rule()])
    side = told([behind], "shop/web", "shop/api", "8080", Direction.INGRESS)
    assert [miss.name for miss in side.near] == ["NetworkPolicy shop/q ingress[1]"]


def test_a_staged_policy_decides_nothing() -> None:
    deny = raw.kubernetes("shop/deny", {}, ingress=[])
    staged = raw.staged_kubernetes("shop/p", API, policyTypes=["Ingress"], ingress=[{"from": [pods("web")]}])
    side = told([deny, staged], "shop/web", "shop/api", "8080", Direction.INGRESS)
    assert [miss.reasons[0].kind for miss in side.near] == [Kind.STAGED]


def test_what_nearly_denied() -> None:
    rule = raw.rule("Deny", protocol="TCP", destination={"ports": [80]})
    policy = raw.calico("shop/p", "all()", types=["Ingress"], ingress=[rule, raw.rule()])
    side = told([policy], "shop/web", "shop/api", "8080", Direction.INGRESS)
    assert [str(miss) for miss in side.near] == ["NetworkPolicy shop/p ingress[0]: wanted port 8080, the rule has 80"]


def test_a_pod_without_an_address_is_in_no_range_that_is_known() -> None:
    block = {"ipBlock": {"cidr": "10.0.0.0/8"}}
    side = told([ingress(block)], "new:shop/app=web", "shop/api", "8080", Direction.INGRESS)
    assert "the address of shop/(a new pod with app=web) is not known" in str(side.near[0])


def test_an_address_has_no_policies_to_tell_of() -> None:
    side = told([ingress(pods("web"))], "8.8.8.8", "shop/api", "8080", Direction.EGRESS)
    assert (side.endpoint, side.near, side.chain) == (False, (), ())
