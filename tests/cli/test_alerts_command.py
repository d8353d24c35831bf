"""`pilothouse alerts`, as a user calls it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pilothouse.cli.main import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["alerts", *arguments])
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def bank(root: Path) -> str:
    return str(root / "examples" / "bank")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "alertmanager.yml"
    path.write_text(
        "route: {receiver: all, routes: [{matchers: ['team=\"a\"'], receiver: a, continue: true}]}\n"
        "receivers: [{name: all}, {name: a, slack_configs: [{channel: '#a'}]}]\n",
        encoding="utf-8",
    )
    return path


def test_route_on_a_platform(bank: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["team=payments", "severity=page", "service=payments"]
    assert run("route", bank, "--cluster", "prod", *labels, "--at", "sunday 03:00") == 0
    shown = capsys.readouterr().out
    assert "✓ root" in shown
    assert '✗ team="accounts"' in shown
    assert '✓ severity="page" → payments-page' in shown
    assert "Receiver 1: payments-page" in shown
    assert "  person  " in shown
    assert "amtool config routes test --config.file=alertmanager/alertmanager.yaml --tree" in shown
    command = ["route", bank, "-c", "prod", *labels, "--at", "2026-11-22T03:00", "--timezone", "Europe/Berlin"]
    assert run(*command, "--output", "json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["at"] == "2026-11-22T02:00:00+00:00"
    assert data["receivers"][0]["team"] == "payments"
    assert data["receivers"][0]["onCall"]


def test_route_on_any_configuration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("route", "--config", str(config), "team=a") == 0
    shown = capsys.readouterr().out
    assert "Receiver 1: a (slack #a)" in shown
    assert "no labels" not in shown
    assert run("route", "--config", str(config)) == 0
    assert "Receiver 1: all (no channel: only shown)" in capsys.readouterr().out


def test_a_broken_configuration_is_explained_and_fails(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text(encoding="utf-8").replace("receiver: a,", "receiver: b,"), encoding="utf-8")
    assert run("route", "--config", str(config), "team=a") == 1
    shown = capsys.readouterr().out
    assert "Receiver 1: b" in shown
    assert "alerts/unknown-receiver" in shown
    config.write_text("route: [", encoding="utf-8")
    assert run("route", "--config", str(config), "team=a") == 1
    assert "source/yaml-syntax" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["team=a"], "no routing to ask"),
        (["here", "team=a"], "--cluster is missing"),
        (["here", "there", "-c", "x"], "'there' is no label"),
        (["--config", "missing.yml"], "missing.yml"),
        (["--config", "CONFIG", "--at", "never"], "'never' is not a time"),
        (["--config", "CONFIG", "a=1", "a=2"], "given twice"),
        (["--config", "CONFIG", "a=~b"], "is not a label"),
    ],
)
def test_what_could_not_run(
    arguments: list[str], message: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("route", *(str(config) if word == "CONFIG" else word for word in arguments)) == 2
    assert message in capsys.readouterr().err


def test_list(bank: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", bank, "-c", "prod", "--team", "payments", "--output", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {item["team"] for item in found} == {"payments"}
    assert {"PodStuck", "ReplicasBelow"} <= {item["alert"] for item in found}
    assert all(item["receivers"] and item["runbook"] for item in found)
    assert run("list", bank, "-c", "prod") == 0
    assert "RefundQueueStuck" in capsys.readouterr().out
    assert run("list", bank, "-c", "prod", "--team", "paymints") == 2
    assert "did you mean `payments`?" in capsys.readouterr().err


def test_oncall(bank: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("oncall", bank, "payments", "--at", "2026-11-22T03:00") == 0
    shown = capsys.readouterr().out
    assert "payments" in shown
    assert shown.count("from ") == 4
    assert run("oncall", bank, "--output", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["team"] for item in found] == ["accounts", "channels", "payments", "platform", "risk"]
    assert all(item["user"] and item["until"] for item in found)


def test_inhibitions_and_a_person_are_printed(bank: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["alertname=FluentdRetrying", "team=platform", "severity=ticket", "cluster=prod", "node=n1", "service=x"]
    assert run("route", bank, "-c", "prod", *labels) == 0
    shown = capsys.readouterr().out
    assert "Inhibition node-away: held back while an alert that matches" in shown
    assert "declared alerts that could be the source: NodeNotReady" in shown


def test_a_platform_without_a_routing_tree(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bank = Path(shutil.copytree(root / "examples" / "bank", tmp_path / "bank"))
    (bank / "alerts" / "routing.yaml").write_text("portalUrl: nowhere\n", encoding="utf-8")
    assert run("route", str(bank), "-c", "prod", "team=payments") == 1
    shown = capsys.readouterr().out
    assert "alerts/bad-value" in shown or "alerts/missing-field" in shown
