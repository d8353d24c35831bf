"""The worker's look at every log store: what is wrong with it becomes findings."""

from __future__ import annotations

import time
from collections.abc import Callable

from pilothouse.collectors.logging.figures import LogFigures
from pilothouse.platform.model import Endpoint
from pilothouse.problems import PilothouseError, warning
from pilothouse.store.jobs import JobState
from pilothouse.workflows import log_figures, log_store, rendering
from pilothouse.workflows.upkeep import Upkeep

SOURCE = "log-store"
BETWEEN_SECONDS = 2.0
"""Between two readings, from which rejections follow."""


def _pause() -> None:
    time.sleep(BETWEEN_SECONDS)


def look(
    upkeep: Upkeep,
    connect: Callable[[Endpoint], LogFigures] = log_figures.connect,
    pause: Callable[[], None] = _pause,
    installed: Callable[[], bool] = log_figures.is_installed,
) -> tuple[JobState, str]:
    """Read every declared log store; a dead one is a finding of its own and ends nobody else's.

    Without the client's library nothing is read, and nothing is known to be wrong.
    """
    opened = upkeep.opened()
    if not installed():
        for name in opened.loaded.platform.clusters:
            upkeep.find(SOURCE, name, ())
        return JobState.OK, "no log store is read: pip install 'pilothouse[live]'"
    said = []
    state = JobState.OK
    for name, cluster in opened.loaded.platform.clusters.items():
        endpoint = cluster.servers.elasticsearch
        if endpoint is None:
            upkeep.find(SOURCE, name, ())
            continue
        try:
            inputs, _ = rendering.inputs_for(opened, name, upkeep.clock().date())
            found = log_store.status(inputs, connect(endpoint), upkeep.clock, pause).problems
        except PilothouseError as failure:
            gone = f"the log store of {name} cannot be read"
            found = (warning("logging/store-unavailable", gone, cluster.place, failure.with_hint, cluster=name),)
        upkeep.find(SOURCE, name, found)
        if found:
            state = JobState.PROBLEMS
            said.append(f"{name} {len(found)}")
    return state, f"findings: {', '.join(said)}" if said else "every log store is well"
