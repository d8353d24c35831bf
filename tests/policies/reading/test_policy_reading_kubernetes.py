"""NetworkPolicy of Kubernetes, and Calico's staged form of it."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from support.policy_documents import complaint, documents, only, policy, underlined

from pilothouse.policies.rules import (
    ANYONE,
    EVERYTHING,
    Action,
    Direction,
    Family,
    Nets,
    Peer,
    PortMatch,
    Scope,
    Traffic,
)
from pilothouse.policies.selectors import ALL, parse
from pilothouse.problems import Severity

HEAD = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop, labels: {team: shop}}
"""
STAGED = """\
apiVersion: projectcalico.org/v3
kind: StagedKubernetesNetworkPolicy
metadata: {name: web, namespace: shop}
"""
INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS


def spec(text: str) -> str:
    return f"{HEAD}spec: {text}\n"


def ingress(peers: str) -> str:
    return spec(f"{{podSelector: {{}}, ingress: [{{from: {peers}}}]}}")


def ports(text: str) -> str:
    return spec(f"{{podSelector: {{}}, egress: [{{ports: {text}}}]}}")


def test_a_whole_policy(tmp_path: Path) -> None:
    found = policy(
        tmp_path,
        HEAD
        + """\
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - podSelector: {matchLabels: {app: gateway}}
          namespaceSelector: {matchExpressions: [{key: edge, operator: Exists}]}
        - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
      ports: [{port: 8080}, {port: http, protocol: TCP}, {port: 53, protocol: UDP, endPort: 54}]
  egress: [{}]
""",
    )
    assert (found.key, found.family, found.order, found.tier) == (
        "NetworkPolicy shop/web",
        Family.KUBERNETES,
        1000.0,
        "default",
    )
    assert (found.api_version, found.labels, str(found.place)) == (
        "networking.k8s.io/v1",
        (("team", "shop"),),
        f"{tmp_path}/policies.yaml:1:1",
    )
    assert found.directions == {INGRESS, EGRESS}
    assert found.subjects == (Peer(Scope.NAMESPACE, "shop", selector=parse("app == 'web'"), pods_only=True),)
    rule = found.ingress[0]
    assert rule.peers == (
        Peer(Scope.NAMESPACES, "", parse("has(edge)"), parse("app == 'gateway'"), pods_only=True),
        Peer(nets=(Nets((ip_network("10.0.0.0/8"),), (ip_network("10.1.0.0/16"),)),), ip_block=True),
    )
    assert rule.traffic == (
        Traffic((6,), destination_ports=(PortMatch(8080, 8080), PortMatch(name="http"))),
        Traffic((17,), destination_ports=(PortMatch(53, 54),)),
    )
    assert (rule.action, rule.index, rule.path) == (Action.ALLOW, 0, ("spec", "ingress", 0))
    assert (rule.place.line, rule.place.column) == (8, 7)
    assert (found.egress[0].peers, found.egress[0].traffic) == ((ANYONE,), (EVERYTHING,))
    assert not found.staged


@pytest.mark.parametrize(
    ("text", "directions"),
    [
        ("{}", {INGRESS}),
        ("{podSelector: {}}", {INGRESS}),
        ("{podSelector: {}, policyTypes: []}", {INGRESS}),
        ("{podSelector: {}, ingress: []}", {INGRESS}),
        ("{podSelector: {}, egress: []}", {INGRESS}),
        ("{podSelector: {}, egress: [{}]}", {INGRESS, EGRESS}),
        ("{podSelector: {}, ingress: [{}], egress: [{}]}", {INGRESS, EGRESS}),
        ("{podSelector: {}, policyTypes: [Egress]}", {EGRESS}),
        ("{podSelector: {}, policyTypes: [Ingress], egress: [{}]}", {INGRESS}),
        ("{podSelector: {}, policyTypes: [Ingress, Egress]}", {INGRESS, EGRESS}),
    ],
)
def test_directions_that_are_not_said(tmp_path: Path, text: str, directions: set[Direction]) -> None:
    """Checklist 2: https://kubernetes.io/docs/concepts/services-networking/network-policies/#networkpolicy-resource"""
    assert policy(tmp_path, spec(text)).directions == directions


@pytest.mark.parametrize("text", ["[{}]", "[{from: []}]", "[{from: null, ports: null}]", "[{ports: []}]"])
def test_an_empty_rule_is_for_everybody(tmp_path: Path, text: str) -> None:
    found = policy(tmp_path, spec(f"{{podSelector: {{}}, ingress: {text}}}")).ingress
    assert [(rule.peers, rule.traffic) for rule in found] == [((ANYONE,), (EVERYTHING,))]


