"""amtool accepts the rendered configuration. That its routes are those we explain is `test_routes_agree.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.testbed import CLUSTERS, accepted, derived, run, written


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_configuration(cluster: str, amtool: Path, tmp_path: Path) -> None:
    folder = written(derived(cluster), "alertmanager", tmp_path)
    said = accepted(run(amtool, "check-config", folder / "alertmanager.yaml"))
    assert "SUCCESS" in said
    assert "1 templates" in said


def test_a_mistake_is_found(amtool: Path, tmp_path: Path) -> None:
    folder = written(derived("dev"), "alertmanager", tmp_path)
    file = folder / "alertmanager.yaml"
    file.write_text(file.read_text().replace("receiver:", "reciever:", 1))
    assert run(amtool, "check-config", file).returncode != 0
