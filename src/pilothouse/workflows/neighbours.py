"""Who comes to a service and where it goes, and which of these a change brings or takes: what the picture shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pilothouse.policies.edges import ServiceEdge
from pilothouse.policies.rules import Direction


class Mark(StrEnum):
    NONE = ""
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    """The connection stays, at other ports."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One party at one side of a service. `ports` and `before` are words, such as `http, 9102`; `before` is set where
    they change. `key` is set for a declared service, `clusters` where it holds on some of the clusters only, `word`
    where the mark means something else than a change."""

    direction: Direction
    name: str
    ports: str
    mark: Mark = Mark.NONE
    key: str = ""
    before: str = ""
    clusters: tuple[str, ...] = ()
    implied: bool = False
    agreed: bool = True
    word: str = ""


Ends = tuple[Iterable[ServiceEdge], Iterable[ServiceEdge]]
"""The edges of one service on one cluster, before and after."""


def of(edges: Iterable[ServiceEdge]) -> tuple[Neighbour, ...]:
    """The neighbours of a service as its edges are on one cluster."""
    found = tuple(edges)
    return compare({"": (found, found)})


def compare(by_cluster: Mapping[str, Ends]) -> tuple[Neighbour, ...]:
    """The neighbours over all those clusters, sorted: declared ones by name, then implied ones.

    A mark says what changes on at least one of them; `clusters` then names those where it does.
    """
    ports: dict[_Key, dict[str, tuple[str, str]]] = {}
    agreed: dict[_Key, bool] = {}
    for cluster, (before, after) in by_cluster.items():
        was, now = _ports(before), _ports(after)
        for key in {**was, **now}:
            ports.setdefault(key, {})[cluster] = (was.get(key, ""), now.get(key, ""))
        for edge in after:
            for key in _keys(edge):
                agreed[key] = agreed.get(key, True) and edge.agreed
    found = [_neighbour(key, seen, len(by_cluster), agreed.get(key, True)) for key, seen in ports.items()]
    return tuple(sorted(found, key=lambda item: (item.direction, item.implied, item.name, item.key)))


@dataclass(frozen=True, slots=True)
class _Key:
    direction: Direction
    name: str
    key: str
    implied: bool


def _keys(edge: ServiceEdge) -> tuple[_Key, ...]:
    """One for each service at the other end, or one for what is meant otherwise."""
    if edge.others:
        return tuple(_Key(edge.direction, key, key, edge.is_implied) for key in edge.others)
    return (_Key(edge.direction, str(edge.peer), "", edge.is_implied),)


def _ports(edges: Iterable[ServiceEdge]) -> dict[_Key, str]:
    words: dict[_Key, dict[str, None]] = {}
    for edge in edges:
        for key in _keys(edge):
            words.setdefault(key, {})[edge.ports_text] = None
    return {key: ", ".join(found) for key, found in words.items()}


def _neighbour(key: _Key, seen: Mapping[str, tuple[str, str]], clusters: int, agreed: bool) -> Neighbour:
    marks = {cluster: _mark(before, after) for cluster, (before, after) in seen.items()}
    mark = next((item for item in (Mark.ADDED, Mark.REMOVED, Mark.CHANGED) if item in marks.values()), Mark.NONE)
    where = tuple(cluster for cluster, found in marks.items() if found is mark)
    before, after = seen[where[0]]
    return Neighbour(
        key.direction,
        key.name,
        after or before,
        mark,
        key.key,
        before if mark is Mark.CHANGED else "",
        where if len(where) < clusters else (),
        key.implied,
        agreed,
    )


def _mark(before: str, after: str) -> Mark:
    if before == after:
        return Mark.NONE
    return Mark.ADDED if not before else Mark.REMOVED if not after else Mark.CHANGED