def test_no_spec_at_all_denies_ingress(tmp_path: Path) -> None:
    found = policy(tmp_path, HEAD)
    assert (found.directions, found.ingress, found.subjects[0].selector) == ({INGRESS}, (), None)


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("[podSelector: {}]", Peer(Scope.NAMESPACE, "shop", pods_only=True)),
        ("[namespaceSelector: {}]", Peer(Scope.NAMESPACES, "", ALL, pods_only=True)),
        ("[{namespaceSelector: {}, podSelector: {}}]", Peer(Scope.NAMESPACES, "", ALL, pods_only=True)),
        (
            "[podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [x]}]}]",
            Peer(Scope.NAMESPACE, "shop", selector=parse("a not in {'x'}"), pods_only=True),
        ),
        ("[ipBlock: {cidr: 2001:db8::/32}]", Peer(nets=(Nets((ip_network("2001:db8::/32"),)),), ip_block=True)),
    ],
)
def test_peers(tmp_path: Path, text: str, peer: Peer) -> None:
    assert policy(tmp_path, ingress(text)).ingress[0].peers == (peer,)


@pytest.mark.parametrize(
    ("text", "traffic"),
    [
        ("[{}]", (Traffic((6,)),)),
        ("[{protocol: SCTP}]", (Traffic((132,)),)),
        ("[{port: 1}, {}]", (Traffic((6,)),)),
        ("[{port: 1}, {port: 1}]", (Traffic((6,), destination_ports=(PortMatch(1, 1),)),)),
        ("[{port: 65535, endPort: 65535}]", (Traffic((6,), destination_ports=(PortMatch(65535, 65535),)),)),
    ],
)
def test_ports(tmp_path: Path, text: str, traffic: tuple[Traffic, ...]) -> None:
    assert policy(tmp_path, ports(text)).egress[0].traffic == traffic


@pytest.mark.parametrize(
    ("text", "code", "under"),
    [
        (spec("[]"), "bad-value", "[]"),
        (spec("{podSelektor: {}}"), "unknown-field", "podSelektor"),
        (f"{HEAD}specs: {{}}", "unknown-field", "specs"),
        (spec("{podSelector: []}").replace("[]", "[a]"), "bad-value", "[a]"),
        (spec("{podSelector: {app: web}}"), "unknown-field", "app"),
        (spec("{podSelector: {matchLabels: {app: 7}}}"), "bad-value", "7"),
        (spec("{podSelector: {matchLabels: {app: a b}}}"), "bad-value", "a b"),
        (spec("{podSelector: {matchLabels: {-a: b}}}"), "bad-value", "b"),
        (spec("{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}"), "bad-value", "in"),
        (spec("{podSelector: {matchExpressions: [{key: a}]}}"), "missing-field", "{key: a}"),
        (spec("{podSelector: {matchExpressions: [{key: a, operator: In}]}}"), "bad-value", "{key: a, operator: In}"),
        (spec("{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}"), "bad-value", "[b]"),
        (spec("{policyTypes: [ingress]}"), "bad-value", "ingress"),
        (spec("{policyTypes: [Ingress, Egress, Egress]}"), "bad-value", "[Ingress, Egress, Egress]"),
        (spec("{policyTypes: Ingress}"), "bad-value", "Ingress"),
        (spec("{ingress: {}}"), "bad-value", "{}"),
        (spec("{ingress: [~]}"), "bad-value", "~"),
        (spec("{ingress: [{to: []}]}"), "unknown-field", "to"),
        (ingress("[{}]"), "empty-peer", "{}"),
        (ingress("[{podSelector: ~}]"), "empty-peer", "{podSelector: ~}"),
        (ingress("{podSelector: {}}"), "bad-value", "{podSelector: {}}"),
        (ingress("[{podSelectors: {}}]"), "unknown-field", "podSelectors"),
        (
            ingress("[{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]"),
            "peer-conflict",
            "{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}",
        ),
        (ingress("[{ipBlock: {}}]"), "missing-field", "{}"),
        (ingress("[{ipBlock: {cidr: 10.0.0.0}}]"), "bad-cidr", "10.0.0.0"),
        (ingress("[{ipBlock: {cidr: 10.0.0.0/33}}]"), "bad-cidr", "10.0.0.0/33"),
        (ingress("[{ipBlock: {cidr: 10.0.0.256/8}}]"), "bad-cidr", "10.0.0.256/8"),
        (ingress("[{ipBlock: {cidr: 7}}]"), "bad-cidr", "7"),
        (ingress("[{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]"), "except-outside", "11.0.0.0/9"),
        (ingress("[{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]"), "except-outside", "10.0.0.0/8"),
        (ingress("[{ipBlock: {cidr: 10.0.0.0/8, except: ['2001:db8::/32']}}]"), "except-outside", "'2001:db8::/32'"),
        (ports("[{port: 0}]"), "bad-port", "0"),
        (ports("[{port: 65536}]"), "bad-port", "65536"),
        (ports("[{port: true}]"), "bad-port", "true"),
        (ports("[{port: '80'}]"), "bad-port", "'80'"),
        (ports("[{port: a--b}]"), "bad-port", "a--b"),
        (ports("[{port: far-too-long-a-name}]"), "bad-port", "far-too-long-a-name"),
        (ports("[{port: 80, endPort: 79}]"), "bad-port", "79"),
        (ports("[{port: http, endPort: 90}]"), "bad-port", "90"),
        (ports("[{endPort: 90}]"), "bad-port", "90"),
        (ports("[{port: 1, protocol: ICMP}]"), "bad-protocol", "ICMP"),
        (ports("[{port: 1, protocol: tcp}]"), "bad-protocol", "tcp"),
        (ports("[{port: 1, protocol: 6}]"), "bad-protocol", "6"),
        (HEAD.replace("web", "Web") + "spec: {}", "bad-value", "Web"),
        (HEAD.replace("team: shop", "team: a b") + "spec: {}", "bad-value", "a b"),
    ],
)
def test_what_the_api_server_refuses_is_left_out(tmp_path: Path, text: str, code: str, under: str) -> None:
    reading = documents(tmp_path, text)
    assert complaint(reading) == (f"policies/{code}", Severity.ERROR, under)
    assert reading.policies.policies == ()
    assert only(reading).message.startswith(("NetworkPolicy shop/web: ", "NetworkPolicy shop/Web: "))
    assert only(reading).hint.endswith("until then it is left out")


