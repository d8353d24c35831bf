"""Workers as real processes on one PostgreSQL: each run is one worker's, whatever happens to the others."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.bed.process import free_port
from support.egress_world import write
from support.installation import Running, started, until
from support.stores import migrated

from pilothouse.files.git import init
from pilothouse.store import Store, events, jobs
from pilothouse.store.events import Event, Filter
from pilothouse.store.jobs import Job, JobState

WORKER = """
import json, sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from pilothouse.store import Store, events
from pilothouse.store.events import Event
from pilothouse.store.jobs import JobState
from pilothouse.worker.scheduler import Worker, until_signalled
from pilothouse.workflows import upkeep

asked = json.loads(sys.stdin.read())
data = Path(asked["data"])
data.mkdir(parents=True, exist_ok=True)
store = Store(asked["url"])

def now():
    return datetime.now(UTC)

def job(name, every, seconds):
    def run(context):
        events.record(store, Event(now(), "run.begin", worker.name, name))
        time.sleep(seconds)
        while name == "long" and Path(asked["hold"]).exists():
            time.sleep(0.02)
        events.record(store, Event(now(), "run.end", worker.name, name))
        return upkeep.Outcome(JobState.OK, "done by " + worker.name)
    return upkeep.Job(name, name, timedelta(seconds=every), run)

