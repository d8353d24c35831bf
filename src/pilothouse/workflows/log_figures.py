"""The figures of the log stores for pages: read in the background, kept for some seconds, shown with their age.

A page never waits for a server: it shows the last good reading, and the reason where a newer one failed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.util import find_spec

from pilothouse.collectors.logging import figures
from pilothouse.collectors.logging.figures import LogFigures, Reading
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Endpoint
from pilothouse.problems import PilothouseError, Unavailable
from pilothouse.workflows import log_store
from pilothouse.workflows.log_store import Declared, Status

EVERY_SECONDS = 10.0
"""A reading younger than that is not read again."""
PATIENCE_SECONDS = 0.3
"""How long the first page may wait for the first reading of all."""


def is_installed() -> bool:
    """Whether the client's library is there."""
    return find_spec("elasticsearch") is not None


def connect(endpoint: Endpoint) -> LogFigures:
    """The client for pages: it gives up sooner than a command's, and asks once. `Unavailable` without its library."""
    try:
        from pilothouse.clients.elasticsearch import Elasticsearch
    except ModuleNotFoundError as missing:
        raise Unavailable(
            f"{endpoint.url} cannot be read: {missing.name} is not installed here", "pip install 'pilothouse[live]'"
        ) from missing
    return Elasticsearch(endpoint, read=4.0, total=6.0)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a cluster's log store.

    `status` is the last good one, None where there was none yet; `reason` says why there is no newer one, "" while all
    is well.
    """

    status: Status | None = None
    reason: str = ""

    def age(self, now: datetime) -> timedelta | None:
        """How old the figures are."""
        return max(now - self.status.at, timedelta()) if self.status is not None else None


@dataclass
class _Kept:
    endpoint: Endpoint
    store: LogFigures
    seen: Seen = field(default_factory=Seen)
    reading: Reading | None = None
    inputs: Inputs | None = None
    said: Declared | None = None
    """What `inputs` say; derived once for each."""
    asked: float = float("-inf")
    """By the monotonic clock: when the last attempt began."""
    busy: bool = False
    ready: threading.Event = field(default_factory=threading.Event)


class LogFiguresWatch:
    """The last reading of each cluster. `clock` gives aware UTC moments. Safe to share between threads."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        connect: Callable[[Endpoint], LogFigures] = connect,
        every: float = EVERY_SECONDS,
        patience: float = PATIENCE_SECONDS,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._connect = connect
        self._every = every
        self._patience = patience
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    def look(self, inputs: Inputs) -> Seen:
        """What is known now; where that is old, a newer reading is begun in the background."""
        name = inputs.cluster.name
        endpoint = inputs.cluster.servers.elasticsearch
        if endpoint is None:
            return Seen(reason=f"{name} declares no log store")
        with self._lock:
            kept = self._kept.get(name)
            if kept is None or kept.endpoint != endpoint:
                try:
                    kept = _Kept(endpoint, self._connect(endpoint))
                except PilothouseError as failure:
                    return Seen(reason=failure.message)
                self._kept[name] = kept
            now = self._elapsed()
            if not kept.busy and now - kept.asked >= self._every:
                kept.busy, kept.asked = True, now
                threading.Thread(
                    target=self._read, args=(kept, inputs), name=f"log figures {name}", daemon=True
                ).start()
        if not kept.ready.is_set():
            kept.ready.wait(self._patience)
        if not kept.ready.is_set():
            return Seen(reason="its figures are being read for the first time")
        return kept.seen

    def _read(self, kept: _Kept, inputs: Inputs) -> None:
        try:
            if kept.said is None or kept.inputs is not inputs:
                kept.said, kept.inputs = log_store.declared(inputs), inputs
            reading = figures.read(kept.store, kept.said.prefix, self._clock())
            kept.seen = Seen(log_store.status_of(kept.said, reading, kept.reading))
            kept.reading = reading
        except PilothouseError as failure:
            kept.seen = Seen(kept.seen.status, failure.message)
        finally:
            # A mistake of ours must not stop the readings for good; it is told by the thread's own excepthook.
            kept.busy = False
            kept.ready.set()
