"""Whose turn a job is: claims, leases, fences, failures."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pilothouse.problems import Conflict, Invalid
from pilothouse.store import Store, jobs, settings
from pilothouse.store.jobs import CUT_SHORT, Claim, JobState

EVERY = timedelta(minutes=5)
SHORT = timedelta(seconds=0.2)


def now() -> datetime:
    """Leases are held against the database's clock where it has one, so a clock that stands still will not do."""
    return datetime.now(UTC)


def announced(store: Store, *names: str) -> datetime:
    moment = now()
    for name in names or ("render",):
        jobs.announce(store, name, name.title(), "every 5 minutes", moment)
    return moment


def claimed(store: Store, holder: str, lease: timedelta = jobs.LEASE) -> Claim:
    held = jobs.claim(store, "render", holder, now(), EVERY, lease)
    assert held is not None
    return held


def the_job(store: Store) -> jobs.Job:
    (job,) = jobs.everything(store)
    return job


def test_the_life_of_a_job(store: Store) -> None:
    moment = announced(store)
    assert (the_job(store).state, the_job(store).next_run_at) == (JobState.WAITING, moment)
    assert jobs.waiting(store, now()) == ("render",)
    held = claimed(store, "one")
    assert (held.fence, held.before, held.taken_over) == (1, "", False)
    job = the_job(store)
    assert (job.state, job.holder) == (JobState.RUNNING, "one")
    assert jobs.waiting(store, now()) == ()
    next_run_at = jobs.finish(store, held, JobState.OK, "4 clusters", now(), EVERY)
    job = the_job(store)
    assert (job.state, job.message, job.next_run_at) == (JobState.OK, "4 clusters", next_run_at)
    assert job.seconds is not None
    assert next_run_at is not None
    assert jobs.waiting(store, now()) == ()
    assert jobs.claim(store, "render", "one", now(), EVERY) is None, "it is not due"
    assert jobs.waiting(store, next_run_at) == ("render",)


def test_what_is_asked_for_runs_once_and_at_once(store: Store) -> None:
    announced(store)
    jobs.finish(store, claimed(store, "one"), JobState.OK, "", now(), EVERY)
    jobs.request(store, "render", "peggy", now())
    assert jobs.requested(store) == jobs.waiting(store, now()) == ("render",)
    held = claimed(store, "one")
    assert held.asked_by == "peggy"
    assert jobs.requested(store) == ()
    # Asked for during a run: the run may have read the old state, so another one follows.
    jobs.request(store, "render", "olga", now())
    assert jobs.waiting(store, now()) == ()
    jobs.finish(store, held, JobState.OK, "", now(), EVERY)
    assert jobs.waiting(store, now()) == ("render",)
    jobs.finish(store, claimed(store, "one"), JobState.OK, "", now(), EVERY)
    assert jobs.waiting(store, now()) == ()


def test_an_unknown_job(store: Store) -> None:
    with pytest.raises(Invalid, match="no job"):
        jobs.request(store, "dance", "peggy", now())
    assert jobs.claim(store, "dance", "one", now(), EVERY) is None


def test_of_many_workers_one_has_the_run(where: Path | str, store: Store) -> None:
    announced(store)
    stores = [Store(where) for _ in range(4)]
    barrier = threading.Barrier(8)

    def attempt(number: int) -> Claim | None:
        barrier.wait()
        return jobs.claim(stores[number % 4], "render", f"worker {number}", now(), EVERY)

    with ThreadPoolExecutor(8) as pool:
        found = [held for held in pool.map(attempt, range(8)) if held is not None]
    assert len(found) == 1
    assert the_job(store).holder == found[0].holder
    for each in stores:
        each.close()


def test_a_lease_that_has_passed_is_taken_over(store: Store) -> None:
    announced(store)
    first = claimed(store, "one", SHORT)
    assert jobs.claim(store, "render", "two", now(), EVERY) is None
    time.sleep(2 * SHORT.total_seconds())
    assert jobs.waiting(store, now()) == ("render",)
    second = claimed(store, "two")
    assert (second.before, second.taken_over, second.fence) == ("one", True, 2)
    # The first one wakes up.
    assert not jobs.beat(store, first, now())
    with pytest.raises(Conflict, match="another worker has taken the job render over"):
        jobs.finish(store, first, JobState.OK, "too late", now(), EVERY)
    assert the_job(store).holder == "two"
    jobs.finish(store, second, JobState.OK, "in time", now(), EVERY)
    assert the_job(store).message == "in time"
    # What is over is over: its end is recorded once.
    with pytest.raises(Conflict):
        jobs.finish(store, second, JobState.FAILED, "again", now(), EVERY)
    assert not jobs.beat(store, second, now())


