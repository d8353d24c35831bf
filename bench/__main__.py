"""`python -m bench` runs every benchmark: renders, then the portal's pages on the largest platform.

The tables go to the terminal, the same figures as JSON to `build/bench/results.json` (`--out` names another file). The
other files of this folder are scripts of their own. It takes one to two minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import about
import portal
import render


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Run every benchmark.")
    parser.add_argument("--sizes", type=int, nargs="+", default=render.SIZES, help="numbers of services")
    parser.add_argument("--out", type=Path, default=render.ROOT / "build" / "bench" / "results.json")
    given = parser.parse_args()
    found = about.run()
    print(about.heading(found), render.HEAD, sep="\n\n")
    renders = []
    for item in render.measure_all(sorted(given.sizes)):
        renders.append(item)
        print(render.row(item), flush=True)
    services = max(given.sizes)
    with render.generated(services) as folder:
        loaded, pages = portal.measure(folder)
    print(f"\nThe portal at {services:,} services", end=": ")
    print(f"loaded in {loaded.load_seconds} s, checked in {loaded.check_seconds} s", portal.HEAD, sep="\n\n")
    print(*map(portal.row, pages), sep="\n")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    found["renders"] = [asdict(item) for item in renders]
    found["portal"] = {"services": services, "loaded": asdict(loaded), "pages": [asdict(item) for item in pages]}
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\n{given.out}")


if __name__ == "__main__":
    main()
