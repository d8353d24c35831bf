"""Plan and apply of the log store: the same tests on a store in memory and on a real Elasticsearch."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from support.builders import cluster, inputs, service, team
from support.log_store import MAPPINGS, RETENTION, SETTINGS, FakeLogStore, changed, own

from pilothouse.collectors.logging.differing import Kind
from pilothouse.collectors.logging.store import NO_LIFECYCLE, Action, LogStore
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Logs
from pilothouse.problems import Invalid, Severity, Unavailable
from pilothouse.workflows import log_store

SERVICES = [service("pay/api", logs=Logs("json", retention_days=30)), service("shop/cart")]


@dataclass
class Bench:
    """A store with names that nobody else uses. `write` stores a first record in a data stream."""

    store: LogStore
    inputs: Inputs
    prefix: str
    write: Callable[[str], None]

    def apply(self, given: Inputs | None = None, roll_over: bool = False) -> log_store.Applied:
        planned = log_store.make_plan(given or self.inputs, self.store, roll_over)
        assert not planned.forbidden, planned.problems
        return log_store.apply(planned, self.store)

    def names(self, kind: Kind) -> set[str]:
        return set(self.store.stored(kind, self.prefix))


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def bench(request: pytest.FixtureRequest) -> Bench:
    prefix = f"test-{secrets.token_hex(4)}"
    if request.param == "fake":
        fake = FakeLogStore()
        return Bench(fake, own(inputs(SERVICES), prefix), prefix, fake.write)
    from pilothouse.clients.elasticsearch import Elasticsearch

    server = request.getfixturevalue("elasticsearch")
    client = Elasticsearch(server.endpoint)

    def write(target: str) -> None:
        record = {"@timestamp": "2026-11-21T08:00:00.123456789Z", "message": "hello"}
        assert client.bulk([{"create": {"_index": target, "_id": "1"}}, record]) == ((201, ""),)

    return Bench(client, own(inputs(SERVICES), prefix, server.endpoint), prefix, write)


def test_a_second_apply_changes_nothing(bench: Bench) -> None:
    first = bench.apply()
    assert {item.kind for item in first.done} == {Kind.COMPONENT, Kind.TEMPLATE}
    assert [item.kind.rank for item in first.done] == sorted(item.kind.rank for item in first.done)
    assert first.problems == ()
    assert bench.names(Kind.TEMPLATE) == {f"{bench.prefix}-{days}d" for days in (3, 7, 14, 30, 90, 365)}
    assert log_store.make_plan(bench.inputs, bench.store).plan.is_empty
    assert bench.apply().done == ()


def test_what_the_server_lacks_is_left_out_by_name(bench: Bench) -> None:
    planned = log_store.make_plan(bench.inputs, bench.store)
    left = {(item.kind, item.name): item.why for item in planned.plan.left_out}
    assert left[Kind.LIFECYCLE, f"{bench.prefix}-30d"] == NO_LIFECYCLE
    assert left[Kind.COMPONENT, f"{bench.prefix}-30d-lifecycle"] == NO_LIFECYCLE
    assert (Kind.ROLE, f"{bench.prefix}-team-pay") in left
    template = planned.desired.documents[Kind.TEMPLATE, f"{bench.prefix}-30d"]
    assert template["composed_of"] == [f"{bench.prefix}-settings", f"{bench.prefix}-mappings"]


def test_only_what_differs_is_changed(bench: Bench) -> None:
    bench.apply()
    other = changed(bench.inputs, SETTINGS, '"best_compression"', '"default"')
    planned = log_store.make_plan(other, bench.store)
    (change,) = planned.plan.changes
    assert (change.action, change.kind, change.name) == (Action.CHANGE, Kind.COMPONENT, f"{bench.prefix}-settings")
    assert change.fields == ("template.settings.index.codec",)
    assert len(log_store.apply(planned, bench.store).done) == 1
    assert log_store.make_plan(other, bench.store).plan.is_empty


def test_a_change_by_hand_is_seen_and_mended(bench: Bench) -> None:
    bench.apply()
    name = f"{bench.prefix}-settings"
    body: dict[str, Any] = dict(bench.store.stored(Kind.COMPONENT, bench.prefix)[name].body)
    body["template"] = {"settings": {"index": {**body["template"]["settings"]["index"], "number_of_replicas": "0"}}}
    bench.store.put(Kind.COMPONENT, name, body)
    (change,) = bench.apply().done
    assert change.fields == ("template.settings.index.number_of_replicas",)
    assert log_store.make_plan(bench.inputs, bench.store).plan.is_empty


def test_a_class_that_is_gone_takes_its_template_along_and_nothing_else(bench: Bench) -> None:
    bench.apply()
    foreign = {"index_patterns": [f"{bench.prefix}-theirs"], "priority": 7, "composed_of": [], "template": {}}
    bench.store.put(Kind.TEMPLATE, f"{bench.prefix}-theirs", foreign)
    fewer = changed(bench.inputs, RETENTION, "  - {name: 3d, days: 3, replicas: 1}\n", "")
    done = bench.apply(fewer).done
    assert [(item.action, item.name) for item in done] == [(Action.REMOVE, f"{bench.prefix}-3d")]
    assert f"{bench.prefix}-theirs" in bench.names(Kind.TEMPLATE)
    assert log_store.make_plan(fewer, bench.store).plan.is_empty


def test_a_class_that_is_gone_stays_while_its_records_are_there(bench: Bench) -> None:
    bench.apply()
    bench.write(f"{bench.prefix}-3d")
    fewer = changed(bench.inputs, RETENTION, "  - {name: 3d, days: 3, replicas: 1}\n", "")
    with pytest.raises(Invalid, match="in use"):
        bench.store.remove(Kind.TEMPLATE, f"{bench.prefix}-3d")
    planned = log_store.make_plan(fewer, bench.store)
    assert planned.plan.is_empty
    (problem,) = planned.problems
    assert (problem.code, problem.severity) == ("logging/class-in-use", Severity.INFO)
    assert f"index template {bench.prefix}-3d" in problem.message
    assert log_store.apply(planned, bench.store).done == ()


def test_a_foreign_document_of_our_name_forbids_the_plan(bench: Bench) -> None:
    foreign = {"index_patterns": [f"{bench.prefix}-30d"], "priority": 7, "composed_of": [], "template": {}}
    bench.store.put(Kind.TEMPLATE, f"{bench.prefix}-30d", foreign)
    planned = log_store.make_plan(bench.inputs, bench.store)
    assert [problem.code for problem in planned.problems] == ["logging/foreign-document"]
    with pytest.raises(Invalid, match="nothing is applied"):
        log_store.apply(planned, bench.store)
    assert bench.names(Kind.COMPONENT) == set()


def test_another_clusters_documents_are_foreign_too(bench: Bench) -> None:
    bench.apply()
    uat = cluster("uat", servers=bench.inputs.cluster.servers)
    other = replace(bench.inputs, cluster=uat, platform=replace(bench.inputs.platform, clusters={"uat": uat}))
    planned = log_store.make_plan(other, bench.store)
    assert planned.forbidden
    assert all("belongs to the cluster dev" in problem.message for problem in planned.problems)


def test_a_type_that_changes_names_the_field_unless_the_index_is_rolled_over(bench: Bench) -> None:
    bench.apply()
    bench.write(f"{bench.prefix}-30d")
    other = changed(bench.inputs, MAPPINGS, '"pod_id": {"type": "keyword"}', '"pod_id": {"type": "long"}')
    planned = log_store.make_plan(other, bench.store)
    (problem,) = planned.problems
    assert problem.code == "logging/mapping-conflict"
    assert "`kubernetes.pod_id` would become long" in problem.message
    assert "it is keyword" in problem.message

    done = bench.apply(other, roll_over=True).done
    assert [(item.action, item.name) for item in done][-1] == (Action.ROLL_OVER, f"{bench.prefix}-30d")
    (writing,) = bench.store.write_indices([f"{bench.prefix}-30d"])
    assert writing.index.endswith("-000002")
    assert writing.mapping["properties"]["kubernetes"]["properties"]["pod_id"]["type"] == "long"
    assert log_store.make_plan(other, bench.store).plan.is_empty


def test_a_field_more_conflicts_with_nothing(bench: Bench) -> None:
    bench.apply()
    bench.write(f"{bench.prefix}-7d")
    more = changed(bench.inputs, MAPPINGS, '"team": {', '"region": {"type": "keyword"},\n    "team": {')
    assert [item.name for item in bench.apply(more).done] == [f"{bench.prefix}-mappings"]


def test_what_the_server_would_refuse_is_a_problem_before_anything_is_changed(bench: Bench) -> None:
    wrong = changed(bench.inputs, MAPPINGS, '"stream": {"type": "keyword"}', '"stream": {"type": "no-such-type"}')
    planned = log_store.make_plan(wrong, bench.store)
    assert {problem.code for problem in planned.problems} == {"logging/template-refused"}
    assert "no-such-type" in planned.problems[0].message
    assert bench.names(Kind.COMPONENT) == set()


def test_a_template_above_ours_is_found(bench: Bench) -> None:
    above = {
        "index_patterns": [f"{bench.prefix}-3*"],
        "priority": 900,
        "composed_of": [],
        "data_stream": {},
        "template": {"mappings": {"properties": {"team": {"type": "text"}}}},
    }
    bench.store.put(Kind.TEMPLATE, f"above-{bench.prefix}", above)
    try:
        problems = bench.apply().problems
    finally:
        bench.store.remove(Kind.TEMPLATE, f"above-{bench.prefix}")
    assert {problem.code for problem in problems} == {"logging/shadowed-template"}
    assert {problem.message.split()[4] for problem in problems} == {f"{bench.prefix}-{n}d" for n in (3, 30, 365)}


class Failing:
    """A store that breaks at one step, after or before it took it."""

    def __init__(self, store: LogStore, at: str, taken: bool) -> None:
        self._store, self._at, self._taken, self._broken = store, at, taken, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, kind: Kind, name: str, body: Any) -> None:
        if name == self._at and not self._broken:
            self._broken = True
            if self._taken:
                self._store.put(kind, name, body)
            raise Unavailable("elasticsearch does not answer", "is it up?")
        self._store.put(kind, name, body)


@pytest.mark.parametrize("taken", [True, False])
def test_a_step_that_fails_is_undone_with_all_before_it(bench: Bench, taken: bool) -> None:
    failing: Any = Failing(bench.store, f"{bench.prefix}-30d", taken)
    with pytest.raises(Unavailable, match="is undone"):
        log_store.apply(log_store.make_plan(bench.inputs, failing), failing)
    assert bench.names(Kind.TEMPLATE) == bench.names(Kind.COMPONENT) == set()

    bench.apply()
    before = dict(bench.store.stored(Kind.COMPONENT, bench.prefix))
    other = changed(bench.inputs, SETTINGS, '"best_compression"', '"default"')
    other = changed(other, MAPPINGS, '"ignore_above": 64', '"ignore_above": 65')
    failing = Failing(bench.store, f"{bench.prefix}-settings", taken)
    with pytest.raises(Unavailable):
        log_store.apply(log_store.make_plan(other, failing), failing)
    assert dict(bench.store.stored(Kind.COMPONENT, bench.prefix)) == before


def test_an_alias_begins_with_its_first_index(bench: Bench) -> None:
    aliased = changed(bench.inputs, RETENTION, "write: data-stream", "write: alias")
    done = bench.apply(aliased).done
    assert {item.name for item in done if item.kind is Kind.FIRST_INDEX} == {
        f"{bench.prefix}-{days}d-000001" for days in (3, 7, 14, 30, 90, 365)
    }
    assert bench.apply(aliased).done == ()
    (writing,) = bench.store.write_indices([f"{bench.prefix}-30d"])
    assert writing.index == f"{bench.prefix}-30d-000001"
    assert writing.mapping["properties"]["data"]["type"] == "flattened"


def test_teams_without_a_directory_group_get_a_role_and_no_mapping() -> None:
    given = inputs(SERVICES, platform=None, teams=[team("pay", groups=()), team("shop", groups=("a*", "/x", "shop"))])
    from pilothouse.collectors import logging

    found = {document.path: document.data for document in logging.derive(given).artifacts.under("elasticsearch")}
    assert "elasticsearch/roles/pilothouse-logs-team-pay.json" in found
    assert "elasticsearch/role-mappings/pilothouse-logs-team-pay.json" not in found
    # A name with a letter that stands for anything would let everybody in.
    rules = found["elasticsearch/role-mappings/pilothouse-logs-team-shop.json"]["rules"]
    assert rules == {"field": {"groups": ["cn=/x,*", "shop", "cn=shop,*"]}}
