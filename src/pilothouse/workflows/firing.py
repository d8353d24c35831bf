"""What fires now: the Alertmanagers' word on it, with team, receivers, who is on call, and what holds it back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilothouse.alerts.labels import explain_url
from pilothouse.alerts.live import Board, Held, LiveAlert, Silence, SilenceState
from pilothouse.alerts.rotation import OnCall, who
from pilothouse.alerts.routing.inhibition import inhibits
from pilothouse.alerts.routing.model import InhibitRule, Routing, matchers_text
from pilothouse.alerts.routing.walk import matching, muting
from pilothouse.clients.alertmanager import Alertmanagers
from pilothouse.platform.model import Cluster, Platform
from pilothouse.workflows.latest import Latest

KEEP_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert with what a person wants to know of it. `why` says what holds it back, "" where somebody is told."""

    alert: LiveAlert
    why: str
    silences: tuple[Silence, ...] = ()
    inhibitors: tuple[LiveAlert, ...] = ()
    oncall: OnCall | None = None

    @property
    def person(self) -> str:
        return self.oncall.person if self.oncall else ""


def board_of(cluster: Cluster) -> Board:
    """Asks the cluster's Alertmanagers now. `Unavailable` where none answers."""
    return Alertmanagers(cluster.servers.alertmanagers).board()


def watch(cluster: Cluster, clock: Callable[[], datetime], keep: float = KEEP_SECONDS) -> Latest[Board]:
    """The same for pages: kept for some seconds, never waited for longer than a moment."""
    servers = Alertmanagers(cluster.servers.alertmanagers)
    return Latest(servers.board, clock, keep)


def firing(
    board: Board, platform: Platform, at: datetime, alerts: Iterable[LiveAlert] | None = None
) -> tuple[Firing, ...]:
    """The alerts of a board (or the given ones of it) with their reasons and the person on call at that moment."""
    by_id = {id: silence for silence in board.silences for id in silence.named}
    by_fingerprint = {alert.fingerprint: alert for alert in board.alerts}
    oncall: dict[str, OnCall] = {}
    found = []
    for alert in board.alerts if alerts is None else alerts:
        if alert.team and alert.team not in oncall:
            oncall[alert.team] = who(platform, alert.team, at, 0)
        silences = tuple(dict.fromkeys(by_id[id] for id in alert.silenced_by if id in by_id))
        sources = tuple(by_fingerprint[item] for item in alert.inhibited_by if item in by_fingerprint)
        found.append(Firing(alert, _why(alert, silences, sources), silences, sources, oncall.get(alert.team)))
    return tuple(found)


def _why(alert: LiveAlert, silences: tuple[Silence, ...], sources: tuple[LiveAlert, ...]) -> str:
    match alert.held:
        case Held.SILENCED:
            said = [
                f"{item.created_by} until {item.ends_at:%a %Y-%m-%d %H:%M} UTC: {item.comment}" for item in silences
            ]
            return f"silenced by {'; '.join(said) or ', '.join(alert.silenced_by)}"
        case Held.INHIBITED:
            names = dict.fromkeys(item.name for item in sources)
            return f"inhibited by {', '.join(names) or ', '.join(alert.inhibited_by)}"
        case Held.MUTED:
            return f"muted during {', '.join(alert.muted_by)}"
    return ""


# ---------------------------------------------------------------- what would hold an alert back now


@dataclass(frozen=True, slots=True)
class HeldNow:
    """What really holds an alert with given labels back at this moment: silences, and firing alerts that inhibit it."""

    silences: tuple[Silence, ...] = ()
    inhibited: tuple[tuple[InhibitRule, LiveAlert], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.silences or self.inhibited)


def held_now(board: Board, routing: Routing, labels: Mapping[str, str]) -> HeldNow:
    """Holds for an alert that need not fire. Silenced sources inhibit all the same, as in Alertmanager."""
    sources = []
    for rule in routing.inhibit_rules:
        if not all(matcher.matches(labels) for matcher in rule.target):
            continue
        found = next((item for item in board.alerts if inhibits(rule, item.labels, labels)), None)
        if found is not None:
            sources.append((rule, found))
    return HeldNow(board.holding(labels), tuple(sources))


def held_lines(held: HeldNow) -> list[str]:
    """Each cause as one line for people."""
    lines = [
        f"silence {item.id} until {item.ends_at:%a %Y-%m-%d %H:%M} UTC: {silence_text(item)}" for item in held.silences
    ]
    return lines + [
        f"inhibition {rule.name or matchers_text(rule.source)}: {alert.name} fires ({explain_labels(alert)})"
        for rule, alert in held.inhibited
    ]


def explain_labels(alert: LiveAlert) -> str:
    """Its labels but the name, on one line."""
    return ", ".join(f'{name}="{value}"' for name, value in sorted(alert.labels.items()) if name != "alertname")


def muted_now(routing: Routing, alert: LiveAlert, at: datetime) -> bool:
    """Whether every route that takes the alert is muted at that moment, by our own reading of the configuration.

    Alertmanager says so itself only once a group was due for a notification.
    """
    return all(muting(routing, route, at)[0] for route in matching(routing.route, alert.labels))


# ---------------------------------------------------------------- as data


def as_data(item: Firing, portal_url: str = "") -> dict[str, Any]:
    """One alert as JSON holds it."""
    alert = item.alert
    return {
        "alert": alert.name,
        "fingerprint": alert.fingerprint,
        "team": alert.team,
        "severity": alert.severity,
        "service": alert.service,
        "since": alert.starts_at.isoformat() if alert.starts_at else None,
        "summary": alert.annotations.get("summary", ""),
        "runbook": alert.annotations.get("runbook_url", ""),
        "labels": dict(alert.labels),
        "receivers": list(alert.receivers),
        "state": alert.held.value,
        "why": item.why,
        "silences": [silence.id for silence in item.silences],
        "inhibitedBy": [source.name for source in item.inhibitors],
        "mutedBy": list(alert.muted_by),
        "onCall": item.oncall.shift.user if item.oncall and item.oncall.shift else None,
        "person": item.person or None,
        "explain": alert.annotations.get("explain_url", "") or explain_link(alert, portal_url),
        "expression": alert.generator_url,
    }


def explain_link(alert: LiveAlert, portal_url: str = "") -> str:
    """The routing page with this very alert's labels filled in."""
    rest = {name: value for name, value in alert.labels.items() if name != "alertname"}
    return explain_url(portal_url, alert.name, rest)


def silence_data(silence: Silence) -> dict[str, Any]:
    """A silence as JSON holds it."""
    return {
        "id": silence.id,
        "state": silence.state.value,
        "matchers": [str(matcher) for matcher in silence.matchers],
        "startsAt": silence.starts_at.isoformat(),
        "endsAt": silence.ends_at.isoformat(),
        "createdBy": silence.created_by,
        "comment": silence.comment,
        "servers": [url for url, _ in silence.ids],
    }


def silences_in_force(board: Board) -> tuple[Silence, ...]:
    """Silences that hold now or will, the next to end first."""
    return tuple(item for item in board.silences if item.state is not SilenceState.EXPIRED)


def silence_text(silence: Silence) -> str:
    """One line for people."""
    return f"{matchers_text(silence.matchers)} by {silence.created_by}: {silence.comment}"
