"""How long do a render and a check take, and how much memory?

Each size is a generated platform with five pods per service. `pilothouse render` runs as a process of its own, from its
start to the last byte written (load, derive, prove, write), once into an empty folder and once over what it wrote;
`pilothouse check` reads, derives and proves the same and writes nothing. The processor's time and the memory are those
of the process as the kernel counts them (getrusage): where other programs use the machine, the seconds of processor say
more than those of the clock.

A run before the first compiles the modules, which are kept, as those of an installed pilothouse are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import about
import generate
from processes import Run, folder, python, tell
from table import GROWTH, Budget, Column, Row, Table, grown

ROOT = Path(__file__).parents[1]
BANK = ROOT / "examples" / "bank"
SIZES = {"full": (100, 500, 2000), "tiny": (4,)}
COLUMNS = (
    Column("services", "services"),
    Column("pods", "pods"),
    Column("render", "render", "s", 2),
    Column("again", "again", "s", 2),
    Column("processor", "processor", "s", 2),
    *GROWTH,
    Column("check", "check", "s", 2),
    Column("peak_megabytes", "peak", "MB"),
    Column("files", "files"),
    Column("written_megabytes", "written", "MB", 1),
)
BUDGETS = (
    Budget("bank, 4 clusters", "render", 2.0),
    Budget("2,000 services", "render", 10.0),
    Budget("2,000 services", "peak_megabytes", 1000),
)


def pilothouse(*arguments: object) -> Run:
    """Warnings make the code 0, errors 1."""
    return python("-m", "pilothouse", *arguments, codes=(0, 1))


def measure(name: str, platform: Path, services: int, pods: int, clusters: Sequence[str] = ()) -> Row:
    """One platform: seconds of the clock (`render`, `again`, `check`), of the processor, and what was written."""
    tell(f"render: {name}")
    chosen = [part for cluster in clusters for part in ("--cluster", cluster)]
    with folder("render") as out:
        arguments = ["render", platform, "--out", out / "tree", "--quiet", *chosen]
        first, again = pilothouse(*arguments), pilothouse(*arguments)
        written = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    checked = pilothouse("check", platform, *chosen)
    return {
        "name": name + (" (with errors)" if first.code else ""),
        "services": services,
        "pods": pods or None,
        "render": first.seconds,
        "again": again.seconds,
        "processor": first.processor_seconds,
        "check": checked.seconds,
        "check_processor": checked.processor_seconds,
        "peak_megabytes": max(first.peak_megabytes, again.peak_megabytes, checked.peak_megabytes),
        "files": len(written),
        "written_megabytes": round(sum(written) / 1e6, 1),
    }


@contextmanager
def generated(services: int, alertmanagers: Sequence[str] = ()) -> Iterator[Path]:
    """The folder of a platform of that size, removed afterwards."""
    with folder("platform") as made:
        namespaces = min(100, max(1, services // 20))
        generate.platform(made, services, namespaces, 5 * services, about.SEED, alertmanagers)
        yield made


def answer(scale: str) -> list[Table]:
    table = Table("Render and check", COLUMNS, budgets=BUDGETS)
    if scale == "full":
        pilothouse("check", BANK)
        table.rows.append(measure("bank, 4 clusters", BANK, len(list((BANK / "services").rglob("*.yaml"))), 0))
    rows = []
    for services in SIZES[scale]:
        with generated(services) as platform:
            rows.append(measure(f"{services:,} services", platform, services, 5 * services, (generate.CLUSTER,)))
    grown(rows, "services", "processor")
    table.rows += rows
    table.notes.append("processor is that of the first render; size and growth are how often the row before fits in it")
    return [table]
