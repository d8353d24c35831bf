"""Where policies are derived, the declaration is what is explained and edited."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from ipaddress import ip_network
from typing import Any

import pytest
from policies.asked import sentences
from support import builders as make

from pilothouse.inputs import Inputs
from pilothouse.inventory.model import ContainerPort
from pilothouse.platform.model import CidrPeer, Edge, Enforcement, PortRef, Service, ServicePeer
from pilothouse.policies.ask import ask, parse
from pilothouse.policies.engine.decide import Outcome
from pilothouse.policies.explain import Explanation, as_data, explain
from pilothouse.policies.site import Site, of_platform
from pilothouse.problems import Place

HTTP = (PortRef(name="http"),)
WEB = ServicePeer("a", "web")
API = ServicePeer("b", "api")


def edge(peer: Any, ports: tuple[PortRef, ...] = HTTP, line: int = 9, **fields: Any) -> Edge:
    return Edge(peer, ports, place=Place("services/x.yaml", line, 7, excerpt="    - {…}"), **fields)


def services(*egress: Edge, ingress: tuple[Edge, ...] | None = None) -> list[Service]:
    place = Place("services/x.yaml", 3)
    return [
        make.service("a/web", egress=egress, place=place),
        make.service("b/api", ingress=ingress, place=Place("services/api.yaml", 3)),
        make.service("b/gone"),
    ]


def inputs(given: list[Service], enforcement: Enforcement = Enforcement.ENFORCED) -> Inputs:
    http = (ContainerPort("http", 8080),)
    pods = [
        make.pod("a/web.1", ips=("10.40.0.1",), ports=http),
        make.pod("b/api.1", ips=("10.40.0.2",), ports=http),
        make.pod("b/api.2", ips=("10.40.0.3",), labels={"app": "api", "x": "y"}, ports=http),
        make.pod("b/host.1", host_network=True, ips=("10.60.0.1",)),
        make.pod("monitoring/grafana.1", ips=("10.40.0.9",)),
    ]
    return make.inputs(given, pods=pods, on=make.cluster(enforcement=enforcement, calico_api="projectcalico.org/v3"))


def site(given: list[Service]) -> Site:
    return of_platform(inputs(given))


def told(given: list[Service], source: str, destination: str, port: str = "8080") -> Explanation:
    """Explained, with every offered edit tried: applied to the declarations, it leads where it says."""
    found = explain(site(given), source, destination, parse(port))
    for each in found.edits:
        engine = replace(site(given), policies=each.policies)
        assert ask(engine, source, destination, parse(port)).verdict is found.wanted
    return found


def lines(found: Explanation) -> list[str]:
    assert found.edit is not None, found.no_edit
    return [line for change in found.edit.changes for line in change.text.splitlines() if line[0] in "+-"]


# ---------------------------------------------------------------- questions about declared services


def test_services_pods_and_addresses() -> None:
    where = site(services(edge(API)))

    def verdict(source: str, destination: str, port: str = "8080") -> str:
        return ask(where, source, destination, parse(port)).verdict.value

    found = ask(where, "a/web", "b/api", parse("8080"))
    assert [(pair.sources, pair.destinations) for pair in found.pairs] == [(("a/web.1",), ("b/api.1", "b/api.2"))]
    assert "egress: a/pilothouse-web-egress egress[0] allows" in sentences(found)
    assert verdict("a/web", "b/api", "http") == "allow"
    assert verdict("10.40.0.1", "b/api.1") == "allow"  # a pod's address is that pod
    assert verdict("a/web", "b/api", "8081") == "deny"
    assert verdict("b/api", "a/web") == "deny"
    assert verdict("a/web", "8.8.8.8", "443") == "deny"
    assert verdict("8.8.8.8", "10.60.0.9", "443") == "allow"
    assert verdict("b/api.1", "b/api") == "deny"  # to itself it may, to its sibling not


def test_staged_and_withheld_policies_count_when_asked_to() -> None:
    staged = inputs(services(), Enforcement.STAGED)
    for enforced, expected in ((False, Outcome.ALLOW), (True, Outcome.DENY)):
        assert ask(of_platform(staged, as_if_enforced=enforced), "b/api", "a/web", parse("1")).verdict is expected


def test_a_service_that_does_not_run_is_judged_as_it_will_be() -> None:
    found = ask(site(services(edge(API))), "b/gone", "a/web", parse("8080"))
    assert found.verdict is Outcome.DENY
    assert "no such pod runs" in sentences(found)
    assert found.source.declared is not None


# ---------------------------------------------------------------- why


def test_the_line_that_allows_it_is_named() -> None:
    story = told(services(edge(API)), "a/web", "b/api").stories[0]
    for side in story.sides:
        assert [str(item.place) for item in side.edges] == ["services/x.yaml:9:7"]
        [deciding] = [met for met in side.chain if met.decides]
        assert str(deciding.place) == "services/x.yaml:9:7"
    data = as_data(told(services(edge(API)), "a/web", "b/api"))["stories"][0]["sides"][0]["declared"]
    assert data == [{"edge": "egress of a/web to b/api at http", "place": "services/x.yaml:9:7"}]


@pytest.mark.parametrize(
    ("given", "port", "side", "sentence"),
    [
        (services(edge(API)), "8081", 0, "wanted 8081/TCP, it is declared for http"),
        (services(), "8080", 0, "it declares no such connection to b/api"),
        (services(), "8080", 1, "a/web declares no such connection to it"),
        (services(edge(API), ingress=()), "8080", 1, "its list of who may come does not let a/web in"),
        (services(edge(ServicePeer("b", "gone"))), "8080", 0, "it means b/gone, not b/api"),
        (services(edge(API, expires=date(2026, 1, 1))), "8080", 0, "it ended on 2026-01-01"),
    ],
)
def test_a_declaration_that_nearly_says_it(given: list[Service], port: str, side: int, sentence: str) -> None:
    found = told(given, "a/web", "b/api", port)
    near = [str(miss) for miss in found.stories[0].sides[side].near]
    assert any(sentence in text for text in near), near
    assert not any("pilothouse-" in text for text in near)  # derived policies are not what anybody edits


# ---------------------------------------------------------------- edits


def test_one_line_allows_both_sides() -> None:
    found = told(services(), "a/web", "b/api")
    assert lines(found) == ["+  egress:", "+    - {to: {service: b/api}, ports: [http]}"]
    assert found.edit is not None
    [change] = found.edit.changes
    assert change.title == "declare egress of a/web to b/api"
    assert change.command == "pilothouse egress propose a/web --add '{to: {service: b/api}, ports: [http]}' --reason …"
    assert found.edit.others == ()


def test_a_port_more_for_the_line_that_is_there() -> None:
    found = told(services(edge(API)), "a/web", "b/api", "9090")
    assert lines(found) == [
        "-    - {to: {service: b/api}, ports: [http]}",
        "+    - {to: {service: b/api}, ports: [http, 9090]}",
    ]
    assert found.edit is not None
    assert "--remove 1 --add" in found.edit.changes[0].command


def test_a_list_of_who_may_come_gains_a_line() -> None:
    found = told(services(edge(API), ingress=()), "a/web", "b/api")
    assert lines(found) == ["+  ingress:", "+    - {from: {service: a/web}, ports: [http]}"]
    both = told(services(ingress=(edge(ServicePeer("b", "gone"), line=5),)), "a/web", "b/api")
    assert both.edit is not None
    assert [change.title for change in both.edit.changes] == [
        "declare egress of a/web to b/api",
        "declare ingress of b/api from a/web",
    ]


def test_naming_one_caller_names_those_of_today_too() -> None:
    """Without a list everybody who declares comes in; the new list must not shut them out."""
    found = told(services(edge(API)), "monitoring/grafana.1", "b/api")
    assert lines(found) == [
        "+  ingress:",
        "+    - {from: {service: a/web}, ports: [http]}",
        "+    - {from: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}, podSelector:"
        " {matchLabels: {app: grafana}}}, ports: [http]}",
    ]
    assert found.edit is not None
    assert found.edit.others == ()
    assert found.edit.changes[0].command == ""


def test_an_address_needs_what_the_guardrails_ask_for() -> None:
    found = told(services(), "a/web", "8.8.8.8", "443")
    assert lines(found)[-1] == '+    - {to: {cidr: "8.8.8.8/32"}, ports: [443]}'
    assert found.edit is not None
    assert any("reason" in text for text in found.edit.remarks)
    known = make.cluster(
        enforcement=Enforcement.ENFORCED,
        calico_api="projectcalico.org/v3",
        api_server=(ip_network("10.60.0.5/32"),),
        domain_addresses={"api.example": (ip_network("8.8.4.4/32"),)},
    )
    given = replace(inputs(services()), cluster=known)
    for address, port, peer in (
        ("8.8.4.4", "443", "{domain: api.example}"),
        ("10.60.0.5", "6443", "{apiServer: true}"),
    ):
        named = explain(of_platform(given), "a/web", address, parse(port))
        assert lines(named)[-1] == f"+    - {{to: {peer}, ports: [{port}]}}"


def test_to_deny_a_line_goes() -> None:
    found = told(services(edge(API)), "a/web", "b/api")
    assert found.wanted is Outcome.DENY
    assert lines(found) == ["-    - {to: {service: b/api}, ports: [http]}"]
    assert found.edit is not None
    assert found.edit.changes[0].command == "pilothouse egress propose a/web --remove 1 --reason …"
    several = told(services(edge(API, (PortRef(name="http"), PortRef(number=9090)))), "a/web", "b/api", "9090")
    assert lines(several)[-1] == "+    - {to: {service: b/api}, ports: [http]}"


def test_a_line_that_says_more_than_one_thing() -> None:
    wide = services(edge(CidrPeer(ip_network("203.0.113.0/24")), (PortRef(number=443),), reason="bank gateway"))
    found = told(wide, "a/web", "203.0.113.7", "443")
    assert found.edit is not None
    assert found.edits[-1].others or found.edit.others == ()


def test_what_lines_cannot_say_is_said_in_manifests() -> None:
    """Edges have ports: a ping is allowed by none that names any."""
    found = told(services(edge(API)), "a/web", "b/api", "icmp")
    assert found.edit is not None
    assert all(change.data is not None for change in found.edit.changes)
    assert [change.title.split(" ")[0] for change in found.edit.changes] == ["add", "add"]
