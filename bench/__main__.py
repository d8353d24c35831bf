"""`python -m bench` runs the benchmark of renders; the other files of this folder are scripts of their own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import render

render.main()
