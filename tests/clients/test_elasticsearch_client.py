"""The Elasticsearch client before something that is none, or one that answers as it should not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.http_stub import Asked, Reply, Stub, stub

from pilothouse.clients.calls import Retry
from pilothouse.clients.elasticsearch import Elasticsearch
from pilothouse.collectors.logging.differing import Kind
from pilothouse.collectors.logging.store import Abilities
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}
POLICY = {"policy": {"phases": {"delete": {"min_age": "3d", "actions": {"delete": {}}}}}}


def real(body: Any, status: int = 200) -> Reply:
    return Reply(status, body, PRODUCT)


def error(status: int, kind: str, reason: str, **more: Any) -> Reply:
    return real({"error": {"type": kind, "reason": reason, "root_cause": [], **more}, "status": status}, status)


@pytest.fixture
def server() -> Iterator[Stub]:
    with stub(lambda _: real({})) as made:
        yield made


@pytest.fixture
def store(server: Stub) -> Elasticsearch:
    return Elasticsearch(Endpoint(server.url), read=10.0, retry=Retry(sleep=lambda _: None))


def test_another_product_is_refused_by_name(server: Stub, store: Elasticsearch) -> None:
    server.answer = lambda _: Reply(body={"status": "green"})
    with pytest.raises(Invalid, match="is no Elasticsearch"):
        store.health()


@pytest.mark.parametrize("body", [b"<html>log in</html>", b'{"status": "gre', b"[]", b"{}", b'{"nodes": 7}'])
def test_an_answer_of_another_shape_is_unavailable_and_no_traceback(
    server: Stub, store: Elasticsearch, body: bytes
) -> None:
    server.answer = lambda _: real(body)
    for ask in (store.health, store.nodes, store.abilities, lambda: store.written("x", 300)):
        with pytest.raises(Unavailable) as refusal:
            ask()
        assert server.url in refusal.value.message
        assert refusal.value.hint


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (error(400, "illegal_argument_exception", "unknown setting [x]"), Invalid, "unknown setting [x]"),
        (error(400, "mapper_parsing_exception", "failed", caused_by={"reason": "no type [y]"}), Invalid, "no type [y]"),
        (error(400, "resource_already_exists_exception", "index [x] exists"), Conflict, "exists"),
        (error(401, "security_exception", "missing authentication"), Denied, "401"),
        (error(403, "security_exception", "current license is non-compliant"), Denied, "license"),
        (error(404, "resource_not_found_exception", "no such thing"), Invalid, "has no"),
        (error(409, "version_conflict_engine_exception", "version_conflict"), Conflict, "version_conflict"),
        (error(429, "es_rejected_execution_exception", "rejected execution"), Unavailable, "rejected execution"),
        (error(500, "illegal_state_exception", "failed to find action [x]"), Invalid, "lacks a module"),
        (error(503, "cluster_block_exception", "no master"), Unavailable, "no master"),
        (real({"error": "no handler found for uri [/x]", "status": 400}, 400), Invalid, "no handler"),
    ],
)
def test_every_refusal_has_its_exception(
    server: Stub, store: Elasticsearch, reply: Reply, kind: type[PilothouseError], says: str
) -> None:
    server.answer = lambda _: reply
    with pytest.raises(kind) as refusal:
        store.put(Kind.TEMPLATE, "x", {})
    assert says in refusal.value.message + refusal.value.hint
    assert len(server.asked) == (3 if kind is Unavailable else 1)


def test_a_first_index_and_a_rollover_are_never_made_twice(server: Stub, store: Elasticsearch) -> None:
    server.answer = lambda _: error(503, "cluster_block_exception", "no master")
    for ask in (
        lambda: store.put(Kind.FIRST_INDEX, "x-000001", {}),
        lambda: store.roll_over("x"),
        lambda: store.bulk([]),
    ):
        server.asked.clear()
        with pytest.raises(Unavailable):
            ask()
        assert len(server.asked) == 1


def test_what_is_gone_already_is_removed(server: Stub, store: Elasticsearch) -> None:
    server.answer = lambda _: error(404, "resource_not_found_exception", "gone")
    store.remove(Kind.ROLE, "x")
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("DELETE", "/_security/role/x")


def test_names_cannot_leave_their_place_in_an_address(server: Stub, store: Elasticsearch) -> None:
    store.put(Kind.ROLE, "../user/elastic?x=", {})
    assert server.asked[0].path == "/_security/role/..%2Fuser%2Felastic%3Fx%3D"


def test_an_api_key_goes_out_as_one_and_never_into_a_message(server: Stub, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("bXkta2V5\n")
    server.answer = lambda _: error(403, "security_exception", "not allowed")
    with pytest.raises(Denied) as refusal:
        Elasticsearch(Endpoint(server.url, str(tmp_path / "key"))).health()
    (asked,) = server.asked
    assert asked.headers["Authorization"] == "ApiKey bXkta2V5"
    assert "compatible-with=8" in asked.headers["accept"]
    assert "bXkta2V5" not in refusal.value.message + refusal.value.hint


def whole(asked: Asked) -> Reply:
    """A server with everything, in the shapes of its published API."""
    both = [{"name": "x-pack-ilm"}, {"name": "x-pack-security"}]
    answers: dict[str, Any] = {
        "/_nodes": {
            "nodes": {
                "a": {"version": "8.19.16", "modules": [*both, {"name": "p"}, {"name": "only-here"}]},
                "b": {"version": "8.9.2", "modules": both, "plugins": [{"name": "p"}]},
            }
        },
        "/_license": {"license": {"type": "platinum", "status": "active"}},
        "/_security/_authenticate": {"username": "x"},
        "/_ilm/policy": {
            "logs-3d": POLICY | {"version": 1, "in_use_by": {"indices": [".ds-logs-3d-000001"], "data_streams": []}},
            "logs": POLICY | {"version": 1},
            "logsother": POLICY | {"version": 2},
        },
    }  # fmt: skip
    found = answers.get(asked.path.partition("?")[0])
    return real(found) if found is not None else error(404, "x", asked.path)


def test_what_a_whole_server_has(server: Stub, store: Elasticsearch) -> None:
    server.answer = whole
    able = store.abilities()
    # What one node lacks, the cluster lacks; the oldest node's version counts.
    assert able == Abilities("8.9.2", frozenset(("x-pack-ilm", "x-pack-security", "p")), "platinum", security=True)
    assert able.lifecycle
    assert able.document_security


def test_policies_come_with_the_indices_that_they_govern(server: Stub, store: Elasticsearch) -> None:
    server.answer = whole
    found = store.stored(Kind.LIFECYCLE, "logs")
    assert {name: item.users for name, item in found.items()} == {"logs-3d": (".ds-logs-3d-000001",), "logs": ()}
    assert found["logs"].body == {"policy": POLICY["policy"]}
    store_put = {"policy": {"phases": {}}}
    server.answer = lambda _: real({"acknowledged": True})
    store.put(Kind.LIFECYCLE, "logs-3d", store_put)
    assert (server.asked[-1].method, server.asked[-1].path) == ("PUT", "/_ilm/policy/logs-3d")
