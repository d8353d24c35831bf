"""Days that are kept come to exactly what the lines do, whatever comes late and whatever is called expected."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from support.audit_logs import BEGIN, event, read_line
from workflows.test_audit_workflow import Place

from pilothouse.files.audit_settings import AuditSettings
from pilothouse.problems import Conflict
from pilothouse.store import events, schema, unusual
from pilothouse.workflows import audit
from pilothouse.workflows import unusual as scoring

DAYS = 24
USERS = ("alice", "bob")


def line(rng: random.Random, day: int) -> dict[str, Any]:
    """A request or a read of that day; most of them are as usual."""
    minutes = -1440 * (DAYS - day) + rng.choice((0, 1, 5, 60, 61, 600)) + rng.randrange(1000) / 100
    odd = rng.random() < 0.06
    if rng.random() < 0.3:
        path = f"payments/{rng.choice(('database', 'queue') if not odd else ('admin', 'old', 'backup'))}"
        return read_line(minutes, path, request__id=f"r-{rng.getrandbits(60)}")
    return event(
        minutes,
        auditID=f"{rng.getrandbits(60)}",
        user__username=rng.choice(USERS),
        sourceIPs=[f"198.51.100.{rng.randrange(9)}" if odd else "203.0.113.7"],
        userAgent="curl/8" if odd else "kubectl/v1.34.1 (linux/amd64)",
        responseStatus={"code": 403 if odd else 200},
    )


def run(place: Place) -> tuple[unusual.Kept, ...]:
    scoring.run(place.store, place.opened.loaded.platform, AuditSettings(learning_days=3), place.now)
    return unusual.find(place.store)


def same(place: Place) -> bool:
    platform = place.opened.loaded.platform
    return scoring.activities(place.store, platform, place.now) == scoring.activities_of_lines(
        place.store, platform, place.now
    )


@pytest.fixture
def place_of_days(tmp_path: Path) -> Iterator[Place]:
    """Alice at work for twenty days."""
    made = Place(tmp_path)
    made.now = BEGIN + timedelta(hours=4)
    made.read(*(event(-1440 * day, sourceIPs=["203.0.113.7"]) for day in range(20, 0, -1)))
    yield made
    made.store.close()


def _kept(place: Place) -> int:
    with place.store.read() as connection:
        found: int = connection.execute(select(func.count()).select_from(schema.audit_days)).scalar_one()
    return found


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**9), late=st.floats(0, 0.3), each=st.integers(1, 6))
def test_it_comes_to_the_same(seed: int, late: float, each: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        ours, whole = Place(Path(folder) / "a"), Place(Path(folder) / "b")
        held: list[dict[str, Any]] = []
        for day in range(DAYS):
            ours.now = whole.now = BEGIN - timedelta(days=DAYS - day) + timedelta(hours=rng.randrange(16))
            for place in (ours, whole):
                events.record(place.store, events.Event(place.now, "login", "alice", address="203.0.113.7"))
            fresh = [line(rng, day) for _ in range(12)]
            held += [item for item in fresh if rng.random() < late]
            now = [item for item in fresh if item not in held]
            if rng.random() < 0.2:  # what was held back comes, of days that are kept
                now, held = now + held, []
            for place in (ours, whole):
                place.read(*(item for item in now if "request" in item))
                place.read(*(item for item in now if "auditID" in item))
            if day % each == 0:
                run(ours)
                assert same(ours)
                if rng.random() < 0.3:
                    _expect(rng, ours, whole)
        assert _judged(ours) == _judged(whole)
        assert _kept(ours) >= DAYS - 1
        for place in (ours, whole):
            place.store.close()


def _expect(rng: random.Random, ours: Place, whole: Place) -> None:
    """The same is said at both; the other one is not judged until the end."""
    found = [item for item in unusual.find(ours.store) if item.expected is None]
    if not found:
        return
    kept = rng.choice(found)
    unusual.keep(whole.store, [kept.alert])
    for place in (ours, whole):
        audit.expect(place.store, kept.id, "olga", "they told me so", place.now, tuple)


def _judged(place: Place) -> list[Any]:
    from pilothouse.access.unusual import Settings, judge

    found = scoring.activities(place.store, place.opened.loaded.platform, place.now)
    return list(judge(found, unusual.exceptions(place.store), Settings(learning_days=3)))


def test_a_day_is_kept_once_and_made_anew_when_a_line_comes_late(place_of_days: Place) -> None:
    place = place_of_days
    run(place)
    kept = _kept(place)
    assert kept == scoring.WINDOW.days - 1
    place.read(event(-1440 * 3, auditID="late", sourceIPs=["198.51.100.9"]))
    assert _kept(place) == kept - 1
    assert same(place)
    assert _kept(place) == kept
    # A line that is there already forgets nothing; one of today neither.
    place.read(event(-1440 * 3, auditID="late", sourceIPs=["198.51.100.9"]))
    place.read(event(1, auditID="today"))
    assert _kept(place) == kept
    assert same(place)


def test_what_is_kept_goes_with_the_lines(place_of_days: Place) -> None:
    from pilothouse.store import audit as rows

    place = place_of_days
    run(place)
    rows.purge(place.store, place.now + timedelta(days=30))
    with place.store.read() as connection:
        first: datetime = connection.execute(select(func.min(schema.audit_days.c.day))).scalar_one()
    assert first >= place.now - timedelta(days=60)
    place.now += timedelta(days=30)
    assert same(place)


def test_several_that_make_a_day_keep_it_once(place_of_days: Place) -> None:
    from concurrent.futures import ThreadPoolExecutor

    place = place_of_days
    with ThreadPoolExecutor(4) as pool:
        platform = place.opened.loaded.platform
        found = [pool.submit(scoring.activities, place.store, platform, place.now) for _ in range(4)]
        first, *others = [item.result() for item in found]
    assert all(item == first for item in others)
    assert _kept(place) == scoring.WINDOW.days - 1


def test_expected_counts_at_once(place_of_days: Place) -> None:
    place = place_of_days
    lines = [event(-100 + n / 10, sourceIPs=["198.51.100.9"], userAgent="curl/8") for n in range(3)]
    place.read(*lines)
    (kept, *_) = run(place)
    audit.expect(place.store, kept.id, "olga", "they told me so", place.now, tuple)
    assert _judged(place) == []
    with pytest.raises(Conflict, match="olga"):
        audit.expect(place.store, kept.id, "olga", "they told me so", place.now, tuple)
