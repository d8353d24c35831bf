"""How long a render takes, and how much memory: `python bench/render.py [--sizes 100 500 2000] [--json FILE]`.

Each size is a generated platform with five pods per service. `pilothouse render` runs as a process of its own, from its
start to the last byte written (load, derive, prove, write), once into an empty folder and once over what it wrote. The
processor's time and the memory are those of that process as the kernel counts them (getrusage): where other programs
use the machine, the seconds of processor say more than those of the clock. The bank comes first.

A run before the first compiles the modules, which are kept, as those of an installed pilothouse are.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import about
import generate

ROOT = Path(__file__).parents[1]
SIZES = (100, 500, 2000)


@dataclass(frozen=True)
class Run:
    """One process. `code` is 0 or 1: warnings make it 0, errors 1."""

    seconds: float
    processor_seconds: float
    peak_megabytes: float
    code: int


@dataclass(frozen=True)
class Measured:
    """One platform. `growth` is how often the seconds of processor of the size before fit in these; 0 for the first."""

    platform: str
    services: int
    pods: int
    first: Run
    again: Run
    files: int
    written_megabytes: float
    growth: float = 0

    @property
    def peak_megabytes(self) -> float:
        return max(self.first.peak_megabytes, self.again.peak_megabytes)


@cache
def _environment() -> dict[str, str]:
    """That of the processes: with a place for compiled modules, whatever the caller's own says about them."""
    kept = tempfile.mkdtemp(prefix="compiled-")
    atexit.register(shutil.rmtree, kept, ignore_errors=True)
    found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found["PYTHONPYCACHEPREFIX"] = kept
    return found


def _run(arguments: list[str]) -> Run:
    """`pilothouse` with these arguments, output thrown away."""
    environment = _environment()
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "pilothouse", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment,
        )
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            errors.seek(0)
            sys.exit(f"pilothouse {' '.join(arguments)} ended with {process.returncode}: {errors.read().decode()}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return Run(
        round(took, 2),
        round(usage.ru_utime + usage.ru_stime, 2),
        round(usage.ru_maxrss * unit / 1e6, 1),
        process.returncode,
    )


def measure(name: str, folder: Path, services: int, pods: int, clusters: tuple[str, ...] = ()) -> Measured:
    out = Path(tempfile.mkdtemp(prefix="render-"))
    try:
        arguments = ["render", str(folder), "--out", str(out / "tree"), "--quiet"]
        arguments += [part for cluster in clusters for part in ("--cluster", cluster)]
        first, again = _run(arguments), _run(arguments)
        written = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    finally:
        shutil.rmtree(out)
    return Measured(name, services, pods, first, again, len(written), round(sum(written) / 1e6, 1))


@contextmanager
def generated(services: int) -> Iterator[Path]:
    """The folder of a platform of that size, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="platform-"))
    try:
        generate.platform(folder, services, min(100, max(1, services // 20)), 5 * services, about.SEED)
        yield folder
    finally:
        shutil.rmtree(folder)


def measure_all(sizes: Iterable[int]) -> Iterator[Measured]:
    """The bank, then a generated platform of each size."""
    bank = ROOT / "examples" / "bank"
    measure("to compile", bank, 0, 0)
    yield measure("bank, 4 clusters", bank, len(list((bank / "services").rglob("*.yaml"))), 0)
    before = None
    for services in sizes:
        with generated(services) as folder:
            found = measure(f"generated, {services:,}", folder, services, 5 * services, (generate.CLUSTER,))
        if before is not None:
            ratio = found.first.processor_seconds / before.first.processor_seconds
            found = Measured(**{**vars(found), "growth": round(ratio, 1)})
        yield found
        before = found


HEAD = (
    f"{'platform':<18}{'services':>9}{'pods':>8}{'render':>10}{'again':>9}{'processor':>12}{'growth':>8}"
    f"{'peak':>9}{'files':>7}{'written':>10}"
)


def row(m: Measured) -> str:
    growth = f"x{m.growth:.1f}" if m.growth else ""
    return (
        f"{m.platform:<18}{m.services:>9,}{m.pods or '':>8}{m.first.seconds:>8.2f} s{m.again.seconds:>7.2f} s"
        f"{m.first.processor_seconds:>10.2f} s{growth:>8}{m.peak_megabytes:>6.0f} MB{m.files:>7,}"
        f"{m.written_megabytes:>7.1f} MB" + ("  with errors" if m.first.code else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure renders of the bank and of generated platforms.")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of services")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--max-seconds", type=float, help="fail where one render takes longer")
    parser.add_argument("--max-megabytes", type=float, help="fail where a render needs more memory")
    given = parser.parse_args()
    found = about.run()
    print(about.heading(found), HEAD, sep="\n\n")
    measured = []
    for item in measure_all(given.sizes):
        measured.append(item)
        print(row(item), flush=True)
    if given.json:
        given.json.write_text(json.dumps(found | {"renders": [asdict(item) for item in measured]}, indent=2) + "\n")
    slow = [m for m in measured if given.max_seconds and max(m.first.seconds, m.again.seconds) > given.max_seconds]
    large = [m for m in measured if given.max_megabytes and m.peak_megabytes > given.max_megabytes]
    if slow or large:
        sys.exit(f"over the budget: {', '.join(sorted({m.platform for m in (*slow, *large)}))}")


if __name__ == "__main__":
    main()
