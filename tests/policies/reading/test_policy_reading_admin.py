"""AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from support.policy_documents import complaint, documents, only, policy

from pilothouse.policies.rules import EVERYTHING, Action, Direction, Family, Nets, Peer, PortMatch, Scope, Traffic
from pilothouse.policies.selectors import ALL, parse
from pilothouse.problems import Severity

PODS = Peer(Scope.NAMESPACES, "", ALL, pods_only=True)


def anp(rest: str, subject: str = "{namespaces: {}}", priority: str = "priority: 7, ") -> str:
    return f"""\
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {{name: guard}}
spec: {{{priority}subject: {subject}{rest}}}
"""


def banp(rest: str, name: str = "default") -> str:
    return f"""\
apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata: {{name: {name}}}
spec: {{subject: {{namespaces: {{}}}}{rest}}}
"""


def cnp(rest: str, tier: str = "tier: Admin, ", version: str = "v1alpha2") -> str:
    return f"""\
apiVersion: policy.networking.k8s.io/{version}
kind: ClusterNetworkPolicy
metadata: {{name: guard}}
spec: {{{tier}priority: 7, subject: {{namespaces: {{}}}}{rest}}}
"""


def to(peers: str, more: str = "") -> str:
    return anp(f", egress: [{{action: Allow, to: {peers}{more}}}]")


def ports(text: str) -> str:
    return to("[namespaces: {}]", f", ports: {text}")


def protocols(text: str) -> str:
    return cnp(f", egress: [{{action: Accept, to: [namespaces: {{}}], protocols: {text}}}]")


def test_an_admin_policy(tmp_path: Path) -> None:
    found = policy(
        tmp_path,
        """\
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: guard, labels: {a: b}}
spec:
  priority: 30
  subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}}
  ingress:
    - {name: scrape, action: Pass, from: [{namespaces: {matchLabels: {team: watch}}}], ports: [{namedPort: metrics}]}
    - action: Deny
      from: [{pods: {namespaceSelector: {matchLabels: {x: y}}, podSelector: {}}}, {namespaces: {}}]
