"""What one process does with one cluster, and how long: `python bench/policies_measured.py SNAPSHOT`; JSON to stdout.

Everything in the order of a command: read the snapshot, read its policies, evaluate every pair at every port. Then what
comes once that stands: single questions, one policy changed, flows replayed. Seconds are those of the processor; the
first ones begin with Python itself.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from pilothouse.files import snapshot as snapshot_files
from pilothouse.files.garbage import collector_paused, settle
from pilothouse.inventory.model import Snapshot
from pilothouse.policies.engine import ALL, NONE, Connections, Engine, Packet, Universe, bitsets
from pilothouse.policies.engine.compile import Semantics
from pilothouse.policies.engine.connections import NAMES, TCP, WITH_PORTS
from pilothouse.policies.engine.decide import Outcome, both, decide
from pilothouse.policies.flows import read as read_flows
from pilothouse.policies.flows.replay import judged
from pilothouse.policies.flows.verdicts import Standing
from pilothouse.policies.parties import Parties
from pilothouse.policies.reading import read
from pilothouse.policies.rules import Family, Policy, PolicySet, PortMatch, Traffic

QUESTIONS = 2000
CHANGES = 5
SEED = 1


def peak_megabytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def load(path: Path) -> tuple[Snapshot, PolicySet]:
    """Both must be without problems: what is left out would not be measured."""
    snapshot, problems = snapshot_files.read(path)
    reading = read(snapshot.policies)
    for problem in (*problems, *reading.problems):
        raise SystemExit(f"{path}: {problem.code}: {problem.message}")
    return snapshot, reading.policies


def measure(path: Path, flows: Sequence[Path]) -> dict[str, Any]:
    with collector_paused():
        snapshot, policies = load(path)
        loaded = time.process_time()
        engine = Engine.of(snapshot, policies)
        blocks, pairs = 0, 0
        universe = engine.universe
        for block in engine.reach.blocks():
            blocks += 1
            pairs += universe.weight(block.sources) * universe.weight(block.destinations)
        evaluated = time.process_time()
    found: dict[str, Any] = {
        "pods": sum(pod.is_endpoint for pod in snapshot.pods),
        "policies": len(policies.policies),
        "classes": len(universe.pieces),
        "blocks": blocks,
        "pairs": pairs,
        "load": round(loaded, 2),
        "evaluate": round(evaluated - loaded, 3),
        "total": round(evaluated, 2),
        "peak_megabytes": peak_megabytes(),
    }
    settle()
    found |= _questions(engine, snapshot) | _changes(engine)
    if flows:
        was = engine.on(_less(policies))
        was.reach  # noqa: B018  # what an evaluation takes is measured above
        for file in flows:
            kind = file.suffix[1:]
            found |= {f"{kind}_{name}": value for name, value in _replay(was, engine, file).items()}
    return found


# ---------------------------------------------------------------- once it stands


def _questions(engine: Engine, snapshot: Snapshot) -> dict[str, float]:
    """Milliseconds of one question among many: the median, and that of the slowest in a hundred."""
    dice = random.Random(SEED)
    pods = [pod for pod in snapshot.pods if pod.is_endpoint and pod.ports]
    times = []
    for _ in range(QUESTIONS):
        source, destination = dice.choice(pods), dice.choice(pods)
        port = dice.choice(destination.ports)
        began = time.process_time()
        _ask(engine, source.key, destination.key, Packet(TCP, port.number))
        times.append((time.process_time() - began) * 1000)
    times.sort()
    return {"query": round(times[len(times) // 2], 4), "query_slow": round(times[len(times) * 99 // 100], 4)}


def _ask(engine: Engine, source: str, destination: str, packet: Packet) -> Outcome:
    """Whether one pod reaches another, by names, in IPv4; with the rules that decide."""
    universe = engine.universe
    pieces = universe.pieces_of(source)[0], universe.pieces_of(destination)[0]
    return both(*decide(engine, *pieces, packet))


def _changes(engine: Engine) -> dict[str, float]:
    """Milliseconds until all pairs are known again after a port more in one Kubernetes policy; the slowest of a few."""
    dice = random.Random(SEED)
    candidates = [item for item in engine.policies.policies if item.family is Family.KUBERNETES and item.ingress]
    times, effective = [], 0
    for policy in dice.sample(candidates, min(CHANGES, len(candidates))):
        changed = _changed(policy)
        began = time.process_time()
        after = engine.with_policy(changed).reach
        times.append((time.process_time() - began) * 1000)
        effective += after.ingress != engine.reach.ingress
    if not effective:
        raise SystemExit(f"{len(times)} policies were changed, and nothing came of it")
    return {"change": round(max(times), 1)}


def _changed(policy: Policy) -> Policy:
    rule = policy.ingress[0]
    more = Traffic(protocols=(TCP,), destination_ports=(PortMatch(12345, 12345),))
    return replace(policy, ingress=(replace(rule, traffic=(*rule.traffic, more)), *policy.ingress[1:]))


def _less(policies: PolicySet) -> PolicySet:
    """The set as it may have been before: each tenth policy came later."""
    return replace(policies, policies=tuple(item for number, item in enumerate(policies.policies) if number % 10))


def _replay(was: Engine, now: Engine, path: Path) -> dict[str, float]:
    """Seconds from the file to a verdict for each flow in it by the old and the new policies, put together by party;
    beside them those of Python's own parser alone, over the same lines."""
    bare = _bare(path)
    began = time.process_time()
    with collector_paused(), path.open("rb") as file:
        reading = read_flows(file, None, path.name)
        done = time.process_time()
        found = judged(reading.flows, was, now, Parties(None, now.universe))
    ended = time.process_time()
    if reading.problems:
        raise SystemExit(f"{path}: {reading.problems[0].message}")
    return {
        "flows": found.total.count,
        "distinct": found.total.flows,
        "unknown": found.amount(Standing.UNKNOWN).count,
        "newly_denied": found.amount(Standing.NEWLY_DENIED).count,
        "bare": round(bare, 2),
        "read": round(done - began, 2),
        "replay": round(ended - began, 2),
    }


