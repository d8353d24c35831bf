"""The proof must find what is wrong: each test breaks one thing and wants a witness."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from support import builders as make

from pilothouse.artifacts.model import Artifacts, Derived, Document, Format
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Edge, Enforcement, Exposure, InternetPeer, PortRef, ServicePeer
from pilothouse.policies import derive, prove
from pilothouse.policies.prove import proof

HTTP = (PortRef(name="http"),)
BROKEN = "policies/invariant-broken"


def inputs(**pod_fields: Any) -> Inputs:
    services = [
        make.service(
            "a/web",
            egress=(Edge(ServicePeer("b", "api"), HTTP), Edge(InternetPeer(), (PortRef(number=443),))),
            exposure=Exposure.EDGE,
        ),
        make.service("b/api"),
        make.service("b/other"),
    ]
    pods = [
        make.pod("a/web.1", ips=("10.40.0.1",)),
        make.pod("a/web.2", ips=("10.40.0.4",)),
        make.pod("b/api.1", **{"ips": ("10.40.0.2",), **pod_fields}),
        make.pod("b/other.1", ips=("10.40.0.3",)),
        make.pod("monitoring/any.1", ips=("10.40.0.9",)),
    ]
    return make.inputs(services, pods=pods, on=make.cluster(enforcement=Enforcement.ENFORCED))


def broken(given: Inputs, change: Callable[[dict[str, Any]], Any]) -> Derived:
    """What was derived, with every policy as `change` leaves it; one that it returns True for is dropped."""
    found = copy.deepcopy([dict(manifest) for manifest in derive(given).artifacts.manifests()])
    kept = [manifest for manifest in found if change(manifest) is not True]
    return Derived(Artifacts.of([Document("policies/all.yaml", kept, Format.MANIFESTS)]))


def named(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda manifest: manifest["metadata"]["name"] == f"pilothouse-{name}"


def test_what_is_derived_is_proved() -> None:
    assert prove(inputs(), derive(inputs())) == ()


def _other_port(manifest: dict[str, Any]) -> None:
    if named("web-egress")(manifest):
        manifest["spec"]["egress"][0]["ports"][0]["port"] = 8081


def _every_pod(manifest: dict[str, Any]) -> None:
    if named("web-egress")(manifest):
        del manifest["spec"]["egress"][0]["to"][0]["podSelector"]


def _open_ingress(manifest: dict[str, Any]) -> None:
    if named("api-ingress")(manifest):
        manifest["spec"]["ingress"] = [{}]


def _no_except(manifest: dict[str, Any]) -> None:
    if named("web-egress")(manifest):
        manifest["spec"]["egress"][1]["to"][0]["ipBlock"].pop("except")


def _dns_anywhere(manifest: dict[str, Any]) -> None:
    if named("dns")(manifest):
        manifest["spec"]["egress"][0]["to"] = [{"ipBlock": {"cidr": "0.0.0.0/0"}}]


def _drop(*names: str) -> Callable[[dict[str, Any]], bool]:
    return lambda manifest: any(named(name)(manifest) for name in names)


def _unknown(manifest: dict[str, Any]) -> None:
    if named("api-ingress")(manifest):
        manifest["apiVersion"] = "example.com/v1"


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (_other_port, ["do not allow, though it is declared, a/web to b/api at 8080: for example a/web.1 to b/api.1"]),
        (_open_ingress, ["allow, and nobody declares, monitoring/any.1 to b/api at everything"]),
        (_no_except, ["nobody declares, a/web to 0.0.0.0/8, 10.0.0.0/8", "at 443: for example a/web.1 to 0.0.0.1"]),
        (_dns_anywhere, ["nobody declares, a/web to every address at 53, 53/UDP", "b/other to monitoring/any.1"]),
        (
            _drop("web-egress"),
            ["do not allow, though it is declared, a/web to b/api", "no rule of a/pilothouse-default-deny"],
        ),
        (
            _drop("default-deny"),
            [
                "the ingress of b/other.1 is not isolated by any policy",
                "a/(a new pod without labels) is not isolated",
            ],
        ),
        (_unknown, ["1 object of kind NetworkPolicy.example.com not read", "though it is declared, a/web to b/api"]),
    ],
)
def test_a_changed_policy_has_a_witness(change: Callable[[dict[str, Any]], Any], messages: list[str]) -> None:
    found = prove(inputs(), broken(inputs(), change))
    text = "\n".join(problem.message for problem in found)
    assert {"policies/unproved"} <= {problem.code for problem in found} <= {"policies/unproved", BROKEN}
    for message in messages:
        assert message in text


def test_a_wider_egress_alone_opens_nothing_that_the_other_end_shuts() -> None:
    assert prove(inputs(), broken(inputs(), _every_pod)) == ()


def test_a_policy_on_an_exempt_namespace_is_found() -> None:
    def add(manifest: dict[str, Any]) -> None:
        if named("default-deny")(manifest):
            manifest["metadata"]["namespace"] = "monitoring"

    messages = [problem.message for problem in prove(inputs(), broken(inputs(), add))]
    assert "the egress of monitoring/any.1 is isolated, though it is exempt" in messages


def test_a_pod_outside_the_declared_ranges_is_found() -> None:
    """Its address counts as public, so that a rule for the internet would reach it: the ranges are wrong."""
    service = make.service("c/open", ingress=(Edge(ServicePeer("a", "web"), (PortRef(number=443),)),))
    given = inputs()
    platform = make.platform([*given.platform.services.values(), service])
    pods = (*given.snapshot.pods, make.pod("lab/far.1", ips=("44.0.0.1",)))
    on = replace(given.cluster, namespace_enforcement={"lab": Enforcement.OFF})
    given = replace(given, platform=platform, snapshot=make.snapshot(pods), cluster=on)
    found = prove(given, derive(given))
    assert ["lab/far.1 at 443" in problem.message for problem in found] == [True]
    assert "pod, service and node ranges" in found[0].hint


def test_many_witnesses_are_counted() -> None:
    services = [make.service(f"n/s{index}") for index in range(12)]
    pods = [make.pod(f"n/s{index}.1", ips=(f"10.40.1.{index}",)) for index in range(12)]
    given = make.inputs(services, pods=pods, on=make.cluster(enforcement=Enforcement.ENFORCED))

    def open_all(manifest: dict[str, Any]) -> None:
        if named("default-deny")(manifest):
            manifest["spec"] |= {
                "ingress": [{"from": [{"podSelector": {}}]}],
                "egress": [{"to": [{"podSelector": {}}]}],
            }

    found = prove(given, broken(given, open_all))
    assert len(found) == proof.MAX_WITNESSES + 1
    assert any("more groups of connections differ" in problem.message for problem in found)


def test_staged_policies_are_proved_as_if_enforced_and_withheld_ones_have_nothing_to_prove() -> None:
    def cases() -> Iterator[Inputs]:
        for api in ("projectcalico.org/v3", ""):
            given = inputs()
            cluster = replace(given.cluster, calico_api=api, enforcement=Enforcement.STAGED)
            yield replace(given, cluster=cluster)

    for given in cases():
        assert prove(given, derive(given)) == ()
    given = next(cases())
    staged = broken(given, _other_port)
    assert [problem.code for problem in prove(given, staged)] == ["policies/unproved"]


def test_domains_and_dual_stack() -> None:
    from pilothouse.platform.model import DomainPeer

    on = make.cluster(
        enforcement=Enforcement.ENFORCED,
        calico_api="projectcalico.org/v3",
        pod_cidrs=(ip_network("10.40.0.0/16"), ip_network("fd00:40::/64")),
        domain_addresses={"x.example": (ip_network("2001:db8::1/128"),)},
    )
    service = make.service("a/web", egress=(Edge(DomainPeer("x.example"), (PortRef(number=443),)),))
    given = make.inputs([service], pods=[make.pod("a/web.1", ips=("10.40.0.1", "fd00:40::1"))], on=on)
    assert prove(given, derive(given)) == ()

    def lose(manifest: dict[str, Any]) -> None:
        if manifest["kind"] == "GlobalNetworkSet":
            manifest["spec"]["nets"] = ["2001:db8::2/128"]

    messages = [problem.message for problem in prove(given, broken(given, lose))]
    assert any("though it is declared, a/web to x.example at 443" in message for message in messages)
    assert any("nobody declares, a/web to 2001:db8::2/128 at 443" in message for message in messages)