""",
    )
    assert (found.family, found.tier, found.order, found.namespace) == (Family.ADMIN, "kube-admin", 30.0, "")
    assert found.directions == {Direction.INGRESS}
    assert found.subjects == (Peer(Scope.NAMESPACES, "", ALL, parse("app == 'db'"), pods_only=True),)
    first, second = found.ingress
    assert (first.action, first.peers) == (
        Action.PASS,
        (Peer(Scope.NAMESPACES, "", parse("team == 'watch'"), pods_only=True),),
    )
    assert first.traffic == (Traffic((6, 17, 132), destination_ports=(PortMatch(name="metrics"),)),)
    assert (second.action, second.index, second.traffic) == (Action.DENY, 1, (EVERYTHING,))
    assert second.peers == (Peer(Scope.NAMESPACES, "", parse("x == 'y'"), pods_only=True), PODS)
    assert (second.path, second.place.line) == (("spec", "ingress", 1), 9)
    assert found.labels == (("a", "b"),)


def test_a_baseline_policy(tmp_path: Path) -> None:
    found = policy(tmp_path, banp(", egress: [{action: Deny, to: [namespaces: {}]}]"))
    assert (found.tier, found.directions) == ("kube-baseline", {Direction.EGRESS})
    assert found.egress[0].peers == (PODS,)


def test_without_rules_it_is_a_policy_in_no_direction(tmp_path: Path) -> None:
    assert policy(tmp_path, anp("")).directions == frozenset()
    assert policy(tmp_path, anp(", ingress: [], egress: []")).directions == frozenset()


@pytest.mark.parametrize("version", ["v1alpha2", "v1beta1"])
@pytest.mark.parametrize(("said", "tier"), [("Admin", "kube-admin"), ("Baseline", "kube-baseline")])
def test_a_cluster_policy(tmp_path: Path, version: str, said: str, tier: str) -> None:
    text = cnp(", ingress: [{action: Accept, from: [namespaces: {}]}]", f"tier: {said}, ", version)
    found = policy(tmp_path, text)
    assert (found.kind, found.tier, found.order) == ("ClusterNetworkPolicy", tier, 7.0)
    assert found.ingress[0].action is Action.ALLOW


def test_peers_of_egress(tmp_path: Path) -> None:
    found = policy(tmp_path, to("[{nodes: {matchLabels: {a: b}}}, {nodes: {}}, {networks: [10.0.0.0/8, 'fd00::/8']}]"))
    assert found.egress[0].peers == (
        Peer(Scope.NODES, selector=parse("a == 'b'")),
        Peer(Scope.NODES),
        Peer(nets=(Nets((ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),)),
    )


@pytest.mark.parametrize(
    ("text", "traffic"),
    [
        ("[]", (EVERYTHING,)),
        ("[portNumber: {port: 80}]", (Traffic((6,), destination_ports=(PortMatch(80, 80),)),)),
        ("[portRange: {protocol: UDP, start: 5, end: 5}]", (Traffic((17,), destination_ports=(PortMatch(5, 5),)),)),
        (
            "[{namedPort: http}, {portRange: {start: 1, end: 9}}, {portNumber: {protocol: TCP, port: 11}}]",
            (
                Traffic((6,), destination_ports=(PortMatch(1, 9), PortMatch(11, 11))),
                Traffic((6, 17, 132), destination_ports=(PortMatch(name="http"),)),
            ),
        ),
    ],
)
def test_ports(tmp_path: Path, text: str, traffic: tuple[Traffic, ...]) -> None:
    assert policy(tmp_path, ports(text)).egress[0].traffic == traffic


@pytest.mark.parametrize(
    ("text", "traffic"),
    [
        ("[tcp: {destinationPort: {number: 80}}]", (Traffic((6,), destination_ports=(PortMatch(80, 80),)),)),
        (
            "[{udp: {destinationPort: {range: {start: 1, end: 9}}}}, {destinationNamedPort: dns}]",
            (
                Traffic((17,), destination_ports=(PortMatch(1, 9),)),
                Traffic((6, 17, 132), destination_ports=(PortMatch(name="dns"),)),
            ),
        ),
        ("[sctp: {destinationPort: {number: 1}}]", (Traffic((132,), destination_ports=(PortMatch(1, 1),)),)),
    ],
)
def test_protocols(tmp_path: Path, text: str, traffic: tuple[Traffic, ...]) -> None:
    assert policy(tmp_path, protocols(text)).egress[0].traffic == traffic


def test_ports_of_the_first_cluster_policies(tmp_path: Path) -> None:
    text = cnp(", ingress: [{action: Deny, from: [namespaces: {}], ports: [portNumber: {port: 80, protocol: TCP}]}]")
    assert policy(tmp_path, text).ingress[0].traffic == (Traffic((6,), destination_ports=(PortMatch(80, 80),)),)


def test_domain_names_are_named_and_not_evaluated(tmp_path: Path) -> None:
    reading = documents(tmp_path, to("[{domainNames: [a.example, '*.b.example']}, {namespaces: {}}]"))
    assert complaint(reading) == ("policies/domain-names", Severity.WARNING, "[a.example, '*.b.example']")
    assert "a.example, *.b.example" in only(reading).message
    assert reading.policies.policies[0].egress[0].peers == (PODS,)
    alone = documents(tmp_path, to("[{domainNames: [a.example]}]"))
    assert [item.severity for item in alone.problems] == [Severity.WARNING]
    assert (alone.policies.policies[0].egress, alone.policies.policies[0].directions) == ((), {Direction.EGRESS})


def test_host_bits(tmp_path: Path) -> None:
    rule = ", egress: [{action: Deny, to: [networks: [10.0.0.1/8]]}]"
    reading = documents(tmp_path, cnp(rule))
    assert complaint(reading) == ("policies/host-bits", Severity.WARNING, "10.0.0.1/8")
    assert reading.policies.policies[0].egress[0].peers == (Peer(nets=(Nets((ip_network("10.0.0.0/8"),)),)),)
    reading = documents(tmp_path, cnp(rule, version="v1beta1"))
    assert complaint(reading) == ("policies/bad-cidr", Severity.ERROR, "10.0.0.1/8")


@pytest.mark.parametrize(
    ("text", "code", "under"),
    [
        (anp("", priority=""), "missing-field", None),
        (anp("", priority="priority: 1001, "), "bad-value", "1001"),
        (anp("", priority="priority: -1, "), "bad-value", "-1"),
        (anp("", priority="priority: '7', "), "bad-value", "'7'"),
        (anp("", priority="priority: 7.5, "), "bad-value", "7.5"),
        (anp(", tier: Admin"), "unknown-field", "tier"),
        (anp("", subject="{}"), "empty-peer", "{}"),
        (anp("", subject="~"), "missing-field", None),
        (anp("", subject="[a]"), "bad-value", "[a]"),
        (anp("", subject="{namespaceSelector: {}}"), "unknown-field", "namespaceSelector"),
        (anp("", subject="{pods: {podSelector: {}}}"), "missing-field", "{podSelector: {}}"),
        (anp("", subject="{pods: {namespaceSelector: {}}}"), "missing-field", "{namespaceSelector: {}}"),
        (anp("", subject="{pods: [a]}"), "bad-value", "[a]"),
        (anp(", ingress: [{action: Allow}]"), "missing-field", "{action: Allow}"),
        (anp(", ingress: [{action: Allow, from: []}]"), "missing-field", "{action: Allow, from: []}"),
        (anp(", ingress: [{action: Allow, from: {}}]"), "bad-value", "{}"),
        (anp(", ingress: [{action: Allow, from: [{}]}]"), "empty-peer", "{}"),
        (anp(", ingress: [{action: Allow, from: [nodes: {}]}]"), "unknown-field", "nodes"),
        (anp(", ingress: [{action: Accept, from: [namespaces: {}]}]"), "unknown-action", "Accept"),
        (anp(", ingress: [{action: Log, from: [namespaces: {}]}]"), "unknown-action", "Log"),
        (anp(", ingress: [{from: [namespaces: {}]}]"), "missing-field", "{from: [namespaces: {}]}"),
        (anp(f", ingress: [{{action: Deny, from: [namespaces: {{}}], name: {'n' * 101}}}]"), "bad-value", "n" * 101),
        (
            anp(", ingress: [" + ", ".join(["{action: Deny, from: [namespaces: {}]}"] * 101) + "]"),
            "too-many",
            None,
        ),
        (to("[{namespaces: {}, nodes: {}}]"), "peer-conflict", "{namespaces: {}, nodes: {}}"),
        (to("[networks: []]"), "bad-value", "[]"),
        (to("[networks: [10.0.0.0]]"), "bad-cidr", "10.0.0.0"),
        (to("[networks: [" + ", ".join(f"10.0.{n}.0/24" for n in range(26)) + "]]"), "too-many", None),
        (to("[domainNames: []]"), "bad-value", "[]"),
        (anp(", egress: [{action: Deny, to: [domainNames: [a.example]]}]"), "domain-names", "[a.example]"),
        (ports("[{}]"), "empty-peer", "{}"),
        (ports("[{namedPort: a, portNumber: {port: 1}}]"), "peer-conflict", "{namedPort: a, portNumber: {port: 1}}"),
        (ports("[portNumber: {port: 0}]"), "bad-port", "0"),
        (ports("[portNumber: {}]"), "bad-port", "{}"),
        (ports("[portNumber: {port: 1, protocol: ICMP}]"), "bad-protocol", "ICMP"),
        (ports("[portRange: {start: 9, end: 8}]"), "bad-port", "{start: 9, end: 8}"),
        (ports("[namedPort: Not_one]"), "bad-port", "Not_one"),
        (to("[{networks: [10.0.0.0/8]}]", ", ports: [namedPort: http]"), "bad-port", "[10.0.0.0/8]"),
        (banp("", name="mine"), "bad-value", "mine"),
        (banp(", egress: [{action: Pass, to: [namespaces: {}]}]"), "unknown-action", "Pass"),
        (cnp("", tier=""), "missing-field", None),
        (cnp("", tier="tier: admin, "), "bad-value", "admin"),
        (cnp(", ingress: [{action: Allow, from: [namespaces: {}]}]"), "unknown-action", "Allow"),
        (protocols("[{}]"), "empty-peer", "{}"),
        (protocols("[tcp: {}]"), "missing-field", "{}"),
        (protocols("[tcp: {destinationPort: {}}]"), "empty-peer", "{}"),
        (protocols("[tcp: {destinationPort: {number: 70000}}]"), "bad-port", "70000"),
        (protocols("[tcp: {destinationPort: {range: {start: 5, end: 5}}}]"), "bad-port", "{start: 5, end: 5}"),
        (protocols("[icmp: {}]"), "unknown-field", "icmp"),
        (
            cnp(
                ", egress: [{action: Deny, to: [namespaces: {}],"
                " ports: [namedPort: a], protocols: [destinationNamedPort: b]}]"
            ),
            "peer-conflict",
            "[namedPort: a]",
        ),
    ],
)
def test_what_the_api_server_refuses_is_left_out(tmp_path: Path, text: str, code: str, under: str | None) -> None:
    reading = documents(tmp_path, text)
    found, severity, where = complaint(reading)
    assert (found, severity) == (f"policies/{code}", Severity.ERROR)
    assert under is None or where == under
    assert reading.policies.policies == ()


def test_what_an_action_is_called_elsewhere_is_said(tmp_path: Path) -> None:
    text = cnp(", ingress: [{action: Allow, from: [namespaces: {}]}]")
    assert only(documents(tmp_path, text)).hint.startswith("here it is called `Accept`")


def test_namespaces_of_pods_may_be_left_out_in_v1beta1(tmp_path: Path) -> None:
    text = cnp(", ingress: [{action: Deny, from: [pods: {podSelector: {}}]}]", version="v1beta1")
    assert policy(tmp_path, text).ingress[0].peers == (PODS,)
