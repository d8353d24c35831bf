"""`python tools/stack`: the folder that holds this package, and the one that holds the test bed, go on the path."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The package's own folder is on the path as well when it is run as a script: its modules are `stack.…` only.
sys.path[:] = [
    str(ROOT / "tools"),
    str(ROOT / "tests"),
    *(item for item in sys.path if Path(item) != Path(__file__).parent),
]

from stack.main import main  # noqa: E402  # the folders have to be on the path first

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
