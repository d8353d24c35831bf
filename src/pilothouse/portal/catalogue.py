"""The catalogue: what runs, whose is it, is it healthy; and a page for each service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, abort, render_template, request
from markupsafe import Markup

from pilothouse.access.permissions import Action
from pilothouse.collectors.logging.units import in_words
from pilothouse.inventory.model import Pod, Snapshot
from pilothouse.platform.model import Alert as DeclaredAlert
from pilothouse.platform.model import Expression, ReplicasBelow, Service, SqlLatencyAbove
from pilothouse.policies.edges import ServiceEdge
from pilothouse.policies.rules import Direction
from pilothouse.portal import log_store
from pilothouse.portal.frame import NavItem, Portal, live, may
from pilothouse.portal.listing import Query, page_of
from pilothouse.portal.pictures.neighbours import draw
from pilothouse.portal.problems import known_problems
from pilothouse.problems import PilothouseError, Problem, Severity
from pilothouse.workflows import neighbours

blueprint = Blueprint("catalogue", __name__, url_prefix="/catalogue")
NAV = (NavItem("Catalogue", "catalogue.index", 40, "What is there"),)

start: Callable[[Portal], None] = log_store.start
blueprint.add_app_template_filter(in_words, "size")

_KEYS: Mapping[str, Callable[[Service], Any]] = {
    "name": lambda item: (item.name, item.namespace),
    "namespace": lambda item: item.key,
    "team": lambda item: (item.team, item.key),
    "sensitivity": lambda item: (item.sensitivity != "high", item.key),
    "alerts": lambda item: (-len(item.alerts), item.key),
}


@dataclass(frozen=True, slots=True)
class Health:
    """Pods of a service in the snapshot of a cluster; `reason` is set where that is not known."""

    ready: int = 0
    total: int = 0
    reason: str = ""

    @property
    def badge(self) -> tuple[str, str]:
        """(word, tone)."""
        if self.reason:
            return self.reason, "idle"
        if not self.total:
            return "no pods", "idle"
        tone = "ok" if self.ready == self.total else "bad" if not self.ready else "warn"
        return f"{self.ready}/{self.total} ready", tone


@blueprint.get("/")
def index() -> str:
    found = live()
    platform = found.platform
    query = Query.of_request(_KEYS, "namespace", ("team", "namespace", "cluster", "sensitivity"))
    wanted = query.filters
    page = page_of(
        platform.services.values(),
        query,
        _KEYS,
        lambda item: f"{item.key} {item.team} {item.description}",
        lambda item: (
            wanted.get("team", item.team) == item.team
            and wanted.get("namespace", item.namespace) == item.namespace
            and wanted.get("sensitivity", item.sensitivity) == item.sensitivity
            and ("cluster" not in wanted or item.runs_on(wanted["cluster"]))
        ),
    )
    cluster = _cluster()
    by_path = problems_by_path(known_problems().problems)
    return render_template(
        "catalogue/index.html",
        page=page,
        cluster=cluster,
        health={item.key: health(item, cluster) for item in page.items},
        problems={item.key: len(problems_of(item, by_path)) for item in page.items},
        namespaces=sorted({item.namespace for item in platform.services.values()}),
        teams=list(platform.teams),
        clusters=found.clusters,
        folder=found.root,
        logs=log_store.seen(cluster),
    )


def _cluster() -> str:
    """The cluster of the address, else the last declared that is a production one, else the first."""
    found = live().platform.clusters
    asked = request.args.get("cluster", "")
    if asked:
        if asked not in found:
            abort(404, f"no cluster {asked} is declared")
        return asked
    return live().main_cluster


def health(item: Service, cluster: str) -> Health:
    if not cluster:
        return Health(reason="no cluster")
    if not item.runs_on(cluster):
        return Health(reason=f"not on {cluster}")
    try:
        snapshot: Snapshot = live().inputs(cluster).snapshot
    except PilothouseError:
        return Health(reason="no snapshot")
    if snapshot.is_empty:
        return Health(reason="no snapshot")
    pods = list(snapshot.select(item.namespace, item.pod_selector))
    return Health(sum(is_ready(pod) for pod in pods), len(pods))


def is_ready(pod: Pod) -> bool:
    return pod.ready and pod.phase == "Running"


def problems_by_path(problems: Iterable[Problem]) -> Mapping[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for item in problems:
        if item.place.path:
            found.setdefault(item.place.path, []).append(item)
    return found


def problems_of(item: Service, by_path: Mapping[str, list[Problem]]) -> list[Problem]:
    """The problems in the document of a service: those of its file up to the next service's document in it."""
    here = by_path.get(item.place.path, [])
    if not here:
        return []
    after = sorted(
        other.place.line
        for other in live().derived("services-by-path", _by_path)[item.place.path]
        if other.place.line > item.place.line
    )
    end = after[0] if after else 10**9
    return [problem for problem in here if item.place.line <= problem.place.line < end or not problem.place.line]


