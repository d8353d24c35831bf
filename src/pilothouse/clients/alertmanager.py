"""Alertmanager's API v2: status with the loaded configuration, groups with their alerts, silences, reload.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

from pilothouse.alerts.live import Board, LiveAlert, Silence, SilenceState, Taken, View, board
from pilothouse.alerts.routing.model import Matcher, MatchOp
from pilothouse.clients.calls import ONCE
from pilothouse.clients.http import Http
from pilothouse.clients.together import together, understood
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Invalid, PilothouseError, Unavailable

Value = TypeVar("Value")
READ_SECONDS = 5.0
DEADLINE = 6.0
"""All Alertmanagers of a cluster together have this long."""
_RELOADED = re.compile(r"^alertmanager_config_last_reload_successful (\S+)$", re.MULTILINE)
_OPS = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}


@dataclass(frozen=True, slots=True)
class Status:
    """`config` is the loaded configuration with secrets as `<secret>` and defaults filled in.

    `peers` are those that it gossips with, itself among them; 0 where clustering is off.
    """

    version: str
    config: str
    started_at: datetime
    cluster: str
    peers: int


class Alertmanager:
    """One server. Safe to share between threads."""

    def __init__(self, endpoint: Endpoint, read: float = READ_SECONDS) -> None:
        self.http = Http(endpoint, "alertmanager", retry=ONCE, connect=2.0, read=read)
        self.url = self.http.url

    def ready(self) -> None:
        """Raises `Unavailable` until it takes alerts."""
        self.http.get("/-/ready", "ready")

    def status(self) -> Status:
        found = self.http.get("/api/v2/status", "status")
        with understood(self.http):
            return Status(
                found["versionInfo"]["version"],
                found["config"]["original"],
                moment(found["uptime"]),
                found["cluster"]["status"],
                len(found["cluster"].get("peers") or ()),
            )

    def alerts(self) -> tuple[LiveAlert, ...]:
        """Every alert that fires, with the groups that it is in: one request says both, and what is muted."""
        found = self.http.get("/api/v2/alerts/groups", "alerts")
        with understood(self.http):
            return self._alerts(found)

    def _alerts(self, groups: Iterable[Mapping[str, Any]]) -> tuple[LiveAlert, ...]:
        firing: dict[str, tuple[Mapping[str, Any], list[Taken]]] = {}
        for group in groups:
            receiver, labels = group["receiver"]["name"], group["labels"]
            for item in group["alerts"]:
                muted = tuple(item["status"].get("mutedBy") or ())
                firing.setdefault(item["fingerprint"], (item, []))[1].append(Taken(receiver, labels, muted))
        return tuple(
            LiveAlert(
                fingerprint,
                item["labels"],
                item["annotations"],
                moment(item["startsAt"]),
                item.get("generatorURL", ""),
                tuple(sorted(taken, key=lambda one: one.receiver)),
                tuple(item["status"]["silencedBy"]),
                tuple(item["status"]["inhibitedBy"]),
                (self.url,),
            )
            for fingerprint, (item, taken) in firing.items()
        )

    def silences(self) -> tuple[Silence, ...]:
        """Every silence that it remembers, ended ones too."""
        found = self.http.get("/api/v2/silences", "silences")
        with understood(self.http):
            return tuple(
                Silence(
                    tuple(sorted(map(_matcher, item["matchers"]), key=str)),
                    moment(item["startsAt"]),
                    moment(item["endsAt"]),
                    item["createdBy"],
                    item["comment"],
                    SilenceState(item["status"]["state"]),
                    ((self.url, item["id"]),),
                )
                for item in found
            )

    def silence(self, wanted: Silence) -> str:
        """Creates a silence; its id. Never repeated: it may exist although no answer came."""
        body = {
            "matchers": [
                {
                    "name": matcher.name,
                    "value": matcher.value,
                    "isEqual": matcher.op in (MatchOp.EQUAL, MatchOp.REGEX),
                    "isRegex": matcher.op in (MatchOp.REGEX, MatchOp.NOT_REGEX),
                }
                for matcher in wanted.matchers
            ],
            "startsAt": wanted.starts_at.isoformat(),
            "endsAt": wanted.ends_at.isoformat(),
            "createdBy": wanted.created_by,
            "comment": wanted.comment,
        }
        found = self.http.request("POST", "/api/v2/silences", "silence", body=body).body
        with understood(self.http):
            return str(found["silenceID"])

    def expire(self, id: str) -> None:
        """Ends a silence now. `Invalid` where it is not known."""
        self.http.request("DELETE", f"/api/v2/silence/{quote(id, safe='')}", "expire", repeatable=False)

    def view(self) -> View:
        """Alerts and silences. The silences are read last, so that each one named by an alert is among them."""
        alerts = self.alerts()
        return View(self.url, alerts, self.silences())

    def reload(self) -> None:
        """Reads its configuration file again. `Invalid` with its own words where it refuses it and keeps the old."""
        refused_on_reload(self.http)

    def reloaded(self) -> bool:
        """Whether its last reload was a success: `alertmanager_config_last_reload_successful`."""
        text = self.http.request("GET", "/metrics", "metrics", headers={"Accept": "text/plain"}).text
        found = _RELOADED.search(text)
        if found is None:
            raise Unavailable(
                f"{self.url} exports no alertmanager_config_last_reload_successful", "is it Alertmanager?"
            )
        return float(found[1]) == 1


class Alertmanagers:
    """All of one cluster, asked at once. With none declared, `Unavailable` says so."""

    def __init__(self, endpoints: Iterable[Endpoint], seconds: float = DEADLINE) -> None:
        self.servers = tuple(Alertmanager(endpoint, min(READ_SECONDS, seconds)) for endpoint in endpoints)
        self._seconds = seconds

    def board(self) -> Board:
        """What they say together. `Unavailable` where none of them answers."""
        views = self._each(lambda server: server.view())
        answered = [view for view in views.values() if isinstance(view, View)]
        failed = {url: view for url, view in views.items() if isinstance(view, PilothouseError)}
        if not answered:
            raise _nobody(failed)
        return board(answered, {url: failure.message for url, failure in failed.items()})

    def statuses(self) -> Mapping[str, Status | PilothouseError]:
        """The status of each, by address, or why there is none."""
        return self._each(lambda server: server.status())

    def silence(self, wanted: Silence) -> tuple[tuple[str, str], ...]:
        """Creates a silence: (address, id) where it was. Raises what the first refusal was where nobody took it.

        Servers that gossip hand it on, so one of them gets it; the others each get their own.
        """
        statuses = self.statuses()
        made: list[tuple[str, str]] = []
        failed: dict[str, PilothouseError] = {}
        gossiped = False
        for server in self.servers:
            status = statuses[server.url]
            if isinstance(status, PilothouseError):
                failed[server.url] = status
                continue
            joined = status.peers >= len(self.servers) > 1
            if joined and gossiped:
                continue
            try:
                made.append((server.url, server.silence(wanted)))
                gossiped = gossiped or joined
            except PilothouseError as failure:
                failed[server.url] = failure
        if not made:
            raise next((item for item in failed.values() if isinstance(item, Invalid)), None) or _nobody(failed)
        return tuple(made)

    def expire(self, wanted: Silence) -> tuple[str, ...]:
        """Ends a silence at every server that has it; the addresses where that was done."""
        ended: list[str] = []
        failed: dict[str, PilothouseError] = {}
        done: set[str] = set()
        for url, id in wanted.ids:
            server = next(item for item in self.servers if item.url == url)
            if id in done:
                continue  # gossip ends it at the others
            try:
                server.expire(id)
                ended.append(url)
                done.add(id)
            except PilothouseError as failure:
                failed[url] = failure
        if not ended:
            raise _nobody(failed)
        return tuple(ended)

    def _each(self, ask: Callable[[Alertmanager], Value]) -> dict[str, Value | PilothouseError]:
        def bound(server: Alertmanager) -> Callable[[], Value]:
            return lambda: ask(server)

        return together({server.url: bound(server) for server in self.servers}, self._seconds)


def _nobody(failed: Mapping[str, PilothouseError]) -> Unavailable:
    if not failed:
        return Unavailable(
            "no Alertmanager is declared for this cluster", "name each under `servers.alertmanagers` of the Cluster"
        )
    first = next(iter(failed.values()))
    more = f" (and {len(failed) - 1} more do not answer either)" if len(failed) > 1 else ""
    return Unavailable(f"{first.message}{more}", first.hint)


def refused_on_reload(http: Http) -> None:
    """`POST /-/reload` of Prometheus or Alertmanager, which answers 500 to a file that it will not take."""
    try:
        http.request("POST", "/-/reload", "reload", repeatable=False)
    except Unavailable as failure:
        if "failed to reload config" not in failure.message:
            raise
        raise Invalid(failure.message, "it goes on with the configuration that it had; correct the file") from failure


def moment(text: str) -> datetime:
    """A timestamp as Go writes it, with up to nine digits of a second, in UTC."""
    cut = re.sub(r"(\.\d{6})\d+", r"\1", text.replace("Z", "+00:00"))
    return datetime.fromisoformat(cut).astimezone(UTC)


def _matcher(item: Mapping[str, Any]) -> Matcher:
    op = _OPS[item.get("isEqual", True), item["isRegex"]]
    return Matcher(item["name"], MatchOp(op), item["value"])
