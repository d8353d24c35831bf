"""Made flows are read as what they are, and are the same for the same seed."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from pilothouse.policies.flows import Format, Observed, read

ENDS = [(f"team-{number}", f"service-{number}", {"app": f"service-{number}"}, 8000 + number) for number in range(5)]


@pytest.fixture
def made(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "bench"))
    return importlib.import_module("flows_made")


@pytest.mark.parametrize("form", ["goldmane", "calico", "csv"])
def test_they_are_read_without_a_problem(made: ModuleType, form: str) -> None:
    lines = list(made.lines(3000, 5, ENDS, form))
    found = read(lines, None, form)
    assert found.form is Format(form)
    assert (found.records, found.problems) == (3000, ())
    assert {flow.action for flow in found.flows} == {Observed.ALLOW, Observed.DENY}
    assert {(flow.source.namespace, flow.port) for flow in found.flows} == {
        (end[0], other[3]) for end in ENDS for other in ENDS
    }
    assert lines == list(made.lines(3000, 5, ENDS, form))
    assert lines != list(made.lines(3000, 6, ENDS, form))
