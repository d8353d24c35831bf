"""Flows between the pods of a made cluster: `python bench/policies_flows.py --pods 10000 --flows 1000000 SNAPSHOT OUT`.

One connection a line, as `pilothouse policies preview` reads it: CSV, or for an OUT that ends in .json what Goldmane
prints, which tells the pods of a workload and addresses outside not apart. Most follow what services declare to one
another; the others are calls that nobody declared, scrapes, DNS, and connections with addresses outside. The same pods,
flows and seed make the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from policies_made import METRICS, Made, Size, planned

HEADER = "source,destination,protocol,port,count,bytes,last_seen,action\n"
BEGAN = 1_795_000_000
"""Of the window in which they were seen, in Unix seconds; it lasts a day."""

Pods = dict[tuple[str, str], list[str]]
"""(namespace, label `app`) → `namespace/name` of its pods."""
Connection = tuple[str, str, str, int]
"""(source, destination, protocol, port)."""


def write(snapshot: Path, out: Path, pods: int, count: int, seed: int = 1) -> None:
    """`snapshot` is what `policies_made.cluster` wrote for that many pods with that seed and nothing else said."""
    made = planned(Size.of(pods), seed)
    items = json.loads(snapshot.read_bytes())["items"]
    running = _pods(items)
    dice = random.Random(f"{pods}/{count}/{seed}")
    line = _goldmane(items) if out.suffix == ".json" else _csv
    with out.open("w", encoding="utf-8", buffering=1 << 20) as file:
        if out.suffix != ".json":
            file.write(HEADER)
        for connection in _connections(made, running, count, dice):
            seconds = BEGAN + dice.randrange(86_400)
            file.write(line(connection, dice.randrange(200, 60_000), seconds))


def _csv(connection: Connection, size: int, seconds: int) -> str:
    source, destination, protocol, port = connection
    return f"{source},{destination},{protocol},{port},1,{size},{seconds},allow\n"


def _goldmane(items: list[dict[str, Any]]) -> Callable[[Connection, int, int], str]:
    """A FlowResult as protobuf's JSON, of a window of 15 seconds."""
    ends: dict[str, tuple[dict[str, str], list[str]]] = {}
    for item in items:
        if item["kind"] == "Pod":
            data = item["metadata"]
            key = {"Name": f"{data['name'].rpartition('-')[0]}-*", "Namespace": data["namespace"]}
            labels = sorted(f"{name}={value}" for name, value in data["labels"].items())
            ends[f"{data['namespace']}/{data['name']}"] = ({**key, "Type": "WorkloadEndpoint"}, labels)
    outside: tuple[dict[str, str], list[str]] = ({"Name": "pub", "Type": "Network"}, [])
    hit = {"kind": "Profile", "name": "kns.default", "action": "Allow"}

    def line(connection: Connection, size: int, seconds: int) -> str:
        (source, source_labels), (destination, labels) = (ends.get(end, outside) for end in connection[:2])
        begin = seconds - seconds % 15
        key = {
            **{f"source{name}": value for name, value in source.items()},
            **{f"dest{name}": value for name, value in destination.items()},
            "destPort": str(connection[3]),
            "proto": connection[2].lower(),
            "reporter": "Src",
            "action": "Allow",
            "policies": {"enforcedPolicies": [hit], "pendingPolicies": [hit]},
        }
        flow = {
            "Key": key,
            "startTime": str(begin),
            "endTime": str(begin + 15),
            "sourceLabels": source_labels,
            "destLabels": labels,
            "packetsIn": "4",
            "packetsOut": "6",
            "bytesIn": str(size),
            "bytesOut": str(size // 3 + 1),
            "numConnectionsStarted": "1",
            "numConnectionsCompleted": "1",
            "numConnectionsLive": "1",
        }
        return json.dumps({"id": "1", "flow": flow}, separators=(",", ":")) + "\n"

    return line


def _pods(items: list[dict[str, Any]]) -> Pods:
    found: Pods = {}
    for item in items:
        if item["kind"] == "Pod" and not item["spec"].get("hostNetwork"):
            metadata = item["metadata"]
            labels = metadata["labels"]
            key = (metadata["namespace"], labels.get("app") or labels["k8s-app"])
            found.setdefault(key, []).append(f"{metadata['namespace']}/{metadata['name']}")
    return found


def _connections(made: list[Made], running: Pods, count: int, dice: random.Random) -> Iterator[Connection]:
    callers = [item for item in made if item.calls] or made
    dns, prometheus = running["kube-system", "kube-dns"], running["monitoring", "prometheus"]

    def one(item: Made) -> str:
        return dice.choice(running[item.namespace, item.name])

    for _ in range(count):
        chance = dice.random()
        item = dice.choice(callers)
        if chance < 0.7 and item.calls:
            other = made[dice.choice(item.calls)]
            yield one(item), one(other), "TCP", other.port
        elif chance < 0.8:
            yield one(item), dice.choice(dns), "UDP", 53
        elif chance < 0.9:
            yield dice.choice(prometheus), one(item), "TCP", METRICS.number
        elif chance < 0.95:
            other = dice.choice(made)
            yield one(item), one(other), "TCP", other.port
        elif chance < 0.98:
            yield one(item), f"203.0.113.{dice.randrange(256)}", "TCP", 443
        else:
            yield f"203.0.113.{dice.randrange(256)}", one(item), "TCP", item.port


def main() -> None:
    parser = argparse.ArgumentParser(description="Make flows between the pods of a made cluster.")
    parser.add_argument("--pods", type=int, required=True, help="of the services, as the snapshot was made with")
    parser.add_argument("--flows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    write(given.snapshot, given.out, given.pods, given.flows, given.seed)
    print(f"{given.out}: {given.flows:,} flows")


if __name__ == "__main__":
    main()
