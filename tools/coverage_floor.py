"""Print the coverage of the last test run, and fail where a room of the domain is under its floor."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

DOMAIN = (
    "platform inventory artifacts promql collectors alerts dashboards policies access delivery "
    "problems reports labels source inputs bundle"
).split()
FLOOR = 95.0  # per cent of lines and branches together


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", str(out)], check=True)
        files = json.loads(out.read_text(encoding="utf-8"))["files"]
    seen: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, figures in files.items():
        parts = Path(path).parts
        room = parts[parts.index("pilothouse") + 1].removesuffix(".py")
        summary = figures["summary"]
        seen[room][0] += summary["covered_lines"] + summary["covered_branches"]
        seen[room][1] += summary["num_statements"] + summary["num_branches"]
    below = []
    print("\ncoverage of lines and branches")
    for room, (covered, total) in sorted(seen.items()):
        share = 100.0 * covered / total if total else 100.0
        low = room in DOMAIN and share < FLOOR
        print(f"  {room:<12}{share:6.1f} %{'   under the floor of ' + str(FLOOR) + ' %' if low else ''}")
        below += [room] if low else []
    if below:
        sys.exit(f"under the floor: {', '.join(below)}")


if __name__ == "__main__":
    main()
