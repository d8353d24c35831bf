"""What fires now, and what Alertmanager has loaded: the live side of alert routing.

The servers are asked in the background and their last answer is shown with its age; a server that hangs or is dead is a
reason on the page.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, render_template, url_for

from pilothouse.access.permissions import Action
from pilothouse.alerts.live import LOUDNESS, Board, Held, LiveAlert
from pilothouse.alerts.routing.model import Matcher, MatchOp, Routing, matchers_text
from pilothouse.clients.alertmanager import Alertmanagers
from pilothouse.platform.model import Cluster
from pilothouse.portal.frame import HomePanel, Portal, live, may, me, now, portal
from pilothouse.portal.listing import Query, page_of
from pilothouse.portal.routing import asked_of, chosen_cluster
from pilothouse.portal.state import Live
from pilothouse.workflows import firing as workflow
from pilothouse.workflows import loaded, routing
from pilothouse.workflows.firing import HeldNow, held_lines
from pilothouse.workflows.latest import Latest, Seen
from pilothouse.workflows.loaded import LoadedRouting

blueprint = Blueprint("firing", __name__, url_prefix="/alerts")

PATIENCE = 0.4
"""Seconds that the first reader waits for the first answer."""
KEEP_LOADED = 60.0
SHOWN = 6


class Watches:
    """One watch per cluster and per list of its Alertmanagers; a platform that is loaded anew keeps them."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._boards: dict[tuple[object, ...], Latest[Board]] = {}
        self._loaded: dict[tuple[object, ...], tuple[str, Latest[tuple[LoadedRouting, ...]]]] = {}

    def board(self, cluster: Cluster) -> Latest[Board]:
        key = (cluster.name, cluster.servers.alertmanagers)
        with self._lock:
            if key not in self._boards:
                servers = Alertmanagers(cluster.servers.alertmanagers)
                self._boards[key] = Latest(servers.board, self._clock, workflow.KEEP_SECONDS, PATIENCE)
            return self._boards[key]

    def loaded(self, found: Live, cluster: Cluster) -> Latest[tuple[LoadedRouting, ...]]:
        """Made anew with each platform: what is expected follows from it."""
        key = (cluster.name, cluster.servers.alertmanagers)
        with self._lock:
            stamp, watch = self._loaded.get(key, ("", None))
            if watch is None or stamp != found.stamp:
                watch = Latest(lambda: _loaded(found, cluster), self._clock, KEEP_LOADED, PATIENCE)
                self._loaded[key] = (found.stamp, watch)
            return watch


def _loaded(found: Live, cluster: Cluster) -> tuple[LoadedRouting, ...]:
    def make() -> loaded.Expected:
        return loaded.expected_routing(found.inputs(cluster.name), asked_of(found, cluster.name).rules)

    expected = found.derived(f"expected:{cluster.name}", make)
    return loaded.loaded_routing(expected, Alertmanagers(cluster.servers.alertmanagers))


def watches() -> Watches:
    found: Watches = portal().settings.extra["firing"]
    return found


def start(state: Portal) -> None:
    made = state.settings.extra.setdefault("firing", Watches(state.settings.clock))

    def warm(found: Live, cluster: str) -> None:
        declared = found.platform.clusters[cluster]
        if declared.servers.alertmanagers:
            made.board(declared).get()
            made.loaded(found, declared).get()

    state.current.warmers.append(warm)


def board_of(cluster: str) -> Seen[Board]:
    """What fires on that cluster, as it was last heard."""
    declared = live().platform.clusters[cluster]
    if not declared.servers.alertmanagers:
        return Seen(None, None, f"{cluster} declares no Alertmanager", "name each under `servers.alertmanagers`")
    return watches().board(declared).get()


def loaded_of(cluster: str) -> Seen[tuple[LoadedRouting, ...]]:
    """Where the loaded configuration differs from the rendered one."""
    declared = live().platform.clusters[cluster]
    if not declared.servers.alertmanagers:
        return Seen((), None)
    return watches().loaded(live(), declared).get()


def held_now(cluster: str, tree: Routing, labels: Mapping[str, str]) -> tuple[HeldNow | None, Seen[Board]]:
    """What really holds an alert with these labels back at this moment; None where nothing is known."""
    seen = board_of(cluster)
    return (None if seen.value is None else workflow.held_now(seen.value, tree, labels)), seen


# ---------------------------------------------------------------- what fires

SORTS: Mapping[str, Callable[[LiveAlert], Any]] = {
    "state": lambda item: item.rank,
    "alert": lambda item: (item.name, item.team),
    "team": lambda item: (item.team, item.rank),
    "severity": lambda item: (LOUDNESS.get(item.severity, 1), item.team, item.name),
    "since": lambda item: (item.starts_at.timestamp() if item.starts_at else 0.0, item.name),
}
FILTERS = ("team", "severity", "state", "receiver", "cluster")


def chosen(board: Board, query: Query) -> Any:
    """The page of the board's alerts that the address asks for."""
    wanted = query.filters
    return page_of(
        board.alerts,
        query,
        SORTS,
        lambda item: " ".join((item.name, *item.labels.values(), item.annotations.get("summary", ""))),
        lambda item: (
            wanted.get("team", item.team) == item.team
            and wanted.get("severity", item.severity) == item.severity
            and wanted.get("state", item.held.value) == item.held.value
            and ("receiver" not in wanted or wanted["receiver"] in item.receivers)
        ),
    )


