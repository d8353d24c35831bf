"""What the figures of a run hold for: the machine, the versions, the seed."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = tuple("pilothouse PyYAML pydantic promql-parser click Flask Jinja2 SQLAlchemy cryptography".split())
SEED = 1
"""Of the generated platforms; the same seed makes the same bytes."""


def run() -> dict[str, Any]:
    """As it stands in the JSON file."""
    return {
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gigabytes": _memory(),
            "system": f"{platform.system()} {platform.release()}",
            "load_at_start": [round(load, 1) for load in os.getloadavg()],
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "seed": SEED,
    }


def heading(about: dict[str, Any]) -> str:
    """The same in three lines."""
    machine = about["machine"]
    versions = " ".join(f"{name} {number}" for name, number in about["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gigabytes']} GB, {machine['system']}, "
        f"load {machine['load_at_start'][0]}\n{versions}\nseed {about['seed']}"
    )


def _processor() -> str:
    """Linux says its name here only; elsewhere Python knows it."""
    found = Path("/proc/cpuinfo")
    if found.is_file():
        for line in found.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
