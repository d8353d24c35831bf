"""Events, findings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pilothouse.problems import Place, error, info, warning
from pilothouse.store import Store, events, findings
from pilothouse.store.events import Event, Filter

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def test_events_are_found_by_every_filter(store: Store) -> None:
    first = Event(NOW, "login", "alice", "", "logged in", "10.0.0.7")
    second = Event(LATER, "login.failed", "bob", "", "wrong 100% of the time", "10.0.0.8", {"n": 1})
    third = Event(LATER, "job.requested", "alice", "render", "asked for a run")
    for item in (first, second, third):
        events.record(store, item)

    def kinds(wanted: Filter) -> list[str]:
        rows, total = events.find(store, wanted)
        assert total == len(rows)
        return [row.kind for row in rows]

    assert kinds(Filter()) == ["job.requested", "login.failed", "login"]
    assert kinds(Filter(actor="alice")) == ["job.requested", "login"]
    assert kinds(Filter(kind="login")) == ["login.failed", "login"]
    assert kinds(Filter(subject="render")) == ["job.requested"]
    assert kinds(Filter(text="100%")) == ["login.failed"]
    assert kinds(Filter(since=LATER)) == ["job.requested", "login.failed"]
    assert kinds(Filter(until=LATER)) == ["login"]
    page, total = events.find(store, limit=1, offset=1)
    assert ([row.kind for row in page], total) == (["login.failed"], 3)
    assert page[0].data == {"n": 1}
    assert events.purge(store, NOW + timedelta(days=401)) == 3


def test_an_event_holds_whatever_was_typed(store: Store) -> None:
    events.record(store, Event(NOW, "login.failed", "al\0ice" + "x" * 300, "s" * 300, "ü" * 3000, "a" * 99))
    ((found,), _) = events.find(store)
    assert (found.actor, found.subject, found.address) == ("al\ufffdice" + "x" * 94, "s" * 200, "a" * 64)
    assert found.message == "ü" * 2000


def test_findings_keep_the_time_since_when(store: Store) -> None:
    lost = error("drift/changed", "a policy was changed", Place("policies/a.yaml", 3, 1), "apply", teams=("payments",))
    idle = info("drift/extra", "a policy is not ours")
    new, resolved = findings.replace(store, "drift", "prod", [idle, lost], NOW)
    assert (set(new), resolved) == ({lost, idle}, 0)
    assert findings.replace(store, "drift", "prod", [lost], LATER) == ((), 1)
    (found,) = findings.current(store)
    assert (found.problem.message, found.problem.cluster, found.first_seen, found.last_seen) == (
        "a policy was changed",
        "prod",
        NOW,
        LATER,
    )
    assert found.problem.teams == ("payments",)
    # What moved within its file is the same finding.
    moved = error("drift/changed", "a policy was changed", Place("policies/a.yaml", 9, 1))
    assert findings.replace(store, "drift", "prod", [moved], LATER) == ((), 0)
    assert findings.current(store)[0].problem.place.line == 9
    # What comes back is new again.
    assert findings.replace(store, "drift", "prod", [moved, idle], LATER) == ((idle,), 0)
    assert {item.first_seen for item in findings.current(store, "prod")} == {NOW, LATER}


def test_findings_of_others_are_left_alone(store: Store) -> None:
    one, two = warning("a/b", "one"), error("a/c", "two")
    findings.replace(store, "drift", "prod", [one], NOW)
    findings.replace(store, "drift", "dev", [two], NOW)
    findings.replace(store, "ledger", "prod", [two], NOW)
    findings.replace(store, "drift", "prod", [], LATER)
    assert [(item.source, item.problem.cluster) for item in findings.current(store)] == [
        ("drift", "dev"),
        ("ledger", "prod"),
    ]
    assert findings.current(store, "uat") == ()
    assert findings.purge(store, NOW + timedelta(days=100)) == 1
