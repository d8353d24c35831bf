"""Programs that a benchmark starts: measured by the kernel's own count, and ended whatever happens."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STOP_SECONDS = 15.0
_LAUNCH = Path(__file__).parent / "launch.py"


@dataclass(frozen=True)
class Run:
    """One process that ended by itself. `out` is what it printed, where that was asked for."""

    seconds: float
    processor_seconds: float
    peak_megabytes: float
    code: int
    out: str = ""


@cache
def environment() -> dict[str, str]:
    """That of the processes: with a place for compiled modules, whatever the caller's own says about them."""
    kept = tempfile.mkdtemp(prefix="compiled-")
    atexit.register(shutil.rmtree, kept, ignore_errors=True)
    found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found["PYTHONPYCACHEPREFIX"] = kept
    return found


def tell(text: str) -> None:
    """Progress, on stderr and only for people."""
    if sys.stderr.isatty():
        print(f"  {text} …", file=sys.stderr, flush=True)


def python(*arguments: object, codes: Sequence[int] = (0,), keep: bool = False) -> Run:
    """Runs this Python with these arguments to its end; ends the benchmark where the code is none of `codes`."""
    return program(sys.executable, *arguments, codes=codes, keep=keep)


def program(name: str | Path, *arguments: object, codes: Sequence[int] = (0,), keep: bool = False) -> Run:
    """The same with any program, given by its path."""
    with folder("run") as made, (made / "out").open("w+b") as out, (made / "errors").open("w+b") as errors:
        command = [sys.executable, "-S", _LAUNCH, made / "usage", name, *arguments]
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out if keep else subprocess.DEVNULL,
            stderr=errors,
            env=environment(),
            start_new_session=True,  # Ctrl-C reaches the benchmark alone, which ends what it started in order
        )
        try:
            process.wait()
        finally:
            end(process)
        usage = json.loads((made / "usage").read_text() or "{}")
        out.seek(0)
        errors.seek(0)
        if usage["code"] not in codes:
            sys.exit(f"{' '.join(map(str, arguments))} ended with {usage['code']}: {errors.read().decode()}")
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
        return Run(
            round(usage["seconds"], 2),
            round(usage["processor"], 2),
            round(usage["peak"] * unit / 1e6, 1),
            usage["code"],
            out.read().decode(),
        )


@contextmanager
def server(log: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """This Python with these arguments, until the block ends; what it says goes to `log`."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends it, kindly first."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """An empty folder, removed afterwards."""
    made = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
