from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import builders as make

from pilothouse.cli import opening
from pilothouse.cli import policies as cli
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Manifest
from pilothouse.platform.model import Edge, Enforcement, PortRef, ServicePeer
from pilothouse.policies import derive, effect, question
from pilothouse.problems import Invalid

HTTP = (PortRef(name="http"),)


def inputs(enforcement: Enforcement = Enforcement.ENFORCED) -> Inputs:
    services = [
        make.service("a/web", egress=(Edge(ServicePeer("b", "api"), HTTP),)),
        make.service("b/api"),
        make.service("b/gone"),
    ]
    pods = [
        make.pod("a/web.1", ips=("10.40.0.1",)),
        make.pod("b/api.1", ips=("10.40.0.2",)),
        make.pod("b/api.2", ips=("10.40.0.3",), labels={"app": "api", "x": "y"}),
        make.pod("b/host.1", host_network=True, ips=("10.60.0.1",)),
    ]
    return make.inputs(services, pods=pods, on=make.cluster(enforcement=enforcement, calico_api="projectcalico.org/v3"))


def ask(source: str, destination: str, port: int = 8080, **more: Any) -> question.Answer:
    return question.ask(inputs(), source, destination, "TCP", port, **more)


def test_services_pods_and_addresses() -> None:
    found = ask("a/web", "b/api")
    assert found.verdict == "allow"
    assert [(pair.source, pair.destination) for pair in found.pairs] == [("a/web.1", "b/api.1"), ("a/web.1", "b/api.2")]
    assert found.pairs[0].egress == "a/pilothouse-web-egress egress[0]"
    assert ask("10.40.0.1", "b/api.1").verdict == "allow"  # a pod's address is that pod
    assert ask("a/web", "b/api", 8081).verdict == "deny"
    assert ask("b/api", "a/web").verdict == "deny"
    outside = ask("a/web", "8.8.8.8", 443)
    assert (outside.verdict, outside.pairs[0].destination) == ("deny", "8.8.8.8")
    assert ask("8.8.8.8", "10.60.0.9").verdict == "allow"


def test_staged_policies_count_in_a_preview() -> None:
    staged = inputs(Enforcement.STAGED)
    assert question.ask(staged, "b/api", "a/web", "TCP", 1).verdict == "allow"
    assert question.ask(staged, "b/api", "a/web", "TCP", 1, preview=True).verdict == "deny"


def with_foreign(kind: str = "NetworkPolicy", **labels: str) -> Inputs:
    """A policy of somebody else that lets everything into b."""
    spec = {"podSelector": {}, "ingress": [{}]}
    data = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "open", "namespace": "b", "labels": labels},
        "spec": spec,
    }
    given = inputs(Enforcement.STAGED)
    policies = (Manifest(kind, "networking.k8s.io/v1", "b", "open", data),)
    return replace(given, snapshot=replace(given.snapshot, policies=policies))


def test_policies_of_others_count_and_are_a_finding() -> None:
    asked = ("b/api.1", "b/api.2", "TCP", 9)
    assert question.ask(inputs(Enforcement.STAGED), *asked).pairs[0].ingress == "not isolated"
    assert question.ask(with_foreign(), *asked).pairs[0].ingress == "b/open ingress[0]"
    for ignored in (
        with_foreign("StagedNetworkPolicy"),
        with_foreign(**{"app.kubernetes.io/managed-by": "pilothouse"}),
    ):
        assert question.ask(ignored, *asked).pairs[0].ingress == "not isolated"
    found = [problem for problem in derive(with_foreign()).problems if problem.code == "policies/foreign-policy"]
    assert ["NetworkPolicy open" in problem.message for problem in found] == [True]
    kept = effect.compare(with_foreign(), with_foreign())
    assert kept.changes == ()


def test_pods_that_differ_give_a_mixed_answer() -> None:
    found = ask("b/api.1", "b/api")  # a pod reaches itself, and not its sibling
    assert found.verdict == "mixed"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("b/host.1", "host's network"),
        ("a/wbe", "is no service or pod"),
        ("b/gone", "is no service or pod"),
        ("what", "no IP"),
    ],
)
def test_an_end_that_means_nothing(name: str, message: str) -> None:
    with pytest.raises(Invalid, match=message) as raised:
        ask(name, "b/api")
    assert raised.value.hint


# ---------------------------------------------------------------- the commands


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def opened(platform: Path, *args: object) -> tuple[None, Inputs]:
        given = inputs()
        if platform.name == "less":
            services = [make.service("a/web"), make.service("b/api")]
            return None, Inputs(make.platform(services), given.cluster, given.snapshot, given.content, given.today)
        return None, given

    monkeypatch.setattr(cli, "open_inputs", opened)
    assert opening.open_inputs is not opened

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli.group, arguments, catch_exceptions=False, standalone_mode=True)

    return invoke


def data(result: Result) -> Any:
    return json.loads(result.output)


def texts(result: Result, wanted: Sequence[str]) -> None:
    assert result.exit_code == 0
    for text in wanted:
        assert text in result.output


def test_edges(run: Any) -> None:
    texts(run("edges", "full", "-c", "dev"), ["a/web", "b/api", "cluster DNS", "every pod may resolve names"])
    found = data(run("edges", "full", "b/api", "-c", "dev", "-o", "json"))
    assert {edge["service"] for edge in found["edges"]} == {"b/api"}
    accepted = next(edge for edge in found["edges"] if edge["origin"] == "accepted")
    assert (accepted["peer"], accepted["ports"], accepted["direction"]) == ("a/web", "http", "ingress")
    with pytest.raises(Invalid, match="a/wbe"):
        run("edges", "full", "a/wbe", "-c", "dev")


def test_effect(run: Any) -> None:
    texts(run("effect", "full", "less", "-c", "dev"), ["a/web", "b/api", "8080", "removes 1 connection"])
    texts(run("effect", "full", "full", "-c", "dev"), ["changes no connection"])
    found = data(run("effect", "less", "full", "-c", "dev", "-o", "json"))
    assert found["summary"] == "adds 1 connection"


def test_can(run: Any) -> None:
    texts(run("can", "full", "a/web", "b/api", "8080", "-c", "dev"), ["allow", "pilothouse-web-egress"])
    denied = run("can", "full", "a/web", "b/api", "53/udp", "-c", "dev", "-o", "json")
    assert denied.exit_code == 1
    assert data(denied)["verdict"] == "deny"
    for port in ("http", "0", "70000", "80/ICMP"):
        with pytest.raises(Invalid, match="is no port"):
            run("can", "full", "a/web", "b/api", port, "-c", "dev")


def test_what_was_not_evaluated_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from pilothouse.policies.adoption import Mode
    from pilothouse.policies.effect import Cut, Effect, Isolation

    cli._print_answer(question.Answer("deny", (), ("a/tier: tier x is not evaluated",)))
    cut = (Cut("a", Mode.STAGED, ("p",), True), Cut("a", Mode.STAGED, ("q",), False))
    cli._print_effect(Effect((), (Isolation("a", "egress", True, ("p",)),), cut, ("a/tier: why",)))
    text = capsys.readouterr().out
    assert "not evaluated: a/tier: tier x" in text
    assert "would newly be cut" in text
    assert "comes under policy" in text
