"""How long a render takes, and how much memory: `python bench/render.py [--sizes 100 500 2000] [--json FILE]`.

Each size is a generated platform with five pods per service. `pilothouse render` runs as a process of its own, from its
start to the last byte written (load, derive, prove, write), once into an empty folder and once over what it wrote; the
memory is the peak of that process as the kernel counts it (getrusage). The bank comes first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform as machine
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import generate

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Measured:
    """One run. `problems` is whether the command ended with 1: warnings do not, errors do."""

    platform: str
    services: int
    pods: int
    seconds: float
    again_seconds: float
    peak_megabytes: float
    files: int
    written_megabytes: float
    problems: bool


def _run(arguments: list[str]) -> tuple[float, float, int]:
    """(seconds, peak megabytes, exit code) of `pilothouse` with these arguments, output thrown away."""
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "pilothouse", *arguments], stdout=subprocess.DEVNULL, stderr=errors
        )
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            errors.seek(0)
            sys.exit(f"pilothouse {' '.join(arguments)} ended with {process.returncode}: {errors.read().decode()}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return took, usage.ru_maxrss * unit / 1e6, process.returncode


def measure(name: str, folder: Path, services: int, pods: int, clusters: tuple[str, ...] = ()) -> Measured:
    out = Path(tempfile.mkdtemp(prefix="render-"))
    try:
        arguments = ["render", str(folder), "--out", str(out / "tree"), "--quiet"]
        arguments += [part for cluster in clusters for part in ("--cluster", cluster)]
        first, peak, code = _run(arguments)
        again, peak_again, _ = _run(arguments)
        written = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    finally:
        shutil.rmtree(out)
    return Measured(
        name,
        services,
        pods,
        round(first, 2),
        round(again, 2),
        round(max(peak, peak_again), 1),
        len(written),
        round(sum(written) / 1e6, 1),
        code == 1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure renders of generated platforms.")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 500, 2000], help="numbers of services")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--max-seconds", type=float, help="fail where one cluster takes longer")
    parser.add_argument("--max-megabytes", type=float, help="fail where a render needs more memory")
    given = parser.parse_args()

    bank = ROOT / "examples" / "bank"
    found = [measure("bank, 4 clusters", bank, len(list((bank / "services").rglob("*.yaml"))), 0)]
    _head()
    _row(found[0])
    for services in given.sizes:
        folder = Path(tempfile.mkdtemp(prefix="platform-"))
        try:
            pods = 5 * services
            generate.platform(folder, services, min(100, max(1, services // 20)), pods)
            found.append(measure(f"generated, {services}", folder, services, pods, (generate.CLUSTER,)))
        finally:
            shutil.rmtree(folder)
        _row(found[-1])
    if given.json:
        about = {"python": machine.python_version(), "processors": os.cpu_count()}
        given.json.write_text(json.dumps(about | {"renders": [asdict(item) for item in found]}, indent=2) + "\n")
    slow = [m for m in found if given.max_seconds and max(m.seconds, m.again_seconds) > given.max_seconds]
    large = [m for m in found if given.max_megabytes and m.peak_megabytes > given.max_megabytes]
    if slow or large:
        sys.exit(f"over the budget: {', '.join(sorted({m.platform for m in (*slow, *large)}))}")


def _head() -> None:
    print(
        f"{'platform':<20}{'services':>9}{'pods':>8}{'render':>10}{'again':>9}{'peak':>10}{'files':>7}{'written':>10}"
    )


def _row(m: Measured) -> None:
    print(
        f"{m.platform:<20}{m.services:>9,}{m.pods or '':>8}{m.seconds:>8.2f} s{m.again_seconds:>7.2f} s"
        f"{m.peak_megabytes:>7.0f} MB{m.files:>7,}{m.written_megabytes:>7.1f} MB"
        + ("  with errors" if m.problems else ""),
        flush=True,
    )


if __name__ == "__main__":
    main()
