"""Checks of what policies leave of an endpoint's connections, and of objects beside one another."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lint_cases import CLUSTER, Case, calico, check, everywhere, findings, kubernetes, together

from pilothouse.problems import Severity

TO_DNS = (
    "{to: [{namespaceSelector: {}, podSelector: {matchLabels: {k8s-app: kube-dns}}}],"
    " ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]}"
)
TO_DB = "{to: [{podSelector: {matchLabels: {app: db}}}]}"
WEB = "podSelector: {matchLabels: {app: web}}"
DELETE = "stagedAction: Delete"


def host(node: str, more: str = "") -> str:
    return (
        "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: n1, labels: {role: node}}\n"
        f"spec: {{node: {node}, interfaceName: '*', expectedIPs: [10.20.0.1]{more}}}\n"
    )


def bank_set(nets: str, kind: str = "GlobalNetworkSet") -> str:
    return (
        f"apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: bank, labels: {{partner: bank}}}}\n"
        f"spec: {{nets: {nets}}}\n"
    )


def to_partner(where: str = ", namespaceSelector: global()") -> str:
    return calico(
        "{selector: app == 'web', egress: [{action: Allow, destination: {selector: partner == 'bank'" + where + "}}]}"
    )


CASES = (
    Case(
        "egress-without-dns",
        kubernetes(f"{{{WEB}, policyTypes: [Egress], egress: [{TO_DB}]}}"),
        f"[{TO_DB}]",
        kubernetes(f"{{{WEB}, policyTypes: [Egress], egress: [{TO_DB}, {TO_DNS}]}}"),
        says="such as kube-system/coredns",
    ),
    Case(
        "egress-without-dns",
        kubernetes(f"{{{WEB}, policyTypes: [Egress], egress: [{TO_DB}, {{to: [], ports: [{{port: 53}}]}}]}}"),
        f"[{TO_DB}, {{to: [], ports: [{{port: 53}}]}}]",
        together(  # another policy allows it
            kubernetes(f"{{{WEB}, policyTypes: [Egress], egress: [{TO_DB}]}}"),
            kubernetes(f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{TO_DNS}]}}", "dns"),
        ),
    ),
    Case(
        "egress-without-dns",
        kubernetes(f"{{{WEB}, policyTypes: [Egress], egress: [{TO_DB}]}}"),
        f"[{TO_DB}]",
        kubernetes(f"{{{WEB}, policyTypes: [Egress]}}"),  # reaches nobody, and needs no names
    ),
    Case(
        "dns-cut-off",
        kubernetes("{podSelector: {}, policyTypes: [Ingress]}", "deny", "kube-system"),
        "{}",
        kubernetes("{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}", "deny", "kube-system"),
    ),
    Case(
        "all-ingress-blocked",
        kubernetes(f"{{{WEB}}}"),
        "{matchLabels: {app: web}}",
        kubernetes(f"{{{WEB}, ingress: [{{from: [{{podSelector: {{}}}}]}}]}}"),
        Severity.INFO,
    ),
    Case(
        "all-egress-blocked",
        kubernetes(f"{{{WEB}, policyTypes: [Egress]}}"),
        "{matchLabels: {app: web}}",
        kubernetes(f"{{{WEB}, policyTypes: [Egress], egress: [{TO_DNS}]}}"),
        Severity.INFO,
    ),
    Case(
        "allow-all-ingress",
        kubernetes(f"{{{WEB}, ingress: [{{}}]}}"),
        "{}",
        kubernetes(f"{{{WEB}, ingress: [{{ports: [{{protocol: TCP}}]}}]}}"),
    ),
    Case(
        "allow-all-ingress",
        calico("{selector: app == 'web', ingress: [{action: Deny, source: {selector: app == 'db'}}, {action: Allow}]}"),
        "{action: Allow}",
        calico("{selector: app == 'web', ingress: [{action: Deny}, {action: Allow, protocol: TCP}]}"),
        Severity.INFO,
    ),
    Case(
        "allow-all-egress",
        kubernetes(f"{{{WEB}, policyTypes: [Egress], egress: [{{}}]}}"),
        "{}",
        kubernetes(f"{{{WEB}, policyTypes: [Egress], egress: [{TO_DNS}]}}"),
        Severity.INFO,
    ),
    Case(
        "pods-left-out",
        kubernetes(f"{{{WEB}, policyTypes: [Ingress]}}", "default-deny"),
        "{matchLabels: {app: web}}",
        kubernetes("{podSelector: {}, policyTypes: [Ingress]}", "default-deny"),
        says="pod shop/db",
    ),
    Case(
        "policies-without-effect",
        kubernetes(f"{{{WEB}, ingress: [{{}}]}}"),
        "web",
        kubernetes(f"{{{WEB}, ingress: [{{ports: [{{protocol: TCP}}]}}]}}"),
    ),
    Case(
        "duplicate-policy",
        together(
            kubernetes(f"{{{WEB}, egress: [{TO_DB}]}}", "one"), kubernetes(f"{{{WEB}, egress: [{TO_DB}]}}", "two")
        ),
        "two",
        together(
            kubernetes(f"{{{WEB}, egress: [{TO_DB}]}}", "one"), kubernetes(f"{{{WEB}, egress: [{TO_DNS}]}}", "two")
        ),
        says="says the same as NetworkPolicy shop/one",
    ),
    Case(
        "staged-already",
        together(calico("{selector: app == 'web'}"), calico("{selector: app == 'web'}", kind="StagedNetworkPolicy")),
        "web",
        together(calico("{selector: app == 'web'}"), calico("{selector: app == 'db'}", kind="StagedNetworkPolicy")),
        Severity.INFO,
    ),
    Case(
        "staged-delete-nothing",
        together(calico("{selector: all()}", "web"), calico(f"{{{DELETE}}}", "wbe", kind="StagedNetworkPolicy")),
        "wbe",
        together(calico("{selector: all()}", "web"), calico(f"{{{DELETE}}}", "web", kind="StagedNetworkPolicy")),
        says="did you mean `web`?",
    ),
    Case(
        "unused-set",
        together(bank_set("[203.0.113.0/24]"), to_partner("")),
        "bank",
        together(bank_set("[203.0.113.0/24]"), to_partner()),
        Severity.INFO,
        says="namespaceSelector: global()",
    ),
    Case(
        "empty-set",
        together(bank_set("[]"), to_partner()),
        "bank",
        together(bank_set("[203.0.113.0/24]"), to_partner()),
    ),
    Case(
        "closed-host-endpoint",
        host("n1"),
        "n1",
        host("n1", ", profiles: [projectcalico-default-allow]"),
    ),
    Case("unknown-node", host("n2"), "n2", host("n1"), says="there is no node `n2`"),
    Case(
        "rules-without-type",
        kubernetes(f"{{{WEB}, policyTypes: [Ingress], egress: [{TO_DB}]}}"),
        "[Ingress]",
        kubernetes(f"{{{WEB}, egress: [{TO_DB}]}}"),
        Severity.ERROR,
        says="add Egress to `policyTypes`",
    ),
    Case(
        "rules-without-type",
        calico("{selector: app == 'web', types: [Egress], ingress: [{action: Allow}], egress: [{action: Allow}]}"),
        "[Egress]",
        calico("{selector: app == 'web', ingress: [{action: Allow}], egress: [{action: Allow}]}"),
        Severity.ERROR,
    ),
    Case(
        "types-left-out",
        kubernetes("{podSelector: {}}"),
        "{podSelector: {}}",
        kubernetes("{podSelector: {}, policyTypes: [Ingress]}"),
        Severity.INFO,
        says="which means Ingress",
    ),
    Case(
        "namespace-left-out",
        kubernetes("{podSelector: {}}").replace(", namespace: shop", ""),
        "{name: web}",
        kubernetes("{podSelector: {}}"),
        Severity.INFO,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_found_and_its_near_miss_is_not(tmp_path: Path, case: Case) -> None:
    cluster = CLUSTER + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n"
    check(tmp_path, case, cluster)


def messages(folder: Path, code: str, text: str) -> list[tuple[Severity, str]]:
    return [(item.severity, item.message) for item in findings(folder, text) if item.code == f"policies/{code}"]


def test_pods_without_policy_are_counted_by_namespace(tmp_path: Path) -> None:
    assert messages(tmp_path, "pods-without-policy", kubernetes("{podSelector: {}}")) == [
        (Severity.INFO, "2 pods have no policy for ingress: edge (1), kube-system (1)"),
        (Severity.INFO, "4 pods have no policy for egress: shop (2), edge (1), kube-system (1)"),
    ]
    all_of_them = everywhere("{namespaceSelector: all(), types: [Ingress, Egress]}")
    assert messages(tmp_path, "pods-without-policy", all_of_them) == []


def test_pods_whose_policies_add_up_are_counted(tmp_path: Path) -> None:
    one = kubernetes("{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}", "one")
    two = kubernetes(f"{{{WEB}, ingress: [{{from: [{{namespaceSelector: {{}}}}]}}]}}", "two")
    deny = kubernetes("{podSelector: {}}", "deny")
    assert messages(tmp_path, "pods-in-several-policies", together(one, two)) == [
        (
            Severity.INFO,
            "1 pod is selected by several policies with ingress rules, which add up; most by 2: pod shop/web, by"
            " shop/one, shop/two",
        )
    ]
    assert messages(tmp_path, "pods-in-several-policies", together(deny, two)) == []


def test_a_node_local_cache_is_dns_too(tmp_path: Path) -> None:
    cache = "{to: [{ipBlock: {cidr: 169.254.20.10/32}}], ports: [{port: 53, protocol: UDP}]}"
    assert messages(tmp_path, "egress-without-dns", kubernetes(f"{{{WEB}, egress: [{TO_DB}, {cache}]}}")) == []


def test_a_staged_policy_is_read_and_decides_nothing(tmp_path: Path) -> None:
    deny = calico("{selector: all(), types: [Ingress, Egress]}", kind="StagedNetworkPolicy")
    assert messages(tmp_path, "all-ingress-blocked", deny) == []
    lost = calico("{selector: app == 'x'}", kind="StagedNetworkPolicy")
    assert len(messages(tmp_path, "policy-selects-nothing", lost)) == 1
