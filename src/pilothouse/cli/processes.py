"""Several processes as one command: start them, hand on their end, stop them all in order."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from pilothouse.problems import Unavailable

STOP_SECONDS = 15.0
PR_SET_PDEATHSIG = 1


@dataclass
class Process:
    """`essential` ones end everything when they end; others are started again, at most `restarts` times."""

    name: str
    arguments: Sequence[str]
    essential: bool = True
    pass_fds: tuple[int, ...] = ()
    restarts: int = 5
    running: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        self.running = subprocess.Popen(
            [sys.executable, "-m", *self.arguments],
            pass_fds=self.pass_fds,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: we stop the others, in order
            preexec_fn=_end_with_parent,
        )


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent dies without a word (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Runs processes until one that is essential ends, or a signal comes."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self.processes = list(processes)
        self._stop = False

    def run(self) -> int:
        """The exit code: 0 after a signal, else that of the essential process that ended."""
        before = {name: signal.signal(name, self._on_signal) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            for process in self.processes:
                process.start()
            return self._watch()
        finally:
            self.stop()
            for name, handler in before.items():
                signal.signal(name, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop = True

    def _watch(self) -> int:
        while not self._stop:
            for process in self.processes:
                code = process.running.poll() if process.running else 0
                if code is None:
                    continue
                if process.essential or process.restarts <= 0:
                    print(f"pilothouse: the {process.name} ended with code {code}", file=sys.stderr)
                    return code or 1
                process.restarts -= 1
                print(f"pilothouse: the {process.name} ended with code {code}; starting it again", file=sys.stderr)
                time.sleep(1.0)
                process.start()
            time.sleep(0.2)
        return 0

    def stop(self) -> None:
        """End the processes in the order they are listed; one that does not listen is killed."""
        for process in self.processes:
            if process.running is None or process.running.poll() is not None:
                continue
            process.running.terminate()
            try:
                process.running.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.running.kill()
                process.running.wait()


def listen(host: str, port: int, search: bool) -> socket.socket:
    """An open socket at that port; with `search` at the next free one where it is taken. 0 takes any."""
    last = port + 50 if search and port else port
    for number in range(port, last + 1):
        try:
            return _bind(host, number)
        except OSError as failure:
            if failure.errno == errno.EADDRINUSE and number < last:
                continue
            raise _cannot_listen(host, number, failure) from failure
    raise AssertionError("the loop ends by return or raise")


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
        made.listen(128)
        made.set_inheritable(True)
    except OSError:
        made.close()
        raise
    return made


def _cannot_listen(host: str, port: int, failure: OSError) -> Unavailable:
    if failure.errno == errno.EADDRINUSE:
        return Unavailable(
            f"port {port} on {host} is in use by another program",
            "end that program, or choose another port with --port",
        )
    if failure.errno in (errno.EACCES, errno.EPERM):
        return Unavailable(
            f"port {port} on {host} may not be used by this user", "choose a port above 1023 with --port"
        )
    return Unavailable(f"cannot listen on {host}, port {port}: {failure.strerror or failure}", "check --host")


def claim(folder: Path) -> int:
    """Hold the data folder for this process: an open, locked file. `Unavailable` where another one holds it."""
    import fcntl

    try:
        handle = os.open(folder / "serve.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as failure:
        raise Unavailable(
            f"cannot write {folder}: {failure.strerror}", "choose another folder with --data"
        ) from failure
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        os.close(handle)
        raise Unavailable(
            f"another pilothouse serves from {folder}", "end it, or choose another folder with --data"
        ) from failure
    return handle
