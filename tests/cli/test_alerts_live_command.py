"""`pilothouse alerts firing`, `silences`, `loaded`, `route --live` and `metrics status`, as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import local_bank
from support.alertmanager_fake import FakeAlertmanager

from pilothouse import alerts
from pilothouse.alerts.routing.render import CONFIG
from pilothouse.artifacts.write import serialise
from pilothouse.cli.main import main
from pilothouse.platform.model import Endpoint

PAGE = {"alertname": "RefundQueueStuck", "team": "payments", "severity": "page", "namespace": "payments",
        "service": "payments", "cluster": "local"}  # fmt: skip
TICKET = {**PAGE, "alertname": "Slow", "severity": "ticket"}


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeAlertmanager, str]]:
    """The bank on this machine, and an Alertmanager that has loaded what is rendered for it."""
    root = tmp_path_factory.mktemp("platform")
    local_bank.write(root)
    inputs = local_bank.inputs(root)
    _, rendered = alerts.rendered_routing(inputs.platform, inputs.cluster, inputs.content)
    fake = FakeAlertmanager(serialise(rendered.artifacts[CONFIG]).decode())
    local_bank.write(root, servers={"alertmanagers": [fake.endpoint, Endpoint("http://127.0.0.1:9")]})
    fake.fire(PAGE, TICKET, {**TICKET, "team": "risk", "service": "fraud"})
    yield fake, str(root)
    fake.close()


def on(root: str) -> tuple[str, ...]:
    return (root, "--cluster", "local")


def data(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_firing(world: tuple[FakeAlertmanager, str], capsys: pytest.CaptureFixture[str]) -> None:
    fake, root = world
    assert run("alerts", "firing", *on(root)) == 0
    shown = capsys.readouterr()
    assert "3 alerts firing" in shown.out
    assert "inhibited by RefundQueueStuck" in shown.out
    assert "payments-page" in shown.out
    assert "http://127.0.0.1:9 is not in this" in shown.err
    assert run("alerts", "firing", *on(root), "--team", "payments", "--told", "-o", "json") == 0
    found = data(capsys)
    (item,) = found["alerts"]
    assert (item["alert"], item["receivers"], item["state"]) == ("RefundQueueStuck", ["payments-page"], "told")
    assert item["onCall"] in ("alice", "bob", "carol")
    assert list(found["reasons"]) == ["http://127.0.0.1:9"]
    assert run("alerts", "firing", *on(root), "--severity", "info", "-o", "json") == 0
    assert data(capsys)["alerts"] == []
    assert fake.requests > 0


def test_a_team_or_cluster_that_is_not_declared(
    world: tuple[FakeAlertmanager, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, root = world
    assert run("alerts", "firing", *on(root), "--team", "paiments") == 2
    assert "payments" in capsys.readouterr().err
    assert run("alerts", "firing", root, "--cluster", "lokal") == 2
    assert "local" in capsys.readouterr().err


def test_route_says_what_really_holds_it_back(
    world: tuple[FakeAlertmanager, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, root = world
    labels = [f"{name}={value}" for name, value in TICKET.items()]
    assert run("alerts", "route", root, "--cluster", "local", *labels, "--live") == 0
    shown = capsys.readouterr().out
    assert "Right now it is held back:" in shown
    assert "inhibition page-over-ticket: RefundQueueStuck fires" in shown
    assert run("alerts", "route", root, "--cluster", "local", "team=risk", "--live", "-o", "json") == 0
    assert data(capsys)["heldNow"] == []
    assert run("alerts", "route", root, "--cluster", "local", "team=risk", "--live", "--at", "+2h") == 2
    assert "--live is about a cluster and about now" in capsys.readouterr().err


def test_silences_are_listed(world: tuple[FakeAlertmanager, str], capsys: pytest.CaptureFixture[str]) -> None:
    fake, root = world
    body = {
        "matchers": [{"name": "team", "value": "risk", "isRegex": False, "isEqual": True}],
        "startsAt": "2026-01-01T00:00:00+00:00",
        "endsAt": "2090-01-01T00:00:00+00:00",
        "createdBy": "rob",
        "comment": "model is retrained",
    }
    fake.answer("POST", "/api/v2/silences", body)
    assert run("alerts", "silences", *on(root)) == 0
    shown = capsys.readouterr().out
    assert "model is retrained" in shown
    assert "1 silence" in shown
    assert run("alerts", "silences", *on(root), "-o", "json") == 0
    (item,) = data(capsys)["silences"]
    assert (item["createdBy"], item["matchers"]) == ("rob", ['team="risk"'])
    assert run("alerts", "firing", *on(root), "--team", "risk") == 0
    assert "silenced by rob until" in capsys.readouterr().out
    fake.silences.clear()


def test_loaded(world: tuple[FakeAlertmanager, str], capsys: pytest.CaptureFixture[str]) -> None:
    fake, root = world
    assert run("alerts", "loaded", *on(root)) == 1
    shown = capsys.readouterr().out
    assert "has loaded what is rendered" in shown
    assert "nothing is known of it" in shown, "the other one does not answer"
    before = fake.config
    fake.config = before.replace("receiver: payments-page", "receiver: platform-page")
    try:
        assert run("alerts", "loaded", *on(root), "-o", "json") == 1
        found = data(capsys)["alertmanagers"][0]
        assert {item["part"] for item in found["differences"]} == {"alert", "route"}
        assert found["differences"][0]["teams"] == ["payments"]
    finally:
        fake.config = before


def test_no_server_is_declared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(local_bank.write(tmp_path))
    for words in (("alerts", "firing"), ("metrics", "status"), ("dashboards", "diff")):
        assert run(*words, *on(root)) == 2
        assert "declare" in capsys.readouterr().err


def test_a_dead_prometheus_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = local_bank.write(tmp_path, servers={"prometheus": Endpoint("http://127.0.0.1:9")})
    assert run("metrics", "status", *on(str(root))) == 1
    assert "does not answer" in capsys.readouterr().out
    assert run("metrics", "status", *on(str(root)), "-o", "json") == 1
    found = data(capsys)
    assert found["well"] is False
    assert "does not answer" in found["servers"][0]["reason"]


@pytest.mark.parametrize("word", ["team", "=x", "team payments"])
def test_what_is_no_matcher(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("alerts", "silence", word, "-c", "local", "-m", "why") == 2
    assert "is no matcher" in capsys.readouterr().err
