"""Adding up: nothing twice, nothing lost, in whatever order it comes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.policies.flows.model import Amounts, EndKind, Flow, FlowEnd, Observed, PolicyHit, Seen
from pilothouse.policies.flows.totals import Totals
from pilothouse.policies.rules import Direction

WEB = FlowEnd(EndKind.POD, "shop", "web")
API = FlowEnd(EndKind.POD, "shop", "api")
ALLOW, DENY, UNKNOWN = Observed.ALLOW, Observed.DENY, Observed.UNKNOWN
SOURCE, DESTINATION = Direction.EGRESS, Direction.INGRESS
View = tuple[Observed, Direction | None, int]


def seen(action: Observed, reporter: Direction | None, started: int, **more: object) -> Seen:
    amounts = Amounts(started, 0, started * 100, started * 2, 10.0, 20.0)
    return Seen(WEB, API, 6, 80, action, reporter, amounts, **more)  # type: ignore[arg-type]


def totalled(*records: Seen) -> tuple[Flow, ...]:
    totals = Totals()
    for record in records:
        totals.add(record)
    assert totals.records() == len(records)
    return totals.flows()


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([(ALLOW, SOURCE, 5)], [(ALLOW, 5, SOURCE)]),
        ([(ALLOW, DESTINATION, 5)], [(ALLOW, 5, DESTINATION)]),
        ([(ALLOW, None, 5)], [(ALLOW, 5, None)]),
        # The same five connections, seen twice.
        ([(ALLOW, SOURCE, 5), (ALLOW, DESTINATION, 5)], [(ALLOW, 5, None)]),
        ([(ALLOW, SOURCE, 5), (ALLOW, DESTINATION, 7)], [(ALLOW, 5, None)]),
        # What the destination's node dropped, the source's had let out before.
        ([(DENY, SOURCE, 3)], [(DENY, 3, SOURCE)]),
        ([(ALLOW, SOURCE, 2), (DENY, DESTINATION, 2)], [(DENY, 2, DESTINATION)]),
        ([(ALLOW, SOURCE, 6), (DENY, DESTINATION, 2)], [(ALLOW, 4, SOURCE), (DENY, 2, DESTINATION)]),
        (
            [(ALLOW, SOURCE, 6), (ALLOW, DESTINATION, 4), (DENY, DESTINATION, 2), (DENY, SOURCE, 3)],
            [(ALLOW, 4, None), (DENY, 5, None)],
        ),
        # Reports that do not say from where count only alone.
        ([(ALLOW, SOURCE, 5), (ALLOW, None, 50)], [(ALLOW, 5, SOURCE)]),
        ([(UNKNOWN, SOURCE, 1), (UNKNOWN, DESTINATION, 1)], [(UNKNOWN, 1, None)]),
    ],
)
def test_both_nodes_report_one_connection(views: list[View], expected: list[View]) -> None:
    found = totalled(*(seen(*view) for view in views))
    assert [(flow.action, flow.count, flow.reporter) for flow in found] == expected


def test_bytes_come_from_the_report_whose_connections_count() -> None:
    (flow,) = totalled(seen(ALLOW, SOURCE, 5), seen(ALLOW, DESTINATION, 7))
    assert (flow.bytes, flow.packets) == (500, 10)
    denied = [flow for flow in totalled(seen(DENY, SOURCE, 5), seen(DENY, DESTINATION, 7)) if flow.action is DENY]
    assert [(flow.bytes, flow.packets) for flow in denied] == [(1200, 24)]


def test_rules_and_times_come_from_both() -> None:
    one, two = PolicyHit("Profile", "kns.shop"), PolicyHit("NetworkPolicy", "api", "shop")
    (flow,) = totalled(
        seen(ALLOW, SOURCE, 5, enforced=(one,)), seen(ALLOW, DESTINATION, 5, enforced=(one, two), pending=(two,))
    )
    assert flow.enforced == (one, two)
    assert flow.pending == (two,)
    assert (flow.first_seen, flow.last_seen) == (10.0, 20.0)


def test_a_long_connection_is_one_in_every_window() -> None:
    totals = Totals()
    for _ in range(10):
        totals.add(Seen(WEB, API, 6, 80, ALLOW, SOURCE, Amounts(0, 3, 100)))
    assert [(flow.count, flow.bytes) for flow in totals.flows()] == [(3, 1000)]


def test_a_service_is_named_when_it_is_the_only_one() -> None:
    assert totalled(seen(ALLOW, SOURCE, 1, service="shop/api"), seen(ALLOW, SOURCE, 1))[0].service == "shop/api"
    both = totalled(seen(ALLOW, SOURCE, 1, service="shop/api"), seen(ALLOW, SOURCE, 1, service="shop/old"))
    assert both[0].service == ""


def test_labels_are_those_that_were_always_there() -> None:
    always, once = ("app", "web"), ("pod-template-hash", "7d98456675")
    found = totalled(
        seen(ALLOW, SOURCE, 1, source_labels=(always, once)),
        seen(ALLOW, SOURCE, 1),
        seen(ALLOW, SOURCE, 1, source_labels=(always,)),
    )
    assert found[0].source.labels == (always,)
    assert found[0].destination.labels == ()


ENDS = st.sampled_from([FlowEnd(EndKind.POD, "shop", name) for name in "abc"] + [FlowEnd(EndKind.PUBLIC)])
MOMENTS = st.none() | st.integers(1, 50).map(float)
RECORDS = st.builds(
    Seen,
    source=ENDS,
    destination=ENDS,
    protocol=st.sampled_from((6, 17)),
    port=st.sampled_from((80, 443)),
    action=st.sampled_from(list(Observed)),
    reporter=st.sampled_from((SOURCE, DESTINATION, None)),
    amounts=st.builds(
        Amounts, st.integers(0, 9), st.integers(0, 9), st.integers(0, 999), st.integers(0, 9), MOMENTS, MOMENTS
    ),
    service=st.sampled_from(("", "shop/a")),
    source_labels=st.sampled_from(((), (("a", "1"),), (("b", "2"),), (("a", "1"), ("b", "2")))),
)


@given(records=st.lists(RECORDS, max_size=25), seed=st.integers(0, 99))
@settings(max_examples=150)
def test_the_order_changes_nothing(records: list[Seen], seed: int) -> None:
    shuffled = list(records)
    random.Random(seed).shuffle(shuffled)
    assert totalled(*records) == totalled(*shuffled)


@given(records=st.lists(RECORDS, max_size=25))
@settings(max_examples=150)
def test_every_connection_is_there_once_and_none_is_invented(records: list[Seen]) -> None:
    found = totalled(*records)
    keys = [(flow.source.sort_key, flow.destination.sort_key, flow.protocol, flow.port, flow.action) for flow in found]
    assert len(set(keys)) == len(keys)
    given_keys = {
        (one.source.sort_key, one.destination.sort_key, one.protocol, one.port, one.action) for one in records
    }
    assert set(keys) <= given_keys
    assert {key[:4] for key in keys} == {key[:4] for key in given_keys}, "a connection is never lost altogether"
    assert all(flow.count >= 1 for flow in found)
    assert sum(flow.bytes for flow in found) <= sum(one.amounts.bytes for one in records)


@given(records=st.lists(RECORDS, max_size=20))
@settings(max_examples=100)
def test_one_reporter_alone_is_a_plain_sum(records: list[Seen]) -> None:
    own = [record for record in records if record.reporter is SOURCE]
    found = totalled(*own)
    assert sum(flow.bytes for flow in found) == sum(one.amounts.bytes for one in own)
    assert sum(flow.packets for flow in found) == sum(one.amounts.packets for one in own)
