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
from pilothouse.policies.ask import ask, parse
from pilothouse.policies.compare import effect
from pilothouse.policies.derive import derive
from pilothouse.policies.site import of_platform
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


def with_foreign(kind: str = "NetworkPolicy", api: str = "networking.k8s.io/v1", **labels: str) -> Inputs:
    """A policy of somebody else that lets everything into b."""
    spec = {"podSelector": {}, "ingress": [{}]}
    data = {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": "open", "namespace": "b", "labels": labels},
        "spec": spec,
    }
    given = inputs(Enforcement.STAGED)
    policies = (Manifest(kind, api, "b", "open", data),)
    return replace(given, snapshot=replace(given.snapshot, policies=policies))


def test_policies_of_others_count_and_are_a_finding() -> None:
    def decided(given: Inputs) -> str:
        [pair] = ask(of_platform(given), "b/api.1", "b/api.2", parse("9")).pairs
        return str(pair.said.ingress)

    assert decided(inputs(Enforcement.STAGED)) == "not isolated"
    assert decided(with_foreign()) == "b/open ingress[0]"
    for ignored in (
        with_foreign("StagedKubernetesNetworkPolicy", "projectcalico.org/v3"),
        with_foreign(**{"app.kubernetes.io/managed-by": "pilothouse", "pilothouse.dev/cluster": "dev"}),
    ):
        assert decided(ignored) == "not isolated"
    found = [problem for problem in derive(with_foreign()).problems if problem.code == "policies/foreign-policy"]
    assert ["NetworkPolicy open" in problem.message for problem in found] == [True]
    kept = effect.compare(with_foreign(), with_foreign())
    assert kept.changes == ()


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


def test_what_was_not_evaluated_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from pilothouse.policies.adoption import Mode
    from pilothouse.policies.compare.effect import Cut, Effect, Isolation

    cut = (Cut("a", Mode.STAGED, ("p",), True), Cut("a", Mode.STAGED, ("q",), False))
    cli._print_effect(Effect((), (Isolation("a", "egress", True, ("p",)),), cut, ("a/tier: why",)))
    text = capsys.readouterr().out
    assert "not evaluated: a/tier: why" in text
    assert "would newly be cut" in text
    assert "comes under policy" in text
