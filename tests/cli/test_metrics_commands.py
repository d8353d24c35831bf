"""`pilothouse metrics` and `pilothouse dashboards` on the example bank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli.main import main

TODAY = ["--today", "2026-11-21"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *TODAY])
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def bank(root: Path) -> list[str]:
    return [str(root / "examples" / "bank"), "--cluster", "prod"]


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(*arguments, "--output", "json") == 0
    return json.loads(capsys.readouterr().out)


def test_every_rule_has_a_side_and_a_reason(bank: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    rules = as_json(capsys, "metrics", "rules", *bank)
    assert {rule["side"] for rule in rules} == {"leaf", "leaf + global", "global"}
    assert all(rule["reason"] and (rule["leaf"] or rule["global"]) for rule in rules)
    leaf = as_json(capsys, "metrics", "rules", *bank, "--side", "leaf")
    assert 0 < len(leaf) < len(rules)
    assert run("metrics", "rules", *bank, "--side", "global", "--expressions") == 0
    assert "  global  " in capsys.readouterr().out


def test_the_federation_names_who_needs_it(bank: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    matches = as_json(capsys, "metrics", "federation", *bank)
    assert all(match["selector"].startswith('{__name__="') and match["needed_by"] for match in matches)
    assert run("metrics", "federation", *bank) == 0
    assert "namespace_pod:kube_pod_ready:max" in capsys.readouterr().out


def test_the_pods_of_a_service_and_their_leaves(bank: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder, *cluster = bank
    found = as_json(capsys, "metrics", "targets", folder, "payments/payments", *cluster)
    assert found["job"] == "payments/payments"
    assert found["targets"]
    assert run("metrics", "targets", folder, "payments/payments", *cluster) == 0
    assert "series a scrape" in capsys.readouterr().out


def test_an_unknown_service_is_named_with_its_neighbour(bank: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder, *cluster = bank
    assert run("metrics", "targets", folder, "payments/paymets", *cluster) == 2
    assert "did you mean `payments/payments`?" in capsys.readouterr().err


def test_the_leaves_and_what_they_carry(bank: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    leaves = as_json(capsys, "metrics", "shards", *bank)
    assert sum(leaf["buckets"] for leaf in leaves) == 64
    assert all(leaf["memory_expected"] < leaf["memory_limit"] for leaf in leaves)
    assert run("metrics", "shards", *bank) == 0
    assert "GB" in capsys.readouterr().out


def test_the_dashboards_of_a_cluster(bank: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    boards = as_json(capsys, "dashboards", "list", *bank)
    assert {board["kind"] for board in boards} == {"service", "team", "cluster"}
    teams = as_json(capsys, "dashboards", "list", *bank, "--kind", "team")
    assert {board["kind"] for board in teams} == {"team"}
    assert run("dashboards", "list", *bank) == 0
    assert "dashboards/cluster-prod.json" in capsys.readouterr().out
