"""Checks of ports, of address ranges and of rules for everybody."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lint_cases import Case, calico, check, findings, kubernetes

from pilothouse.problems import Severity

DNS = (
    "{to: [{namespaceSelector: {}, podSelector: {matchLabels: {k8s-app: kube-dns}}}],"
    " ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]}"
)
INTERNET = "except: [10.0.0.0/8, 169.254.0.0/16]"


def ports(text: str, app: str = "web") -> str:
    return kubernetes(
        f"{{podSelector: {{matchLabels: {{app: {app}}}}}, ingress: [{{from: [{{podSelector: {{}}}}], ports: {text}}}]}}"
    )


def egress(to: str, port: str = "") -> str:
    more = f", ports: {port}" if port else ""
    return kubernetes(f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{DNS}, {{to: {to}{more}}}]}}")


def everybody(port: str) -> str:
    return kubernetes(f"{{podSelector: {{}}, ingress: [{{ports: {port}}}]}}")


CASES = (
    Case(
        "unknown-port-name",
        ports("[{port: htpp, protocol: TCP}]"),
        "htpp",
        ports("[{port: http, protocol: TCP}]"),
        says="did you mean `http`?",
    ),
    Case(
        "unknown-port-name",
        ports("[{port: stats}]"),
        "stats",
        ports("[{port: stats, protocol: UDP}]"),
        says="add `protocol: UDP`",
    ),
    Case(
        "unknown-port-name",
        calico(
            "{selector: app == 'web', egress: [{action: Allow, protocol: TCP,"
            " destination: {selector: app == 'db', ports: [http]}}]}"
        ),
        "http",
        calico(
            "{selector: app == 'web', egress: [{action: Allow, protocol: TCP,"
            " destination: {selector: app == 'db', ports: [sql]}}]}"
        ),
    ),
    Case(
        "port-not-open",
        ports("[{port: 8081, protocol: TCP}]"),
        "8081",
        ports("[{port: 8080, protocol: TCP}]"),
        says="they listen on 8080/TCP, 8125/UDP",
    ),
    Case(
        "port-not-open",
        ports("[{port: 8125}]"),
        "8125",
        ports("[{port: 8000, endPort: 9000}]"),
        says="add `protocol: UDP`",
    ),
    Case(
        "service-port",
        ports("[{port: 80, protocol: TCP}]"),
        "80",
        ports("[{port: 80, protocol: TCP}]", app="db"),  # another pod's Service
        says="shop/web; its pods listen on 8080",
    ),
    Case(
        "dns-over-tcp-only",
        kubernetes("{podSelector: {}, egress: [{to: [{namespaceSelector: {}}], ports: [{port: 53}]}]}"),
        "53",
        kubernetes(
            "{podSelector: {}, egress: [{to: [{namespaceSelector: {}}],"
            " ports: [{port: 53}, {port: 53, protocol: UDP}]}]}"
        ),
    ),
    Case(
        "protocol-left-out",
        ports("[{port: 8080, protocol: TCP}, {port: http}]"),
        "{port: http}",
        ports("[{port: 8080, protocol: TCP}]"),
        Severity.INFO,
    ),
    Case(
        "world-covers-pods",
        egress("[{ipBlock: {cidr: 0.0.0.0/0}}]"),
        "0.0.0.0/0",
        egress(f"[{{ipBlock: {{cidr: 0.0.0.0/0, {INTERNET}}}}}]"),
        says="`except` 10.40.0.0/24",
    ),
    Case(
        "world-covers-pods",
        calico("{selector: all(), ingress: [{action: Allow, source: {nets: ['0.0.0.0/0']}}]}"),
        "['0.0.0.0/0']",
        calico("{selector: all(), ingress: [{action: Deny, source: {nets: ['0.0.0.0/0']}}]}"),
        Severity.INFO,
    ),
    Case(
        "block-covers-pods",
        egress("[{ipBlock: {cidr: 10.40.0.0/28}}]"),
        "10.40.0.0/28",
        egress("[{ipBlock: {cidr: 10.20.0.0/16}}]"),
        says="depends on the network plugin",
    ),
    Case(
        "block-covers-services",
        egress("[{ipBlock: {cidr: 10.96.0.20/32}}]"),
        "10.96.0.20/32",
        egress("[{ipBlock: {cidr: 10.97.0.0/16}}]"),
        says="Service shop/web",
    ),
    Case(
        "metadata-reachable",
        egress("[{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]"),
        "0.0.0.0/0",
        egress(f"[{{ipBlock: {{cidr: 0.0.0.0/0, {INTERNET}}}}}]"),
    ),
    Case(
        "metadata-reachable",
        egress("[{ipBlock: {cidr: 169.254.169.254/32}}]"),
        "169.254.169.254/32",
        egress("[{ipBlock: {cidr: 169.254.169.254/32}}]", "[{port: 443, protocol: TCP}]"),
        Severity.INFO,
    ),
    Case(
        "dns-anywhere",
        egress("[]", "[{port: 53, protocol: UDP}]"),
        "53",
        egress("[{ipBlock: {cidr: 10.20.0.0/16}}]", "[{port: 53, protocol: UDP}]"),
    ),
    Case(
        "many-ports-open",
        everybody("[{port: 1024, endPort: 65535, protocol: TCP}]"),
        "1024",
        everybody("[{port: 8000, endPort: 8100, protocol: TCP}]"),
        says="1024-65535",
    ),
    Case(
        "many-ports-open",
        everybody("[{protocol: TCP}]"),
        "{ports: [{protocol: TCP}]}",
        ports("[{protocol: TCP}]"),
        says="every port",
    ),
    Case(
        "sensitive-port-open",
        everybody("[{port: 5432, protocol: TCP}]"),
        "5432",
        ports("[{port: 5432, protocol: TCP}]", app="db"),
        says="PostgreSQL",
    ),
    Case(
        "sensitive-port-open",
        calico("{selector: all(), ingress: [{action: Allow, protocol: TCP, destination: {ports: ['6378:6380']}}]}"),
        "'6378:6380'",
        calico("{selector: all(), ingress: [{action: Allow, protocol: UDP, destination: {ports: ['6378:6380']}}]}"),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_found_and_its_near_miss_is_not(tmp_path: Path, case: Case) -> None:
    check(tmp_path, case)


def test_a_services_port_is_not_also_told_as_not_open(tmp_path: Path) -> None:
    codes = [problem.code for problem in findings(tmp_path, ports("[{port: 80, protocol: TCP}]"))]
    assert "policies/service-port" in codes
    assert "policies/port-not-open" not in codes


def test_a_port_to_which_a_service_leads_is_open_whatever_the_container_lists(tmp_path: Path) -> None:
    service = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: admin, namespace: shop}\n"
        "spec: {selector: {app: web}, ports: [{port: 9000}]}\n---\n"
    )
    codes = [problem.code for problem in findings(tmp_path, service + ports("[{port: 9000, protocol: TCP}]"))]
    assert "policies/port-not-open" not in codes
