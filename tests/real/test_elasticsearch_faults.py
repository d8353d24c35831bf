"""A log store that hangs, dies, or is cut off: a reason in time, never a traceback and never a hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from support.log_store import own
from support.testbed import bank

from pilothouse.clients.elasticsearch import Elasticsearch
from pilothouse.collectors.logging.differing import Kind
from pilothouse.platform.model import Endpoint
from pilothouse.problems import PilothouseError, Unavailable
from pilothouse.workflows import log_store
from pilothouse.workflows.log_figures import LogFiguresWatch

Faults = Callable[[str], Any]


def test_faults_on_the_way_are_reasons(elasticsearch: Any, faults: Faults) -> None:
    proxy = faults(elasticsearch.url)
    store = Elasticsearch(Endpoint(proxy.url), read=20.0, total=30.0)
    assert store.health().nodes == 1
    with proxy.delay(20), pytest.raises(Unavailable, match="timed out"):
        Elasticsearch(Endpoint(proxy.url), read=0.5).nodes()
    with proxy.refuse(), pytest.raises(Unavailable, match="does not answer"):
        store.health()
    for after in (10, 40, 100, 300, 1000):
        with proxy.cut_after(bytes=after), pytest.raises(Unavailable, match=r"does not answer|broke off"):
            store.nodes()
    with proxy.throttle(500), pytest.raises(Unavailable, match="did not end its answer"):
        Elasticsearch(Endpoint(proxy.url), read=20.0, total=1.0).nodes()
    for status in (429, 500, 503):
        with proxy.answer(status, {"Retry-After": "1"}, b"no"), pytest.raises(Unavailable, match=str(status)):
            store.health()
    assert store.nodes()[0].heap_most > 0


def test_an_apply_that_is_cut_off_leaves_nothing_behind(elasticsearch: Any, faults: Faults) -> None:
    """The line breaks after the first steps, and comes back for the undoing."""
    proxy = faults(elasticsearch.url)
    given = own(bank("prod"), elasticsearch.prefix(), Endpoint(proxy.url))
    store = Elasticsearch(Endpoint(proxy.url), read=2.0)
    planned = log_store.make_plan(given, store)
    steps: list[str] = []

    class Breaking:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def put(self, kind: Kind, name: str, body: Any) -> None:
            steps.append(name)
            if len(steps) == 4:
                # The server takes it, and its answer gets lost.
                with proxy.cut_after(bytes=20):
                    store.put(kind, name, body)
            store.put(kind, name, body)

    with pytest.raises(Unavailable, match="what was done before is undone"):
        log_store.apply(planned, Breaking())  # type: ignore[arg-type]  # all that it lacks is the store's
    assert len(steps) == 4
    prefix = log_store.declared(given).prefix
    assert store.stored(Kind.COMPONENT, prefix) == store.stored(Kind.TEMPLATE, prefix) == {}


def hangs(store: Elasticsearch) -> bool:
    try:
        store.health()
    except Unavailable as failure:
        return "timed out" in failure.message
    return False


def test_a_server_that_is_paused_stopped_and_back_again(elasticsearch: Any) -> None:
    mine = elasticsearch.fresh()
    given = own(bank("prod"), "mine", mine.endpoint)
    patient = Elasticsearch(mine.endpoint, read=30.0, total=60.0)
    log_store.apply(log_store.make_plan(given, patient), patient)
    store = Elasticsearch(mine.endpoint, read=5.0, total=10.0)
    moments = [0.0]

    def look() -> Any:
        moments[0] += 100.0
        watch.look(given)
        deadline = time.monotonic() + 40
        while watch._kept["prod"].busy and time.monotonic() < deadline:
            time.sleep(0.02)
        return watch.look(given)

    clock = partial(datetime.now, UTC)
    watch = LogFiguresWatch(clock, lambda _: store, elapsed=lambda: moments[0], patience=20.0)
    assert look().reason == ""
    mine.pause()
    try:
        # The kernel stops its threads one after the other, and one of them may still answer.
        assert any(hangs(store) for _ in range(20))
        seen = look()
        assert "timed out" in seen.reason
        assert seen.status is not None, "the last good figures stay"
        with pytest.raises(Unavailable):
            log_store.make_plan(given, store)
    finally:
        mine.resume()
    assert look().reason == ""
    mine.stop()
    with pytest.raises(Unavailable, match="refused") as refusal:
        log_store.status(given, store, clock)
    assert "is it up" in refusal.value.hint
    assert "refused" in look().reason


def test_a_page_waits_for_none_of_it(elasticsearch: Any, faults: Faults) -> None:
    proxy = faults(elasticsearch.url)
    given = own(bank("prod"), "slow", Endpoint(proxy.url))
    watch = LogFiguresWatch(partial(datetime.now, UTC), patience=0.05)
    with proxy.delay(3):
        seen = [watch.look(given) for _ in range(20)]
    assert {item.reason for item in seen} == {"its figures are being read for the first time"}
    assert proxy.connections <= 2


def test_another_product_at_the_address(elasticsearch: Any, prometheus: Any, tmp_path: Any) -> None:
    """Prometheus where Elasticsearch is declared."""
    config = tmp_path / "prometheus.yml"
    config.write_text("scrape_configs: []\n")
    other = prometheus(config)
    given = own(bank("prod"), "other", replace(other.endpoint, token_file=""))
    with pytest.raises(PilothouseError) as refusal:
        log_store.make_plan(given, Elasticsearch(given.cluster.servers.elasticsearch or other.endpoint))
    assert other.url in refusal.value.message
