"""What running Prometheus servers say, as values. Moments are aware, durations are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Sample:
    """One series at one moment; `at` is Unix time."""

    labels: Mapping[str, str]
    value: float
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Series:
    """One series over time: (Unix time, value) pairs."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Target:
    """`health` is up, down or unknown; `error` is why the last scrape failed."""

    pool: str
    labels: Mapping[str, str]
    url: str
    health: str
    error: str = ""
    last_scrape: datetime | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Targets:
    """`dropped` are labels of targets as discovered that relabelling dropped, `dropped_counts` how many by job."""

    active: tuple[Target, ...] = ()
    dropped: tuple[Mapping[str, str], ...] = ()
    dropped_counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedRule:
    """`expr` is as Prometheus formats it; `health` ok, err or unknown; `state` inactive, pending or firing."""

    name: str
    alerting: bool
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    for_seconds: float = 0.0
    keep_firing_seconds: float = 0.0
    health: str = "unknown"
    error: str = ""
    state: str = ""
    last_evaluation: datetime | None = None
    alerts: int = 0


@dataclass(frozen=True, slots=True)
class LoadedGroup:
    name: str
    file: str
    interval: float
    last_evaluation: datetime | None
    seconds: float
    rules: tuple[LoadedRule, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """`names` are (metric, series), the most first."""

    series: int
    names: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Runtime:
    version: str
    started_at: datetime
    reload_successful: bool
    reloaded_at: datetime | None
