"""The evaluator against the definitions, and against a naive second one on random cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import builders as make

from pilothouse.inventory.model import ContainerPort, Namespace, Pod, Snapshot
from pilothouse.policies import evaluate
from pilothouse.policies.portset import PROTOCOLS
from pilothouse.policies.universe import Universe
from policies import naive

NAMESPACES = {
    "a": {"kubernetes.io/metadata.name": "a", "tier": "data"},
    "b": {"kubernetes.io/metadata.name": "b"},
}
ADDRESSES = ("10.40.0.9", "8.8.8.8", "8.8.4.4", "192.168.1.1", "2001:db8::1")
CIDRS = (
    "0.0.0.0/0",
    "10.40.0.0/16",
    "10.40.0.0/30",
    "8.8.0.0/16",
    "8.8.8.8/32",
    "10.40.0.3/24",
    "::/0",
    "2001:db8::/32",
)
PORTS = (1, 80, 81, 443, 9000, 65535)


def policy(spec: Mapping[str, Any], namespace: str = "a", name: str = "p", **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
        **more,
    }


def snapshot(*pods: Pod) -> Snapshot:
    return Snapshot(pods=pods, namespaces=tuple(Namespace(name, labels) for name, labels in NAMESPACES.items()))


def verdict(
    snap: Snapshot, policies: list[Any], source: str, destination: str, port: int, protocol: str = "TCP"
) -> bool:
    from ipaddress import ip_network

    ends = [ip_network(end) for end in (source, destination) if "/" not in end]
    universe = Universe(snap, (*evaluate.ranges(policies), *ends))
    found = evaluate.evaluate(policies, universe)
    assert not found.unsupported
    pieces = [
        universe.piece_of_address(end) if "/" not in end else universe.class_of(end) for end in (source, destination)
    ]
    assert None not in pieces
    return evaluate.decide(found.reach, *pieces, protocol, port).allowed  # type: ignore[arg-type]


PODS = (
    make.pod("a/web", ips=("10.40.0.1",), ports=(ContainerPort("http", 80),)),
    make.pod("a/db", ips=("10.40.0.2", "2001:db8::2"), ports=(ContainerPort("http", 81),)),
    make.pod("b/web", ips=("10.40.0.3",), ports=(ContainerPort("http", 80, "UDP"),)),
)


@pytest.mark.parametrize(
    ("spec", "source", "destination", "port", "expected"),
    [
        ({"podSelector": {}}, "b/web", "a/web", 80, False),  # no types: Ingress only, and no rule allows
        ({"podSelector": {}}, "a/web", "b/web", 80, True),
        ({"podSelector": {}, "egress": [{}]}, "b/web", "a/web", 80, False),  # egress rules: both directions
        ({"podSelector": {}, "ingress": [{}]}, "8.8.8.8", "a/web", 80, True),  # [{}] allows all, also from outside
        ({"podSelector": {}, "ingress": [{"from": []}]}, "b/web", "a/web", 9, True),
        ({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}, "b/web", "a/web", 80, False),
        ({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}, "a/db", "a/web", 80, True),
        ({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}, "b/web", "a/web", 80, True),
        (
            {"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"tier": "data"}}}]}]},
            "b/web",
            "a/web",
            80,
            False,
        ),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}, "b/web", "a/web", 80, True),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}, "b/web", "a/db", 80, False),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}, "b/web", "a/db", 81, True),
        ({"podSelector": {}, "ingress": [{"ports": [{"protocol": "UDP"}]}]}, "b/web", "a/db", 81, False),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": 80, "endPort": 90}]}]}, "b/web", "a/db", 90, True),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": 80, "endPort": 90}]}]}, "b/web", "a/db", 91, False),
        (
            {
                "podSelector": {},
                "ingress": [{"from": [{"ipBlock": {"cidr": "8.8.8.200/24", "except": ["8.8.8.8/32"]}}]}],
            },
            "8.8.8.8",
            "a/web",
            80,
            False,
        ),
        (
            {
                "podSelector": {},
                "ingress": [{"from": [{"ipBlock": {"cidr": "8.8.8.200/24", "except": ["8.8.8.8/32"]}}]}],
            },
            "8.8.8.9",
            "a/web",
            80,
            True,
        ),
        # A sibling allows what `except` leaves out; and a range matches pods by their address.
        (
            {
                "podSelector": {},
                "ingress": [
                    {
                        "from": [
                            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.40.0.3/32"]}},
                            {"namespaceSelector": {}},
                        ]
                    }
                ],
            },
            "b/web",
            "a/web",
            80,
            True,
        ),
        (
            {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.40.0.3/32"}}]}]},
            "b/web",
            "a/web",
            80,
            True,
        ),
        (
            {
                "podSelector": {"matchExpressions": [{"key": "gone", "operator": "NotIn", "values": ["x"]}]},
                "policyTypes": ["Egress"],
            },
            "a/web",
            "b/web",
            80,
            False,
        ),
    ],
)
def test_kubernetes_meanings(spec: Any, source: str, destination: str, port: int, expected: bool) -> None:
    assert verdict(snapshot(*PODS), [policy(spec)], source, destination, port) is expected


def test_a_connection_needs_both_ends() -> None:
    out = policy({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": {}}]}]})
    inward = policy({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}, "b")
    assert verdict(snapshot(*PODS), [out], "a/web", "b/web", 80)
    assert not verdict(snapshot(*PODS), [out, inward], "a/web", "b/web", 80)


def test_a_pod_reaches_itself() -> None:
    assert verdict(snapshot(*PODS), [policy({"podSelector": {}})], "a/web", "a/web", 80)


def test_host_network_pending_and_finished_pods_are_no_endpoints() -> None:
    pods = (
        make.pod("a/host", host_network=True),
        make.pod("a/pending", node="", phase="Pending"),
        make.pod("a/done", phase="Succeeded"),
    )
    universe = Universe(snapshot(*pods), ())
    assert [universe.class_of(pod.key) for pod in pods] == [None, None, None]


def test_staged_kinds_count_only_in_a_preview() -> None:
    staged = policy({"podSelector": {}, "policyTypes": ["Ingress"]}) | {
        "apiVersion": "projectcalico.org/v3",
        "kind": "StagedKubernetesNetworkPolicy",
    }
    universe = Universe(snapshot(*PODS), ())
    source, destination = universe.class_of("b/web"), universe.class_of("a/web")
    assert source is not None
    assert destination is not None
    for preview, expected in ((False, True), (True, False)):
        reach = evaluate.evaluate([staged], universe, preview=preview).reach
        assert bool(reach.allowed(source, destination)) is expected


def test_what_it_does_not_know_is_left_out_whole_and_named() -> None:
    calico = {"apiVersion": "projectcalico.org/v3"}
    unknown = [
        policy({"types": ["Ingress"], "tier": "security"}, name="tier", **calico),
        policy({"types": ["Ingress"], "ingress": [{"action": "Deny"}]}, name="deny", **calico),
        policy({"types": ["Ingress"], "ingress": [{"action": "Allow", "notProtocol": "TCP"}]}, name="not", **calico),
        policy({"types": ["Ingress"], "ingress": [{"action": "Allow", "protocol": "ICMP"}]}, name="icmp", **calico),
        policy({"types": ["Ingress"], "selector": "a = b"}, name="grammar", **calico),
        policy(
            {"types": ["Egress"], "egress": [{"action": "Allow", "destination": {"ports": [80]}}]},
            name="ports",
            **calico,
        ),
        policy({"podSelector": {}, "ingress": [{"from": [{}]}]}, name="empty-peer"),
        {**policy({}, name="global", **calico), "kind": "GlobalNetworkPolicy"},
        {**policy({}, name="none"), "apiVersion": ""},
    ]
    universe = Universe(snapshot(*PODS), ())
    found = evaluate.evaluate(unknown, universe)
    names = ["tier", "deny", "not", "icmp", "grammar", "ports", "empty-peer", "global", "none"]
    assert [item.policy for item in found.unsupported] == [f"a/{name}" for name in names]
    assert set(found.reach.ingress) == {None}


def test_calico_peers() -> None:
    sets = [
        {
            "apiVersion": "projectcalico.org/v3",
            "kind": kind,
            "metadata": {"name": name, "labels": {"site": "x"}, **({"namespace": "a"} if kind == "NetworkSet" else {})},
            "spec": {"nets": [net]},
        }
        for kind, name, net in (("GlobalNetworkSet", "g", "8.8.8.0/24"), ("NetworkSet", "n", "9.9.9.0/24"))
    ]

    def passes(destination: Mapping[str, Any], address: str, port: int = 80) -> bool:
        rule = {"action": "Allow", "protocol": "TCP", "destination": destination}
        calico = policy({"selector": "all()", "types": ["Egress"], "egress": [rule]}, apiVersion="projectcalico.org/v3")
        return verdict(snapshot(*PODS), [calico, *sets], "a/web", address, port)

    assert passes({"selector": "site == 'x'", "namespaceSelector": "global()"}, "8.8.8.8")
    assert not passes({"selector": "site == 'x'", "namespaceSelector": "global()"}, "9.9.9.9")
    assert passes({"selector": "site == 'x'"}, "9.9.9.9")  # a NetworkSet of the policy's own namespace
    assert not passes({"selector": "site == 'x'"}, "8.8.8.8")
    assert passes({"selector": "app == 'web'", "namespaceSelector": "all()"}, "b/web")
    assert not passes({"selector": "app == 'web'"}, "b/web")
    assert passes({"namespaceSelector": "tier == 'data'"}, "a/db")
    assert not passes({"namespaceSelector": "tier == 'data'"}, "b/web")
    assert passes({"selector": "projectcalico.org/namespace == 'b'", "namespaceSelector": "all()"}, "b/web")
    assert passes({"nets": ["9.9.0.0/16"]}, "9.9.9.9")
    assert not passes({"nets": ["9.9.0.0/16"]}, "8.8.8.8")
    assert passes({"nets": ["9.9.0.0/16"], "ports": ["70:80"]}, "9.9.9.9")
    assert not passes({"nets": ["9.9.0.0/16"], "ports": [81]}, "9.9.9.9")
    assert passes({"namespaceSelector": "all()", "ports": ["http"]}, "a/db", 81)


def test_a_calico_ingress_rule_names_its_source() -> None:
    rule = {"action": "Allow", "source": {"selector": "app == 'db'"}}
    calico = policy({"ingress": [rule]}, apiVersion="projectcalico.org/v3")
    assert verdict(snapshot(*PODS), [calico], "a/db", "a/web", 80)
    assert not verdict(snapshot(*PODS), [calico], "b/web", "a/web", 80)
    deleted = policy({"stagedAction": "Delete", "types": ["Ingress"]}, apiVersion="projectcalico.org/v3")
    assert verdict(snapshot(*PODS), [deleted], "b/web", "a/web", 80)


def test_the_verdict_names_what_decides() -> None:
    rules = {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [{"podSelector": {}}]}]}
    universe = Universe(snapshot(*PODS), ())
    reach = evaluate.evaluate([policy(rules, name="in")], universe).reach
    web, db, other = (universe.class_of(name) for name in ("a/web", "a/db", "b/web"))
    assert web is not None
    assert db is not None
    assert other is not None
    assert evaluate.decide(reach, db, web, "TCP", 80) == evaluate.Verdict(True, "not isolated", "a/in ingress[0]")
    assert evaluate.decide(reach, other, web, "TCP", 80) == evaluate.Verdict(False, "not isolated", "no rule of a/in")


def test_a_universe_must_be_cut_by_the_ranges_it_is_asked_for() -> None:
    from ipaddress import ip_network

    with pytest.raises(KeyError, match=r"10\.0\.0\.0/8"):
        Universe(snapshot(*PODS), ()).network(ip_network("10.0.0.0/8"))


# ---------------------------------------------------------------- random cases against the naive evaluator

labels = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["x", "y"]), max_size=2)
expressions = st.lists(
    st.one_of(
        st.builds(
            lambda key, op, values: {"key": key, "operator": op, "values": values},
            st.sampled_from(["app", "tier"]),
            st.sampled_from(["In", "NotIn"]),
            st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=2),
        ),
        st.builds(
            lambda key, op: {"key": key, "operator": op},
            st.sampled_from(["app", "tier"]),
            st.sampled_from(["Exists", "DoesNotExist"]),
        ),
    ),
    max_size=1,
)
selectors = st.builds(
    lambda equal, exprs: ({"matchLabels": equal} if equal else {}) | ({"matchExpressions": exprs} if exprs else {}),
    labels,
    expressions,
)
spaces = st.sampled_from([{}, {"matchLabels": {"tier": "data"}}, {"matchLabels": {"kubernetes.io/metadata.name": "b"}}])
blocks = st.builds(
    lambda cidr, excluded: {"ipBlock": {"cidr": cidr} | ({"except": excluded} if excluded else {})},
    st.sampled_from(CIDRS),
    st.lists(st.sampled_from(CIDRS), max_size=2),
)
peers = st.one_of(
    blocks,
    st.builds(lambda pods: {"podSelector": pods}, selectors),
    st.builds(lambda space: {"namespaceSelector": space}, spaces),
    st.builds(lambda space, pods: {"namespaceSelector": space, "podSelector": pods}, spaces, selectors),
)
ports = st.one_of(
    st.builds(lambda protocol: {"protocol": protocol}, st.sampled_from(PROTOCOLS)),
    st.builds(lambda port: {"port": port}, st.sampled_from([*PORTS, "http", "dns"])),
    st.builds(
        lambda port, protocol: {"port": port, "protocol": protocol},
        st.sampled_from(["http", 80]),
        st.sampled_from(PROTOCOLS),
    ),
    st.builds(
        lambda low, more: {"port": low, "endPort": min(low + more, 65535)}, st.sampled_from(PORTS), st.integers(0, 9000)
    ),
)


def rules(ends: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    rule = st.builds(
        lambda who, at: ({ends: who} if who is not None else {}) | ({"ports": at} if at is not None else {}),
        st.none() | st.lists(peers, max_size=2),
        st.none() | st.lists(ports, max_size=2),
    )
    return st.lists(rule, max_size=2)


specs = st.builds(
    lambda pods, types, inward, outward: (
        {"podSelector": pods}
        | ({"policyTypes": types} if types else {})
        | ({"ingress": inward} if inward else {})
        | ({"egress": outward} if outward else {})
    ),
    selectors,
    st.sampled_from([None, ["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
    rules("from"),
    rules("to"),
)
domain_rules = st.lists(
    st.builds(
        lambda who, protocol, at: (
            {
                "action": "Allow",
                "destination": {"selector": f"site == '{who}'", "namespaceSelector": "global()"}
                | ({"ports": at} if at and protocol else {}),
            }
            | ({"protocol": protocol} if protocol else {})
        ),
        st.sampled_from(["x", "y"]),
        st.sampled_from([None, *PROTOCOLS]),
        st.lists(st.sampled_from([80, "80:9000", 443]), max_size=2),
    ),
    max_size=2,
)
calico_specs = st.builds(
    lambda who, found: {"selector": who, "types": ["Egress"], "egress": found},
    st.sampled_from(["all()", "app == 'x'"]),
    domain_rules,
)
pods = st.builds(
    lambda equal, ips, named: {"labels": equal, "ips": ips, "ports": named},
    labels,
    st.lists(st.sampled_from(["10.40.0.1", "10.40.0.2", "10.40.7.7", "2001:db8::2"]), max_size=2, unique=True),
    st.lists(
        st.builds(ContainerPort, st.sampled_from(["http", "dns"]), st.sampled_from(PORTS), st.sampled_from(PROTOCOLS)),
        max_size=2,
    ),
)


@settings(max_examples=250, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), pods), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(["a", "b"]), specs), max_size=3),
    st.lists(st.tuples(st.sampled_from(["a", "b"]), calico_specs), max_size=1),
)
def test_random_cases_agree_with_the_naive_evaluator(
    given_pods: list[Any], given_specs: list[Any], given_calico: list[Any]
) -> None:
    world_pods = tuple(
        Pod(namespace, f"pod-{index}", data["labels"], ips=tuple(data["ips"]), ports=tuple(data["ports"]), node="n")
        for index, (namespace, data) in enumerate(given_pods)
    )
    policies = [policy(spec, namespace, f"k{i}") for i, (namespace, spec) in enumerate(given_specs)]
    policies += [
        policy(spec, namespace, f"c{i}", apiVersion="projectcalico.org/v3")
        for i, (namespace, spec) in enumerate(given_calico)
    ]
    policies += [
        {
            "apiVersion": "projectcalico.org/v3",
            "kind": "GlobalNetworkSet",
            "metadata": {"name": site, "labels": {"site": site}},
            "spec": {"nets": [net]},
        }
        for site, net in (("x", "8.8.0.0/16"), ("y", "10.40.0.0/30"))
    ]
    world = naive.World(world_pods, NAMESPACES, tuple(policies))
    universe = Universe(snapshot(*world_pods), evaluate.ranges(policies))
    found = evaluate.evaluate(policies, universe)
    assert not found.unsupported
    ends: list[naive.End] = [*world_pods, *ADDRESSES]
    for source in ends:
        for destination in ends:
            if source is destination or (isinstance(source, str) and isinstance(destination, str)):
                continue
            one, other = (
                universe.piece_of_address(end) if isinstance(end, str) else universe.class_of(end.key)
                for end in (source, destination)
            )
            assert one is not None
            assert other is not None
            reached = found.reach.allowed(one, other)
            for protocol in PROTOCOLS:
                for port in PORTS:
                    expected = naive.allowed(world, source, destination, protocol, port)
                    assert reached.contains(protocol, port) is expected, (source, destination, protocol, port)
            if reached:
                assert found.reach.targets(one) >> other & 1
