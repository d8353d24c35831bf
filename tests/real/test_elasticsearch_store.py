"""Templates and records on a real Elasticsearch: what the bank renders is accepted, and records land as meant."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.log_records import actions, records
from support.log_store import own
from support.testbed import CLUSTERS, bank, derived

from pilothouse.clients.elasticsearch import Elasticsearch
from pilothouse.collectors import logging
from pilothouse.collectors.logging.differing import Kind
from pilothouse.collectors.logging.store import NO_LIFECYCLE
from pilothouse.inputs import Inputs
from pilothouse.problems import Unavailable
from pilothouse.workflows import log_store

LINES = (
    '{"msg": "paid", "severity": "warn", "card_number": "4000056655665556", "order": {"id": 42, "tags": ["a", "b"]}}',
    "no JSON at all, password=hunter2 and more",
    '{"message": "app as an object", "app": {"name": "x"}, "when": "2026-11-21"}',
    '{"message": "app as a text", "app": "x", "when": 7}',
)


@pytest.fixture
def given(elasticsearch: Any) -> Inputs:
    """The bank's production with names of this test's own."""
    return own(bank("prod"), elasticsearch.prefix(), elasticsearch.endpoint)


@pytest.fixture
def store(elasticsearch: Any) -> Elasticsearch:
    return Elasticsearch(elasticsearch.endpoint)


@pytest.fixture
def stored(elasticsearch: Any, given: Inputs, store: Elasticsearch, ruby: Path) -> str:
    """The data stream that holds what payments wrote three minutes ago, templates applied."""
    applied(given, store)
    moment = (datetime.now(UTC) - timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"
    index, made = records(ruby, logging.derive(given), "payments", {"app": "payments"}, LINES, moment)
    assert store.bulk(actions(index, made)) == ((201, ""),) * len(LINES)
    # Written twice, as after an answer that got lost: refused as a duplicate.
    assert {status for status, _ in store.bulk(actions(index, made))} == {409}
    elasticsearch.send("POST", f"/{index}/_refresh")
    return index


def applied(given: Inputs, store: Elasticsearch) -> log_store.Applied:
    planned = log_store.make_plan(given, store)
    assert not planned.forbidden, planned.problems
    return log_store.apply(planned, store)


def search(elasticsearch: Any, index: str, query: dict[str, Any]) -> list[str]:
    found = elasticsearch.send("POST", f"/{index}/_search", {"query": query, "sort": [{"@timestamp": "asc"}]})
    return sorted(hit["_source"]["message"] for hit in found["hits"]["hits"])


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_clusters_templates_are_accepted(elasticsearch: Any, store: Elasticsearch, cluster: str) -> None:
    given = own(bank(cluster), elasticsearch.prefix(), elasticsearch.endpoint)
    done = applied(given, store)
    assert done.problems == ()
    assert {item.kind for item in done.done} == {Kind.COMPONENT, Kind.TEMPLATE}
    assert applied(given, store).done == ()


def test_lifecycle_and_ingest_are_not_in_this_server_and_are_left_out_by_name(
    given: Inputs, store: Elasticsearch
) -> None:
    able = store.abilities()
    assert not able.lifecycle
    assert not {"ingest-common", "data-streams"} & able.modules
    planned = log_store.make_plan(given, store)
    prefix = log_store.declared(given).prefix
    left = {(item.kind, item.name) for item in planned.plan.left_out if item.why == NO_LIFECYCLE}
    names = [f"{prefix}-{days}d" for days in (3, 7, 14, 30, 90, 365)]
    assert left == {(Kind.LIFECYCLE, name) for name in names} | {
        (Kind.COMPONENT, f"{name}-lifecycle") for name in names
    }


ACTIONS = {
    "hot": {"set_priority", "unfollow", "rollover", "readonly", "downsample", "shrink", "forcemerge",
            "searchable_snapshot"},
    "warm": {"set_priority", "unfollow", "readonly", "downsample", "allocate", "migrate", "shrink", "forcemerge"},
    "cold": {"set_priority", "unfollow", "readonly", "downsample", "searchable_snapshot", "allocate", "migrate"},
    "frozen": {"unfollow", "searchable_snapshot"},
    "delete": {"wait_for_snapshot", "delete"},
}  # fmt: skip
"""https://www.elastic.co/docs/manage-data/lifecycle/index-lifecycle-management/index-lifecycle."""


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_policies_have_the_published_shape(cluster: str) -> None:
    found = list(derived(cluster).artifacts.under("elasticsearch/lifecycle"))
    assert found
    for document in found:
        assert set(document.data) == {"policy"}
        assert set(document.data["policy"]) == {"_meta", "phases"}
        for name, phase in document.data["policy"]["phases"].items():
            assert set(phase) == {"min_age", "actions"}
            assert set(phase["actions"]) <= ACTIONS[name]