context = upkeep.Upkeep(store, data, data, now, lambda *_: None)
table = tuple(job(name, *times) for name, times in asked["jobs"].items())
worker = Worker(context, table, lease=timedelta(seconds=asked["lease"]))
print("worker " + worker.name)
until_signalled(worker)
"""


@pytest.fixture
def url(postgresql: Any) -> Iterator[str]:
    with migrated(postgresql) as made:
        yield made


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = Store(url)
    yield made
    made.close()


def worker(
    url: str, data: Path, table: dict[str, tuple[float, float]], lease: float = 2.0
) -> AbstractContextManager[Running]:
    """A worker whose jobs, name → (period, seconds that it takes), do nothing but say so.

    The job `long` does not end while there is a file `hold` beside the data folders.
    """
    asked = {"url": url, "data": str(data), "jobs": table, "lease": lease, "hold": str(data.parent / "hold")}
    return started("-c", WORKER, stdin=json.dumps(asked))


def name_of(running: Running) -> str:
    return running.says(r"^worker (\S+)").group(1)


def happened(store: Store, kind: str, job: str = "") -> list[Event]:
    found, _ = events.find(store, Filter(kind=kind, subject=job), limit=1000)
    return sorted(found, key=lambda event: event.id)


def row(store: Store, name: str) -> Job:
    return next(job for job in jobs.everything(store) if job.name == name)


def test_no_job_runs_twice(store: Store, url: str, tmp_path: Path) -> None:
    table = dict.fromkeys(("one", "two", "three"), (1.0, 0.1))
    began = time.monotonic()
    with worker(url, tmp_path / "a", table) as first, worker(url, tmp_path / "b", table) as second:
        names = {name_of(first), name_of(second)}
        until(lambda: len(happened(store, "run.end")) >= 15, "fifteen runs")
    elapsed = time.monotonic() - began
    for job in table:
        begins, ends = happened(store, "run.begin", job), happened(store, "run.end", job)
        assert len(begins) == len(ends) == row(store, job).fence
        assert len(begins) <= elapsed + 1, "twice as many if each worker ran it"
        steps = sorted([*begins, *ends], key=lambda event: event.id)
        kinds = [event.kind for event in steps]
        assert kinds == ["run.begin", "run.end"] * len(begins), "one run ends before the next one begins"
        assert {event.actor for event in steps} <= names


def test_what_is_asked_for_runs_exactly_once(store: Store, url: str, tmp_path: Path) -> None:
    table = {"render": (3600.0, 0.0), "reload": (3600.0, 0.0)}
    rounds = 20
    with worker(url, tmp_path / "a", table), worker(url, tmp_path / "b", table):
        until(lambda: len(happened(store, "run.end")) == len(table), "the first run of each")
        waits = []
        for number in range(rounds):
            for name in table:
                jobs.request(store, name, f"person-{number}", datetime.now(UTC))
            began = time.monotonic()
            until(lambda: not jobs.requested(store), "both have begun")
            waits.append(time.monotonic() - began)
            until(lambda: all(row(store, name).state is JobState.OK for name in table), "both are done")
        time.sleep(2.5)  # longer than any patience: nobody does it once more
    print(f"from the request to the begin of both runs: at most {max(waits):.2f} s")
    for name in table:
        assert len(happened(store, "run.begin", name)) == rounds + 1


def test_the_jobs_of_a_worker_that_was_killed_are_taken_over(store: Store, url: str, tmp_path: Path) -> None:
    table = {"long": (3600.0, 0.0), "short": (1.0, 0.0)}
    hold = tmp_path / "hold"
    hold.touch()
    with worker(url, tmp_path / "a", table) as first:
        dead = name_of(first)
        until(lambda: happened(store, "run.begin", "long"), "the long job has begun")
        with worker(url, tmp_path / "b", table) as second:
            alive = name_of(second)
            until(
                lambda: happened(store, "run.begin", "short"),
                "the second one does what the first is too busy for",
            )
            first.process.kill()
            killed = time.monotonic()
            until(lambda: len(happened(store, "run.begin", "long")) == 2, "it is taken over", 20)
            print(f"taken over {time.monotonic() - killed:.1f} s after the kill, with a lease of 2 s")
            hold.unlink()
            until(lambda: row(store, "long").state is JobState.OK, "it is done")
    begins, ends = happened(store, "run.begin", "long"), happened(store, "run.end", "long")
    assert [event.actor for event in begins] == [dead, alive]
    assert [event.actor for event in ends] == [alive]
    (taken,) = happened(store, "job.taken-over", "long")
    assert dead in taken.message


def test_a_worker_that_wakes_up_late_records_nothing(store: Store, url: str, tmp_path: Path) -> None:
    table = {"long": (3600.0, 0.0)}
    hold = tmp_path / "hold"
    hold.touch()
    with worker(url, tmp_path / "a", table) as first:
        sleeper = name_of(first)
        until(lambda: happened(store, "run.begin", "long"), "it has begun")
        with worker(url, tmp_path / "b", table) as second:
            other = name_of(second)
            os.kill(first.process.pid, signal.SIGSTOP)
            until(lambda: row(store, "long").holder == other, "it is taken over", 20)
            os.kill(first.process.pid, signal.SIGCONT)
            hold.unlink()
            first.says("another worker has taken the job long over")
            assert (row(store, "long").holder, row(store, "long").fence) == (other, 2)
            until(lambda: row(store, "long").state is JobState.OK, "it is done")
            assert row(store, "long").message == f"done by {other}"
            # The one that slept is a worker like any other again.
            second.process.kill()
            jobs.request(store, "long", "peggy", datetime.now(UTC))
            until(lambda: row(store, "long").holder == sleeper, "it runs the next one", 20)
    assert happened(store, "run.end", "long")[0].actor == other


def test_a_database_that_is_away_at_the_end_of_a_run(tmp_path: Path, postgresql: Any) -> None:
    own = postgresql.fresh()
    table = {"long": (3600.0, 0.0)}
    hold = tmp_path / "hold"
    hold.touch()
    with own.database("away") as url:
        store = Store(url)
        store.migrate()
        with worker(url, tmp_path / "a", table, lease=30) as only:
            name = name_of(only)
            until(lambda: happened(store, "run.begin", "long"), "it has begun")
            # `run.end` is written by the job itself, which meets the outage; the worker goes on.
            own.stop()
            only.says("turns not read")
            hold.unlink()
            time.sleep(2.5)
            own.server.start()
            until(lambda: row(store, "long").state is not JobState.RUNNING, "its end is recorded")
            found = row(store, "long")
            assert (found.state, found.fence) == (JobState.FAILED, 1)
            assert "nobody listens there" in found.message
            assert found.failures == 1
            until(lambda: row(store, "long").holder == name, "it is still the one")
            assert only.process.poll() is None
        store.close()


def test_two_whole_workers(store: Store, url: str, tmp_path: Path) -> None:
    """`pilothouse worker` itself: each renders into its own folder, and one of them records each run."""
    platform = tmp_path / "platform"
    platform.mkdir()
    write(platform)
    init(platform).commit_all("The platform", "test", "test@localhost")
    database = tmp_path / "database"
    database.touch(mode=0o600)
    database.write_text(url)
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        for number, port in enumerate(ports):
            arguments = ("--data", tmp_path / f"data-{number}", "--database-file", database, "--platform", platform)
            stack.enter_context(started("-m", "pilothouse", "worker", *arguments, "--metrics-port", port))

        def all_ran() -> bool:
            found = jobs.everything(store)
            return bool(found) and all(job.finished_at and job.state is not JobState.RUNNING for job in found)

        until(all_ran, "every job has run", 120)
        for number in range(2):
            folder = tmp_path / f"data-{number}" / "rendered"
            until(lambda folder=folder: (folder / "prod").is_dir(), f"{folder} is rendered")
        # What a portal asks for after a commit is done in every folder: each has a copy of its own.
        for number in range(2):
            (tmp_path / f"data-{number}" / "rendered" / "prod" / "stray").touch()
        jobs.request(store, "render", "peggy", datetime.now(UTC))
        for number in range(2):
            stray = tmp_path / f"data-{number}" / "rendered" / "prod" / "stray"
            until(lambda stray=stray: not stray.exists(), f"{stray} is gone")
        numbers = [
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode() for port in ports
        ]
    counted = sum('pilothouse_job_runs_total{job="remind"' in text for text in numbers)
    assert counted == 1, "one of them has run it"
    assert row(store, "remind").fence == 1
