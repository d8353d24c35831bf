"""Tiers, network sets, profiles and host endpoints."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from support.policy_documents import complaint, documents, only

from pilothouse.policies.rules import ANY_ORDER, Action, HostEndpoint, NetworkSet, Peer, Profile, Scope, Tier
from pilothouse.policies.selectors import parse
from pilothouse.problems import Severity


def make(kind: str, spec: str, metadata: str = "name: x", version: str = "projectcalico.org/v3") -> str:
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n"


@pytest.mark.parametrize(
    ("name", "spec", "tier"),
    [
        ("x", "{}", Tier("x", ANY_ORDER, Action.DENY)),
        ("x", "{order: 5, defaultAction: Pass}", Tier("x", 5.0, Action.PASS)),
        ("default", "{order: 1000000, defaultAction: Deny}", Tier("default", 1_000_000.0, Action.DENY)),
        ("default", "{order: 1000000}", Tier("default", 1_000_000.0, Action.DENY)),
        ("kube-admin", "{order: 1000, defaultAction: Pass}", Tier("kube-admin", 1_000.0, Action.PASS)),
        ("adminnetworkpolicy", "{order: 1000}", Tier("kube-admin", 1_000.0, Action.PASS)),
        (
            "baselineadminnetworkpolicy",
            "{order: 10000000, defaultAction: Pass}",
            Tier("kube-baseline", 10_000_000.0, Action.PASS),
        ),
    ],
)
def test_tiers(tmp_path: Path, name: str, spec: str, tier: Tier) -> None:
    reading = documents(tmp_path, make("Tier", spec, f"name: {name}"))
    assert (reading.problems, reading.policies.tiers) == ((), (tier,))


@pytest.mark.parametrize(
    ("text", "code", "under"),
    [
        (make("Tier", "{order: first}"), "bad-value", "first"),
        (make("Tier", "{orders: 1}"), "unknown-field", "orders"),
        (make("Tier", "{defaultAction: Allow}"), "bad-value", "Allow"),
        (make("Tier", "{}", "name: a.b"), "bad-tier", "a.b"),
        (make("Tier", "{order: 5}", "name: default"), "bad-tier", "5"),
        (make("Tier", "{}", "name: default"), "bad-tier", "{}"),
        (make("Tier", "{order: 1000000, defaultAction: Pass}", "name: default"), "bad-tier", "Pass"),
        (make("Tier", "{order: 1000}", "name: kube-admin"), "bad-tier", "{order: 1000}"),
        (make("NetworkSet", "{nets: 10.0.0.0/8}"), "bad-value", "10.0.0.0/8"),
        (make("NetworkSet", "{nets: [here]}"), "bad-cidr", "here"),
        (make("NetworkSet", "{nets: [10]}"), "bad-cidr", "10"),
        (make("NetworkSet", "{allowedEgressDomains: [a.example]}"), "enterprise-field", "allowedEgressDomains"),
        (
            make("GlobalNetworkSet", "{}", "name: x, labels: {projectcalico.org/namespace: a}"),
            "bad-value",
            "projectcalico.org/namespace",
        ),
        (make("Profile", "{ingress: [{action: Allow, source: {selector: '('}}]}"), "selector-syntax", None),
        (make("Profile", "{labelsToApply: {a: 1}}"), "bad-value", "1"),
        (make("Profile", "{selector: all()}"), "unknown-field", "selector"),
        (make("HostEndpoint", "{interfaceName: eth0}"), "missing-field", "{interfaceName: eth0}"),
        (make("HostEndpoint", "{node: n}"), "missing-field", "{node: n}"),
        (make("HostEndpoint", "{node: n, interfaceName: far-too-long-for-one}"), "bad-value", "far-too-long-for-one"),
        (make("HostEndpoint", "{node: n, expectedIPs: [10.0.0.0/8]}"), "bad-cidr", "10.0.0.0/8"),
        (make("HostEndpoint", "{node: n, interfaceName: '*', profiles: [A]}"), "bad-value", "A"),
        (
            make("HostEndpoint", "{node: n, interfaceName: '*', ports: [{name: a, port: 1}]}"),
            "missing-field",
            "{name: a, port: 1}",
        ),
        (
            make("HostEndpoint", "{node: n, interfaceName: '*', ports: [{name: a, port: 1, protocol: ICMP}]}"),
            "port-protocol",
            "ICMP",
        ),
        (
            make("HostEndpoint", "{node: n, interfaceName: '*', ports: [{name: a, port: 0, protocol: TCP}]}"),
            "bad-port",
            "0",
        ),
    ],
)
def test_what_calico_refuses_is_left_out(tmp_path: Path, text: str, code: str, under: str | None) -> None:
    reading = documents(tmp_path, text)
    found, severity, where = complaint(reading)
    assert (found, severity) == (f"policies/{code}", Severity.ERROR)
    assert under is None or where == under
    assert (reading.policies.tiers, reading.policies.sets, reading.policies.profiles, reading.policies.hosts) == (
        (),
        (),
        (),
        (),
    )


def test_network_sets(tmp_path: Path) -> None:
    own = make(
        "NetworkSet", "{nets: [10.0.0.0/8, 192.0.2.7, '2001:db8::1']}", "name: x, namespace: shop, labels: {a: b}"
    )
    reading = documents(tmp_path, f"{own}---\n{make('GlobalNetworkSet', '{}')}")
    nets = (ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32"), ip_network("2001:db8::1/128"))
    assert reading.problems == ()
    assert set(reading.policies.sets) == {NetworkSet("x", "shop", (("a", "b"),), nets), NetworkSet("x")}


def test_labels_that_calico_stored_in_an_annotation(tmp_path: Path) -> None:
    """Of an object as older versions stored it; a label on the object itself counts more."""
    annotation = """annotations: {projectcalico.org/metadata: '{"labels":{"a":"b","c":"d"}}'}, labels: {c: e}"""
    text = make("GlobalNetworkSet", "{}", f"name: x, {annotation}", "crd.projectcalico.org/v1")
    assert documents(tmp_path, text).policies.sets == (NetworkSet("x", labels=(("a", "b"), ("c", "e"))),)
    broken = text.replace('{"labels"', '["labels"')
    assert complaint(documents(tmp_path, broken))[:2] == ("policies/bad-value", Severity.ERROR)
    shown = documents(tmp_path, text.replace("crd.projectcalico.org/v1", "projectcalico.org/v3"))
    assert shown.policies.sets == (NetworkSet("x", labels=(("c", "e"),)),)


def test_profiles(tmp_path: Path) -> None:
    text = make(
        "Profile", "{ingress: [{action: Allow, source: {selector: has(a)}}], labelsToApply: {b: c}}", "name: kns.a"
    )
    reading = documents(tmp_path, text)
    assert reading.problems == ()
    (found,) = reading.policies.profiles
    assert isinstance(found, Profile)
    assert (found.name, found.labels, found.egress) == ("kns.a", (("b", "c"),), ())
    assert found.ingress[0].peers == (Peer(Scope.CLUSTER, selector=parse("has(a)")),)


def test_host_endpoints(tmp_path: Path) -> None:
    spec = (
        "{node: n1, interfaceName: '*', expectedIPs: [192.0.2.1], profiles: [p],"
        " ports: [{name: ssh, port: 22, protocol: TCP}]}"
    )
    reading = documents(tmp_path, make("HostEndpoint", spec, "name: x, labels: {a: b}"))
    assert reading.problems == ()
    assert reading.policies.hosts == (
        HostEndpoint("x", "n1", "*", (("a", "b"),), ("192.0.2.1",), (("ssh", 6, 22),), ("p",)),
    )


def test_host_bits_in_a_set_are_a_warning(tmp_path: Path) -> None:
    reading = documents(tmp_path, make("GlobalNetworkSet", "{nets: [10.1.2.3/8]}"))
    assert (only(reading).code, only(reading).severity) == ("policies/host-bits", Severity.WARNING)
    assert reading.policies.sets[0].nets == (ip_network("10.0.0.0/8"),)
