"""The benchmarks run on a small platform. How long anything takes is not looked at here."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import structlog

SERVICES = 4


@pytest.fixture
def folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(root / "bench"))
    with importlib.import_module("render").generated(SERVICES) as made:
        yield made
    assert not made.exists()


def test_renders_are_measured(folder: Path) -> None:
    render = importlib.import_module("render")
    found = render.measure("generated", folder, SERVICES, 5 * SERVICES, ("prod",))
    assert (found.first.code, found.again.code) == (0, 0)
    assert found.files > 20
    assert found.first.processor_seconds > 0
    assert 10 < found.peak_megabytes < 1000
    assert json.loads(json.dumps(asdict(found)))["again"]["code"] == 0
    assert len(render.row(found)) == len(render.HEAD)


def test_pages_are_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structlog, "configure", lambda **_: None)  # it would outlast the test
    portal = importlib.import_module("portal")
    loaded, found = portal.measure(folder)
    assert loaded.check_seconds > 0
    assert {page.status for page in found} == {200}
    assert all(page.first > 0 and page.slowest >= page.median > 0 for page in found)
    assert {len(portal.row(page)) for page in found} == {len(portal.HEAD)}


def test_the_machine_and_the_versions_stand_with_the_figures(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "bench"))
    about = importlib.import_module("about")
    found = about.run()
    assert found["machine"]["cores"] >= 1
    assert {"python", "pilothouse", "Flask"} <= set(found["versions"])
    text = about.heading(found)
    assert found["machine"]["processor"] in text
    assert text.endswith("seed 1")
