"""A stub of Alertmanager on loopback that says, in its API v2's form, that many alerts fire.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml. What it answers is made once: what is measured
is who asks, not the stub.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pilothouse.platform.model import Platform, Service

SILENCED_EVERY = 20
"""One alert in so many is silenced."""
_FORMAT = "%Y-%m-%dT%H:%M:%S.000Z"


class Stub(ThreadingHTTPServer):
    """`answers` are bytes by path; what is not among them is not found."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, bytes] = {}
        self.asked: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fire(self, platform: Platform, count: int) -> None:
        """From now on that many alerts of the platform's services fire, each pod's on its own."""
        now = datetime.now(UTC)
        groups, silences = _firing(platform, count, now)
        self.answers = {
            path: json.dumps(body, separators=(",", ":")).encode()
            for path, body in {
                "/api/v2/alerts/groups": groups,
                "/api/v2/alerts": [alert for group in groups for alert in group["alerts"]],
                "/api/v2/silences": silences,
                "/api/v2/status": _status(now),
            }.items()
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked[path] = self.server.asked.get(path, 0) + 1
        body = self.server.answers.get(path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said."""


@contextmanager
def stub() -> Iterator[Stub]:
    """A stub that answers until the block ends."""
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _firing(platform: Platform, count: int, now: datetime) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    services = list(platform.services.values())
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    silences: list[dict[str, Any]] = []
    for number in range(count):
        service = services[number % len(services)]
        receiver = f"{service.team}-{('page', 'ticket')[number % 2]}"
        alert = _alert(service, number, receiver, now)
        if number % SILENCED_EVERY == 0:
            silences.append(_silence(service, number, now))
            alert["status"] |= {"state": "suppressed", "silencedBy": [silences[-1]["id"]]}
        group = groups.setdefault(
            (receiver, service.namespace),
            {"labels": {"namespace": service.namespace}, "receiver": {"name": receiver}, "alerts": []},
        )
        group["alerts"].append(alert)
    return list(groups.values()), silences


def _alert(service: Service, number: int, receiver: str, now: datetime) -> dict[str, Any]:
    labels = {
        "alertname": ("ReplicasBelow", "SqlLatencyAbove", "PodCrashLooping")[number % 3],
        "cluster": "prod",
        "namespace": service.namespace,
        "pod": f"{service.name}-{number}",
        "service": service.name,
        "severity": ("page", "ticket")[number % 2],
        "team": service.team,
    }
    began = now - timedelta(minutes=1 + number % 600)
    return {
        "annotations": {"summary": f"{service.key} is not well", "runbook_url": "https://wiki.example/runbook"},
        "endsAt": (now + timedelta(minutes=4)).strftime(_FORMAT),
        "fingerprint": hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:16],
        "generatorURL": "https://prometheus.prod.generated.example/graph?g0.expr=up",
        "labels": labels,
        "receivers": [{"name": receiver}],
        "startsAt": began.strftime(_FORMAT),
        "status": {"inhibitedBy": [], "mutedBy": [], "silencedBy": [], "state": "active"},
        "updatedAt": now.strftime(_FORMAT),
    }


def _silence(service: Service, number: int, now: datetime) -> dict[str, Any]:
    matchers = {"namespace": service.namespace, "pod": f"{service.name}-{number}"}
    return {
        "comment": "known, and worked on",
        "createdBy": "noel",
        "endsAt": (now + timedelta(hours=2)).strftime(_FORMAT),
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "matchers": [
            {"isEqual": True, "isRegex": False, "name": name, "value": value} for name, value in matchers.items()
        ],
        "startsAt": now.strftime(_FORMAT),
        "status": {"state": "active"},
        "updatedAt": now.strftime(_FORMAT),
    }


def _status(now: datetime) -> dict[str, Any]:
    return {
        "cluster": {"name": "", "peers": [], "status": "disabled"},
        "config": {"original": "route:\n  receiver: default\nreceivers:\n- name: default\n"},
        "uptime": now.astimezone(UTC).strftime(_FORMAT),
        "versionInfo": {
            "branch": "",
            "buildDate": "",
            "buildUser": "",
            "goVersion": "",
            "revision": "",
            "version": "0.31.1",
        },
    }
