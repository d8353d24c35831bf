"""Observed flows as the programs that observe them print them: seeded, one line for each flow and window.

The same ends and seed make the same bytes. Pairs of ends are met again and again, as in a cluster; both nodes report
each; a few are denied, at either end.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

End = tuple[str, str, Mapping[str, str], int]
"""Namespace, workload, labels, port."""

PAIRS = 10_000
"""Distinct pairs of ends, each reported by both nodes."""
BEGIN = 1_794_999_900
"""A moment in November 2026, in Unix seconds, at which a window of either length begins."""
LINES_PER_WINDOW = 3_000

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_DENIED = 0.02


@dataclass(frozen=True)
class _Report:
    """What one node says of one pair in one window. `id` is the pair's and the reporter's own."""

    id: int
    source: End
    destination: End
    reporter: str
    """src or dst"""
    denied: bool
    begun: int
    packets: tuple[int, int]
    bytes: tuple[int, int]
    window: int


def lines(count: int, seed: int, ends: Sequence[End], form: str) -> Iterator[bytes]:
    """`count` lines without their ends, in the form `goldmane` (protobuf's JSON), `calico` (flow logs) or `csv` (with a
    header before them)."""
    chance = random.Random(f"{seed} {form}")
    pairs = [(chance.choice(ends), chance.choice(ends), _denier(chance)) for _ in range(PAIRS)]
    if form == "csv":
        yield b"source,destination,protocol,port,count,bytes,packets,first_seen,last_seen,action,reporter"
    for number in range(count):
        chosen = chance.randrange(PAIRS)
        source, destination, denier = pairs[chosen]
        reporter = "src" if denier == "src" else chance.choice(("src", "dst"))
        denied = reporter == denier
        begun = chance.randint(1, 40)
        report = _Report(
            chosen * 2 + (reporter == "dst"),
            source,
            destination,
            reporter,
            denied,
            begun,
            (begun * chance.randint(2, 30), 0 if denied else begun * chance.randint(2, 30)),
            (begun * chance.randint(60, 30_000), 0 if denied else begun * chance.randint(60, 90_000)),
            number // LINES_PER_WINDOW,
        )
        yield (
            _csv(report)
            if form == "csv"
            else _printed(_calico(report, chance) if form == "calico" else _goldmane(report))
        )


def _denier(chance: random.Random) -> str:
    """Which node denies the pair, "" for none."""
    return chance.choice(("src", "dst")) if chance.random() < _DENIED else ""


def _printed(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def _aggregated(end: End) -> str:
    """As Calico names the pods of a ReplicaSet."""
    return f"{end[1]}-{_hash(end)}-*"


def _hash(end: End) -> str:
    value, text = zlib.crc32(f"{end[0]}/{end[1]}".encode()), ""
    for _ in range(6):
        value, rest = divmod(value, len(_LETTERS))
        text += _LETTERS[rest]
    return f"7d{text}9c"


def _labels(end: End) -> list[str]:
    return sorted([*(f"{key}={value}" for key, value in end[2].items()), f"pod-template-hash={_hash(end)}"])


def _goldmane(report: _Report) -> dict[str, Any]:
    """A FlowResult: 64-bit numbers are text, zeros are left out."""
    source, destination = report.source, report.destination
    action = "Deny" if report.denied else "Allow"
    namespace = source[0] if report.reporter == "src" else destination[0]
    hit = {"kind": "Profile", "name": f"kns.{namespace}", "action": "Allow"}
    if report.denied:
        trigger = {"kind": "NetworkPolicy", "namespace": namespace, "name": "default-deny", "tier": "default"}
        hit = {"kind": "EndOfTier", "tier": "default", "action": "Deny", "ruleIndex": "-1", "trigger": trigger}  # type: ignore[dict-item]
    begin = BEGIN + report.window * 15
    numbers = {
        "packetsIn": report.packets[0],
        "packetsOut": report.packets[1],
        "bytesIn": report.bytes[0],
        "bytesOut": report.bytes[1],
        "numConnectionsStarted": report.begun,
        "numConnectionsCompleted": report.begun // 2,
        "numConnectionsLive": report.begun,
    }
    flow = {
        "Key": {
            "sourceName": _aggregated(source),
            "sourceNamespace": source[0],
            "sourceType": "WorkloadEndpoint",
            "destName": _aggregated(destination),
            "destNamespace": destination[0],
            "destType": "WorkloadEndpoint",
            "destPort": str(destination[3]),
            "destServiceName": destination[1],
            "destServiceNamespace": destination[0],
            "destServicePortName": "http",
            "destServicePort": "80",
            "proto": "tcp",
            "reporter": report.reporter.capitalize(),
            "action": action,
            "policies": {"enforcedPolicies": [hit], "pendingPolicies": [hit]},
        },
        "startTime": str(begin),
        "endTime": str(begin + 15),
        "sourceLabels": _labels(source),
        "destLabels": _labels(destination),
        **{name: str(value) for name, value in numbers.items() if value},
    }
    return {"id": str(report.id + 1), "flow": flow}


def _calico(report: _Report, chance: random.Random) -> dict[str, Any]:
    """A flow log entry; its labels come in another order each time, as those of a Go map do."""
    source, destination = report.source, report.destination
    namespace = source[0] if report.reporter == "src" else destination[0]
    hit = f"0|__PROFILE__|__PROFILE__.kns.{namespace}|allow|0"
    if report.denied:
        hit = f"0|default|{namespace}/knp.default.default-deny|deny|-1"
    begin = BEGIN + report.window * 300

    def end(name: str, of: End) -> dict[str, Any]:
        labels = _labels(of)
        chance.shuffle(labels)
        return {
            f"{name}_ip": None,
            f"{name}_name": "-",
            f"{name}_name_aggr": _aggregated(of),
            f"{name}_namespace": of[0],
            f"{name}_port": of[3] if name == "dest" else None,
            f"{name}_type": "wep",
            f"{name}_labels": {"labels": labels},
        }

    return {
        "start_time": begin,
        "end_time": begin + 300,
        **end("source", source),
        **end("dest", destination),
        "dest_service_namespace": destination[0],
        "dest_service_name": destination[1],
        "dest_service_port": "http",
        "dest_service_port_num": 80,
        "proto": "tcp",
        "action": "deny" if report.denied else "allow",
        "reporter": report.reporter,
        "policies": {"all_policies": [hit], "enforced_policies": [hit], "pending_policies": [hit]},
        "bytes_in": report.bytes[0],
        "bytes_out": report.bytes[1],
        "num_flows": report.begun,
        "num_flows_started": report.begun,
        "num_flows_completed": report.begun // 2,
        "packets_in": report.packets[0],
        "packets_out": report.packets[1],
        "http_requests_allowed_in": 0,
        "http_requests_denied_in": 0,
        "original_source_ips": None,
        "num_original_source_ips": 0,
    }


def _csv(report: _Report) -> bytes:
    begin = BEGIN + report.window * 300
    source, destination = (f"{end[0]}/{_aggregated(end)}" for end in (report.source, report.destination))
    cells = (
        *(source, destination, "TCP", report.destination[3], report.begun, sum(report.bytes), sum(report.packets)),
        *(begin, begin + 300, "deny" if report.denied else "allow"),
        "source" if report.reporter == "src" else "destination",
    )
    return ",".join(map(str, cells)).encode()
