"""Flows between the pods of a made cluster: `python bench/policies_flows.py --pods 10000 --flows 1000000 SNAPSHOT OUT`.

CSV with one connection a line, as `pilothouse policies preview` reads it. Most follow what services declare to one
another; the others are calls that nobody declared, scrapes, DNS, and connections with addresses outside. The same pods,
flows and seed make the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from policies_made import METRICS, Made, Size, planned

HEADER = "source,destination,protocol,port,count,bytes,last_seen,action\n"
BEGAN = 1_795_000_000
"""Of the window in which they were seen, in Unix seconds; it lasts a day."""

Pods = dict[tuple[str, str], list[str]]
"""(namespace, label `app`) → `namespace/name` of its pods."""


def write(snapshot: Path, out: Path, pods: int, count: int, seed: int = 1) -> None:
    """`snapshot` is what `policies_made.cluster` wrote for that many pods with that seed and nothing else said."""
    made = planned(Size.of(pods), seed)
    running = _pods(snapshot)
    dice = random.Random(f"{pods}/{count}/{seed}")
    with out.open("w", encoding="utf-8", buffering=1 << 20) as file:
        file.write(HEADER)
        for source, destination, protocol, port in _connections(made, running, count, dice):
            seconds = BEGAN + dice.randrange(86_400)
            file.write(f"{source},{destination},{protocol},{port},1,{dice.randrange(200, 60_000)},{seconds},allow\n")


def _pods(snapshot: Path) -> Pods:
    found: Pods = {}
    for item in json.loads(snapshot.read_bytes())["items"]:
        if item["kind"] == "Pod" and not item["spec"].get("hostNetwork"):
            metadata = item["metadata"]
            labels = metadata["labels"]
            key = (metadata["namespace"], labels.get("app") or labels["k8s-app"])
            found.setdefault(key, []).append(f"{metadata['namespace']}/{metadata['name']}")
    return found


def _connections(
    made: list[Made], running: Pods, count: int, dice: random.Random
) -> Iterator[tuple[str, str, str, int]]:
    """(source, destination, protocol, port)."""
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
