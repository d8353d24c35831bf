"""Set up `.venv` from a lock file, when it is missing or stale: `python tools/venv.py run|dev|real`.

The levels contain one another. What was installed is remembered as a hash of the lock
file and `pyproject.toml`, so that a second call ends at once. Standard library only:
this runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMP = VENV / "pilothouse-setup"
LEVELS = ("run", "dev", "real")
OLDEST = (3, 11)


def wanted(level: str) -> str:
    """What `.venv` must hold for that level, as a hash."""
    digest = hashlib.sha256()
    for name in (f"requirements/{level}.lock", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return f"{level} {digest.hexdigest()}"


def is_fresh(level: str) -> bool:
    """Whether what is installed holds this level: the same, or a larger one of the same locks."""
    if not STAMP.exists() or not (VENV / "bin" / "pilothouse").exists():
        return False
    installed = STAMP.read_text(encoding="utf-8").strip()
    return any(installed == wanted(larger) for larger in LEVELS[LEVELS.index(level) :])


def run(*command: str | Path) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=False)
    if done.returncode:
        sys.exit(f"setup failed: {' '.join(str(part) for part in command)}")


def main() -> None:
    level = sys.argv[1] if len(sys.argv) > 1 else "dev"
    if level not in LEVELS:
        sys.exit(f"unknown level {level!r}: one of {', '.join(LEVELS)}")
    if sys.version_info < OLDEST:
        sys.exit(
            f"pilothouse needs Python {OLDEST[0]}.{OLDEST[1]} or newer, and {sys.executable} is "
            f"{sys.version_info[0]}.{sys.version_info[1]}: call `make PYTHON=/path/to/python3.11 …`"
        )
    if is_fresh(level):
        return
    print(f"setting up .venv ({level}) …", file=sys.stderr, flush=True)
    STAMP.unlink(missing_ok=True)
    python = VENV / "bin" / "python"
    if not python.exists():
        shutil.rmtree(VENV, ignore_errors=True)
        try:
            import ensurepip  # noqa: F401 - Debian splits it off, and venv's own message is hard to read
        except ImportError:
            sys.exit("this Python cannot make virtual environments: install its venv package (on Debian: python3-venv)")
        run(sys.executable, "-m", "venv", VENV)
    run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", f"requirements/{level}.lock")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")
    STAMP.write_text(wanted(level) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
