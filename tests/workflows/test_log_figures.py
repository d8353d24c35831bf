"""The figures that pages show: never waited for, kept for some seconds, the last good ones with the reason."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from support.builders import cluster, inputs, service

from pilothouse.collectors.logging.figures import Health, IndexFigures, NodeFigures, Written
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Endpoint, Servers
from pilothouse.problems import Unavailable
from pilothouse.workflows.log_figures import LogFiguresWatch, Seen

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


def given(url: str = "https://logs.example:9200") -> Inputs:
    on = cluster(servers=Servers(elasticsearch=Endpoint(url) if url else None))
    return inputs([service("pay/api")], on=on)


@dataclass
class Store:
    """A store whose every reading waits for `go` and fails with `failure` where that is set."""

    failure: Unavailable | None = None
    documents: int = 0
    readings: int = 0
    go: threading.Event = field(default_factory=threading.Event)

    def health(self) -> Health:
        self.readings += 1
        assert self.go.wait(10)
        if self.failure is not None:
            raise self.failure
        self.documents += 10
        return Health("green", 1, 1, 0, 0)

    def nodes(self) -> tuple[NodeFigures, ...]:
        return ()

    def indices(self, prefix: str) -> tuple[IndexFigures, ...]:
        return (IndexFigures(f"{prefix}-30d-000001", f"{prefix}-30d", self.documents, 1, self.documents, 0),)

    def written(self, prefix: str, recent_seconds: int) -> tuple[Written, ...]:
        return (Written("pay/api", 3, 300, 1, 2.0),)


class Clock:
    """Both clocks of the watch; seconds go by when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def elapsed(self) -> float:
        return self.seconds


def watch_of(store: Store, clock: Clock, patience: float = 5.0) -> LogFiguresWatch:
    return LogFiguresWatch(clock.now, lambda _: store, every=10.0, patience=patience, elapsed=clock.elapsed)


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_reading_is_kept_for_some_seconds_and_then_read_again_behind_the_page() -> None:
    store, clock = Store(), Clock()
    store.go.set()
    watch = watch_of(store, clock)
    first = watch.look(given())
    assert first.reason == ""
    assert first.status is not None
    assert first.status.targets[0].documents == 10
    assert first.status.targets[0].rate is None
    wrote = first.status.writer("pay/api")
    assert wrote is not None
    assert (wrote.rate, wrote.documents) == (2.0, 3)
    assert first.status.writer("no/body") is None

    clock.seconds = 9.9
    assert watch.look(given()) is first
    assert first.age(clock.now()) == timedelta(seconds=9.9)
    assert store.readings == 1

    clock.seconds = 20.0
    store.go.clear()
    assert watch.look(given()) is first
    store.go.set()
    until(lambda: watch.look(given()) is not first)
    later = watch.look(given())
    assert store.readings == 2
    assert later.status is not None
    # Ten more records in twenty seconds.
    assert later.status.targets[0].rate == 0.5


def test_a_store_that_hangs_costs_the_first_page_a_moment_and_the_next_ones_nothing() -> None:
    store, clock = Store(), Clock()
    watch = watch_of(store, clock, patience=0.01)
    for _ in range(5):
        clock.seconds += 60
        assert watch.look(given()) == Seen(reason="its figures are being read for the first time")
    assert store.readings == 1, "a reading that is under way is not begun again"
    store.go.set()
    until(lambda: watch.look(given()).status is not None)


def test_a_store_that_died_shows_its_last_figures_and_the_reason() -> None:
    store, clock = Store(), Clock()
    store.go.set()
    watch = watch_of(store, clock)
    first = watch.look(given())
    store.failure = Unavailable("elasticsearch does not answer")
    clock.seconds = 30.0
    watch.look(given())
    until(lambda: watch.look(given()).reason != "")
    seen = watch.look(given())
    assert seen.status is first.status
    assert seen.reason == "elasticsearch does not answer"
    assert seen.age(clock.now()) == timedelta(seconds=30)
    store.failure = None
    clock.seconds = 60.0
    watch.look(given())
    until(lambda: watch.look(given()).reason == "")


def test_a_store_that_never_answered_has_a_reason_alone() -> None:
    store = Store(failure=Unavailable("elasticsearch does not answer"))
    store.go.set()
    assert watch_of(store, Clock()).look(given()) == Seen(reason="elasticsearch does not answer")


def test_a_cluster_without_a_store_and_one_that_cannot_be_connected_to() -> None:
    def connect(endpoint: Endpoint) -> Store:
        raise Unavailable(f"cannot use the CA file for {endpoint.url}")

    watch = LogFiguresWatch(Clock().now, connect)
    assert watch.look(given("")).reason == "dev declares no log store"
    assert watch.look(given("https://logs.example")).reason == "cannot use the CA file for https://logs.example"


def test_a_portal_without_the_clients_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elasticsearch", None)
    monkeypatch.delitem(sys.modules, "pilothouse.clients.elasticsearch", raising=False)
    seen = LogFiguresWatch(Clock().now).look(given())
    assert seen == Seen(reason="https://logs.example:9200 cannot be read: elasticsearch is not installed here")


def test_another_address_is_another_store() -> None:
    made: list[str] = []

    def connect(endpoint: Endpoint) -> Store:
        made.append(endpoint.url)
        store = Store()
        store.go.set()
        return store

    watch = LogFiguresWatch(Clock().now, connect, patience=5.0)
    for url in ("https://a.example", "https://a.example", "https://b.example"):
        assert watch.look(given(url)).reason == ""
    assert made == ["https://a.example", "https://b.example"]


def test_content_that_cannot_be_read_is_a_reason() -> None:
    store = Store()
    store.go.set()
    whole = given()
    files = {path: source for path, source in whole.content.files.items() if not path.endswith("retention.yaml")}
    broken = replace(whole, content=replace(whole.content, files=files))
    assert "cannot be derived" in watch_of(store, Clock()).look(broken).reason
