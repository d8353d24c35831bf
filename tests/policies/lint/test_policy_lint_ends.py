"""Checks of whom a policy applies to, and of the other end of its rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lint_cases import Case, calico, check, everywhere, findings, kubernetes, together

from pilothouse.problems import Severity

OPEN = "ingress: [{}]"
HOST = """\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: n1, labels: {role: node}}
spec: {node: n1, interfaceName: '*', expectedIPs: [10.20.0.1]}
"""


def source(fields: str, name: str = "web") -> str:
    return calico(f"{{selector: app == 'web', ingress: [{{action: Allow, source: {fields}}}]}}", name)


def peers(text: str) -> str:
    return kubernetes(f"{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{from: {text}}}]}}")


CASES = (
    Case(
        "policy-selects-nothing",
        kubernetes(f"{{podSelector: {{matchLabels: {{app: wbe}}}}, {OPEN}}}"),
        "{matchLabels: {app: wbe}}",
        kubernetes(f"{{podSelector: {{matchLabels: {{app: web}}}}, {OPEN}}}"),
        says="did you mean `web`?",
    ),
    Case(
        "policy-selects-nothing",
        calico("{selector: app == 'nobody', types: [Ingress]}"),
        "app == 'nobody'",
        calico("{selector: app == 'asleep', types: [Ingress]}"),  # of a Deployment that has no pods now
    ),
    Case(
        "policy-selects-nothing",
        kubernetes("{podSelector: {matchLabels: {app: x}}}", namespace="empty"),
        "{matchLabels: {app: x}}",
        kubernetes("{podSelector: {}}", namespace="empty"),  # waits for the first pod
    ),
    Case(
        "policy-on-host-network",
        kubernetes("{podSelector: {matchLabels: {app: agent}}}", namespace="edge"),
        "{matchLabels: {app: agent}}",
        kubernetes("{podSelector: {matchLabels: {app: gateway}}}", namespace="edge"),
        says="pod edge/agent",
    ),
    Case(
        "policy-on-host-network",
        kubernetes("{podSelector: {}}", namespace="edge"),
        "{}",
        kubernetes("{podSelector: {}}"),
        Severity.INFO,
    ),
    Case(
        "policy-selects-hosts",
        together(HOST, everywhere("{selector: app != 'x', types: [Ingress]}")),
        "app != 'x'",
        together(HOST, everywhere("{selector: app != 'x', namespaceSelector: all(), types: [Ingress]}")),
    ),
    Case(
        "unknown-namespace",
        kubernetes("{podSelector: {}}", namespace="shpo"),
        "shpo",
        kubernetes("{podSelector: {}}", namespace="empty"),
        says="did you mean `shop`?",
    ),
    Case(
        "unknown-account",
        source("{serviceAccounts: {names: [gateway]}}"),
        "[gateway]",
        source("{serviceAccounts: {names: [gateway]}, namespaceSelector: team == 'edge'}"),
    ),
    Case(
        "peer-matches-nothing",
        peers("[{podSelector: {matchLabels: {app: dbs}}}]"),
        "{matchLabels: {app: dbs}}",
        peers("[{podSelector: {matchLabels: {app: db}}}]"),
        says="did you mean `db`?",
    ),
    Case(
        "peer-matches-nothing",
        source("{selector: partner == 'bank'}"),
        "partner == 'bank'",
        together(
            source("{selector: partner == 'bank'}"),
            "apiVersion: projectcalico.org/v3\nkind: NetworkSet\n"
            "metadata: {name: bank, namespace: shop, labels: {partner: bank}}\nspec: {nets: [203.0.113.0/24]}\n",
        ),
        says="no pod of `shop` has a label `partner`",
    ),
    Case(
        "peer-matches-nothing",
        calico("{selector: all(), ingress: [{action: Deny, source: {selector: quarantine == 'yes'}}]}"),
        "quarantine == 'yes'",
        calico("{selector: all(), ingress: [{action: Deny, source: {selector: app == 'web'}}]}"),
        Severity.INFO,
    ),
    Case(
        "no-such-namespace-label",
        peers("[{namespaceSelector: {matchLabels: {name: edge}}}]"),
        "{matchLabels: {name: edge}}",
        peers("[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: edge}}}]"),
        says="write `kubernetes.io/metadata.name: edge`",
    ),
    Case(
        "no-such-namespace-label",
        everywhere("{namespaceSelector: team == 'egde', types: [Ingress]}"),
        "team == 'egde'",
        everywhere("{namespaceSelector: team == 'edge', types: [Ingress]}"),
        says="did you mean `edge`?",
    ),
    Case(
        "peer-split-in-two",
        peers("[{namespaceSelector: {matchLabels: {team: edge}}}, {podSelector: {matchLabels: {app: gateway}}}]"),
        "{podSelector: {matchLabels: {app: gateway}}}",
        peers("[{namespaceSelector: {matchLabels: {team: edge}}}, {podSelector: {matchLabels: {app: db}}}]"),
    ),
    Case(
        "peer-on-host-network",
        peers("[{namespaceSelector: {}, podSelector: {matchLabels: {app: agent}}}]"),
        "{matchLabels: {app: agent}}",
        peers("[{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: Exists}]}}]"),
    ),
    Case(
        "unknown-service",
        calico("{selector: app == 'web', egress: [{action: Allow, destination: {services: {name: wbe}}}]}"),
        "wbe",
        calico("{selector: app == 'web', egress: [{action: Allow, destination: {services: {name: web}}}]}"),
        says="shop/wbe",
    ),
    Case(
        "service-without-endpoints",
        calico("{selector: app == 'web', egress: [{action: Allow, destination: {services: {name: idle}}}]}"),
        "{name: idle}",
        calico("{selector: app == 'web', egress: [{action: Allow, destination: {services: {name: web}}}]}"),
    ),
    Case(
        "not-selector-alone",
        everywhere("{selector: app == 'web', ingress: [{action: Allow, source: {notSelector: app == 'db'}}]}"),
        "app == 'db'",
        everywhere("{selector: app == 'web', ingress: [{action: Allow, source: {selector: '!has(tier)'}}]}"),
    ),
    Case(
        "other-end-denies",
        together(
            kubernetes(
                "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]}"
            ),
            kubernetes("{podSelector: {matchLabels: {app: db}}, policyTypes: [Egress]}", "closed"),
        ),
        "{from: [{podSelector: {matchLabels: {app: db}}}]}",
        together(
            kubernetes("{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {}}]}]}"),
            kubernetes("{podSelector: {matchLabels: {app: db}}, policyTypes: [Egress]}", "closed"),
        ),
        says="egress of its sources",
    ),
    Case(
        "impossible-match",
        calico("{selector: tier == 'front' && tier == 'back', types: [Ingress]}"),
        "tier == 'front' && tier == 'back'",
        calico("{selector: tier == 'front' && app == 'db', types: [Ingress]}"),
    ),
    Case(
        "impossible-match",
        source("{nets: [10.1.0.0/16], notNets: [10.0.0.0/8]}"),
        "[10.0.0.0/8]",
        source("{nets: [10.0.0.0/8], notNets: [10.1.0.0/16]}"),
    ),
    Case(
        "impossible-match",
        calico("{selector: app == 'web', ingress: [{action: Allow, protocol: TCP, notProtocol: TCP}]}"),
        "{action: Allow, protocol: TCP, notProtocol: TCP}",
        calico("{selector: app == 'web', ingress: [{action: Allow, protocol: TCP, notProtocol: UDP}]}"),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_found_and_its_near_miss_is_not(tmp_path: Path, case: Case) -> None:
    check(tmp_path, case)


def test_a_global_set_is_pointed_at_where_a_policy_of_a_namespace_names_its_labels(tmp_path: Path) -> None:
    item = (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\n"
        "metadata: {name: bank, labels: {partner: bank}}\nspec: {nets: [203.0.113.0/24]}\n"
    )
    found = findings(tmp_path, together(source("{selector: partner == 'bank'}"), item))
    hints = [problem.hint for problem in found if problem.code == "policies/peer-matches-nothing"]
    assert hints == ["GlobalNetworkSet bank has these labels: add `namespaceSelector: global()`"]


def test_a_split_peer_is_told_once(tmp_path: Path) -> None:
    text = peers("[{podSelector: {matchLabels: {app: gateway}}}, {namespaceSelector: {matchLabels: {team: edge}}}]")
    codes = [problem.code for problem in findings(tmp_path, text)]
    assert codes.count("policies/peer-split-in-two") == 1
    assert "policies/peer-matches-nothing" not in codes


def test_policies_alone_say_nothing_of_pods(tmp_path: Path) -> None:
    text = kubernetes("{podSelector: {matchLabels: {app: x}}, policyTypes: [Ingress], ingress: []}")
    assert findings(tmp_path, text, cluster="") == []


def test_a_policy_that_pilothouse_derived_waits_for_the_pods_of_its_service(tmp_path: Path) -> None:
    text = kubernetes("{podSelector: {matchLabels: {app: later}}, policyTypes: [Ingress]}").replace(
        "namespace: shop}", "namespace: shop, labels: {app.kubernetes.io/managed-by: pilothouse}}"
    )
    found = [problem for problem in findings(tmp_path, text) if problem.code == "policies/policy-selects-nothing"]
    assert [problem.severity for problem in found] == [Severity.INFO]
