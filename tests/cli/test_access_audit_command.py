"""`pilothouse access audit`, as it is called."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.access_world import write_platform
from support.audit_logs import DECIMAL, event, node, text, vault_line

from pilothouse.cli.main import main
from pilothouse.store import Store, events
from pilothouse.store.events import Event


@pytest.fixture
def data(tmp_path: Path) -> Path:
    Store(tmp_path / "data").migrate()
    write_platform(tmp_path / "platform")
    return tmp_path / "data"


class Done:
    def __init__(self, out: str, err: str) -> None:
        self.stdout, self.output = out, out + err


@pytest.fixture
def run(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    def call(*arguments: object, stdin: bytes = b"", code: int = 0, platform: bool = True, at: Path = data) -> Done:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        more = ["--platform", str(data.parent / "platform")] if platform else []
        with pytest.raises(SystemExit) as ended:
            main(["access", "audit", *map(str, arguments), "--data", str(at), *more])
        shown = capsys.readouterr()
        assert int(ended.value.code or 0) == code, shown.out + shown.err
        return Done(shown.out, shown.err)

    return call


def test_a_log_is_imported_shown_and_called_expected(run: Callable[..., Done], tmp_path: Path) -> None:
    log = tmp_path / "audit.log.gz"
    log.write_bytes(gzip.compress(text(node(0), event(1)) + b"broken\n"))
    done = run("import", log, "-c", "vaulted", code=1)
    assert "kubernetes of vaulted, 3 lines, 2026-11-21 08:00 to 2026-11-21 08:01 UTC: 1 of use, 1 new" in done.output
    assert "1 lines cannot be read" in done.output
    assert "line 3: it is no JSON" in done.output
    assert "access/unknown-certificate" in done.output
    again = json.loads(run("import", log, "-c", "vaulted", "-o", "json", code=1).stdout)
    assert (again["imported"][0]["added"], again["imported"][0]["broken"]) == (0, 1)

    shown = run("show", "a1-1", platform=False).output
    assert "it was not issued here" in shown
    assert "Event a1-1: 2026-11-21 08:01:00 list pods by alice from 10.1.2.3, 200" in shown

    (problem,) = again["problems"]["problems"]
    id = problem["hint"].rpartition("expected ")[2].split()[0]
    assert "is expected: a test of ours" in run("expected", id, "--reason", "a test of ours").output
    assert "Nothing in the logs is certainly wrong" in run("import", log, "-c", "vaulted").output


def test_standard_input_and_several_files(run: Callable[..., Done], tmp_path: Path) -> None:
    log = tmp_path / "vault.log"
    log.write_bytes(text(vault_line(0)))
    done = run("import", log, "-", "-c", "vaulted", stdin=text(node(0)), code=1)
    assert "vault, 1 lines" in done.output
    assert "standard input: kubernetes of vaulted, 1 lines" in done.output
    assert "access/signed-past-portal" in done.output
    assert "Vault 7f1e-0: 2026-11-21 08:00:00 update pki-vaulted/sign/developer.payments by alice" in (
        run("show", DECIMAL, platform=False).output
    )


def test_what_cannot_be_done_says_what_can(run: Callable[..., Done], tmp_path: Path) -> None:
    assert "no audit log at" in run("import", tmp_path / "away", "-c", "dev", code=2).output
    log = tmp_path / "audit.log"
    log.write_bytes(text(event(0)))
    assert "name it with --cluster" in run("import", log, code=2).output
    assert "no cluster `prd`" in run("import", log, "-c", "prd", code=2).output
    assert "nothing is known of 4711" in run("show", "4711", platform=False, code=2).output
    assert "there is no finding `a-1`" in run("expected", "a-1", "--reason", "it was meant", code=2).output
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is no data folder of pilothouse" in run("show", "1", platform=False, code=2, at=empty).output


def test_unusual_days(run: Callable[..., Done], data: Path) -> None:
    assert "Nothing unusual in 14 days" in run("unusual").output
    now = datetime.now(UTC)
    store = Store(data)
    for day in range(30, 0, -1):
        events.record(store, Event(now - timedelta(days=day), "login", "alice", address="203.0.113.7"))
    events.record(store, Event(now, "login", "alice", address="198.51.100.9"))
    store.close()
    shown = run("unusual", "--now").output
    assert "alice: 25 points, digest" in shown
    assert "new-network: 198.51.100.0/24" in shown
    found: list[dict[str, Any]] = json.loads(run("unusual", "-o", "json").stdout)
    assert [item["alert"]["who"] for item in found] == ["alice"]
    assert "Nothing unusual" in run("unusual", "--paged").output
    run("expected", found[0]["id"], "--reason", "she travels")
    assert "expected: she travels" in run("unusual").output
