"""`pilothouse logs` on the example bank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilothouse.cli.main import main

TODAY = ("--today", "2026-11-21")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def bank(root: Path) -> Path:
    return root / "examples" / "bank"


def test_sizing(bank: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("logs", "sizing", bank, "-c", "prod", "-o", "json", *TODAY) == 0
    data = json.loads(capsys.readouterr().out)
    names = [figure["name"] for figure in data["figures"]]
    assert {"agents", "setpoint in flight", "chunk_limit_size", "flush_thread_count"} <= set(names)
    assert run("logs", "sizing", bank, "-c", "prod", *TODAY) == 0
    assert "N = nodes of the snapshot" in capsys.readouterr().out


def test_pipeline(bank: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("logs", "pipeline", bank, "payments/payments", "-c", "prod", "-o", "json", *TODAY) == 0
    data = json.loads(capsys.readouterr().out)
    assert [step["name"] for step in data["steps"]][:3] == ["read", "identify", "route"]
    assert run("logs", "pipeline", bank, "payments/payments", "-c", "prod", *TODAY) == 0
    assert "pilothouse-logs-" in capsys.readouterr().out


def test_an_unknown_service_is_named(bank: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("logs", "pipeline", bank, "payments/paymentz", "-c", "prod", *TODAY) == 2
    assert "did you mean `payments/payments`?" in capsys.readouterr().err


def test_wrong_content_ends_with_its_problems(bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    copy = Path(shutil.copytree(bank, tmp_path / "bank"))
    broken = copy / "collectors" / "fluentd" / "sizing.yaml"
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_text("chunks: {smallest: 1MiB}\n")
    assert run("logs", "sizing", copy, "-c", "prod", *TODAY) == 1
    assert "logging/unknown-field" in capsys.readouterr().out
    assert run("logs", "pipeline", copy, "payments/payments", "-c", "prod", *TODAY) == 1
    assert "logging/unknown-field" in capsys.readouterr().out


def test_lint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fluent.conf"
    file.write_text("<match **>\n  @type elasticsearch\n  write_operation create\n  request_timeout 500ms\n</match>\n")
    assert run("logs", "lint", file) == 1
    shown = capsys.readouterr().out
    assert "logging/create-without-id" in shown
    assert "30,000 seconds" in shown
    assert run("logs", "lint", file, "-o", "json") == 1
    assert json.loads(capsys.readouterr().out)
    file.write_text("<source>\n  @type tail\n</source>\n")
    assert run("logs", "lint", file) == 0
    assert "nothing that loses records" in capsys.readouterr().out


def test_what_cannot_be_linted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("logs", "lint", tmp_path / "missing.conf") == 2
    assert "No such file" in capsys.readouterr().err
    binary = tmp_path / "binary.conf"
    binary.write_bytes(b"\xff\xfe\x00")
    assert run("logs", "lint", binary) == 2
    assert "no text in UTF-8" in capsys.readouterr().err
    large = tmp_path / "large.conf"
    large.write_bytes(b"#" * 5_000_001)
    assert run("logs", "lint", large) == 2
    assert "5,000,001 bytes" in capsys.readouterr().err
