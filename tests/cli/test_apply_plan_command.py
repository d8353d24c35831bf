"""`pilothouse apply --dry-run`: what each step does to traffic, and what is staged first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import applied
from support.kube_fake import FakeServer

from pilothouse.cli.main import main
from pilothouse.policies.compare.rollout import Difference
from pilothouse.workflows import applying, live

V3 = "projectcalico.org/v3"
ADOPTION = "enforcement: {default: enforced, namespaces: {risk: staged}}"
Apply = Callable[..., int]


class Served(FakeServer):
    """With Calico's own API, and the connection that the command ends."""

    def served(self) -> frozenset[str]:
        return super().served() | {V3}

    def close(self) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Served:
    found = Served(applied.namespaces_of(applied.manifests("prod")))
    monkeypatch.setattr(live, "api_of", lambda *_: found)
    return found


@pytest.fixture
def bank(root: Path, tmp_path: Path) -> Path:
    """The bank, whose production stages what it has not enforced yet."""
    folder = tmp_path / "bank"
    for path in sorted((root / "examples" / "bank").rglob("*")):
        if path.is_file():
            copy = folder / path.relative_to(root / "examples" / "bank")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    document = folder / "clusters" / "prod.yaml"
    text = document.read_text(encoding="utf-8")
    assert ADOPTION in text
    document.write_text(text.replace(ADOPTION, ADOPTION[:-1] + ", stagedFor: 2d}"), encoding="utf-8")
    return folder


def apply(bank: Path, *arguments: str) -> int:
    snapshot = str(bank / "snapshots" / "prod")
    with pytest.raises(SystemExit) as ended:
        main(["apply", "prod", str(bank), "--snapshot", snapshot, "--today", "2026-11-21", *arguments])
    return int(ended.value.code or 0)


def data(bank: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert apply(bank, "--dry-run", "--output", "json", *arguments) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_plan_says_what_each_step_does(root: Path, server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert apply(root / "examples" / "bank", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "What it does to the traffic of " in said
    rows = {line.strip().partition("  ")[0]: line for line in said.splitlines()}
    assert rows["allow"].rstrip().endswith("nothing changes")
    assert "pods come under policy" in rows["end of shelter"]
    assert "enforced from now on: accounts, cards, " in said
    assert "nothing was applied" in said
    assert server.present == {}


def test_the_plan_as_data(root: Path, server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    found = data(root / "examples" / "bank", capsys)
    phases = {phase["phase"]: phase for phase in found["traffic"]["phases"]}
    assert phases["allow"]["summary"] == ""
    assert phases["end of shelter"]["summary"].endswith("pods come under policy")
    assert found["traffic"]["breaches"] == []
    assert found["staging"]["waiting"] == []
    assert (found["applied"], found["verified"]) == (False, False)


def test_what_is_not_enforced_yet_is_staged_first(
    bank: Path, server: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    found = data(bank, capsys)
    assert {item["reason"] for item in found["staging"]["waiting"]} == {"its policies are staged first"}
    assert "payments" in {item["namespace"] for item in found["staging"]["waiting"]}
    assert not any(" payments/" in item for item in found["added"] if item.startswith("NetworkPolicy "))
    assert all(phase["summary"] == "" for phase in found["traffic"]["phases"])
    assert found["traffic"]["onceEnforced"]["summary"].endswith("pods come under policy")
    assert {item["code"] for item in found["problems"]} == {"policies/staged-first"}


def test_it_is_said_what_is_staged_and_what_that_promises(
    bank: Path, server: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(bank, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "once everything staged is enforced:" in said
    assert "namespace payments is declared enforced and is staged on prod for now" in said


def test_who_says_so_does_not_wait(bank: Path, server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    one = data(bank, capsys, "--enforce", "payments")
    assert "payments" not in {item["namespace"] for item in one["staging"]["waiting"]}
    assert one["staging"]["waiting"]
    assert "payments" in one["staging"]["begins"]
    everyone = data(bank, capsys, "--enforce-all")
    assert everyone["staging"]["waiting"] == []
    assert {"payments", "cards"} <= set(everyone["staging"]["begins"])


def test_a_namespace_that_is_not_to_be_enforced_is_refused(
    bank: Path, server: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(bank, "--dry-run", "--enforce", "paymnts") == 2
    said = capsys.readouterr().err
    assert "namespace paymnts is not to be enforced on prod" in said
    assert "did you mean `payments`?" in said


def test_flows_that_would_be_denied_keep_a_namespace_staged(
    root: Path, server: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where nobody asked to wait."""
    flows = tmp_path / "flows.csv"
    flows.write_text(
        "source,destination,protocol,port\npayments/settlement-0,203.0.113.77,TCP,8444\nx\n", encoding="utf-8"
    )
    found = data(root / "examples" / "bank", capsys, "--flows", str(flows))
    (waiting,) = found["staging"]["waiting"]
    assert waiting["namespace"] == "payments"
    assert waiting["reason"].startswith("observed flows would be denied: 1 connection, such as ")
    assert "8444" in waiting["reason"]
    assert [item["code"] for item in found["problems"] if item["code"] != "policies/staged-first"]  # the second line


def test_what_is_not_as_planned_ends_with_2(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def otherwise(*_: object) -> None:
        raise applying.NotAsPlanned("prod", "what stands there is not what was planned: + a → b", Difference())

    monkeypatch.setattr(applying, "apply", otherwise)
    assert apply(root / "examples" / "bank", "--yes") == 2
    said = capsys.readouterr().out
    assert "apply/not-as-planned" in said
    assert "+ a → b" in said
