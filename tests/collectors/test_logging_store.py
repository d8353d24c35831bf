"""Whether a document that the log store holds says what ours says, with what a server fills in by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.builders import inputs, service
from support.log_store import RETENTION, WHOLE, FakeLogStore, changed

from pilothouse.collectors import logging
from pilothouse.collectors.logging.differing import Kind, differing
from pilothouse.collectors.logging.mapping import FieldConflict, conflicts, merged, types
from pilothouse.collectors.logging.store import Abilities, Action, desired
from pilothouse.platform.model import Logs
from pilothouse.workflows import log_store

GIVEN = inputs([service("pay/api", logs=Logs("json", retention_days=30)), service("shop/cart")])
ABLE = Abilities("8.19.16", WHOLE, "platinum", security=True)


def whole() -> FakeLogStore:
    """A store with everything: lifecycle, security, a licence for roles by document."""
    return FakeLogStore(able=ABLE)


def test_with_everything_nothing_is_left_out_and_the_order_holds() -> None:
    store = whole()
    planned = log_store.make_plan(GIVEN, store)
    assert planned.plan.left_out == ()
    done = log_store.apply(planned, store).done
    kinds = list(dict.fromkeys(item.kind for item in done))
    assert kinds == [Kind.LIFECYCLE, Kind.COMPONENT, Kind.TEMPLATE, Kind.ROLE, Kind.ROLE_MAPPING]
    template = store.held[Kind.TEMPLATE]["pilothouse-logs-30d"]
    assert "pilothouse-logs-30d-lifecycle" in template["composed_of"]
    assert log_store.make_plan(GIVEN, store).plan.is_empty


def test_a_class_whose_records_are_there_keeps_all_that_it_needs() -> None:
    store = whole()
    log_store.apply(log_store.make_plan(GIVEN, store), store)
    store.write("pilothouse-logs-3d")
    fewer = changed(GIVEN, RETENTION, "  - {name: 3d, days: 3, replicas: 1}\n", "")
    planned = log_store.make_plan(fewer, store)
    assert [problem.code for problem in planned.problems] == ["logging/class-in-use"] * 2
    assert planned.plan.is_empty
    del store.streams["pilothouse-logs-3d"]
    planned = log_store.make_plan(fewer, store)
    assert [(item.action, item.kind) for item in planned.plan.changes] == [
        (Action.REMOVE, Kind.TEMPLATE),
        (Action.REMOVE, Kind.COMPONENT),
        (Action.REMOVE, Kind.LIFECYCLE),
    ]
    log_store.apply(planned, store)
    assert log_store.make_plan(fewer, store).plan.is_empty


def test_what_is_left_out_is_not_removed() -> None:
    store = whole()
    log_store.apply(log_store.make_plan(GIVEN, store), store)
    store.able = replace(ABLE, license="basic")
    planned = log_store.make_plan(GIVEN, store)
    assert planned.plan.is_empty
    assert {item.name for item in planned.plan.left_out} == {"pilothouse-logs-team-pay", "pilothouse-logs-team-shop"}


def test_documents_without_a_cluster_are_taken_over() -> None:
    store = whole()
    log_store.apply(log_store.make_plan(GIVEN, store), store)
    held = store.held[Kind.COMPONENT]["pilothouse-logs-settings"]
    held["_meta"] = {"app.kubernetes.io/managed-by": "pilothouse"}
    (change,) = log_store.make_plan(GIVEN, store).plan.changes
    assert (change.action, change.fields) == (Action.CHANGE, ("_meta.pilothouse.dev/cluster",))
    held["_meta"] = {}
    assert log_store.make_plan(GIVEN, store).forbidden


def body(kind: Kind, name: str) -> dict[str, Any]:
    documents = desired(logging.derive(GIVEN).artifacts, ABLE).documents
    return dict(documents[kind, f"pilothouse-logs-{name}"])


def held(kind: Kind, name: str) -> dict[str, Any]:
    """The same document as a server gives it back."""
    store = whole()
    store.held[kind][f"pilothouse-logs-{name}"] = body(kind, name)
    return dict(store.stored(kind, "pilothouse-logs")[f"pilothouse-logs-{name}"].body)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.LIFECYCLE, "365d"),
        (Kind.COMPONENT, "settings"),
        (Kind.TEMPLATE, "30d"),
        (Kind.ROLE, "team-pay"),
        (Kind.ROLE_MAPPING, "team-pay"),
    ],
)
def test_what_a_server_fills_in_is_no_difference(kind: Kind, name: str) -> None:
    assert differing(kind, body(kind, name), held(kind, name)) == ()


def test_a_role_that_was_widened_by_hand_differs() -> None:
    wider = held(Kind.ROLE, "team-pay")
    wider["indices"] = [*wider["indices"], {"names": ["*"], "privileges": ["all"]}]
    assert "indices[1].names[0]" in differing(Kind.ROLE, body(Kind.ROLE, "team-pay"), wider)
    wider = held(Kind.ROLE, "team-pay")
    wider["cluster"] = ["all"]
    assert differing(Kind.ROLE, body(Kind.ROLE, "team-pay"), wider) == ("cluster[0]",)
    wider = held(Kind.ROLE, "team-pay")
    wider["indices"][0]["query"] = '{"match_all":{}}'
    found = differing(Kind.ROLE, body(Kind.ROLE, "team-pay"), wider)
    assert found == ("indices[0].query.match_all", "indices[0].query.term.team")


def test_a_policy_with_an_action_or_a_phase_more_differs() -> None:
    ours, theirs = body(Kind.LIFECYCLE, "30d"), held(Kind.LIFECYCLE, "30d")
    theirs["policy"]["phases"]["hot"]["actions"]["readonly"] = {}
    assert differing(Kind.LIFECYCLE, ours, theirs) == ("policy.phases.hot.actions.readonly",)
    theirs = held(Kind.LIFECYCLE, "30d")
    theirs["policy"]["phases"]["delete"]["min_age"] = "10d"
    assert differing(Kind.LIFECYCLE, ours, theirs) == ("policy.phases.delete.min_age",)
    theirs = held(Kind.LIFECYCLE, "30d")
    theirs["policy"]["phases"]["cold"] = {"min_age": "1d", "actions": {"readonly": {}}}
    assert "policy.phases.cold.actions.readonly" in differing(Kind.LIFECYCLE, ours, theirs)


def test_both_spellings_of_a_setting_are_one() -> None:
    nested = {"template": {"settings": {"index": {"refresh_interval": "30s", "mapping": {"ignore_malformed": True}}}}}
    flat = {"template": {"settings": {"index.refresh_interval": "30s", "mapping.ignore_malformed": "true"}}}
    assert differing(Kind.COMPONENT, nested, flat) == ()


def test_mappings() -> None:
    below = {"properties": {"a": {"type": "keyword"}, "b": {"properties": {"c": {"type": "long"}}}}}
    above = {"dynamic": False, "properties": {"b": {"properties": {"d": {"type": "ip"}}}}}
    whole_mapping = merged(below, above)
    assert types(whole_mapping) == {"a": "keyword", "b": "object", "b.c": "long", "b.d": "ip"}
    other = {"properties": {"a": {"type": "text"}, "b": {"type": "keyword"}}}
    assert conflicts(whole_mapping, other) == (
        FieldConflict("a", "keyword", "text"),
        FieldConflict("b", "object", "keyword"),
    )
    assert conflicts(below, whole_mapping) == ()
    assert conflicts(below, whole_mapping, strict=True) == (FieldConflict("b.d", "nothing", "ip"),)
