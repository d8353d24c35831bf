"""Dashboards in a Grafana against those that are rendered: what an apply would create, change and remove.

Ours are those that carry the tag of their cluster (`pilothouse-cluster-<name>`) in the cluster's own folder. One that
was moved elsewhere or lost the tag is somebody's own by then: it is never changed, and a clash of identities is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pilothouse.artifacts.subset import deviations
from pilothouse.dashboards.derive import uid

TAG = "pilothouse-cluster-"
MOST_SHOWN = 8
_ITS_OWN = frozenset(("id", "uid", "version", "schemaVersion", "iteration"))
"""Fields that Grafana writes itself."""


@dataclass(frozen=True, slots=True)
class Found:
    """A hit of a search."""

    uid: str
    title: str
    folder: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """A dashboard as Grafana holds it."""

    data: Mapping[str, Any]
    folder: str
    version: int

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.data.get("tags") or ())


class Step(StrEnum):
    CREATE = "create"
    CHANGE = "change"
    REMOVE = "remove"
    FOREIGN = "foreign"
    """Its identity is taken by a dashboard that is not ours; it stays as it is."""


@dataclass(frozen=True, slots=True)
class BoardChange:
    """`data` is what is saved over `version`, None for a removal; `why` what differs, in words."""

    step: Step
    uid: str
    title: str
    why: str = ""
    data: Mapping[str, Any] | None = None
    version: int = 0


def tag_of(cluster: str) -> str:
    return f"{TAG}{cluster}"


def folder_of(cluster: str) -> str:
    """The uid of the folder."""
    return uid("pilothouse", cluster)


def marked(text: str, cluster: str) -> dict[str, Any]:
    """A rendered dashboard's JSON with the tag that says whose it is."""
    data: dict[str, Any] = json.loads(text)
    data["tags"] = [*dict.fromkeys((*(data.get("tags") or ()), tag_of(cluster)))]
    return data


def is_ours(held: Held | Found, cluster: str) -> bool:
    return tag_of(cluster) in held.tags and held.folder == folder_of(cluster)


def plan(
    cluster: str, rendered: Iterable[Mapping[str, Any]], held: Mapping[str, Held], found: Iterable[Found]
) -> tuple[BoardChange, ...]:
    """`rendered` are marked dashboards, `held` what Grafana has as their uids, `found` all of the cluster's tag."""
    changes: list[BoardChange] = []
    wanted = set()
    for data in rendered:
        name, title = str(data["uid"]), str(data["title"])
        wanted.add(name)
        there = held.get(name)
        if there is None:
            changes.append(BoardChange(Step.CREATE, name, title, "it is not there", data))
        elif not is_ours(there, cluster):
            place = f"in the folder {there.folder or 'General'}, with the tags {', '.join(there.tags) or 'none'}"
            changes.append(BoardChange(Step.FOREIGN, name, title, place))
        elif why := _difference(data, there.data):
            changes.append(BoardChange(Step.CHANGE, name, title, why, data, there.version))
    for item in found:
        if item.uid not in wanted and is_ours(item, cluster):
            changes.append(BoardChange(Step.REMOVE, item.uid, item.title, "nothing declares it any more"))
    return tuple(sorted(changes, key=lambda item: (list(Step).index(item.step), item.uid)))


def _difference(said: Mapping[str, Any], held: Mapping[str, Any]) -> str:
    """Where it is not as rendered; fields that Grafana adds by itself are not looked at."""
    ours = {name: value for name, value in said.items() if name not in _ITS_OWN}
    found = [item.path for item in deviations(ours, held)]
    more = f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
    return ", ".join(found[:MOST_SHOWN]) + more
