"""What fires now, as Alertmanagers tell it: alerts, silences, and the one board that several of them make together.

Alertmanagers of one cluster gossip silences and what was notified, but each receives the alerts itself, so each may
know a different set for a moment. An alert counts as held back only where every one that knows it holds it back.
https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from pilothouse.alerts.routing.model import Matcher, Matchers

LOUDNESS = {"page": 0, "ticket": 1, "info": 2}


class Held(StrEnum):
    """Whether somebody is told about an alert, and what keeps it back."""

    NO = "told"
    SILENCED = "silenced"
    INHIBITED = "inhibited"
    MUTED = "muted"
    """By the time intervals of every route that takes it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One group that the alert is in. `muted_by` are time intervals that hold the whole group back now."""

    receiver: str
    group: Mapping[str, str]
    muted_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveAlert:
    """One alert that fires. `silenced_by` are ids of silences, `inhibited_by` fingerprints of other alerts."""

    fingerprint: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    starts_at: datetime | None = None
    generator_url: str = ""
    taken: tuple[Taken, ...] = ()
    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()
    known_to: tuple[str, ...] = ()
    """Addresses of the Alertmanagers that know it."""

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "")

    @property
    def team(self) -> str:
        return self.labels.get("team", "")

    @property
    def severity(self) -> str:
        return self.labels.get("severity", "")

    @property
    def service(self) -> str:
        parts = (self.labels.get("namespace", ""), self.labels.get("service", ""))
        return "/".join(part for part in parts if part)

    @property
    def receivers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.receiver for item in self.taken))

    @property
    def muted_by(self) -> tuple[str, ...]:
        """Time intervals that hold any of its groups back."""
        return tuple(dict.fromkeys(name for item in self.taken for name in item.muted_by))

    @property
    def held(self) -> Held:
        if self.silenced_by:
            return Held.SILENCED
        if self.inhibited_by:
            return Held.INHIBITED
        if self.taken and all(item.muted_by for item in self.taken):
            return Held.MUTED
        return Held.NO

    @property
    def rank(self) -> tuple[int, int, str, str]:
        """Sorts what somebody is told first, then the loudest."""
        return (self.held is not Held.NO, LOUDNESS.get(self.severity, 1), self.team, self.name)


class SilenceState(StrEnum):
    ACTIVE = "active"
    PENDING = "pending"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Silence:
    """Holds back every alert that all its matchers match, from `starts_at` up to `ends_at`.

    `ids` are (address of the Alertmanager, id there): gossiping ones share the id.
    """

    matchers: Matchers
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str
    state: SilenceState = SilenceState.ACTIVE
    ids: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        """The first of its ids, by which people name it."""
        return self.ids[0][1] if self.ids else ""

    @property
    def named(self) -> frozenset[str]:
        return frozenset(item for _, item in self.ids)

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(matcher.matches(labels) for matcher in self.matchers)


@dataclass(frozen=True, slots=True)
class View:
    """What one Alertmanager says."""

    server: str
    alerts: tuple[LiveAlert, ...] = ()
    silences: tuple[Silence, ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """What several say together, the loudest first. `reasons` tell what is not known, by address of the server."""

    alerts: tuple[LiveAlert, ...] = ()
    silences: tuple[Silence, ...] = ()
    servers: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)

    def silence(self, name: str) -> Silence | None:
        """The silence that goes by that id at any of the servers."""
        return next((item for item in self.silences if name in item.named), None)

    def alert(self, fingerprint: str) -> LiveAlert | None:
        return next((item for item in self.alerts if item.fingerprint == fingerprint), None)

    def holding(self, labels: Mapping[str, str]) -> tuple[Silence, ...]:
        """The silences that hold an alert with these labels back now."""
        return tuple(item for item in self.silences if item.state is SilenceState.ACTIVE and item.matches(labels))


def board(views: Iterable[View], reasons: Mapping[str, str] = {}) -> Board:
    """The views of several Alertmanagers as one."""
    known = tuple(views)
    alerts: dict[str, LiveAlert] = {}
    silences: dict[tuple[object, ...], Silence] = {}
    for view in known:
        for alert in view.alerts:
            before = alerts.get(alert.fingerprint)
            alerts[alert.fingerprint] = alert if before is None else _both(before, alert)
    for silence in _by_id(known):
        key = _same(silence)
        other = silences.get(key)
        ids = silence.ids if other is None else (*other.ids, *silence.ids)
        silences[key] = replace(other or silence, ids=ids)
    return Board(
        tuple(sorted(alerts.values(), key=lambda item: (*item.rank, item.fingerprint))),
        tuple(sorted(silences.values(), key=lambda item: (item.state.value, item.ends_at, item.id))),
        (*(view.server for view in known), *reasons),
        dict(reasons),
    )


def _by_id(views: Iterable[View]) -> Iterable[Silence]:
    """Silences that servers share. Until gossip has come around, an end that one of them knows of holds for all."""
    found: dict[str, Silence] = {}
    for view in views:
        for silence in view.silences:
            other = found.get(silence.id)
            if other is None:
                found[silence.id] = silence
            else:
                newer = silence if silence.state is SilenceState.EXPIRED else other
                found[silence.id] = replace(newer, ids=(*other.ids, *silence.ids))
    return found.values()


def _both(one: LiveAlert, other: LiveAlert) -> LiveAlert:
    """One alert that two know: the copy that is told, where only one holds it back; the earlier start."""
    kept = other if one.held is not Held.NO and other.held is Held.NO else one
    starts = [item.starts_at for item in (one, other) if item.starts_at is not None]
    return replace(kept, starts_at=min(starts, default=None), known_to=(*one.known_to, *other.known_to))


def _same(silence: Silence) -> tuple[object, ...]:
    """What makes two silences of servers that do not gossip the same for people."""
    seconds = (silence.starts_at.replace(microsecond=0), silence.ends_at.replace(microsecond=0))
    return (frozenset(silence.matchers), *seconds, silence.created_by, silence.comment, silence.state)


def equal_value(matchers: Iterable[Matcher], name: str) -> str:
    """The value that matchers ask of a label with `=`, or ""."""
    return next((item.value for item in matchers if item.name == name and item.op.value == "="), "")