def _bare(path: Path) -> float:
    began = time.process_time()
    with path.open(encoding="utf-8", newline="") as file:
        each = csv.reader(file) if path.suffix == ".csv" else map(json.loads, file)
        if not sum(1 for _ in each):
            raise SystemExit(f"{path} is empty")
    return time.process_time() - began


# ---------------------------------------------------------------- every pair, written down


def write_pairs(path: Path, out: Path, *, blocks_match_pods: bool) -> None:
    """A line for each pair of pods or of a pod and one address for each region: source, destination, connections."""
    with collector_paused():
        snapshot, policies = load(path)
        engine = Engine.of(snapshot, policies, semantics=Semantics(blocks_match_pods))
        universe = engine.universe
        names = [list(_names(universe, piece)) for piece in range(universe.size)]
        found: dict[tuple[str, str], Connections] = {}
        for block in engine.reach.blocks():
            destinations = [name for piece in bitsets.bits(block.destinations) for name in names[piece]]
            for piece in bitsets.bits(block.sources):
                for pair in product(names[piece], destinations):
                    found[pair] = found.get(pair, NONE) | block.connections
        lines = (f"{one}\t{other}\t{_text(what)}\n" for (one, other), what in found.items() if one != other)
        out.write_text("".join(lines), encoding="utf-8")


def _names(universe: Universe, piece: int) -> Iterator[str]:
    if universe.is_endpoint(piece):
        yield from (pod.key for pod in universe.pieces[piece].pods)
    elif not universe.region(piece).is_empty:
        yield str(universe.region(piece).address())


def _text(connections: Connections) -> str:
    """`TCP 80-80,UDP 53-53`, or `*`; `rest 0-0` where there is something of protocols without ports, too."""
    if connections == ALL:
        return "*"
    parts = [f"{NAMES[number]} {first}-{last}" for number, ranges in connections.ranges() for first, last in ranges]
    return ",".join(parts if set(connections.protocols()) <= set(WITH_PORTS) else [*parts, "rest 0-0"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the evaluation of one cluster's policies.")
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--flows", type=Path, nargs="*", default=(), help="flows to replay: CSV, or Goldmane's JSON")
    parser.add_argument("--pairs", type=Path, help="write every pair there instead")
    parser.add_argument("--no-blocks", action="store_true", help="an ipBlock never matches a pod")
    given = parser.parse_args()
    if given.pairs:
        write_pairs(given.snapshot, given.pairs, blocks_match_pods=not given.no_blocks)
    else:
        print(json.dumps(measure(given.snapshot, given.flows)))


if __name__ == "__main__":
    main()
