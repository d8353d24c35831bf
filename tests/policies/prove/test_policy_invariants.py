"""Invariants are proved where they hold, and refuted with a witness where they do not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from support import builders as make

from pilothouse.inputs import Content, Inputs
from pilothouse.inventory.model import Manifest
from pilothouse.platform.model import (
    CidrPeer,
    DomainPeer,
    Edge,
    Enforcement,
    Exposure,
    InternetPeer,
    PortRef,
    Sensitivity,
    ServicePeer,
)
from pilothouse.policies import derive, edges, prove
from pilothouse.policies.content import read
from pilothouse.policies.prove import invariants
from pilothouse.policies.prove.proof import Prover
from pilothouse.policies.reading import from_data
from pilothouse.problems import Severity
from pilothouse.source import Source

HTTPS = (PortRef(number=443),)
PUBLIC = ip_network("203.0.113.0/24")


def inputs(*more: str, egress: tuple[Edge, ...] = (), others: tuple[Manifest, ...] = (), **fields: Any) -> Inputs:
    """web → api (sensitive, from its list), and `more` invariants in the baseline."""
    services = [
        make.service("a/web", egress=(Edge(ServicePeer("b", "api"), (PortRef(name="http"),)), *egress), **fields),
        make.service(
            "b/api",
            sensitivity=Sensitivity.HIGH,
            ingress=(Edge(ServicePeer("a", "web"), (PortRef(name="http"),)),),
        ),
        make.service("b/other"),
    ]
    pods = [make.pod(f"{key}.1", ips=(f"10.40.0.{n}",)) for n, key in enumerate(("a/web", "b/api", "b/other"), 1)]
    content = make.bundle_content()
    if more:
        text = content.files["policies/baseline.yaml"].text + "".join(f"    - {line}\n" for line in more)
        content = Content({**content.files, "policies/baseline.yaml": Source("policies/baseline.yaml", text)})
    cluster = make.cluster(enforcement=Enforcement.ENFORCED, domain_addresses={"api.x.example": (PUBLIC,)})
    found = make.inputs(services, pods=pods, on=cluster, content=content)
    return replace(found, snapshot=replace(found.snapshot, policies=others))


def check(given: Inputs) -> dict[str, invariants.Held]:
    baseline = read(given.content).baseline
    assert baseline is not None, read(given.content).problems
    policies = from_data(*derive(given).artifacts.under("policies/").manifests()).policies
    found = invariants.check(Prover(given, baseline, edges.of(given), policies))
    return {held.invariant.name: held for held in found}


def test_those_of_the_bundle_hold() -> None:
    found = check(inputs())
    assert set(found) == {
        "default-deny",
        "metadata-service",
        "internet-for-edge",
        "public-as-declared",
        "sensitive-from-list",
        "outside-as-declared",
    }
    assert all(held.is_proved and held.pairs > 0 for held in found.values())


@pytest.mark.parametrize(
    ("edge", "exposure", "broken"),
    [
        (Edge(InternetPeer(), HTTPS), Exposure.INTERNAL, ["internet-for-edge"]),
        (Edge(InternetPeer(), HTTPS), Exposure.EDGE, []),
        (Edge(DomainPeer("api.x.example"), HTTPS), Exposure.INTERNAL, []),
        (Edge(CidrPeer(PUBLIC), HTTPS), Exposure.INTERNAL, []),
        (Edge(CidrPeer(ip_network("169.254.0.0/16")), ()), Exposure.EDGE, ["metadata-service"]),
    ],
)
def test_declarations_that_break_one(edge: Edge, exposure: Exposure, broken: list[str]) -> None:
    found = check(inputs(egress=(edge,), exposure=exposure))
    assert [name for name, held in found.items() if not held.is_proved] == broken
    for name in broken:
        [problem] = found[name].problems
        assert (problem.code, problem.severity) == ("policies/invariant-broken", Severity.ERROR)
        assert problem.message.startswith(found[name].invariant.title)
        assert "a/web reaches" in problem.message
        assert "egress: a/pilothouse-web-egress egress[" in problem.message
        assert problem.teams == ("a",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "{name: no-http, never: {to: {governed: true}, ports: [{port: 8080}]}}",
            "no-http: a/web reaches b/api at 8080",
        ),
        ("{name: apart, never: {from: {team: a}, to: {namespaces: [b]}}}", "apart: a/web reaches b/api at 8080"),
        ("{name: alone, never: {from: {services: [a/web]}, to: {services: [b/api]}}}", "alone: a/web reaches b/api"),
        ("{name: wide, severity: warning, never: {to: {sensitivity: high}}}", "wide: a/web reaches b/api at 8080"),
        ("{name: all, isolated: {namespaces: [kube-system]}}", ""),
        (
            "{name: sel, never: {to: {podSelector: {matchLabels: {app: api}}}, ports: [{port: 8000, endPort: 9000}]}}",
            "sel: a/web reaches b/api at 8080",
        ),
        (
            "{name: ns, never: {from: {team: a}, to: {namespaceSelector: {matchLabels: "
            "{kubernetes.io/metadata.name: b}}}}}",
            "ns: a/web reaches b/api at 8080",
        ),
        (
            "{name: mine, only: {from: {services: [b/other]}, to: {services: [b/api]}, among: {governed: true}}}",
            "mine: a/web reaches b/api at 8080",
        ),
        ("{name: web, only: {from: {services: [a/web]}, to: {services: [b/api]}}}", ""),
        (
            "{name: far, never: {to: {podSelector: {matchLabels: {app: api}}}, ports: [{port: 9000, endPort: 9999}]}}",
            "",
        ),
        ("{name: other, never: {from: {team: a}, to: {services: [b/other]}}}", ""),
        ("{name: ssh, never: {to: {governed: true}, ports: [{port: 22}]}}", ""),
        ("{name: listed, never: {from: {team: a}, to: {namespaces: [b]}, unless: declared}}", ""),
    ],
)
def test_a_platform_s_own(line: str, message: str) -> None:
    given = inputs(line)
    held = list(check(given).values())[-1]
    assert [problem.message[: len(message)] for problem in held.problems] == ([message] if message else [])
    for problem in held.problems:
        assert (problem.severity is Severity.WARNING) is ("severity: warning" in line)
        assert problem.place.line > 50


def _allow_all(namespace: str) -> Manifest:
    data = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "by-hand", "namespace": namespace},
        "spec": {"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]},
    }
    return Manifest("NetworkPolicy", "networking.k8s.io/v1", namespace, "by-hand", data)


def test_what_only_policies_of_others_break_is_a_warning() -> None:
    found = check(inputs(others=(_allow_all("b"),)))
    broken = {name: held for name, held in found.items() if not held.is_proved}
    assert set(broken) == {"sensitive-from-list", "outside-as-declared"}
    for held in broken.values():
        assert {problem.severity for problem in held.problems} == {Severity.WARNING}
        assert all("together with policies of others" in problem.message for problem in held.problems)
        assert any("ingress: b/by-hand ingress[0]" in problem.message for problem in held.problems)


def test_a_pod_that_no_policy_isolates() -> None:
    given = inputs("{name: everywhere, isolated: {}}")
    given = replace(given, cluster=replace(given.cluster, namespace_enforcement={"a": Enforcement.OFF}))
    held = check(given)["everywhere"]
    messages = " ".join(problem.message for problem in held.problems)
    assert "no policy isolates the egress of a/web.1" in messages
    assert "no policy isolates the ingress of a/web.1" in messages
    assert "b/api.1" not in messages


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{name: both, isolated: {governed: true}, never: {}}", "says `isolated`, `never` or `only`"),
        ("{name: none}", "says `isolated`, `never` or `only`"),
        ("{name: default-deny, never: {}}", "two invariants have one name"),
        ("{name: x, never: {form: {}}}", "form"),
        ("{name: x, only: {to: {governed: true}}}", "from"),
        ("{name: x, never: {ports: [{port: 9, endPort: 8}]}}", "below `port`"),
        ("{name: x, never: {to: {cidrs: [10.0.0.1/8]}}}", "host bits"),
    ],
)
def test_mistakes_in_the_baseline_have_a_place(line: str, message: str) -> None:
    problems = read(inputs(line).content).problems
    assert any(message in problem.message for problem in problems), problems
    assert all(problem.place.line for problem in problems)


def test_a_name_that_nobody_has_is_a_finding() -> None:
    given = inputs(
        "{name: typo, never: {from: {team: b}, to: {services: [b/apis]}}}", "{name: team, isolated: {team: c}}"
    )
    found = [problem for problem in prove(given, derive(given)) if problem.code == "policies/invariant-names-nobody"]
    assert [problem.message for problem in found] == [
        "invariant typo names service b/apis, which no document declares",
        "invariant team names team c, which no document declares",
    ]
    assert "b/api" in found[0].hint
    assert {problem.severity for problem in found} == {Severity.WARNING}
