"""What two readings of the log store say, and what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.builders import cluster, inputs, pod, service

from pilothouse.collectors import logging
from pilothouse.collectors.logging import figures, judging
from pilothouse.collectors.logging.figures import Health, IndexFigures, NodeFigures, Reading, Writer, Written
from pilothouse.collectors.logging.store import Abilities
from pilothouse.platform.model import Logs

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
GIB = 1024**3
NODE = NodeFigures(
    identity="a",
    name="es-0",
    roles=("data",),
    started=1_795_000_000_000,
    active=2,
    queued=3,
    completed=100,
    rejected=5,
    in_flight=1000,
    in_flight_limit=10_000,
    pressure_rejections=1,
    heap_used=GIB,
    heap_most=4 * GIB,
    tripped=0,
    disk_free=50,
    disk_total=100,
    indexed=1_000,
)


def reading(*nodes: NodeFigures, at: datetime = NOW, **fields: Any) -> Reading:
    given: dict[str, Any] = {"health": Health("green", 1, 1, 0, 0), "indices": (), "written": ()}
    return Reading(at, nodes=nodes, **(given | fields))


def test_pressure_from_one_reading() -> None:
    found = figures.pressure(reading(NODE), None, 4000)
    assert (found.in_flight, found.limit, found.queued, found.share) == (1000, 10_000, 3, 0.25)
    assert found.rejections is found.indexed is None


def test_pressure_between_two_readings() -> None:
    later = replace(NODE, rejected=9, pressure_rejections=3, indexed=1_500)
    found = figures.pressure(reading(later, at=NOW + timedelta(seconds=10)), reading(NODE), 4000)
    assert (found.rejections, found.indexed, found.seconds) == (6, 50.0, 10.0)


@pytest.mark.parametrize("shift", [-60_000, 60_000, 3_600_000])
def test_a_node_that_started_anew_counts_from_zero(shift: int) -> None:
    later = replace(NODE, started=NODE.started + shift, rejected=2, pressure_rejections=0, indexed=40)
    found = figures.pressure(reading(later, at=NOW + timedelta(seconds=10)), reading(NODE), 4000)
    assert (found.rejections, found.indexed) == (2, 4.0)


@pytest.mark.parametrize("shift", [-900, 0, 900])
def test_a_start_that_is_some_milliseconds_off_is_the_same_start(shift: int) -> None:
    later = replace(NODE, started=NODE.started + shift)
    found = figures.pressure(reading(later, at=NOW + timedelta(seconds=10)), reading(NODE), 4000)
    assert (found.rejections, found.indexed) == (0, 0.0)


def test_indices_are_put_together_by_their_target() -> None:
    old = IndexFigures("logs-30d-000001", "logs-30d", 100, 1000, 100, 0)
    new = IndexFigures("logs-30d-000002", "logs-30d", 50, 400, 50, 2)
    other = IndexFigures("logs-7d-000001", "logs-7d", 7, 9000, 7, 0)
    before = reading(indices=(replace(old, documents=90), other))
    found = figures.targets(reading(indices=(old, new, other), at=NOW + timedelta(seconds=10)), before)
    assert [(item.name, item.indices, item.documents, item.size, item.failed, item.rate) for item in found] == [
        ("logs-7d", 1, 7, 9000, 0, 0.0),
        ("logs-30d", 2, 150, 1400, 2, 6.0),
    ]
    assert figures.targets(reading(indices=(other,)))[0].rate is None


def test_writers_are_held_against_what_they_declare() -> None:
    given = inputs(
        [service("pay/api", logs=Logs(rate=1000, retention_days=80)), service("pay/idle")],
        pods=[pod("pay/api.1"), pod("pay/api.2"), pod("pay/stranger.1")],
    )
    analysis = logging.analyse(given)
    assert analysis.settings is not None
    assert analysis.treatments is not None
    wrote = [Written("pay/api", 10, 5000, 5, 1500.0), Written("pay/_", 3, 300, 3, 9.0)]
    services = figures.declared(given, analysis.settings, analysis.treatments.services)
    found = figures.writers_of(services, wrote)
    assert [(item.service, item.team, item.rate, item.declared, item.pods) for item in found] == [
        ("pay/api", "pay", 1500.0, 2000.0, 2),
        ("pay/_", "", 9.0, 0.0, 0),
        ("pay/idle", "pay", 0.0, 51200.0, 0),
    ]
    # It asks for 80 days, and the first class that keeps so long is that of 90.
    assert (found[0].days, found[0].target, found[0].share) == (90, "pilothouse-logs-90d", 0.75)


WRITER = Writer("pay/api", "pay", 1, 1, 50.0, 100.0, 1, 30, "logs-30d")
WHOLE = Abilities("8.19.16", frozenset(("x-pack-ilm",)))


def found_codes(now: Reading, *writers: Writer, able: Abilities = WHOLE, before: Reading | None = None) -> list[str]:
    declared = cluster()
    declared = replace(declared, logging=replace(declared.logging, heap_bytes=4 * GIB))
    press = figures.pressure(now, before, 4000)
    return sorted(problem.code for problem in judging.judge(declared, now, press, writers, able))


def test_nothing_is_wrong_with_a_store_that_is_well() -> None:
    assert found_codes(reading(NODE), WRITER, before=reading(NODE, at=NOW - timedelta(seconds=5))) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"in_flight": 4001}, "logging/above-setpoint"),
        ({"disk_free": 10}, "logging/disk-almost-full"),
        ({"heap_most": 2 * GIB}, "logging/heap-smaller"),
        ({"rejected": 6}, "logging/store-rejects"),
    ],
)
def test_what_is_wrong_with_a_node_is_named(change: dict[str, Any], code: str) -> None:
    before = reading(NODE, at=NOW - timedelta(seconds=5))
    assert found_codes(reading(replace(NODE, **change)), before=before) == [code]


@pytest.mark.parametrize("status", ["yellow", "red"])
def test_health_is_a_finding(status: str) -> None:
    assert found_codes(reading(NODE, health=Health(status, 1, 1, 2, 0))) == ["logging/store-unhealthy"]


def test_who_writes_too_much_and_what_never_ends() -> None:
    assert found_codes(reading(NODE), replace(WRITER, rate=111.0)) == ["logging/writes-too-much"]
    assert found_codes(reading(NODE), replace(WRITER, rate=109.0)) == []
    assert found_codes(reading(NODE), replace(WRITER, team="", declared=0.0, rate=1e9)) == []
    assert found_codes(reading(NODE), able=Abilities("8.19.16")) == ["logging/no-lifecycle"]
