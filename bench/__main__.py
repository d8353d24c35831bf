"""`python -m bench` answers every question of this folder, `python -m bench QUESTION …` some of them.

The tables go to the terminal, the same figures as JSON to `build/bench/results.json` (`--out` names another file; one
question alone goes to a file of its name). All of them take about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import about
from table import Table

QUESTIONS = {
    "render": "a render and a check of the bank and of up to 2,000 services",
    "snapshot": "reading what runs in a cluster, up to 100,000 pods",
    "netpol": "who reaches whom in clusters of up to 100,000 pods, beside network-config-analyzer",
    "writer": "documents turned into YAML, beside PyYAML",
    "portal": "the portal's pages at 2,000 services while 10,000 alerts fire",
    "unusual": "attacks found, and innocent days paged, in 60 generated days of 240 people and 120 workloads",
    "issuance": "certificates by the embedded authority, beside raw signing",
    "vault": "certificates by a real Vault through the portal, beside the same Vault asked straight",
}
FOLDER = Path(__file__).parents[1] / "build" / "bench"


def main(arguments: list[str] | None = None) -> int:
    given = _parse(arguments)
    chosen = given.question or list(QUESTIONS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended by `finally` then, too
    found = about.run()
    print(about.heading(found), flush=True)
    began = time.perf_counter()
    answers: dict[str, Any] = {}
    over: list[str] = []
    for question in chosen:
        started = time.perf_counter()
        tables: list[Table] = importlib.import_module(question).answer(given.scale)
        seconds = round(time.perf_counter() - started, 1)
        for table in tables:
            print(f"\n{table.text()}", flush=True)
            over += table.over()
        print(f"({question}: {seconds} s)", flush=True)
        answers[question] = {"seconds": seconds, "tables": [table.as_data() for table in tables]}
    found |= {"scale": given.scale, "seconds": round(time.perf_counter() - began, 1), "answers": answers}
    out = given.out or FOLDER / f"{'results' if chosen == list(QUESTIONS) else '-'.join(chosen)}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\n{out}, {found['seconds']} s")
    for text in over:
        print(f"over: {text}", file=sys.stderr)
    return 1 if over and given.hold else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    listed = "\n".join(f"  {name:<10} {text}" for name, text in QUESTIONS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"Answer questions about speed and memory:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("question", nargs="*", help="one of those above (default: all of them)")
    parser.add_argument("--scale", choices=("full", "tiny"), default="full", help="tiny: only to see that it runs")
    parser.add_argument("--hold", action="store_true", help="end with 1 where a figure is above what it is held to")
    parser.add_argument("--out", type=Path, help="the file for the figures")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.question if name not in QUESTIONS]:
        parser.error(f"no question {', '.join(unknown)}: choose from {', '.join(QUESTIONS)}")
    return given


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
