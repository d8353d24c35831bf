"""A stand-in for Alertmanager's API v2: routes, inhibits and silences by our own reading of its configuration.

Alerts are posted to it as Prometheus posts them. That it answers as the real one does is what
`tests/clients/test_alertmanager_client.py` shows, which runs on both.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from pilothouse.alerts.routing.inhibition import inhibits
from pilothouse.alerts.routing.model import Matcher, MatchOp, Routing
from pilothouse.alerts.routing.parse import parse
from pilothouse.alerts.routing.walk import explain
from pilothouse.platform.model import Endpoint
from pilothouse.source import Source

VERSION = "0.31.1"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Tests do not print requests."""

    def _serve(self) -> None:
        fake: FakeAlertmanager = self.server.owner  # type: ignore[attr-defined]  # set by FakeAlertmanager
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        if fake.hangs:
            time.sleep(fake.hangs)
        status, answer = fake.answer(self.command, urlsplit(self.path).path, body)
        data = json.dumps(answer).encode() if answer is not None else b""
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # the client gave up waiting
            self.close_connection = True

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()


class FakeAlertmanager:
    """`hangs` are seconds before each answer; `requests` how many came."""

    def __init__(self, config: str) -> None:
        self.config = config
        self.hangs = 0.0
        self.requests = 0
        self.alerts: dict[str, dict[str, Any]] = {}
        self.silences: dict[str, dict[str, Any]] = {}
        self.routing = self._parsed(config)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.owner = self  # type: ignore[attr-defined]  # how the handler finds us
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fire(self, *labels: Mapping[str, str], since: datetime | None = None) -> None:
        """Puts alerts in without a request, which is quicker for many."""
        for item in labels:
            self._post({"labels": dict(item), "startsAt": (since or datetime.now(UTC)).isoformat()})

    @staticmethod
    def _parsed(config: str) -> Routing:
        routing, problems = parse(Source("alertmanager.yml", config))
        assert routing is not None, problems
        return routing

    # ------------------------------------------------------------ the API

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.requests += 1
        if path.startswith("/api/v2/silence/"):
            return self._silence(method, path.rsplit("/", 1)[1])
        match method, path:
            case "GET", "/-/ready":
                return 200, None
            case "GET", "/api/v2/status":
                return 200, {
                    "cluster": {"status": "disabled", "peers": []},
                    "config": {"original": self.config},
                    "uptime": datetime.now(UTC).isoformat(),
                    "versionInfo": {"version": VERSION},
                }
            case "POST", "/api/v2/alerts":
                for item in body:
                    self._post(item)
                return 200, None
            case "GET", "/api/v2/alerts/groups":
                return 200, self._groups()
            case "GET", "/api/v2/silences":
                return 200, [self._shown(item) for item in self.silences.values()]
            case "POST", "/api/v2/silences":
                return self._create(body)
        return 404, {"code": 404, "message": f"path {path} was not found"}

    def _post(self, item: Mapping[str, Any]) -> None:
        labels = {name: value for name, value in item["labels"].items() if value}
        # Not the hash that the real one computes; nobody may depend on it.
        mark = hashlib.sha256(json.dumps(sorted(labels.items())).encode()).hexdigest()[:16]
        starts = item.get("startsAt") or datetime.now(UTC).isoformat()
        self.alerts[mark] = {
            "fingerprint": mark,
            "labels": labels,
            "annotations": dict(item.get("annotations") or {}),
            "startsAt": starts,
            "generatorURL": item.get("generatorURL", ""),
        }

    def _groups(self) -> list[dict[str, Any]]:
        groups: dict[tuple[str, str], dict[str, Any]] = {}
        now = datetime.now(UTC)
        for alert in list(self.alerts.values()):
            status = self._status(alert)
            for delivery in explain(self.routing, alert["labels"], now).deliveries:
                shown = {**alert, "receivers": [], "status": {**status, "mutedBy": []}}
                group = groups.setdefault(
                    (delivery.group_key, delivery.receiver.name),
                    {
                        "receiver": {"name": delivery.receiver.name},
                        "labels": dict(delivery.group_labels),
                        "alerts": [],
                    },
                )
                group["alerts"].append(shown)
        return list(groups.values())

    def _status(self, alert: Mapping[str, Any]) -> dict[str, Any]:
        labels = alert["labels"]
        silenced = [
            id
            for id, item in self.silences.items()
            if self._state(item) == "active" and all(_matcher(one).matches(labels) for one in item["matchers"])
        ]
        inhibited = [
            source["fingerprint"]
            for rule in self.routing.inhibit_rules
            if all(matcher.matches(labels) for matcher in rule.target)
            for source in self.alerts.values()
            if inhibits(rule, source["labels"], labels)
        ][:1]
        state = "suppressed" if silenced or inhibited else "active"
        return {"state": state, "silencedBy": silenced, "inhibitedBy": inhibited}

    def _create(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        matchers = [_matcher(item) for item in body["matchers"]]
        if not matchers or all(item.accepts("") for item in matchers):
            return (
                400,
                "failed to create silence: invalid silence: at least one matcher must not match the empty string",
            )
        if datetime.fromisoformat(body["endsAt"]) <= datetime.now(UTC):
            return 400, "failed to create silence: end time can't be in the past"
        id = str(uuid.uuid4())
        self.silences[id] = {**body, "id": id}
        return 200, {"silenceID": id}

    def _silence(self, method: str, id: str) -> tuple[int, Any]:
        if id not in self.silences:
            return 404, None
        if method == "DELETE":
            self.silences[id] = {**self.silences[id], "endsAt": datetime.now(UTC).isoformat()}
            return 200, None
        return 200, self._shown(self.silences[id])

    def _shown(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {**item, "status": {"state": self._state(item)}, "updatedAt": item["startsAt"]}

    @staticmethod
    def _state(item: Mapping[str, Any]) -> str:
        now = datetime.now(UTC)
        if datetime.fromisoformat(item["endsAt"]) <= now:
            return "expired"
        return "pending" if datetime.fromisoformat(item["startsAt"]) > now else "active"


def _matcher(item: Mapping[str, Any]) -> Matcher:
    op = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}
    return Matcher(item["name"], MatchOp(op[item.get("isEqual", True), item["isRegex"]]), item["value"])
