"""Opening a platform and rendering it, apart from the command that asks for it."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import pytest
from support.builders import TODAY

from pilothouse import bundle
from pilothouse.problems import Invalid
from pilothouse.workflows import rendering

BASELINE = "policies/baseline.yaml"


@pytest.fixture
def bank(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root / "examples" / "bank", tmp_path / "bank"))


def undeclared(platform: Path, cluster: str = "prod") -> str:
    """What is said about pods that no service declares."""
    _, problems = rendering.inputs_for(rendering.open_platform(platform), cluster, TODAY)
    return "\n".join(problem.message for problem in problems if problem.code == "platform/undeclared-pods")


def test_pods_of_a_namespace_that_the_baseline_exempts_need_no_declaration(root: Path, bank: Path) -> None:
    assert "namespace `monitoring`" not in undeclared(bank)
    text = (root / BASELINE).read_text()
    changed = text.replace("    - monitoring\n", "", 1)
    assert changed != text
    (bank / BASELINE).write_text(changed)
    assert "namespace `monitoring`" in undeclared(bank)


def test_without_a_readable_baseline_the_usual_namespaces_are_exempt(bank: Path) -> None:
    (bank / BASELINE).write_text("kind: [\n")
    assert "namespace `monitoring`" not in undeclared(bank)


def test_the_search_for_cycles_goes_on_after_a_render(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    derive = bundle.derive

    def watched(inputs: bundle.Inputs) -> bundle.Derived:
        seen.append(gc.isenabled())
        return derive(inputs)

    monkeypatch.setattr(bundle, "derive", watched)
    opened = rendering.open_platform(bank)
    rendering.render(opened, ["dev"], tmp_path / "out", TODAY)
    assert seen == [False]
    assert gc.isenabled()
    with pytest.raises(Invalid):
        rendering.render(opened, ["nowhere"], tmp_path / "out", TODAY)
    assert gc.isenabled()
