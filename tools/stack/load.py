"""What makes the stack live: exporters of the bank's pods, log records, and a webhook for pager and chat."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from stack.bank import CLUSTER
from support.bed.elasticsearch import Elasticsearch
from support.bed.kubernetes import KubeApi
from support.exporters import Exporter, Hook

from pilothouse.platform.model import Platform, Service, SqlLatencyAbove

UNDECLARED_DAYS = 7
Scraped = Mapping[str, tuple[tuple[str, int, str], ...]]
"""By service: (address, port, pod's name)."""


def expose(platform: Platform, scraped: Scraped) -> dict[str, list[Exporter]]:
    """An exporter for each pod that is scraped, by service; all of them healthy."""
    made: dict[str, list[Exporter]] = {}
    for key, pods in scraped.items():
        for number, (address, port, _) in enumerate(pods):
            exporter = Exporter(address, port)
            healthy(exporter, platform.services[key], number)
            made.setdefault(key, []).append(exporter)
    return made


def healthy(exporter: Exporter, service: Service, number: int) -> None:
    """What a service that does well exports; `number` makes each pod's figures its own."""
    rate = 4.0 + number
    for code, share in (("200", 0.98), ("404", 0.019), ("500", 0.001)):
        exporter.count("http_requests_total", rate * share, code=code)
    for le, share in (("0.05", 0.9), ("0.1", 0.995), ("0.25", 1.0), ("1", 1.0), ("+Inf", 1.0)):
        exporter.count("http_request_duration_seconds_bucket", rate * share, le=le)
    for query in sorted(
        {item.condition.query for item in service.alerts if isinstance(item.condition, SqlLatencyAbove)}
    ):
        exporter.count("sql_query_duration_seconds_count", rate / 2, query=query)
        for le, share in (("0.05", 0.97), ("0.1", 1.0), ("0.25", 1.0), ("1", 1.0), ("+Inf", 1.0)):
            exporter.count("sql_query_duration_seconds_bucket", rate / 2 * share, le=le, query=query)
    exporter.set("process_resident_memory_bytes", 6e7 + 1e6 * number)
    exporter.set("refund_queue_age_seconds", 5.0 + number)


def set_ready(api: KubeApi, namespace: str, pods: tuple[str, ...], ready: bool) -> None:
    """Say of these pods that they are ready or not, as their kubelet would."""
    word = "True" if ready else "False"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [{"type": kind, "status": word, "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
    for pod in pods:
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/status"
        patch = {"status": {"conditions": conditions}}
        api.send("PATCH", path, patch, "application/strategic-merge-patch+json")


# ---------------------------------------------------------------- who was told


@dataclass(frozen=True)
class Told:
    """A notification: which receiver, which alerts."""

    at: float
    receiver: str
    status: str
    alerts: tuple[tuple[str, str], ...]
    """(alert, service or instance)"""
    labels: Mapping[str, str]

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.at, UTC).astimezone().strftime("%H:%M:%S")
        what = ", ".join(f"{name} {about}".strip() for name, about in self.alerts)
        return f"{when}  {self.receiver:20}  {self.status:8}  {what}"


class Pager(Hook):
    """The webhook of all receivers: `<url>/<team>-<severity>`. `told` is in order; watchdogs are kept apart."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.watchdogs: dict[str, float] = {}
        """By watchdog: when it was heard last, in seconds since 1970."""
        self._ended = False
        super().__init__()
        threading.Thread(target=self._listen, name="pager", daemon=True).start()

    def _listen(self) -> None:
        while not self._ended:
            with self.changed:
                self.changed.wait_for(lambda: bool(self.sent) or self._ended, 1.0)
                for path, body in self.sent:
                    self._take(path.strip("/"), body)
                self.sent.clear()

    def _take(self, receiver: str, body: Any) -> None:
        if receiver.startswith("watchdog-"):
            self.watchdogs[receiver] = time.time()
            return
        alerts = tuple((item["labels"].get("alertname", ""), _about(item["labels"])) for item in body["alerts"])
        labels = body["alerts"][0]["labels"] if body["alerts"] else {}
        self.told.append(Told(time.time(), receiver, body["status"], alerts, labels))

    def read(self) -> list[Told]:
        """Everything that came so far."""
        with self.changed:
            return list(self.told)

    def close(self) -> None:
        self._ended = True
        super().close()


def _about(labels: Mapping[str, str]) -> str:
    """What the alert is about, as far as its labels say."""
    for kind in ("service", "deployment", "statefulset", "pod"):
        if labels.get(kind):
            return f"{labels.get('namespace', '')}/{labels[kind]}"
    return labels.get("instance") or labels.get("namespace", "")


# ---------------------------------------------------------------- logs


@dataclass
class Logs:
    """Records of the bank's pods, as the rendered Fluentd configuration sends them: bulk requests of `create`."""

    elasticsearch: Elasticsearch
    platform: Platform
    scraped: Scraped
    per_second: float = 20.0
    sent: int = 0
    refused: int = 0
    reason: str = ""
    """Why the last request failed, "" where it did not."""
    _end: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._run, name="logs", daemon=True).start()

    def stop(self) -> None:
        self._end.set()

    def _run(self) -> None:
        chance = secrets.SystemRandom()
        while not self._end.wait(2.0):
            try:
                self.send(chance, round(self.per_second * 2))
                self.reason = ""
            except (OSError, ValueError) as failure:
                self.reason = str(failure)  # somebody may have stopped it

    def send(self, chance: random.Random, count: int) -> None:
        lines: list[str] = []
        for _ in range(count):
            index, record = self._record(chance)
            lines += [json.dumps({"create": {"_index": index, "_id": record["_hash"]}}), json.dumps(record)]
        answer = self.elasticsearch.send("POST", "/_bulk", ("\n".join(lines) + "\n").encode())
        failed = [item for item in answer["items"] if item["create"]["status"] >= 300]
        self.sent += count - len(failed)
        self.refused += len(failed)
        if failed:
            raise ValueError(str(failed[0]["create"].get("error", {}).get("reason", failed[0])))

    def _record(self, chance: random.Random) -> tuple[str, dict[str, Any]]:
        service = self.platform.services[chance.choice(sorted(self.scraped))]
        _, _, pod = chance.choice(self.scraped[service.key])
        level = chance.choices(("info", "warning", "error"), (95, 4, 1))[0]
        message = chance.choice(("request served", "payment booked", "message consumed", "cache refreshed"))
        days = service.logs.retention_days if service.logs else UNDECLARED_DAYS
        now = datetime.now(UTC)
        record: dict[str, Any] = {
            "@timestamp": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "cluster": CLUSTER,
            "team": service.team,
            "service": service.name,
            "retention": f"{days}d",
            "level": level,
            "message": message,
            "stream": "stdout",
            "data": {"duration_ms": chance.randint(1, 80), "code": 200},
            "kubernetes": {
                "namespace_name": service.namespace,
                "pod_name": pod,
                "container_name": service.name,
                "labels": {"app": service.name},
            },
        }
        text = json.dumps(record, sort_keys=True)
        record["bytes"] = len(text)
        record["_hash"] = hashlib.sha1(f"{text}{chance.random()}".encode(), usedforsecurity=False).hexdigest()
        return f"pilothouse-logs-{days}d", record
