"""Definitions of dashboards, as `dashboards/*.yaml` hold them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pilothouse.artifacts.model import EMPTY, Artifacts
from pilothouse.problems import NOWHERE, Place, Problems
from pilothouse.promql.model import Query


@dataclass(frozen=True, slots=True)
class Target:
    expr: str
    legend: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Panel:
    """`width` is of 24 columns. `needs` are conditions that the subject must meet. `thresholds` are (value, colour)."""

    title: str
    targets: tuple[Target, ...]
    type: str = "timeseries"
    description: str = ""
    unit: str = ""
    width: int = 12
    height: int = 8
    stack: bool = False
    min: float | None = None
    max: float | None = None
    thresholds: tuple[tuple[float, str], ...] = ()
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Definition:
    """`kind` is service, team or cluster; `name` tells several of one kind apart."""

    kind: str
    title: str
    rows: tuple[Row, ...]
    name: str = ""
    description: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Defaults:
    """`dashboards/defaults.yaml`, and the portal's address from `alerts/links.yaml`."""

    portal_url: str = "https://pilothouse.example"
    refresh: str = "1m"
    since: str = "now-6h"
    timezone: str = "browser"
    tags: tuple[str, ...] = ("pilothouse",)


@dataclass(frozen=True, slots=True)
class Subject:
    """What one dashboard is about. `values` replace the placeholders, `meets` are the conditions that it meets."""

    kind: str
    name: str
    values: tuple[tuple[str, str], ...]
    meets: frozenset[str] = frozenset()
    links: tuple[tuple[str, str], ...] = ()
    """(title, address) of what to look at next."""


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard that is made: where its file lies, and its stable identity in Grafana."""

    path: str
    uid: str
    title: str
    kind: str
    subject: str
    panels: int


@dataclass(frozen=True)
class DashboardsDerived:
    """The files, what was found on the way, and the queries that the dashboards ask (one per panel of a definition)."""

    artifacts: Artifacts = EMPTY
    problems: Problems = ()
    queries: tuple[Query, ...] = ()
    boards: tuple[Board, ...] = ()