def test_records_land_with_the_mapping_that_is_meant(
    elasticsearch: Any, store: Elasticsearch, given: Inputs, stored: str
) -> None:
    (writing,) = store.write_indices([stored])
    assert writing.index.startswith(f".ds-{stored}-")
    held = writing.mapping
    assert held["dynamic"] == "false"
    types = {name: field.get("type") for name, field in held["properties"].items()}
    # Nothing that a program wrote has become a field of its own.
    assert types == {
        "@timestamp": "date_nanos", "_hash": "keyword", "bytes": "integer", "cluster": "keyword", "data": "flattened",
        "kubernetes": None, "level": "keyword", "message": "text", "retention": "keyword", "service": "keyword",
        "stream": "keyword", "team": "keyword",
    }  # fmt: skip
    settings = elasticsearch.send("GET", f"/{writing.index}/_settings")[writing.index]["settings"]["index"]
    assert settings["codec"] == "best_compression"
    assert settings["number_of_replicas"] == "1"
    source = elasticsearch.send("POST", f"/{stored}/_search", {"query": {"match_phrase": {"message": "paid"}}})
    record = source["hits"]["hits"][0]["_source"]
    assert (record["team"], record["service"], record["retention"]) == ("payments", "payments/payments", "90d")
    assert record["bytes"] == len(LINES[0])


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ({"term": {"level": "warn"}}, ["paid"]),
        ({"term": {"data.order.id": "42"}}, ["paid"]),
        ({"term": {"data.order.tags": "b"}}, ["paid"]),
        ({"term": {"data.app.name": "x"}}, ["app as an object"]),
        ({"term": {"data.app": "x"}}, ["app as a text"]),
        ({"term": {"kubernetes.labels.app": "payments"}}, 4),
        ({"match": {"message": "PASSWORD"}}, 1),
        ({"range": {"@timestamp": {"gte": "now-10m", "lt": "now"}}}, 4),
        ({"range": {"@timestamp": {"lt": "now-10m"}}}, []),
    ],
)
def test_records_are_found_by_type(elasticsearch: Any, stored: str, query: dict[str, Any], messages: Any) -> None:
    found = search(elasticsearch, stored, query)
    assert (len(found) if isinstance(messages, int) else found) == messages


def test_redacted_values_are_nowhere(elasticsearch: Any, stored: str) -> None:
    found = elasticsearch.send("GET", f"/{stored}/_search")
    text = json.dumps(found)
    assert "[redacted]" in text
    assert "4000056655665556" not in text
    assert "hunter2" not in text
    assert search(elasticsearch, stored, {"term": {"data.card_number": "4000056655665556"}}) == []


def test_a_type_conflict_ends_where_it_should(elasticsearch: Any, store: Elasticsearch, stored: str) -> None:
    """A value of the wrong type is kept and not indexed; what cannot be stored at all goes back to the agent alone."""
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    deep: Any = "end"
    for _ in range(25):
        deep = {"a": deep}
    made: list[dict[str, Any]] = [
        {"_hash": "well", "@timestamp": moment, "message": "well"},
        {"_hash": "bytes", "@timestamp": moment, "message": "bytes as a text", "bytes": "many"},
        {"_hash": "level", "@timestamp": moment, "message": "a long level", "level": "x" * 500},
        {"_hash": "date", "@timestamp": "yesterday", "message": "no date"},
        {"_hash": "scalar", "@timestamp": moment, "message": "data is no object", "data": 7},
        {"_hash": "deep", "@timestamp": moment, "message": "too deep", "data": deep},
    ]
    answers = store.bulk(actions(stored, made))
    assert [status for status, _ in answers] == [201, 201, 201, 400, 400, 400]
    # The reason names the field: the agent writes it beside the record, into its file of dead letters.
    assert "@timestamp" in answers[3][1]
    assert "[data]" in answers[4][1]
    assert "data" in answers[5][1]
    elasticsearch.send("POST", f"/{stored}/_refresh")
    ignored = elasticsearch.send("POST", f"/{stored}/_search", {"query": {"exists": {"field": "_ignored"}}})
    assert {hit["_id"]: hit["_ignored"] for hit in ignored["hits"]["hits"]} == {"bytes": ["bytes"], "level": ["level"]}
    assert len(search(elasticsearch, stored, {"match": {"message": "well"}})) == 1


def test_the_figures_say_who_wrote_how_much(store: Elasticsearch, given: Inputs, stored: str) -> None:
    clock = partial(datetime.now, UTC)
    found = log_store.status(given, store, clock, partial(time.sleep, 0.2), store.abilities())
    (target,) = found.targets
    assert (target.name, target.documents, target.indices) == (stored, len(LINES), 1)
    assert target.size > 0
    writer = found.writer("payments/payments")
    assert writer is not None
    assert writer.documents == len(LINES)
    assert writer.bytes == sum(len(line) for line in LINES)
    assert writer.rate == pytest.approx(writer.bytes / 300)
    assert (writer.team, writer.days, writer.target) == ("payments", 90, stored)
    (node,) = found.reading.nodes
    assert node.in_flight_limit > 0
    assert node.completed > 0
    assert 0 < node.heap_used < node.heap_most
    assert found.pressure.rejections == 0
    assert "logging/no-lifecycle" in {problem.code for problem in found.problems}


def test_rejections_of_a_small_heap_are_seen(elasticsearch: Any) -> None:
    small = elasticsearch.fresh(heap="256m")
    given = own(bank("prod"), "small", small.endpoint)
    store = Elasticsearch(small.endpoint, read=30.0, total=60.0)
    applied(given, store)
    before = logging.figures.read(store, "small", datetime.now(UTC))
    limit = before.nodes[0].in_flight_limit
    assert limit <= 27 * 1024**2
    # One request above a tenth of the heap, which is what may be in flight.
    record = {"@timestamp": datetime.now(UTC).isoformat(), "message": "x" * 20_000}
    lines = actions("small-30d", [record | {"_hash": str(number)} for number in range(limit // 20_000 + 100)])
    with pytest.raises(Unavailable, match="429"):
        store.bulk(lines)
    found = log_store.status_of(
        log_store.declared(given), logging.figures.read(store, "small", datetime.now(UTC)), before
    )
    assert found.pressure.rejections == 1
    codes = {problem.code for problem in found.problems}
    assert {"logging/store-rejects", "logging/heap-smaller"} <= codes
    # A tenth of it is taken.
    assert {status for status, _ in store.bulk(lines[: len(lines) // 10 * 2])} == {201}
