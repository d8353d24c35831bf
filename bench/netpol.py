"""How long does it take to know who reaches whom, in clusters of 1,000 to 100,000 pods, and how much memory?

A made cluster (`policies_made.py`: five pods a service, a policy for every two pods, Calico's among them) is read as
the API prints it and evaluated in a process of its own: every pair at every port of every protocol. What comes once
that stands is measured in the same process: one question, all pairs again after one policy changed, a million flows
replayed. Beside it stands network-config-analyzer on clusters with Kubernetes' policies alone, as large as it can
take; what the two find is compared pair by pair.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import about
import policies_flows
import policies_made
import policies_peer
from processes import folder, python, tell
from table import GROWTH, Budget, Column, Row, Table, grown

SIZES = {"full": (1_000, 10_000, 100_000), "tiny": (50,)}
FLOWS = {"full": {10_000: 1_000_000}, "tiny": {50: 500}}
"""Pods → flows."""
COLUMNS = (
    Column("policies", "policies"),
    Column("megabytes", "file", "MB", 1),
    Column("classes", "classes"),
    Column("pairs", "allowed pairs"),
    Column("load", "load", "s", 2),
    Column("evaluate", "evaluate", "s", 2),
    Column("total", "both", "s", 2),
    *GROWTH,
    Column("peak_megabytes", "peak", "MB"),
    Column("memory_growth", "growth", "x", 1),
    Column("query", "query", "ms", 3),
    Column("query_slow", "p99", "ms", 3),
    Column("change", "change", "ms", 1),
)
FLOW_COLUMNS = (
    Column("flows", "flows"),
    Column("distinct", "distinct"),
    Column("unknown", "unknown"),
    Column("newly_denied", "newly denied"),
    Column("bare", "parser alone", "s", 2),
    Column("read", "read", "s", 2),
    Column("replay", "read and replayed", "s", 2),
    Column("ratio", "of the parser's", "x", 1),
)
FLOW_BUDGETS = (Budget("CSV", "replay", 10.0), Budget("Goldmane's JSON", "replay", 10.0))
_FORMS = {"csv": "CSV", "json": "Goldmane's JSON"}
BUDGETS = (
    Budget("10,000 pods", "total", 3.0),
    Budget("10,000 pods", "evaluate", 0.5),
    Budget("10,000 pods", "peak_megabytes", 600),
    Budget("10,000 pods", "query", 1.0),
    Budget("10,000 pods", "change", 50),
    Budget("100,000 pods", "total", 45.0),
    Budget("100,000 pods", "peak_megabytes", 4000),
)

PEER_SIZES = {"full": (60, 120, 240, 400), "tiny": (20,)}
PEER_SHAPE: dict[str, Any] = {"replicas": 2, "crowd": 20, "dual_stack": 0.0}
"""Of pods that are alike it keeps two, and it looks at no addresses of pods."""
PEER_SECONDS = 200.0
"""A size that would take it longer, by the growth that it showed until then, is left out."""
PEER_POWER = 2.4
PEER_COLUMNS = (
    Column("policies", "policies"),
    Column("ours", "ours", "s", 2),
    Column("peer", "peer", "s", 2),
    *GROWTH,
    Column("ratio", "ratio", "x", 1),
    Column("our_megabytes", "ours", "MB"),
    Column("peer_megabytes", "peer", "MB"),
    Column("compared", "pairs"),
    Column("blocks", "differ by ipBlock"),
    Column("unexplained", "unexplained"),
)
_HERE = Path(__file__).parent


def measure(pods: int, flows: int = 0) -> Row:
    """Seconds and milliseconds are those of the processor."""
    with folder("policies") as made:
        tell(f"netpol: {pods:,} pods")
        path = made / "cluster.json"
        policies_made.cluster(path, pods, about.SEED)
        arguments: list[object] = [_HERE / "policies_measured.py", path]
        if flows:
            files = [made / f"flows.{form}" for form in _FORMS]
            for file in files:
                policies_flows.write(path, file, pods, flows, about.SEED)
            arguments += ["--flows", *files]
        found = json.loads(python(*arguments, keep=True).out)
        return {"name": f"{pods:,} pods", "megabytes": round(path.stat().st_size / 1e6, 1), **found}


# ---------------------------------------------------------------- beside the peer


def beside(sizes: tuple[int, ...], peer: Path | None, notes: list[str]) -> list[Row]:
    """A row for each size; without `peer` ours alone."""
    rows: list[Row] = []
    for pods in sizes:
        last = rows[-1] if rows else {}
        if peer and last.get("peer") and last["peer"] * (pods / last["pods"]) ** PEER_POWER > PEER_SECONDS:
            notes.append(f"{pods} pods and more would take the peer longer than {PEER_SECONDS:g} s: left out")
            break
        rows.append(_against(pods, peer, notes))
    grown(rows, "pods", "peer" if peer else "ours")
    return rows


def _against(pods: int, peer: Path | None, notes: list[str]) -> Row:
    with folder("policies") as made:
        tell(f"netpol: the peer, {pods} pods")
        path = made / "cluster.json"
        size = policies_made.cluster(path, pods, about.SEED, kubernetes_only=True, **PEER_SHAPE)
        ours = python(_HERE / "policies_measured.py", path, "--pairs", made / "ours")
        row: Row = {
            "name": f"{pods} pods, Kubernetes' policies",
            "pods": pods,
            "policies": size.policies,
            "ours": ours.processor_seconds,
            "our_megabytes": ours.peak_megabytes,
        }
        if peer is None:
            return row
        python(_HERE / "policies_measured.py", path, "--no-blocks", "--pairs", made / "without")
        theirs = policies_peer.run(peer, path, made / "theirs")
        found = _compared(made)
        notes += [f"{pods} pods, by ipBlock: {text}" for text in found.blocks]
        notes += [f"{pods} pods, unexplained: {text}" for text in found.unexplained]
        return row | {
            "peer": theirs.processor_seconds,
            "peer_megabytes": theirs.peak_megabytes,
            "ratio": round(theirs.processor_seconds / ours.processor_seconds, 1),
            "compared": found.compared,
            "blocks": len(found.blocks),
            "unexplained": len(found.unexplained),
        }


def _compared(made: Path) -> policies_peer.Comparison:
    ours, without = (policies_peer.written((made / name).read_text()) for name in ("ours", "without"))
    addresses = {end for pair in (*ours, *without) for end in pair if "/" not in end}
    theirs = policies_peer.read((made / "theirs").read_text(), addresses)
    return policies_peer.compare(theirs, ours, without)


def answer(scale: str) -> list[Table]:
    rows = [measure(pods, FLOWS[scale].get(pods, 0)) for pods in SIZES[scale]]
    grown(rows, "pods", "total")
    for before, row in pairwise(rows):
        row["memory_growth"] = round(row["peak_megabytes"] / before["peak_megabytes"], 1)
    notes = [
        "seconds and milliseconds of the processor; load: from the start of Python until all is read",
        "evaluate: until every allowed pair was seen; pairs: of pods, or of a pod and a part of the address space",
        "change: every pair again after one policy got a port more, the slowest of five",
    ]
    table = Table("Network policies, every pair at every port", COLUMNS, rows, notes, BUDGETS)
    return [table, _flow_table(rows), _peer_table(scale)]


def _flow_table(rows: Iterable[Row]) -> Table:
    """Of the one size with which flows were made."""
    (measured,) = (row for row in rows if "csv_flows" in row)
    found: list[Row] = []
    for form, name in _FORMS.items():
        row: Row = {"name": name}
        row |= {column.key: measured.get(f"{form}_{column.key}") for column in FLOW_COLUMNS}
        found.append(row | {"ratio": round(row["replay"] / max(row["bare"], 0.01), 1)})
    notes = [
        f"seconds of the processor; between {measured['name']}, a tenth of the new policies is not among the old ones",
        "parser alone: csv.reader or json.loads over the same lines, and nothing done with them",
        "unknown: Goldmane does not tell addresses outside apart",
    ]
    return Table("Flows replayed on old and new policies", FLOW_COLUMNS, found, notes, FLOW_BUDGETS)


def _peer_table(scale: str) -> Table:
    notes = ["seconds of the processor for the whole run, every pair written to a file; two pods a service"]
    peer: Path | None = None
    if scale == "full":
        found = policies_peer.obtain()
        if isinstance(found, str):
            notes.append(f"without the peer: {found}")
        else:
            peer = found
    rows = beside(PEER_SIZES[scale], peer, notes)
    if peer:
        notes.append("pairs: that either of the two allows, of pods, or of a pod and a part of the address space")
        notes.append(
            "by ipBlock: it never takes a pod's address for one of an ipBlock, as Calico does; so set, we agree"
        )
    return Table(f"Beside {policies_peer.NAME} {policies_peer.VERSION}", PEER_COLUMNS, rows, notes)
