"""`pilothouse apply` where there is no server to apply to: what it refuses before it asks one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.kube_stub import kubeconfig, serving, status

from pilothouse.cli.main import main


def apply(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["apply", *arguments, "--today", "2026-11-21"])
    return int(ended.value.code or 0)


def test_it_does_not_apply_without_being_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert apply("dev", str(root / "examples" / "bank")) == 2
    said = capsys.readouterr().err
    assert "no terminal to ask on" in said
    assert "--yes" in said


def test_an_unknown_cluster(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert apply("prd", str(root / "examples" / "bank"), "--yes") == 2
    assert "did you mean `prod`?" in capsys.readouterr().err


def test_a_platform_with_errors_is_not_applied(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    platform = Path(shutil.copytree(root / "examples" / "bank", tmp_path / "bank"))
    document = next(platform.rglob("cards.yaml"))
    document.write_text(document.read_text().replace("  team: payments\n", "  team: nobody\n"))
    assert apply("dev", str(platform), "--yes") == 1
    assert "platform/" in capsys.readouterr().out


def test_a_server_that_refuses_us(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bank = root / "examples" / "bank"
    with serving() as stub:
        stub.answers["/api/v1/serviceaccounts"] = status(401, "Unauthorized")
        file = kubeconfig(tmp_path, stub.url)
        snapshot = str(bank / "snapshots" / "dev.json")
        assert apply("dev", str(bank), "--dry-run", "--kubeconfig", file, "--snapshot", snapshot) == 2
    said = capsys.readouterr().err
    assert "answered 401" in said
    assert "they may have expired" in said
