"""What the worker finds at the log stores."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pilothouse.collectors.logging.figures import Health, IndexFigures, LogFigures, NodeFigures, Written
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Unavailable
from pilothouse.store import Store, findings
from pilothouse.store.jobs import JobState
from pilothouse.workflows import log_findings
from pilothouse.workflows.upkeep import Upkeep

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


class Server:
    """A store of that health, whose figures move with every reading."""

    def __init__(self, status: str = "green") -> None:
        self.status = status
        self.shards = 0

    def health(self) -> Health:
        self.shards += 1
        return Health(self.status, 1, 1, self.shards, 0)

    def nodes(self) -> tuple[NodeFigures, ...]:
        return ()

    def indices(self, prefix: str) -> tuple[IndexFigures, ...]:
        return ()

    def written(self, prefix: str, recent_seconds: int) -> tuple[Written, ...]:
        return ()


@pytest.fixture
def upkeep(root: Path, tmp_path: Path) -> Upkeep:
    platform = Path(shutil.copytree(root / "examples" / "bank", tmp_path / "platform"))
    store = Store(tmp_path / "data")
    store.migrate()
    return Upkeep(store, platform, tmp_path / "data", lambda: NOW, lambda *_: None)


def found(upkeep: Upkeep, cluster: str) -> list[tuple[str, str]]:
    return [(item.problem.code, item.problem.hint) for item in findings.current(upkeep.store, cluster)]


def test_a_dead_store_is_a_finding_and_ends_nobody_elses(upkeep: Upkeep) -> None:
    servers = {name: Server() for name in ("dev", "prod", "test", "uat")}
    servers["test"].status = "yellow"

    def connect(endpoint: Endpoint) -> LogFigures:
        for name, server in servers.items():
            if f".{name}." in endpoint.url:
                return server
        raise Unavailable("elasticsearch does not answer")

    state, said = log_findings.look(upkeep, connect, lambda: None)
    assert (state, said) == (JobState.PROBLEMS, "findings: test 1")
    first = findings.current(upkeep.store, "test")
    assert found(upkeep, "test")[0][0] == "logging/store-unhealthy"

    # Other figures, the same finding.
    log_findings.look(upkeep, connect, lambda: None)
    (again,) = findings.current(upkeep.store, "test")
    assert again.problem.message == first[0].problem.message
    assert again.problem.hint != first[0].problem.hint

    del servers["prod"]
    servers["test"].status = "green"
    state, said = log_findings.look(upkeep, connect, lambda: None)
    assert (state, said) == (JobState.PROBLEMS, "findings: prod 1")
    assert found(upkeep, "prod") == [("logging/store-unavailable", "elasticsearch does not answer")]
    assert found(upkeep, "test") == []

    servers["prod"] = Server()
    assert log_findings.look(upkeep, connect, lambda: None) == (JobState.OK, "every log store is well")
    assert found(upkeep, "prod") == []


def test_without_the_clients_library_nothing_is_claimed(upkeep: Upkeep) -> None:
    def away(_: Endpoint) -> LogFigures:
        raise Unavailable("nobody answers", "start it")

    log_findings.look(upkeep, away, lambda: None)
    assert found(upkeep, "prod") == [("logging/store-unavailable", "nobody answers; start it")]
    assert log_findings.look(upkeep, away, lambda: None, lambda: False) == (
        JobState.OK,
        "no log store is read: pip install 'pilothouse[live]'",
    )
    assert found(upkeep, "prod") == []
