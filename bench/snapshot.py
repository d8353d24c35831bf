"""How long does it take to read what runs in a cluster, and how much memory, up to a hundred thousand pods?

`kubectl get -A -o json` of a generated cluster is read in a process of its own, as `pilothouse check` reads it. Beside
it stands what the same file takes through Python's own `json` alone: no reader of ours can be faster than that. The
generator stands there, too: it writes object by object, so that its memory does not grow with the cluster.
"""

from __future__ import annotations

from pathlib import Path

import about
import generate
from processes import folder, python, tell
from table import GROWTH, Column, Row, Table, grown

SIZES = {"full": (1_000, 10_000, 100_000), "tiny": (20,)}
COLUMNS = (
    Column("pods", "pods"),
    Column("megabytes", "file", "MB", 1),
    Column("generated", "generated", "s", 1),
    Column("generator_megabytes", "peak", "MB"),
    Column("read", "read", "s", 2),
    *GROWTH,
    Column("read_megabytes", "peak", "MB"),
    Column("json", "json alone", "s", 2),
    Column("json_megabytes", "peak", "MB"),
    Column("ratio", "ratio", "x", 1),
)
_HERE = Path(__file__).parent
_READ = (
    "import sys; from pathlib import Path; from pilothouse.files import snapshot; "
    "found, problems = snapshot.read(Path(sys.argv[1])); print(len(found.pods), len(problems))"
)
_JSON = "import json, sys; print(len(json.loads(open(sys.argv[1], 'rb').read())['items']))"


def measure(pods: int) -> Row:
    """Seconds are those of the processor."""
    services = max(1, min(2000, pods // 20))
    with folder("snapshot") as made:
        tell(f"snapshot: {pods:,} pods")
        sizes = ("--services", services, "--pods", pods, "--seed", about.SEED)
        generator = python(_HERE / "generate.py", *sizes, "--out", made)
        path = made / "snapshots" / f"{generate.CLUSTER}.json"
        ours = python("-c", _READ, path, keep=True)
        plain = python("-c", _JSON, path)
        found, problems = map(int, ours.out.split())
        if found < pods or problems:
            raise SystemExit(f"{found:,} of {pods:,} pods were read, with {problems} problems")
        return {
            "name": f"{services:,} services",
            "pods": pods,
            "megabytes": round(path.stat().st_size / 1e6, 1),
            "generated": generator.processor_seconds,
            "generator_megabytes": generator.peak_megabytes,
            "read": ours.processor_seconds,
            "read_megabytes": ours.peak_megabytes,
            "json": plain.processor_seconds,
            "json_megabytes": plain.peak_megabytes,
            "ratio": round(ours.processor_seconds / plain.processor_seconds, 1) if plain.processor_seconds else None,
        }


def answer(scale: str) -> list[Table]:
    rows = [measure(pods) for pods in SIZES[scale]]
    grown(rows, "pods", "read")
    notes = ["seconds of the processor, the start of Python and its imports among them; ratio: read beside json alone"]
    return [Table("A snapshot read from a file", COLUMNS, rows, notes)]
