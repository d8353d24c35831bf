"""Each benchmark runs on something small. How long anything takes is not looked at here."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog


@pytest.fixture
def bench(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`bench("render")` is that module."""
    monkeypatch.syspath_prepend(str(root / "bench"))
    monkeypatch.setattr(structlog, "configure", lambda **_: None)  # it would outlast the test
    return importlib.import_module


@pytest.fixture
def frame(root: Path, bench: Any) -> ModuleType:
    """`python -m bench`, as a module."""
    spec = importlib.util.spec_from_file_location("bench_main", root / "bench" / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_that_answers_is_a_question(root: Path, frame: ModuleType) -> None:
    found = {path.stem for path in (root / "bench").glob("*.py") if "\ndef answer(" in path.read_text()}
    assert set(frame.QUESTIONS) == found
    said = (root / "bench" / "README.md").read_text()
    assert [name for name in found if f"`{name}.py`" not in said] == []


@pytest.mark.parametrize(
    "question",
    [
        "render",
        "snapshot",
        "netpol",
        "writer",
        "portal",
        "issuance",
        "unusual",
        pytest.param("vault", marks=pytest.mark.real),
    ],
)
def test_question(frame: ModuleType, question: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.json"
    assert frame.main([question, "--scale", "tiny", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["machine"]["processor"]
    assert found["seed"] == 1
    tables = found["answers"][question]["tables"]
    printed = capsys.readouterr().out
    for table in tables:
        assert table["title"] in printed
        assert table["rows"]
        for row in table["rows"]:
            assert row["name"] in printed
            figures = [value for key, value in row.items() if key != "name" and value is not None]
            assert figures
            assert all(value >= 0 for value in figures), row


def test_the_peak_is_that_of_the_program_alone(bench: Any) -> None:
    """Also where the process that starts it is larger."""
    ballast = bytes(300_000_000)
    small = bench("processes").python("-c", "print('small')", keep=True)
    assert small.out == "small\n"
    assert small.peak_megabytes < 100 < len(ballast) / 1e6


def test_a_program_that_fails_ends_the_benchmark(bench: Any) -> None:
    with pytest.raises(SystemExit, match="it went wrong"):
        bench("processes").python("-c", "raise SystemExit('it went wrong')")


def test_growth_is_from_row_to_row(bench: Any) -> None:
    rows = [{"pods": 10, "read": 2.0}, {"pods": 100, "read": 9.0}]
    table = bench("table")
    table.grown(rows, "pods", "read")
    assert (rows[1]["size_growth"], rows[1]["growth"]) == (10.0, 4.5)
    assert "growth" not in rows[0]


def test_a_figure_over_its_budget_is_told(bench: Any) -> None:
    table = bench("table")
    columns = (table.Column("median", "median", "ms"),)
    budgets = (table.Budget("home", "median", 300),)
    over = table.Table(
        "Pages", columns, [{"name": "home", "median": 301}, {"name": "audit", "median": 999}], [], budgets
    )
    assert over.over() == ["Pages: home: median 301 is above 300"]
    assert over.text().splitlines()[-1].split() == ["audit", "999", "ms"]


def test_the_stub_is_what_the_client_reads(bench: Any, root: Path) -> None:
    from pilothouse.clients.alertmanager import Alertmanagers
    from pilothouse.files import platform as platform_files
    from pilothouse.platform.model import Endpoint

    platform = platform_files.load(root / "examples" / "bank").platform
    with bench("alertmanager").stub() as stub:
        stub.fire(platform, 60)
        board = Alertmanagers([Endpoint(stub.url)]).board()
    assert len(board.alerts) == 60
    assert sum(bool(alert.silenced_by) for alert in board.alerts) == len(board.silences) == 3
    assert {alert.team for alert in board.alerts} == {service.team for service in platform.services.values()}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_an_interrupt_leaves_no_process(root: Path, tmp_path: Path) -> None:
    mark = f"BENCH_TEST={uuid.uuid4()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "issuance", "--out", str(tmp_path / "out.json")],
        cwd=root,
        env={**os.environ, **dict([mark.split("=")])},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while len(marked(mark)) < 4:  # itself, serve, portal, signer
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    assert marked(mark) == []
    assert not (tmp_path / "out.json").exists()


def marked(mark: str) -> list[int]:
    """The processes that have this in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found


def test_the_machine_and_the_versions_stand_with_the_figures(bench: Any) -> None:
    about = bench("about")
    found = about.run()
    assert found["machine"]["cores"] >= 1
    assert {"python", "pilothouse", "Flask", "cryptography"} <= set(found["versions"])
    text = about.heading(found)
    assert found["machine"]["processor"] in text
    assert text.endswith("seed 1")