@blueprint.get("/firing")
def index() -> str:
    """Everything that fires on a cluster, searched, filtered and paged here, not in the browser."""
    cluster = chosen_cluster()
    if not cluster:
        return render_template("routing/nothing.html")
    seen = board_of(cluster)
    query = Query.of_request(SORTS, "state", FILTERS)
    page = chosen(seen.value or Board(), query)
    platform = live().platform
    return render_template(
        "routing/firing.html",
        seen=seen,
        board=seen.value,
        page=page,
        rows=workflow.firing(seen.value, platform, now(), page.items) if seen.value else (),
        counts=_counts(seen.value),
        cluster=cluster,
        clusters=live().clusters,
        teams=list(platform.teams),
        states=[(item.value, item.value) for item in Held],
        explain=explain,
        silence_url=silence_url,
        may_silence=may_silence(item.team for item in page.items),
        command=shlex.join(["pilothouse", "alerts", "firing", str(live().root), "--cluster", cluster]),
    )


def _counts(board: Board | None) -> Mapping[str, int]:
    """Alerts by what becomes of them; told ones by severity."""
    if board is None:
        return {}
    counts: Counter[str] = Counter()
    for alert in board.alerts:
        counts[alert.severity or "no severity" if alert.held is Held.NO else alert.held.value] += 1
    return counts


def explain(alert: LiveAlert, cluster: str) -> str:
    """The routing page with this alert's labels."""
    return url_for("routing.index", cluster=cluster, labels=routing.labels_text(alert.labels))


def silence_url(alert: LiveAlert, cluster: str) -> str:
    """The form for a silence of this alert: by name, team and service, not by the pod of the moment."""
    names = ("alertname", "team", "namespace", "service")
    matchers = tuple(Matcher(name, MatchOp.EQUAL, alert.labels[name]) for name in names if alert.labels.get(name))
    return url_for("silences.index", cluster=cluster, matchers=matchers_text(matchers))


def may_silence(teams: Iterable[str]) -> dict[str, bool]:
    """Whether the person of this request may silence the alerts of each team."""
    declared = live().platform.teams
    return {name: bool(may(Action.SILENCE, declared[name])) if name in declared else False for name in set(teams)}


@dataclass(frozen=True)
class Panel:
    """The short form for the routing page."""

    seen: Seen[Board]
    rows: tuple[workflow.Firing, ...]
    total: int
    counts: Mapping[str, int]
    loaded: Seen[tuple[LoadedRouting, ...]]


@blueprint.get("/now")
def panel() -> str:
    """The panel of the routing page, which asks for itself again every few seconds."""
    cluster = chosen_cluster()
    return render_template("routing/now.html", cluster=cluster, **panel_of(cluster))


def panel_of(cluster: str) -> dict[str, Any]:
    """What the panel's template needs; the loudest alerts of my teams stand first."""
    seen = board_of(cluster)
    mine = me().teams
    alerts = seen.value.alerts if seen.value else ()
    ranked = sorted(
        (item for item in alerts if item.held is Held.NO), key=lambda item: (item.team not in mine, item.rank)
    )
    rows = workflow.firing(seen.value, live().platform, now(), ranked[:SHOWN]) if seen.value else ()
    return {
        "fire": Panel(seen, rows, len(alerts), _counts(seen.value), loaded_of(cluster)),
        "explain_alert": explain,
    }


# ---------------------------------------------------------------- home


def boards() -> dict[str, Seen[Board]]:
    """What fires on every cluster that declares an Alertmanager: all asked first, then waited for together."""
    clusters = live().platform.clusters.items()
    asked = {name: watches().board(cluster) for name, cluster in clusters if cluster.servers.alertmanagers}
    for watch in asked.values():
        watch.get(patience=0)
    ends = time.monotonic() + PATIENCE
    return {name: watch.get(patience=max(ends - time.monotonic(), 0)) for name, watch in asked.items()}


def home() -> HomePanel | None:
    """Alerts of my teams that somebody is told about, over all clusters."""
    mine = me().teams
    found: list[tuple[str, workflow.Firing]] = []
    reasons: list[tuple[str, str]] = []
    total = 0
    for name, seen in boards().items():
        if seen.reason:
            reasons.append((name, seen.reason))
        if seen.value is None:
            continue
        told = [item for item in seen.value.alerts if item.team in mine and item.held is Held.NO]
        total += len(told)
        found += [(name, item) for item in workflow.firing(seen.value, live().platform, now(), told[:SHOWN])]
    if not found and not reasons:
        return None
    found.sort(key=lambda item: item[1].alert.rank)
    urgent = any(item.alert.severity == "page" for _, item in found)
    context = {"rows": found[:SHOWN], "total": total, "reasons": reasons, "explain_alert": explain}
    return HomePanel("Alerts of my teams that fire", "home/firing.html", 5, context, urgent)


__all__ = ["HeldNow", "blueprint", "held_lines", "held_now", "home", "panel_of", "start"]