def _by_path() -> Mapping[str, list[Service]]:
    found: dict[str, list[Service]] = {}
    for item in live().platform.services.values():
        found.setdefault(item.place.path, []).append(item)
    return found


@dataclass(frozen=True, slots=True)
class ShownAlert:
    """A declared alert in words; `labels` are those by which the routing page finds its way."""

    title: str
    words: str
    severity: str
    declared: str
    labels: Mapping[str, str] = field(default_factory=dict)
    holds: bool = True

    @property
    def label_text(self) -> str:
        """As the command line and the routing page take them."""
        return " ".join(f"{name}={value}" for name, value in self.labels.items())


def shown_alerts(item: Service, cluster: str) -> list[ShownAlert]:
    declared = live().platform.clusters.get(cluster)
    shown = []
    for alert in item.alerts:
        severity = alert.severity
        if declared is not None and severity.loudness > declared.max_severity.loudness:
            severity = declared.max_severity
        title, words = alert_in_words(alert)
        labels = {
            "alertname": title,
            "team": item.team,
            "severity": severity.value,
            "cluster": cluster,
            "namespace": item.namespace,
            "service": item.name,
        }
        shown.append(ShownAlert(title, words, severity.value, alert.severity.value, labels, alert.holds_on(cluster)))
    return shown


def alert_in_words(alert: DeclaredAlert) -> tuple[str, str]:
    """The name of a declared alert, and what makes it fire."""
    match alert.condition:
        case ReplicasBelow(minimum):
            return "ReplicasBelow", f"fewer than {minimum} pods are ready"
        case SqlLatencyAbove(query, seconds, quantile):
            return "SqlLatencyAbove", f"the {quantile:g} quantile of {query} is above {seconds:g} s"
        case Expression(name, expr):
            return name, expr


@blueprint.get("/<namespace>/<name>")
def service(namespace: str, name: str) -> str:
    found = live()
    item = found.platform.services.get(f"{namespace}/{name}")
    if item is None:
        abort(404, f"no service {namespace}/{name} is declared")
    cluster = _cluster()
    edges: tuple[ServiceEdge, ...] = ()
    reason = ""
    pods: list[Pod] = []
    if cluster:
        try:
            edges = found.edges(cluster).of(item.key)
            pods = list(found.inputs(cluster).snapshot.select(item.namespace, item.pod_selector))
        except PilothouseError as failure:
            reason = failure.message
    here = problems_of(item, problems_by_path(known_problems().problems))
    here = [problem for problem in here if problem.cluster in ("", cluster)]
    return render_template(
        "catalogue/service.html",
        service=item,
        team=found.platform.teams.get(item.team),
        cluster=cluster,
        tabs=[(name, f"?cluster={name}", name == cluster) for name in found.clusters],
        ingress=[edge for edge in edges if edge.direction is Direction.INGRESS],
        egress=[edge for edge in edges if edge.direction is Direction.EGRESS],
        picture=_picture(item, edges, cluster) if edges else "",
        reason=reason,
        pods=sorted(pods, key=lambda pod: (is_ready(pod), pod.name)),
        health=health(item, cluster),
        alerts=shown_alerts(item, cluster),
        problems=here,
        errors=sum(problem.severity is Severity.ERROR for problem in here),
        dashboard=_dashboard(item, cluster),
        may_propose=may(Action.PROPOSE, item),
        declared=found.platform.clusters.get(cluster),
        logs=(logs := log_store.seen(cluster)),
        wrote=logs.status.writer(item.key) if logs.status else None,
    )


def _picture(item: Service, edges: tuple[ServiceEdge, ...], cluster: str) -> Markup:
    """The neighbours as SVG; the tables below it say the same."""
    svg = draw(item.key, neighbours.of(edges), lambda key: f"/catalogue/{key}?cluster={cluster}")
    return Markup(svg)  # noqa: S704  # made by us, every text in it escaped


def _dashboard(item: Service, cluster: str) -> str:
    """The path of the service's rendered dashboard; "" while the cluster is still being checked."""
    found = live()
    if not cluster or not found.is_checked(cluster):
        return ""
    try:
        paths = found.checked(cluster).paths
    except PilothouseError:
        return ""
    path = f"dashboards/service-{item.namespace}.{item.name}.json"
    return path if path in paths else ""
