"""Prometheus' HTTP API: what it scrapes, what its rules say, what it holds, what it was told, and queries.

https://prometheus.io/docs/prometheus/latest/querying/api/ and
https://prometheus.io/docs/prometheus/latest/management_api/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pilothouse.clients.alertmanager import moment, refused_on_reload
from pilothouse.clients.calls import ONCE, Retry
from pilothouse.clients.http import Http
from pilothouse.clients.together import understood
from pilothouse.collectors.metrics.live import (
    Head,
    LoadedGroup,
    LoadedRule,
    Runtime,
    Sample,
    Series,
    Target,
    Targets,
)
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Invalid

READ_SECONDS = 8.0
_NEVER = "0001-01-01T00:00:00Z"


class Prometheus:
    """One server. Safe to share between threads."""

    def __init__(self, endpoint: Endpoint, read: float = READ_SECONDS, retry: Retry = ONCE) -> None:
        self.http = Http(endpoint, "prometheus", retry=retry, connect=2.0, read=read)
        self.url = self.http.url

    # ------------------------------------------------------------ queries

    def query(self, expr: str, at: datetime | None = None) -> tuple[Sample, ...]:
        """An instant query; a scalar is one sample without labels. `Invalid` for what is no PromQL."""
        query = {"query": expr} | ({"time": str(at.timestamp())} if at else {})
        found = self._get("/api/v1/query", "query", query)
        with understood(self.http):
            if found["resultType"] == "scalar":
                return (Sample({}, float(found["result"][1]), float(found["result"][0])),)
            return tuple(
                Sample(item["metric"], float(item["value"][1]), float(item["value"][0])) for item in found["result"]
            )

    def query_range(self, expr: str, start: datetime, end: datetime, step: float) -> tuple[Series, ...]:
        """A range query; `step` in seconds."""
        query = {"query": expr, "start": str(start.timestamp()), "end": str(end.timestamp()), "step": f"{step:g}"}
        found = self._get("/api/v1/query_range", "query_range", query)
        with understood(self.http):
            return tuple(
                Series(item["metric"], tuple((float(at), float(value)) for at, value in item["values"]))
                for item in found["result"]
            )

    # ------------------------------------------------------------ what it does

    def targets(self, state: str = "active", pool: str = "") -> Targets:
        """Targets of one scrape pool (a job), or all. `state` is active, dropped or any.

        Each comes with what its discovery knew, so the answer for a large cluster is large: ask by pool.
        """
        query = {"state": state} | ({"scrapePool": pool} if pool else {})
        found = self._get("/api/v1/targets", "targets", query)
        with understood(self.http):
            return Targets(
                tuple(_target(item) for item in found.get("activeTargets") or ()),
                tuple(dict(item["discoveredLabels"]) for item in found.get("droppedTargets") or ()),
                {name: int(count) for name, count in (found.get("droppedTargetCounts") or {}).items()},
            )

    def rules(self, kind: str = "") -> tuple[LoadedGroup, ...]:
        """Rule groups with the state of each rule; `kind` is alert, record or both ("")."""
        found = self._get("/api/v1/rules", "rules", {"type": kind} if kind else {})
        with understood(self.http):
            return tuple(
                LoadedGroup(
                    group["name"],
                    group["file"],
                    float(group["interval"]),
                    _moment(group.get("lastEvaluation", "")),
                    float(group.get("evaluationTime", 0)),
                    tuple(_rule(item) for item in group["rules"]),
                )
                for group in found["groups"]
            )

    def head(self, limit: int = 10) -> Head:
        """What its memory holds, with the names that have most series."""
        found = self._get("/api/v1/status/tsdb", "tsdb", {"limit": str(limit)})
        with understood(self.http):
            return Head(
                int(found["headStats"]["numSeries"]),
                tuple((item["name"], int(item["value"])) for item in found["seriesCountByMetricName"]),
            )

    # ------------------------------------------------------------ what it was told

    def config(self) -> str:
        """The loaded configuration as YAML, with secrets as `<secret>` and defaults filled in."""
        found = self._get("/api/v1/status/config", "config", {})
        with understood(self.http):
            return str(found["yaml"])

    def flags(self) -> Mapping[str, str]:
        found = self._get("/api/v1/status/flags", "flags", {})
        with understood(self.http):
            return {str(name): str(value) for name, value in found.items()}

    def runtime(self) -> Runtime:
        """Its version, and whether its last reload was a success."""
        build = self._get("/api/v1/status/buildinfo", "buildinfo", {})
        found = self._get("/api/v1/status/runtimeinfo", "runtimeinfo", {})
        with understood(self.http):
            return Runtime(
                build["version"],
                moment(found["startTime"]),
                bool(found["reloadConfigSuccess"]),
                _moment(found["lastConfigTime"]),
            )

    def ready(self) -> None:
        """Raises `Unavailable` until it has read its database."""
        self.http.get("/-/ready", "ready")

    def reload(self) -> None:
        """Reads its files again. `Invalid` with its own words where it refuses them and keeps the old.

        `Denied` where it was started without `--web.enable-lifecycle`.
        """
        refused_on_reload(self.http)

    def _get(self, path: str, operation: str, query: Mapping[str, str | list[str]]) -> Any:
        answer = self.http.get(path, operation, query)
        with understood(self.http):
            if answer["status"] != "success":
                raise Invalid(f"{self.url} refused {path}: {answer.get('error', '')}")
            return answer["data"]


def match_query(selectors: Iterable[str]) -> dict[str, list[str]]:
    """The query of `/federate` or `/api/v1/series` for these selectors."""
    return {"match[]": list(selectors)}


def _target(item: Mapping[str, Any]) -> Target:
    return Target(
        item["scrapePool"],
        dict(item["labels"]),
        item["scrapeUrl"],
        item["health"],
        item.get("lastError", ""),
        _moment(item["lastScrape"]),
        float(item.get("lastScrapeDuration", 0)),
    )


def _rule(item: Mapping[str, Any]) -> LoadedRule:
    return LoadedRule(
        item["name"],
        item["type"] == "alerting",
        item["query"],
        dict(item.get("labels") or {}),
        dict(item.get("annotations") or {}),
        float(item.get("duration", 0)),
        float(item.get("keepFiringFor", 0)),
        item["health"],
        item.get("lastError", ""),
        item.get("state", ""),
        _moment(item.get("lastEvaluation", "")),
        len(item.get("alerts") or ()),
    )


def _moment(text: str) -> datetime | None:
    return None if not text or text == _NEVER else moment(text)
