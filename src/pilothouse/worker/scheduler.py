"""APScheduler runs the jobs; the store remembers what came of each, and takes requests to run one now.

One worker runs on a data folder: a second one is refused by a lock on a file in it. The schedule lives in
memory, because it is the same after every start; results live in the store.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from datetime import datetime
from pathlib import Path
from types import FrameType

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from pilothouse.problems import Conflict, PilothouseError
from pilothouse.store import jobs
from pilothouse.store.jobs import JobState
from pilothouse.workflows import upkeep
from pilothouse.workflows.upkeep import Job, Outcome, Upkeep

log = structlog.get_logger(__name__)
POLL_SECONDS = 1.0
LOCK = "worker.lock"


class Worker:
    """Runs the jobs until `stop`. `poll` is how often requested runs are looked for, in seconds."""

    def __init__(self, context: Upkeep, all_jobs: tuple[Job, ...] = upkeep.JOBS, poll: float = POLL_SECONDS) -> None:
        self.context = context
        self.jobs = {job.name: job for job in all_jobs}
        self._poll = poll
        self._stopped = threading.Event()
        # One thread: jobs share the platform that was read, and none is so urgent that two must run at once.
        self._scheduler = BackgroundScheduler(timezone="UTC", executors={"default": ThreadPoolExecutor(1)})

    def run(self) -> None:
        """Run every job once, then each in its period, until `stop` is called."""
        lock = claim(self.context.data)
        try:
            now = self.context.clock()
            for number, job in enumerate(self.jobs.values()):
                self._scheduler.add_job(
                    self.run_job,
                    IntervalTrigger(seconds=int(job.every.total_seconds()), timezone="UTC"),
                    args=[job.name],
                    id=job.name,
                    next_run_time=now.replace(microsecond=number),  # at once, in the order of the table
                    max_instances=1,
                    coalesce=True,
                    misfire_grace_time=None,
                )
                jobs.register(self.context.store, job.name, job.title, _period(job), now)
            self._scheduler.start()
            log.info("worker started", jobs=list(self.jobs))
            while not self._stopped.wait(self._poll):
                self._look_for_requests()
        finally:
            if self._scheduler.running:
                self._scheduler.shutdown(wait=True)
            os.close(lock)
            log.info("worker stopped")

    def stop(self) -> None:
        self._stopped.set()

    def run_job(self, name: str) -> Outcome:
        """Run one job now and remember what came of it. Without the store it waits for its next turn."""
        try:
            return self._run(self.jobs[name])
        except PilothouseError as failure:
            log.warning("job put off", job=name, reason=failure.message)
            return Outcome(JobState.FAILED, failure.message)

    def _run(self, job: Job) -> Outcome:
        name, store, clock = job.name, self.context.store, self.context.clock
        jobs.started(store, name, clock())
        try:
            outcome = upkeep.run(job, self.context)
        except Exception as failure:
            # A mistake of ours in one job must not end the others; it is shown on the page and logged whole.
            log.exception("job failed", job=name)
            outcome = Outcome(JobState.FAILED, f"a mistake of ours: {type(failure).__name__}: {failure}")
        jobs.finished(store, name, outcome.state, outcome.message, clock(), self._next(name))
        log.info("job", job=name, state=outcome.state.value, message=outcome.message)
        return outcome

    def _next(self, name: str) -> datetime | None:
        planned = self._scheduler.get_job(name)
        return planned.next_run_time if planned else None

    def _look_for_requests(self) -> None:
        try:
            wanted = jobs.requested(self.context.store)
        except PilothouseError as failure:
            log.warning("requests not read", reason=failure.message)
            return
        for name in wanted:
            planned = self._scheduler.get_job(name)
            if planned is not None and planned.next_run_time > self.context.clock():
                planned.modify(next_run_time=self.context.clock())


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
        raise Conflict(f"another worker runs on {data}", "end it first: one worker does all the jobs") from None
    return handle


def until_signalled(worker: Worker) -> None:
    """Run the worker until SIGTERM or SIGINT."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    worker.run()