def test_a_heartbeat_keeps_the_lease(store: Store) -> None:
    announced(store)
    held = claimed(store, "one", SHORT)
    assert jobs.beat(store, held, now(), timedelta(minutes=1))
    time.sleep(2 * SHORT.total_seconds())
    assert jobs.waiting(store, now()) == ()
    assert jobs.claim(store, "render", "two", now(), EVERY) is None


def test_nothing_that_a_run_writes_outlives_its_claim(store: Store) -> None:
    announced(store)
    held = claimed(store, "one", SHORT)
    with store.guarded(lambda connection: jobs.require(connection, held)):
        settings.put(store, "found", "by one", now())
        time.sleep(2 * SHORT.total_seconds())
        claimed(store, "two")
        with pytest.raises(Conflict, match="taken the job render over"):
            settings.put(store, "found", "by one, too late", now())
    assert settings.get(store, "found") == "by one"
    settings.put(store, "found", "outside of any run", now())


def test_a_guard_is_that_of_its_thread(store: Store) -> None:
    def refuse(_: object) -> None:
        raise Conflict("refused")

    with store.guarded(refuse), ThreadPoolExecutor(1) as pool:
        pool.submit(settings.put, store, "a", 1, now()).result()
        with pytest.raises(Conflict, match="refused"):
            settings.put(store, "a", 2, now())
    assert settings.get(store, "a") == 1


def test_the_worker_that_ran_it_last_goes_first(store: Store) -> None:
    announced(store)
    jobs.finish(store, claimed(store, "one"), JobState.OK, "", now(), EVERY)
    moment = now()
    jobs.request(store, "render", "peggy", moment)
    patience = timedelta(seconds=1)
    assert jobs.claim(store, "render", "two", moment, EVERY, patience=patience) is None
    later = moment + patience
    assert jobs.claim(store, "render", "two", later, EVERY, patience=patience) is not None


def test_failures_are_counted_since_the_first_of_them(store: Store) -> None:
    announced(store)
    first: datetime | None = None
    for count in (1, 2, 3):
        held = claimed(store, "one")
        moment = now()
        first = first or moment
        next_run_at = jobs.finish(store, held, JobState.FAILED, "no server", moment, EVERY)
        job = the_job(store)
        assert (job.failures, job.failing_since) == (count, first)
        assert next_run_at == job.next_run_at == moment + jobs.pause(count, EVERY)
        jobs.request(store, "render", "peggy", moment)
    jobs.finish(store, claimed(store, "one"), JobState.PROBLEMS, "found something", now(), EVERY)
    job = the_job(store)
    assert (job.failures, job.failing_since) == (0, None), "what found something has run"


@pytest.mark.parametrize(
    ("every", "minutes"),
    [
        (timedelta(seconds=30), [0.5, 1, 2, 4, 5, 5]),
        (timedelta(minutes=5), [1, 2, 4, 5, 5]),
        (timedelta(hours=12), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 720, 720]),
    ],
)
def test_a_failed_job_is_tried_again_less_and_less_often(every: timedelta, minutes: list[float]) -> None:
    found = [jobs.pause(count, every) / timedelta(minutes=1) for count in range(1, len(minutes) + 1)]
    assert found == minutes
    assert jobs.pause(10_000, every) == timedelta(minutes=minutes[-1])


def test_a_second_worker_leaves_what_the_first_one_planned(store: Store) -> None:
    announced(store)
    planned = jobs.finish(store, claimed(store, "one"), JobState.OK, "", now(), EVERY)
    jobs.announce(store, "render", "Render all", "every 5 minutes", now())
    job = the_job(store)
    assert (job.title, job.next_run_at, job.state) == ("Render all", planned, JobState.OK)
    moment = now()
    jobs.announce(store, "render", "Render all", "every hour", moment)
    assert the_job(store).next_run_at == moment, "another period is planned anew"


def test_a_run_that_the_end_of_the_only_worker_cut_short(store: Store) -> None:
    later = now() + EVERY
    announced(store)
    claimed(store, "one")
    jobs.register(store, "render", "Render all", "every hour", later)
    job = the_job(store)
    assert (job.state, job.message) == (JobState.FAILED, CUT_SHORT)
    assert (job.title, job.schedule, job.next_run_at) == ("Render all", "every hour", later)
