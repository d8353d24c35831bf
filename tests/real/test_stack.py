"""`make stack` and `make stack-check`: all real servers at once, from one command to the last process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.demo import until
from support.testbed import ROOT

STACK = (sys.executable, str(ROOT / "tools" / "stack"))
THINGS = 6
"""The five, and that all of it works by itself."""
SECONDS = 600.0
MARK = "STACK_OF_TEST"


@contextmanager
def started(folder: Path, log: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process; it is told to end, and killed where it does not listen."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*STACK, "--folder", str(folder), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, MARK: str(folder)},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def left(folder: Path) -> list[str]:
    """Processes of the stack in that folder: all of them inherit its name."""
    mark, found = _mark(folder).encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment, said = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended
            if mark in environment:
                found.append(f"{entry.name} {said.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


def _mark(folder: Path) -> str:
    return f"{MARK}={folder}"


def test_the_five_things_are_seen(tmp_path: Path) -> None:
    folder, log = tmp_path / "stack", tmp_path / "log"
    with started(folder, log, "--check") as process:
        process.wait(SECONDS)
    said = log.read_text(encoding="utf-8")
    print(said)
    assert process.returncode == 0, said
    assert len(re.findall(r"^   seen, \d+ s$", said, re.MULTILINE)) == THINGS, said
    assert "NOT SEEN" not in said
    assert not left(folder)


def test_it_lives_until_it_is_told_to_end(tmp_path: Path) -> None:
    folder, log = tmp_path / "stack", tmp_path / "log"

    def said() -> str:
        return log.read_text(encoding="utf-8", errors="replace")

    def ask(*words: str) -> str:
        done = subprocess.run([*STACK, "--folder", str(folder), *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with started(folder, log, "--port", "0") as process:
        until(lambda: "Five things to try" in said() or process.poll() is not None, SECONDS, said)
        assert process.poll() is None, said()
        assert folder.stat().st_mode & 0o077 == 0
        servers = dict(re.findall(r"^(\S+) +process (\d+)", ask("servers"), re.MULTILINE))
        assert {"kube-apiserver", "vault", "slapd", "prometheus", "elasticsearch", "pilothouse"} <= servers.keys()
        passwords = re.findall(r"^  \w+ +((?:[a-z]+-){4}\d+) ", said(), re.MULTILINE)
        assert len(passwords) >= 5
        arguments = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
        assert not [password for password in passwords if password.encode() in arguments]

        # The death of a server is said, and ends nothing else.
        os.kill(int(servers["alertmanager"]), signal.SIGKILL)
        until(lambda: "alertmanager ended with code -9" in said(), 30, said)
        assert process.poll() is None
        assert len(left(folder)) > len(servers)
        ask("start", "alertmanager")
        again = dict(re.findall(r"^(\S+) +process (\d+)", ask("servers"), re.MULTILINE))
        assert again["alertmanager"] != servers["alertmanager"]

        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, said()
    assert not left(folder)


def test_it_can_be_ended_while_it_starts(tmp_path: Path) -> None:
    folder, log = tmp_path / "stack", tmp_path / "log"
    with started(folder, log) as process:
        until(lambda: "creating" in log.read_text(encoding="utf-8"), SECONDS)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(60) == 0, log.read_text(encoding="utf-8")
    assert time.monotonic() - began < 60
    assert not left(folder)
    assert "Traceback" not in log.read_text(encoding="utf-8")
