"""Which namespaces could be enforced."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from pilothouse.inputs import Inputs
from pilothouse.platform.model import Enforcement
from pilothouse.policies.flows.model import EndKind, Flow, FlowEnd, Observed
from pilothouse.policies.flows.promotion import Candidate, as_data, candidates, enforcing
from pilothouse.workflows.policy_sites import open_site

BANK = Path(__file__).parents[3] / "examples" / "bank"
DAY = 86_400.0


@pytest.fixture(scope="module")
def bank() -> Inputs:
    inputs = open_site(BANK, "prod", date(2026, 11, 21)).site.inputs
    assert inputs is not None
    cluster = replace(inputs.cluster, enforcement=Enforcement.STAGED, namespace_enforcement={})
    return replace(inputs, cluster=cluster)


def flow(inputs: Inputs, source: str, destination: str, port: int, first: float, last: float) -> Flow:
    def end(name: str) -> FlowEnd:
        pods = (pod for pod in inputs.snapshot.pods if pod.owner is not None and pod.is_endpoint)
        key = next(pod.key for pod in pods if pod.owner is not None and f"{pod.namespace}/{pod.owner.name}" == name)
        namespace, pod = key.split("/")
        return FlowEnd(EndKind.POD, namespace, pod)

    return Flow(end(source), end(destination), 6, port, first_seen=first, last_seen=last, action=Observed.ALLOW)


def of(found: tuple[Candidate, ...], namespace: str) -> Candidate:
    return next(item for item in found if item.namespace == namespace)


def test_days_are_those_within_the_windows(bank: Inputs) -> None:
    first = flow(bank, "payments/payments", "ledger/ledger", 9090, 0.0, DAY * 2 + 5)
    second = flow(bank, "payments/payments", "ledger/ledger", 9090, DAY * 5, DAY * 5 + 9)
    found = candidates(bank, [[first], [second]], days=4)
    assert of(found, "ledger").days == 4
    assert of(found, "ledger").ready
    assert of(found, "ledger").verdict == "ready"
    assert of(found, "cards").waiting == ("flows of 0 days, 4 are asked for",)
    assert of(candidates(bank, [[first, second]], days=7), "ledger").days == 6


def test_enough_must_have_been_seen(bank: Inputs) -> None:
    seen = replace(flow(bank, "payments/payments", "ledger/ledger", 9090, 0.0, 1.0), count=40)
    assert of(candidates(bank, [[seen], [seen]], days=1, least=80), "ledger").ready
    waits = of(candidates(bank, [[seen]], days=1, least=1000), "ledger")
    assert waits.waiting == ("40 connections seen, 1,000 are asked for",)


def test_a_flow_counts_against_the_side_that_denies(bank: Inputs) -> None:
    undeclared = flow(bank, "accounts/statements", "data/postgres", 5432, 0.0, 1.0)
    found = candidates(bank, [[undeclared]], days=0)
    for namespace, side in (("accounts", "egress"), ("data", "ingress")):
        (denied,) = of(found, namespace).denied
        assert (denied.source, denied.destination, denied.port) == ("accounts/statements", "data/postgres", "5432/TCP")
        assert denied.rule.startswith(f"{side}: no rule of {namespace}/")
        assert of(found, namespace).waiting == ("1 connection would be denied",)
    assert of(found, "ledger").ready
    already = candidates(bank, [[replace(undeclared, action=Observed.DENY)]], days=0)
    assert of(already, "data").ready


def test_pods_that_nobody_declares_are_waited_for(bank: Inputs) -> None:
    found = of(candidates(bank, [], days=0), "risk")
    assert found.undeclared == ("notebook-niaj",)
    assert found.verdict == "1 pod nobody declares"
    assert as_data([found])[0]["ready"] is False


def test_the_line_that_enforces(bank: Inputs) -> None:
    assert enforcing(bank.cluster, "risk") == "enforcement: {default: staged, namespaces: {risk: enforced}}"
    named = replace(
        bank.cluster,
        enforcement=Enforcement.ENFORCED,
        namespace_enforcement={"risk": Enforcement.STAGED, "data": Enforcement.OFF},
    )
    assert enforcing(named, "risk") == 'enforcement: {default: enforced, namespaces: {data: "off", risk: enforced}}'
    assert enforcing(named, "ledger") == ""
    line = enforcing(replace(bank.cluster, staged_for=5400), "risk")
    assert line == 'enforcement: {default: staged, namespaces: {risk: enforced}, stagedFor: "90m"}'
