"""APScheduler runs the jobs; the store says whose turn it is, remembers what came of each, and takes requests.

One worker runs on a data folder: a second one is refused by a lock on a file in it. Several workers, each with a folder
of its own, may share a PostgreSQL: every run is claimed by one of them (`store.jobs`), and a worker that was away for
longer than its lease can record nothing any more.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from apscheduler.executors.base import MaxInstancesReachedError
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from pilothouse.problems import Conflict, PilothouseError, Unavailable
from pilothouse.store import events, jobs
from pilothouse.store.jobs import Claim, JobState
from pilothouse.worker.metrics import Metrics
from pilothouse.workflows import upkeep
from pilothouse.workflows.upkeep import Job, Lane, Outcome, Upkeep

log = structlog.get_logger(__name__)
POLL_SECONDS = 0.2
PATIENCE = timedelta(seconds=1)
"""How long a job is left to the worker that ran it last."""
AWAY_SECONDS = 1.0
"""Between two looks at a database that does not answer."""
LOCK = "worker.lock"


class _OneOfEach(ThreadPoolExecutor):  # type: ignore[misc]
    """A lane: one thread. A job that waits for it, or runs, is not put there a second time; `left_out` is told its
    name.

    A period that ends meanwhile, or a look at whose turn it is, is nothing to warn of: the run that waits does what is
    due.
    """

    def __init__(self, left_out: Callable[[str], None]) -> None:
        super().__init__(1)
        self._left_out = left_out

    def submit_job(self, job: Any, run_times: list[datetime]) -> None:
        try:
            super().submit_job(job, run_times)
        except MaxInstancesReachedError:
            self._left_out(job.id)


class Worker:
    """Runs the jobs until `stop`. `poll` is how often it looks whose turn it is, in seconds."""

    def __init__(
        self,
        context: Upkeep,
        all_jobs: tuple[Job, ...] = upkeep.JOBS,
        poll: float = POLL_SECONDS,
        lease: timedelta = jobs.LEASE,
    ) -> None:
        self.context = context
        self.jobs = {job.name: job for job in all_jobs}
        self.name = f"{socket.gethostname()[:60]}/{os.getpid()}/{secrets.token_hex(4)}"
        self.metrics = Metrics()
        self._poll = poll
        self._lease = lease
        self._patience = timedelta(0) if context.store.is_sqlite else PATIENCE
        self._stopped = threading.Event()
        self._busy = {lane: threading.Lock() for lane in Lane}
        self._queued: set[str] = set()
        self._seen: dict[str, int] = {}
        self._made: dict[str, int] = {}
        """Of which run, by its fence, what lies in this worker's folder is the result."""
        # One thread for each lane. Most jobs are in one: they share the platform that was read.
        # A turn that was left out is not queued: where it is still due, the next look brings it forward again.
        executors = {lane.value: _OneOfEach(self._queued.discard) for lane in Lane}
        self._scheduler = BackgroundScheduler(timezone="UTC", executors=executors)

    def run(self) -> None:
        """Run every job once, then each in its period, until `stop` is called."""
        lock = claim(self.context.data)
        try:
            now = self.context.clock()
            for number, job in enumerate(self.jobs.values()):
                self._queued.add(job.name)
                self._scheduler.add_job(
                    self._turn,
                    IntervalTrigger(seconds=int(job.every.total_seconds()), timezone="UTC"),
                    args=[job.name],
                    id=job.name,
                    executor=job.lane.value,
                    next_run_time=now.replace(microsecond=number),  # at once, in the order of the table
                    max_instances=1,
                    coalesce=True,
                    misfire_grace_time=None,
                )
                self._make_known(job, now)
            self._seen = {turn.name: turn.fence for turn in jobs.turns(self.context.store, now)}
            self._scheduler.start()
            log.info("worker started", jobs=list(self.jobs), name=self.name)
            pause = self._poll
            while not self._stopped.wait(pause):
                pause = self._poll if self._look() else AWAY_SECONDS
        finally:
            self._stopped.set()
            if self._scheduler.running:
                # Waiting inside would hold the scheduler's lock, for which a run that ends there asks as well.
                self._scheduler.shutdown(wait=False)
            with ExitStack() as ended:
                for busy in self._busy.values():  # the runs that go on are let end
                    ended.enter_context(busy)
                os.close(lock)
            log.info("worker stopped")

    def stop(self) -> None:
        self._stopped.set()

    def _make_known(self, job: Job, now: datetime) -> None:
        if self.context.store.is_sqlite:
            jobs.register(self.context.store, job.name, job.title, _period(job), now)
        else:
            jobs.announce(self.context.store, job.name, job.title, _period(job), now)

    # ------------------------------------------------------------ turns

    def _look(self) -> bool:
        """Bring forward the jobs whose turn it is, and the local ones that another worker has run since. False where
        the store could not say."""
        now = self.context.clock()
        try:
            turns = jobs.turns(self.context.store, now)
        except PilothouseError as failure:
            log.warning("turns not read", reason=failure.message)
            return False
        for turn in turns:
            name = turn.name
            planned = self._scheduler.get_job(name)
            if planned is None or name in self._queued:
                continue
            elsewhere = self.jobs[name].local and turn.fence != self._seen.get(name)
            self._seen[name] = turn.fence
            if turn.waiting or elsewhere:
                self._queued.add(name)
                planned.modify(next_run_time=now)
        return True

    def _turn(self, name: str) -> None:
        with self._busy[self.jobs[name].lane]:
            try:
                if not self._stopped.is_set() and self.run_job(name) is None and self.jobs[name].local:
                    self._run_here(self.jobs[name])
            finally:
                self._queued.discard(name)

    def _run_here(self, job: Job) -> None:
        """Another worker has the turn and records it; what lies in this one's folder is made here all the same."""
        fence = self._seen.get(job.name, 0)
        if self._made.get(job.name) == fence:
            return
        self._made[job.name] = fence
        outcome = self._outcome(job)
        log.info("job for this worker's folder", job=job.name, state=outcome.state.value, message=outcome.message)

    def run_job(self, name: str) -> Outcome | None:
        """Run one job now, if it is this worker's turn, and remember what came of it; None where it is not.

        Without the store it waits for its next turn.
        """
        job, store = self.jobs[name], self.context.store
        try:
            held = jobs.claim(store, name, self.name, self.context.clock(), job.every, self._lease, self._patience)
            if held is None:
                return None
            self._seen[name] = self._made[name] = held.fence
            if held.taken_over:
                self._say_taken_over(held)
            with self._heartbeat(held), store.guarded(lambda connection: jobs.require(connection, held)):
                return self._run(job, held)
        except PilothouseError as failure:
            log.warning("job put off", job=name, reason=failure.message)
            return Outcome(JobState.FAILED, failure.message)

    def _run(self, job: Job, held: Claim) -> Outcome:
        name, started = job.name, time.monotonic()
        if job.lane is Lane.DEFAULT:  # those of the other lanes run at the same time
            self.context.asked_by = held.asked_by
        outcome = self._outcome(job)
        self.metrics.runs.labels(name, outcome.state.value).inc()
        self.metrics.seconds.labels(name).observe(time.monotonic() - started)
        try:
            next_run_at = self._finish(job, held, outcome)
        except Conflict:
            self.metrics.lost.labels(name).inc()
            raise
        planned = self._scheduler.get_job(name)
        if planned is not None and next_run_at is not None:
            planned.modify(next_run_time=next_run_at)
        log.info("job", job=name, state=outcome.state.value, message=outcome.message)
        return outcome

    def _outcome(self, job: Job) -> Outcome:
        try:
            return upkeep.run(job, self.context)
        except Exception as failure:
            # A mistake of ours in one job must not end the others; it is shown on the page and logged whole.
            log.exception("job failed", job=job.name)
            return Outcome(JobState.FAILED, f"a mistake of ours: {type(failure).__name__}: {failure}")

    def _finish(self, job: Job, held: Claim, outcome: Outcome) -> datetime | None:
        """Record the run. What was done is not done again because the store was away at its end: it is waited for."""
        deadline = time.monotonic() + self._lease.total_seconds()
        while True:
            try:
                return jobs.finish(
                    self.context.store, held, outcome.state, outcome.message, self.context.clock(), job.every
                )
            except Unavailable:
                if time.monotonic() > deadline or self._stopped.wait(AWAY_SECONDS):
                    raise

    # ------------------------------------------------------------ leases

    @contextmanager
    def _heartbeat(self, held: Claim) -> Iterator[None]:
        """Keep the lease while the run goes on, from a thread of its own."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self._lease.total_seconds() / 4):
                try:
                    if not jobs.beat(self.context.store, held, self.context.clock(), self._lease):
                        if done.is_set():
                            return  # the run was recorded in this very moment
                        log.warning("job taken over by another worker", job=held.name)
                        return
                except PilothouseError as failure:
                    log.warning("lease not renewed", job=held.name, reason=failure.message)

        thread = threading.Thread(target=beat, name=f"lease-{held.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _say_taken_over(self, held: Claim) -> None:
        message = f"{held.before or 'a worker'} was heard from no more during a run of {held.name}; it is run again"
        log.warning("job taken over", job=held.name, before=held.before)
        event = events.Event(self.context.clock(), "job.taken-over", "pilothouse", held.name, message)
        events.record(self.context.store, event)


def _period(job: Job) -> str:
    seconds = int(job.every.total_seconds())
    for size, word in ((3600, "hour"), (60, "minute"), (1, "second")):
        if seconds % size == 0:
            count = seconds // size
            return f"every {word}" if count == 1 else f"every {count} {word}s"
    raise AssertionError("a number of seconds is a multiple of one")


def claim(data: Path) -> int:
    """Take the worker's lock on a data folder and return its file descriptor. `Conflict` when another has it."""
    handle = os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Conflict(
            f"another worker runs on {data}", "end it first: each worker has a data folder of its own"
        ) from None
    return handle


def until_signalled(worker: Worker) -> None:
    """Run the worker until SIGTERM or SIGINT."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    worker.run()
