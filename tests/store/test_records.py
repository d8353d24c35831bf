"""Jobs, events, findings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pilothouse.problems import Invalid, Place, error, info, warning
from pilothouse.store import Store, events, findings, jobs
from pilothouse.store.events import Event, Filter
from pilothouse.store.jobs import JobState

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "data")
    made.migrate()
    return made


def test_the_life_of_a_job(store: Store) -> None:
    jobs.register(store, "render", "Render", "every 5 minutes", LATER)
    (job,) = jobs.everything(store)
    assert (job.state, job.next_run_at) == (JobState.WAITING, LATER)
    jobs.request(store, "render", "peggy", NOW)
    assert jobs.requested(store) == ("render",)
    jobs.started(store, "render", NOW)
    assert jobs.requested(store) == ()
    jobs.finished(store, "render", JobState.OK, "4 clusters", NOW + timedelta(seconds=3), LATER)
    (job,) = jobs.everything(store)
    assert (job.state, job.message, job.seconds) == (JobState.OK, "4 clusters", 3.0)


def test_a_run_that_the_end_of_the_worker_cut_short(store: Store) -> None:
    jobs.register(store, "render", "Render", "every 5 minutes", LATER)
    jobs.started(store, "render", NOW)
    jobs.register(store, "render", "Render all", "every hour", LATER)
    (job,) = jobs.everything(store)
    assert job.state is JobState.FAILED
    assert "ended during" in job.message
    assert (job.title, job.schedule) == ("Render all", "every hour")


def test_an_unknown_job(store: Store) -> None:
    with pytest.raises(Invalid, match="no job"):
        jobs.request(store, "dance", "peggy", NOW)


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
