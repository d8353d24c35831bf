"""The worker's snapshot goes before the platform's own, for whoever derives."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.kube_stub import Stub, serving

from pilothouse.clients.kubernetes import Api, to_endpoint
from pilothouse.platform.model import Endpoint
from pilothouse.portal.state import snapshots_stamp
from pilothouse.problems import Unavailable
from pilothouse.store import Store, findings
from pilothouse.store.jobs import JobState
from pilothouse.workflows import applying, live
from pilothouse.workflows.apply_plan import Planned
from pilothouse.workflows.applying import Applied
from pilothouse.workflows.rendering import ClusterResult, inputs_for, open_platform
from pilothouse.workflows.upkeep import Upkeep

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
TODAY = date(2026, 11, 21)


def pod(name: str, **container: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "cards", "managedFields": [{"manager": "kubelet"}]},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", **container}]},
        "status": {"phase": "Running"},
    }


def read(stub: Stub, folder: Path) -> bool:
    api = Api(to_endpoint(Endpoint(stub.url)))
    try:
        return live.read_and_keep(api, "dev", folder, NOW)[2]
    finally:
        api.close()


def test_it_is_kept_and_changes_only_with_the_cluster(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    with serving() as stub:
        stub.objects["/api/v1/pods"] = [pod("one", env=[{"name": "PASSWORD", "value": "a-secret"}])]
        assert read(stub, folder) is True
        first = snapshots_stamp(folder)
        stub.objects["/api/v1/pods"][0]["metadata"]["resourceVersion"] = "7"
        assert read(stub, folder) is False
        assert snapshots_stamp(folder) == first
        stub.objects["/api/v1/pods"].append(pod("two"))
        assert read(stub, folder) is True
        assert snapshots_stamp(folder) != first
    text = (folder / "dev.json").read_text()
    assert "a-secret" not in text
    assert "kubelet" not in text
    kept = live.kept(folder, "dev")
    assert kept is not None
    assert kept.read_at == NOW
    assert live.kept(folder, "prod") is None
    assert live.kept(None, "dev") is None
    opened = open_platform(root / "examples" / "bank", kept=folder)
    assert {item.name for item in inputs_for(opened, "dev", TODAY)[0].snapshot.pods} == {"one", "two"}
    own = open_platform(root / "examples" / "bank")
    assert len(inputs_for(own, "dev", TODAY)[0].snapshot.pods) > 10


def test_a_cluster_that_nobody_reads_any_more_falls_back_to_the_platforms(root: Path, tmp_path: Path) -> None:
    platform = Path(shutil.copytree(root / "examples" / "bank", tmp_path / "bank"))
    document = platform / "clusters" / "dev.yaml"
    document.write_text(document.read_text().replace("tokenFile: /etc/pilothouse/dev/token, ", ""))
    folder = tmp_path / "snapshots"
    folder.mkdir()
    (folder / "dev.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": []}))
    assert len(inputs_for(open_platform(platform, kept=folder), "dev", TODAY)[0].snapshot.pods) > 10


def test_an_empty_reading_is_not_kept(tmp_path: Path) -> None:
    """Credentials that see nothing must not make every namespace look empty."""
    with serving() as stub, pytest.raises(Unavailable, match="shows no namespace, node or pod"):
        read(stub, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_token_here_the_worker_applies_nothing_and_says_so(root: Path, tmp_path: Path) -> None:
    platform = Path(shutil.copytree(root / "examples" / "bank", tmp_path / "bank"))
    store = Store(tmp_path / "data")
    store.migrate()
    upkeep = Upkeep(store, platform, tmp_path / "data", lambda: NOW, lambda *_: None)
    outcome = upkeep.apply()
    assert (outcome.state, outcome.message) == (JobState.OK, "dev: not applied: its token is not here")
    (finding,) = findings.current(store, "dev")
    assert finding.problem.code == "worker/no-token"
    assert "/etc/pilothouse/dev/token" in finding.problem.message
    assert upkeep.snapshot().message.startswith("no cluster names a token that lies here")


def test_nothing_is_applied_by_what_was_seen_long_ago(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pods that came since would be cut."""
    platform = Path(shutil.copytree(root / "examples" / "bank", tmp_path / "bank"))
    token = tmp_path / "token"
    token.write_text("a-token")
    store = Store(tmp_path / "data")
    store.migrate()
    applied: list[int] = []

    def apply_now(_: object, cluster: object, result: ClusterResult, *__: object, **___: object) -> Applied:
        applied.append(len(list(result.artifacts.manifests())))
        return Applied(Planned("dev"), result, done=True)

    monkeypatch.setattr(applying, "apply_now", apply_now)
    with serving() as stub:
        document = platform / "clusters" / "dev.yaml"
        text = document.read_text().replace("https://api.dev.bank.example:6443", stub.url)
        text = text.replace("/etc/pilothouse/dev/token", str(token)).replace(", caFile: /etc/pilothouse/dev/ca.crt", "")
        document.write_text(text)
        stub.objects["/api/v1/pods"] = [pod("one")]
        moments = [NOW]
        upkeep = Upkeep(store, platform, tmp_path / "data", lambda: moments[-1], lambda *_: None)
        for minutes, reads in ((0, 1), (5, 1), (16, 2)):
            moments.append(NOW + timedelta(minutes=minutes))
            assert upkeep.apply().state is JobState.OK
            assert sum(path == "/api/v1/pods" for path, _ in stub.asked) == reads
    assert len(applied) == 3
    moments.append(NOW + timedelta(minutes=60))
    failed = upkeep.apply()
    assert failed.state is JobState.PROBLEMS
    assert "does not answer" in failed.message
    assert len(applied) == 3
