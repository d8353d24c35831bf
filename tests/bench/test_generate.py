"""Generated platforms are valid at every size, and the same for the same seed."""

from __future__ import annotations

import importlib
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from pilothouse.files import platform as platform_files
from pilothouse.files import snapshot as snapshot_files
from pilothouse.platform import checks


@pytest.fixture
def generate(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "bench"))
    return importlib.import_module("generate")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("services", "namespaces", "pods"), [(1, 1, 0), (3, 9, 3), (60, 4, 150)])
def test_it_is_valid_at_every_size(
    generate: ModuleType, tmp_path: Path, services: int, namespaces: int, pods: int
) -> None:
    generate.platform(tmp_path, services, namespaces, pods)
    loaded = platform_files.load(tmp_path)
    assert loaded.problems == ()
    assert checks.check(loaded.platform) == ()
    assert len(loaded.platform.services) == services
    assert len({service.namespace for service in loaded.platform.services.values()}) == min(services, namespaces)
    path = snapshot_files.find(tmp_path, generate.CLUSTER)
    assert path is not None
    snapshot, problems = snapshot_files.read(path)
    assert problems == ()
    own = {service.namespace for service in loaded.platform.services.values()}
    assert sum(pod.namespace in own for pod in snapshot.pods) == pods
    cluster = loaded.platform.clusters[generate.CLUSTER]
    found = checks.check_against(loaded.platform, cluster, snapshot, date(2026, 11, 21))
    assert {problem.code for problem in found} <= ({"platform/no-pods"} if pods < services else set())


def test_the_same_seed_makes_the_same_bytes(generate: ModuleType, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate.platform(tmp_path / name, 12, 3, 24, seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_nothing_cannot_be_generated(generate: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one service"):
        generate.platform(tmp_path, 0, 1, 0)
