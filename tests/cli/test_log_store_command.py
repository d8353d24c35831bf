"""`pilothouse logs plan`, `apply` and `status`: on a real Elasticsearch, and without one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli.main import main

TODAY = ("--today", "2026-11-21")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: (exit code, stdout, stderr)."""

    def one(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        code = ended.value.code
        found = capsys.readouterr()
        return (code if isinstance(code, int) else 0), found.out, found.err

    return one


@pytest.fixture
def bank(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root / "examples" / "bank", tmp_path / "bank"))


def at(bank: Path, url: str, prefix: str = "pilothouse-logs") -> None:
    """Production's log store at that address, with a prefix of names."""
    document = bank / "clusters" / "prod.yaml"
    text = document.read_text()
    assert "https://logs.prod.bank.example:9200" in text
    document.write_text(text.replace("https://logs.prod.bank.example:9200", url))
    retention = bank / "collectors" / "elasticsearch" / "retention.yaml"
    retention.parent.mkdir(parents=True)
    ours = Path(__file__).parents[2] / "collectors" / "elasticsearch" / "retention.yaml"
    retention.write_text(ours.read_text().replace("prefix: pilothouse-logs", f"prefix: {prefix}"))


@pytest.mark.parametrize("verb", ["plan", "apply", "status"])
def test_a_dead_server_is_one_line_with_the_way_out(bank: Path, run: Run, verb: str) -> None:
    at(bank, "http://127.0.0.1:9")
    code, out, err = run("logs", verb, "prod", bank, *TODAY)
    assert (code, out) == (2, "")
    assert "elasticsearch at http://127.0.0.1:9 does not answer" in err
    assert "is it up" in err
    assert "Traceback" not in err


def test_a_cluster_without_a_log_store_is_told_what_to_declare(bank: Path, run: Run) -> None:
    document = bank / "clusters" / "prod.yaml"
    lines = document.read_text().splitlines(keepends=True)
    document.write_text("".join(line for line in lines if "elasticsearch: {url" not in line))
    code, _, err = run("logs", "plan", "prod", bank, *TODAY)
    assert code == 2
    assert "the cluster prod declares no log store" in err
    code, _, err = run("logs", "plan", "prd", bank, *TODAY)
    assert code == 2
    assert "did you mean `prod`?" in err


@pytest.mark.real
def test_plan_apply_status(bank: Path, run: Run, elasticsearch: Any) -> None:
    prefix = elasticsearch.prefix()
    at(bank, elasticsearch.url, prefix)
    code, out, _ = run("logs", "plan", "prod", bank, *TODAY)
    assert code == 0
    assert "prod: 8 to add" in out
    assert f"{prefix}-30d" in out
    assert "the server has no lifecycle management" in out
    code, out, _ = run("logs", "plan", "prod", bank, "-o", "json", *TODAY)
    data = json.loads(out)
    assert {item["action"] for item in data["changes"]} == {"add"}
    assert data["server"]["version"] == "8.19.16"
    assert any(item["name"] == f"{prefix}-30d-lifecycle" for item in data["leftOut"])

    assert run("logs", "apply", "prod", bank, *TODAY)[1].endswith("prod: applied, 8 to add\n")
    assert run("logs", "apply", "prod", bank, *TODAY)[1].endswith("prod: up to date\n")
    code, out, _ = run("logs", "apply", "prod", bank, "-o", "json", *TODAY)
    assert (code, json.loads(out)["changes"], json.loads(out)["applied"]) == (0, [], True)

    moment = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
    record = {"@timestamp": moment, "service": "payments/payments", "team": "payments", "bytes": 3000, "message": "x"}
    elasticsearch.send("POST", f"/{prefix}-90d/_create/1?refresh=true", record)
    code, out, _ = run("logs", "status", "prod", bank, "--seconds", "0.2", *TODAY)
    assert code == 0
    assert "payments/payments" in out
    assert "2.9 KiB" in out
    assert "90 days" in out
    assert "logging/no-lifecycle" in out
    code, out, _ = run("logs", "status", "prod", bank, "--seconds", "0", "-o", "json", *TODAY)
    found = json.loads(out)["status"]
    assert found["targets"][0]["documents"] == 1
    assert found["pressure"]["rejections"] is None
    assert found["writers"][0] | {"service": "payments/payments", "documents": 1, "bytes": 3000} == found["writers"][0]


@pytest.mark.real
def test_a_plan_that_is_forbidden_changes_nothing(bank: Path, run: Run, elasticsearch: Any) -> None:
    prefix = elasticsearch.prefix()
    at(bank, elasticsearch.url, prefix)
    elasticsearch.send("PUT", f"/_component_template/{prefix}-settings", {"template": {}})
    for verb in ("plan", "apply"):
        code, out, _ = run("logs", verb, "prod", bank, *TODAY)
        assert code == 1
        assert "logging/foreign-document" in out
        code, out, _ = run("logs", verb, "prod", bank, "-o", "json", *TODAY)
        assert (code, json.loads(out)["problems"][0]["code"]) == (1, "logging/foreign-document")
    held = elasticsearch.send("GET", f"/_component_template/{prefix}*")["component_templates"]
    assert [item["name"] for item in held] == [f"{prefix}-settings"]
