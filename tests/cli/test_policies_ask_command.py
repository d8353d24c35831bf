"""`pilothouse policies can` and `policies explain`, as typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pilothouse.cli.policies import group
from pilothouse.problems import Invalid

BANK = Path(__file__).parents[2] / "examples" / "bank"
PROD = ("--cluster", "prod", "--today", "2026-11-21")

MANIFESTS = """\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api}}
spec: {nodeName: n1, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {selector: {app: api}, clusterIP: 10.9.0.1, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  podSelector: {matchLabels: {app: api}}
  ingress:
    - from:
        - podSelector: {matchLabels: {app: web}}
      ports:
        - port: 80
"""


def run(*arguments: str | Path, given: str = "", code: int = 0) -> Result:
    found = CliRunner().invoke(group, [str(item) for item in arguments], input=given or None, catch_exceptions=False)
    assert found.exit_code == code, found.output
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    return tmp_path


# ---------------------------------------------------------------- can


def test_can_on_the_bank() -> None:
    text = run("can", BANK, "payments/payments", "ledger/ledger", "9090", *PROD).output
    assert text.startswith("allow  payments/payments → ledger/ledger at 9090/TCP\n")
    assert "ledger/pilothouse-ledger-ingress ingress[3] allows" in text
    assert "IPv4 and IPv6" in text
    assert "https://kubernetes.io/docs/" in text
    assert "\x1b[" not in text  # no colours where nobody looks
    for port in ("grpc", "9090/tcp"):
        run("can", BANK, "payments/payments", "ledger/ledger", port, *PROD)
    for port in ("9091", "53/UDP", "icmp", "proto:47"):
        assert run("can", BANK, "payments/payments", "ledger/ledger", port, *PROD, code=1).output.startswith("deny")


def test_can_without_a_port(folder: Path) -> None:
    text = run("can", BANK, "payments/payments", "ledger/ledger", *PROD).output
    assert "allowed: 9090\n" in text
    assert "ingress: by ledger/pilothouse-default-deny, ledger/pilothouse-ledger-ingress" in text
    assert "open: ICMP, ICMPv6" in run("can", folder, "shop/web", "shop/api", "--profile", "k8s-strict").output


def test_can_as_json() -> None:
    data = json.loads(
        run("can", BANK, "payments/payments", "ledger/ledger", "9091", *PROD, "-o", "json", code=1).output
    )
    assert (data["verdict"], data["asked"]) == ("deny", "9091/TCP")
    [pair] = data["pairs"]
    assert pair["ingress"]["by"].startswith("no rule of ledger/pilothouse-default-deny")


def test_can_on_manifests_of_others(folder: Path) -> None:
    assert run("can", folder, "shop/web", "shop/api", "80").output.startswith("allow")
    assert run("can", "-", "shop/web", "shop/api", "80", given=MANIFESTS).output.startswith("allow")
    text = run("can", folder, "shop/web", "svc:shop/front", "80", code=1).output
    assert "80/TCP becomes 8080/TCP" in text
    own = run("can", folder, "shop/api", "shop/api", "80").output
    assert "shop/api → itself" in own
    strict = run("can", folder, "shop/web", "shop/api", "icmp", "--profile", "k8s-strict", code=1).output
    assert strict.startswith("undefined  shop/web → shop/api at ICMP type 8 code 0 (k8s-strict)")


def test_the_path_may_be_left_out_with_a_snapshot(folder: Path) -> None:
    file = folder / "all.yaml"
    assert run("can", "shop/web", "shop/api", "80", "--snapshot", file).output.startswith("allow")
    assert "allowed: 80" in run("can", "shop/web", "shop/api", "--snapshot", file).output
    assert run("explain", "shop/web", "shop/api", "80", "--snapshot", file).output.startswith("allow")


@pytest.mark.parametrize(
    "words",
    [("can", "x"), ("can", "x", "y"), ("can", "a", "b", "c", "d", "e"), ("explain", "p", "a", "b"), ("explain", "a")],
)
def test_words_that_are_too_few_or_too_many(words: tuple[str, ...]) -> None:
    assert "name PATH, FROM and TO" in run(*words, code=2).output


@pytest.mark.parametrize(
    ("source", "destination", "port", "message"),
    [
        ("shop/wbe", "shop/api", "80", "is no service, workload, pod or Kubernetes Service"),
        ("shop/web", "shop/api", "0", "is no port"),
        ("shop/web", "nowhere", "80", "is no end"),
    ],
)
def test_what_means_nothing(folder: Path, source: str, destination: str, port: str, message: str) -> None:
    for command in ("can", "explain"):
        with pytest.raises(Invalid, match=message):
            run(command, folder, source, destination, port)


# ---------------------------------------------------------------- explain


def test_explain_names_lines_and_an_edit(folder: Path) -> None:
    text = run("explain", folder, "shop/web", "svc:shop/front", "80").output
    place = f"{folder.as_posix()}/all.yaml"
    assert "tier default (order 1,000,000)" in text
    assert "▸ no rule matched: its default action denies" in text
    assert f"NetworkPolicy shop/api ingress[0]  {place}:24:7" in text
    assert "port 80/TCP of Service shop/front is 8080 of its pods, and policies see the pod's" in text
    assert f"add port 8080/TCP to NetworkPolicy shop/api ingress[0]  {place}:27:9" in text
    assert "  +        - protocol: TCP\n  +          port: 8080\n" in text
    assert "It changes nothing else." in text


def test_explain_on_the_bank() -> None:
    text = run("explain", BANK, "channels/web-bff", "cards/cards", "9999", *PROD).output
    assert "wanted 9999/TCP, it is declared for http" in text
    assert "services/channels/web-bff.yaml:17:7" in text
    assert "+    - {to: {service: cards/cards}, ports: [http, 9999]}" in text
    assert "$ pilothouse egress propose channels/web-bff --remove 5 --add" in text
    allowed = run("explain", BANK, "payments/payments", "ledger/ledger", "9090", *PROD).output
    assert "declared: payments/payments, grpc: declared  services/ledger/ledger.yaml:14:7" in allowed
    assert "declared: ledger/ledger, grpc: declared  services/payments/payments.yaml:19:7" in allowed
    assert "-    - {to: {service: ledger/ledger}, ports: [grpc]}" in allowed
    assert "$ pilothouse egress propose payments/payments --remove 1 --reason" in allowed
    assert "It changes nothing else." in allowed


def test_explain_as_json(folder: Path) -> None:
    data: dict[str, Any] = json.loads(run("explain", folder, "shop/web", "shop/api", "8080", "-o", "json").output)
    assert (data["verdict"], data["wanted"]) == ("deny", "allow")
    assert data["stories"][0]["sides"][1]["near"][0]["place"].endswith("all.yaml:24:7")
    assert data["edits"][0]["changes"][0]["manifest"]["kind"] == "NetworkPolicy"


def test_explain_where_there_is_no_edit(folder: Path) -> None:
    own = run("explain", folder, "shop/api", "shop/api", "80").output
    assert "· a pod cannot shut itself out" in own
    assert "No edit: no policy decides it." in own
    assert "No edit: give the container port" in run("explain", folder, "shop/web", "shop/api", "metrics").output


def test_what_else_an_edit_changes_and_what_else_there_is(folder: Path) -> None:
    text = run("explain", folder, "shop/api", "shop/web", "80").output
    assert "The smallest edit after which the answer is deny:" in text
    assert "It also changes:" in text
    assert "Or: " in text
