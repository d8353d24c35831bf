"""A real `pilothouse demo` (portal, signer and worker) as a subprocess, and what a person needs to use it.

Everything lies in one folder of its own; the processes end with the block, or with the process that started them.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.testbed import ROOT

START_SECONDS = 60.0
STOP_SECONDS = 30.0
PR_SET_PDEATHSIG = 1
_ADDRESS = re.compile(r"^pilothouse demo at (http://\S+)", re.MULTILINE)
_PERSON = re.compile(r"^ *([a-z][a-z0-9-]*) {2,}([a-z]+(?:-[a-z]+){3}-\d+) {2,}", re.MULTILINE)


@dataclass(frozen=True)
class Demo:
    """A demo that answers. `passwords` holds each demo user's; `log` is what its processes print."""

    address: str
    passwords: Mapping[str, str]
    data: Path
    log: Path

    @property
    def platform(self) -> Path:
        """The platform's Git repository, where agreed proposals become commits."""
        return self.data / "platform"

    @property
    def rendered(self) -> Path:
        """What the worker renders."""
        return self.data / "rendered"

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@contextmanager
def running(folder: Path, log: Path, port: int = 0, platform: Path | None = None) -> Iterator[Demo]:
    """A demo on a data folder below `folder`, at a free port unless one is named, until the block ends.

    `platform` is a folder of documents to copy instead of the bank.
    """
    data = folder / "data"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pilothouse", "demo", "--data", str(data), "--port", str(port)),
                *(() if platform is None else ("--platform", str(platform))),
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    try:
        yield _ready(process, data, log)
    finally:
        _end(process)


def _end_with_parent() -> None:
    """Have the kernel end the demo when we die without a word (Linux only); it ends its own processes then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> Demo:
    """What it printed, once the portal, the signer and the worker answer."""

    def look() -> Demo | None:
        text = log.read_text(encoding="utf-8", errors="replace")
        if process.poll() is not None:
            raise AssertionError(f"the demo ended with code {process.returncode}:\n{text[-4000:]}")
        address = _ADDRESS.search(text)
        if address is None or not _answers(address[1]):
            return None
        return Demo(address[1], dict(_PERSON.findall(text)), data, log)

    return until(look, START_SECONDS, lambda: f"the demo is not ready:\n{log.read_text(encoding='utf-8')[-4000:]}")


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            state = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return False
    return bool(state["ready"]) and all(backend["ok"] for backend in state["backends"].values())


def until(look: Callable[[], Any], seconds: float = 30.0, otherwise: Callable[[], str] = lambda: "") -> Any:
    """What `look` returns as soon as it is true; fails with the text of `otherwise` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {otherwise()}")
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Laptop:
    """An engineer's machine: a home folder of its own, and the command line."""

    home: Path
    demo: Demo

    def run(self, *arguments: object, stdin: str = "", code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Runs `pilothouse ARGUMENTS`; fails where it ends with another code (None: any)."""
        return self.start(sys.executable, "-m", "pilothouse", *arguments, stdin=stdin, code=code)

    def start(self, *command: object, stdin: str = "", code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Runs any command with this home."""
        done = subprocess.run(
            [str(part) for part in command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.home,
            env=self._environment(),
            start_new_session=True,  # no terminal: a password is read from stdin
        )
        if code is not None:
            assert done.returncode == code, (
                f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done

    def json(self, *arguments: object, stdin: str = "", code: int | None = 0) -> Any:
        """What `pilothouse ARGUMENTS --output json` prints."""
        return json.loads(self.run(*arguments, "--output", "json", stdin=stdin, code=code).stdout)

    def log_in(self, user: str) -> None:
        self.run(
            *("access", "login", "--server", self.demo.address, "--user", user),
            stdin=f"{self.demo.passwords[user]}\n",
        )

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTHOUSE_", "XDG_"))}
        programs = f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', '')}"
        return own | {"HOME": str(self.home), "PATH": programs, "COLUMNS": "200", "NO_COLOR": "1"}


TESTBED = ROOT / "build" / "testbed"
"""Where logs and pictures of failures are kept."""