def test_all_complaints_of_a_policy_are_found_at_once(tmp_path: Path) -> None:
    reading = documents(tmp_path, spec("{x: 1, ingress: [{from: [{}], ports: [{port: 0}]}], policyTypes: [no]}"))
    assert [item.code for item in reading.problems] == [
        "policies/unknown-field",
        "policies/empty-peer",
        "policies/bad-port",
        "policies/bad-value",
    ]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("192.168.242.213/24", "192.168.242.0/24"),
        ("10.0.0.010/32", "10.0.0.10/32"),
        ("2001:db8::1/32", "2001:db8::/32"),
    ],
)
def test_host_bits_are_cut_off_with_a_warning(tmp_path: Path, written: str, read: str) -> None:
    """Checklist 7: the API server takes such a range, and plugins cut it."""
    reading = documents(tmp_path, ingress(f"[{{ipBlock: {{cidr: '{written}'}}}}]"))
    assert complaint(reading) == ("policies/host-bits", Severity.WARNING, f"'{written}'")
    assert only(reading).hint == f"write {read}"
    assert reading.policies.policies[0].ingress[0].peers[0].nets == (Nets((ip_network(read),)),)


@pytest.mark.parametrize("written", ["2001:DB8::/32", "2001:db8:0:0::/32", "::/0", "10.0.0.0/8"])
def test_other_ways_to_write_a_range_are_no_matter(tmp_path: Path, written: str) -> None:
    found = policy(tmp_path, ingress(f"[{{ipBlock: {{cidr: '{written}'}}}}]"))
    assert found.ingress[0].peers[0].nets == (Nets((ip_network(written),)),)


def test_what_is_warned_of_twice_is_shown_twice(tmp_path: Path) -> None:
    reading = documents(tmp_path, ingress("[{ipBlock: {cidr: 10.0.0.1/8}}, {ipBlock: {cidr: 10.0.0.1/8}}]"))
    assert [underlined(item.place) for item in reading.problems] == ["10.0.0.1/8"] * 2
    assert len({item.place for item in reading.problems}) == 2


@pytest.mark.parametrize("action", ["", ", stagedAction: Set"])
def test_staged(tmp_path: Path, action: str) -> None:
    found = policy(tmp_path, f"{STAGED}spec: {{podSelector: {{}}, egress: [{{}}]{action}}}")
    assert (found.kind, found.family, found.staged, found.staged_action) == (
        "StagedKubernetesNetworkPolicy",
        Family.KUBERNETES,
        True,
        "Set",
    )
    assert (found.order, found.directions) == (1000.0, {INGRESS, EGRESS})


def test_staged_deletion(tmp_path: Path) -> None:
    found = policy(tmp_path, f"{STAGED}spec: {{stagedAction: Delete}}")
    assert (found.staged_action, found.directions) == ("Delete", frozenset())
    reading = documents(tmp_path, f"{STAGED}spec: {{stagedAction: Delete, ingress: [{{}}]}}")
    assert complaint(reading) == ("policies/staged-action", Severity.ERROR, "[{}]")


def test_staged_learning_is_named_and_left_out(tmp_path: Path) -> None:
    reading = documents(tmp_path, f"{STAGED}spec: {{stagedAction: Learn}}")
    assert complaint(reading) == ("policies/staged-action", Severity.WARNING, "Learn")
    assert reading.policies.policies == ()
