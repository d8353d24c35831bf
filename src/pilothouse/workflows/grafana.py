"""Rendered dashboards and a Grafana: compare, then apply what is ours and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pilothouse import dashboards
from pilothouse.clients.grafana import Grafana
from pilothouse.dashboards.live import BoardChange, Found, Held, Step, folder_of, marked, plan, tag_of
from pilothouse.inputs import Inputs
from pilothouse.problems import PilothouseError, Unavailable

MESSAGE = "applied by pilothouse"


class Server(Protocol):
    """What of the client is needed."""

    def search(self, tag: str) -> tuple[Found, ...]: ...
    def dashboard(self, uid: str) -> Held | None: ...
    def folder(self, uid: str, title: str) -> bool: ...
    def save(self, dashboard: Mapping[str, Any], folder: str, message: str, version: int = 0) -> int: ...
    def delete(self, uid: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Applied:
    """A change that was made, or why it was not."""

    change: BoardChange
    failed: str = ""


def server_of(inputs: Inputs) -> Grafana:
    """The cluster's Grafana. `Unavailable` where none is declared."""
    endpoint = inputs.cluster.servers.grafana
    if endpoint is None:
        raise Unavailable(
            f"{inputs.cluster.name} declares no Grafana", "name it under `servers.grafana` of the Cluster"
        )
    return Grafana(endpoint)


def compare(
    inputs: Inputs, server: Server, progress: Callable[[str], None] = lambda _: None
) -> tuple[BoardChange, ...]:
    """What an apply would do."""
    cluster = inputs.cluster.name
    rendered = [marked(str(document.data), cluster) for document in dashboards.derive(inputs).artifacts]
    found = server.search(tag_of(cluster))
    held: dict[str, Held] = {}
    for number, data in enumerate(rendered, 1):
        progress(f"reading dashboard {number} of {len(rendered)}")
        there = server.dashboard(str(data["uid"]))
        if there is not None:
            held[str(data["uid"])] = there
    return plan(cluster, rendered, held, found)


def apply(inputs: Inputs, server: Server, changes: Iterable[BoardChange]) -> tuple[Applied, ...]:
    """Does it, one dashboard after the other; one that fails does not keep the others from theirs."""
    cluster = inputs.cluster.name
    server.folder(folder_of(cluster), f"pilothouse {cluster}")
    done = []
    for change in changes:
        if change.step is Step.FOREIGN:
            done.append(Applied(change, f"its identity is taken by a dashboard that is not ours: {change.why}"))
            continue
        try:
            if change.data is None:
                server.delete(change.uid)
            else:
                server.save(change.data, folder_of(cluster), MESSAGE, change.version)
            done.append(Applied(change))
        except PilothouseError as failure:
            done.append(Applied(change, failure.message))
    return tuple(done)
