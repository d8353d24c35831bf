"""A real server as a process of this run: started on free loopback ports, ready by its own answer, ended by its id.

Each lies in a process group of its own, so that what it starts itself ends with it, and the kernel ends it when this
process dies without a word. What it prints is kept in `build/testbed/`.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from support import testbed

LOGS = testbed.ROOT / "build" / "testbed"
KEPT_RUNS = 5
"""So many runs' logs stay; the oldest go."""
TAIL_LINES = 40
READY_SECONDS = 60.0
STOP_SECONDS = 10.0
PR_SET_PDEATHSIG = 1
PORTS = (20_000, 65_000)
NOBODY = 65534
"""Who servers run as that refuse to run as root."""

running: list[Server] = []
"""Every server of this process that was started and not yet stopped."""
started: list[Server] = []
"""Every server that ever answered, once for each start."""


_given: set[int] = set()
_chance = random.SystemRandom()  # two runs at once must not draw the same ports


class NotReady(Exception):
    """A server that ended or did not answer in time, with the end of its log."""


def free_port() -> int:
    """A port of the loopback address that nobody listens at now, and that this process was not given before.

    It lies outside the range from which the kernel takes ports for outgoing connections: one of those could have it
    before the server that it is meant for.
    """
    others = _ephemeral()
    outside = [port for port in range(*PORTS) if port not in others and port not in _given]
    for port in _chance.sample(outside, len(outside)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise NotReady(f"no port from {PORTS[0]} to {PORTS[1]} is free")


def _ephemeral() -> range:
    """The ports of outgoing connections (https://docs.kernel.org/networking/ip-sysctl.html, `ip_local_port_range`)."""
    try:
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split())
    except OSError:
        low, high = 49152, 65535  # what RFC 6335 sets apart for it
    return range(low, high + 1)


_folders: dict[str, Path] = {}


def folder() -> Path:
    """The folder of this run's servers, in memory where there is such a file system; gone at the end.

    Everybody may enter it: a server that refuses to be root reads its files as nobody.
    """
    found = _folders.get("run")
    if found is None:
        memory = Path("/dev/shm")
        wanted = os.environ.get("PILOTHOUSE_BED_FOLDER") or (str(memory) if os.access(memory, os.W_OK) else None)
        found = Path(tempfile.mkdtemp(prefix="pilothouse-bed-", dir=wanted))
        found.chmod(0o755)
        _folders["run"] = found
        atexit.register(shutil.rmtree, found, ignore_errors=True)
    return found


def logs() -> Path:
    """The folder of this run's logs: one for each run, because two may go on at once."""
    found = _folders.get("logs")
    if found is None:
        found = LOGS / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        found.mkdir(parents=True)
        _folders["logs"] = found
        for old in sorted(path for path in LOGS.iterdir() if path.is_dir())[:-KEPT_RUNS]:
            if not Path(f"/proc/{old.name.rpartition('-')[2]}").exists():  # another run may still write there
                shutil.rmtree(old, ignore_errors=True)
    return found


_numbers: dict[str, int] = {}


def own_folder(name: str) -> Path:
    """A new folder for one server."""
    _numbers[name] = _numbers.get(name, 0) + 1
    made = folder() / f"{name}-{_numbers[name]}"
    made.mkdir()
    return made


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Server:
    """One process. `ready` returns once it answers, and raises (anything) while it does not."""

    name: str
    arguments: Sequence[str | Path]
    ready: Callable[[], object]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    unprivileged: bool = False
    """Runs as nobody where we are root."""
    stop_signal: signal.Signals = signal.SIGTERM
    ready_seconds: float = READY_SECONDS
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    seconds: float = 0.0
    """How long the start took."""
    expected_end: bool = False
    """Whether somebody here stopped or killed it."""

    def __post_init__(self) -> None:
        _numbers[f"log {self.name}"] = number = _numbers.get(f"log {self.name}", 0) + 1
        self.log = logs() / (f"{self.name}.log" if number == 1 else f"{self.name}-{number}.log")
        self.log.write_bytes(b"")

    # ------------------------------------------------------------ life

    def launch(self) -> Self:
        """Start the process and do not wait for it. Call it from the main thread: the kernel ends the process
        with the thread that started it."""
        as_nobody = self.unprivileged and os.geteuid() == 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(item) for item in self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.cwd,
                env={**_environment(), **self.env},
                start_new_session=True,
                preexec_fn=_end_with_parent,
                user=NOBODY if as_nobody else None,
                group=NOBODY if as_nobody else None,
                extra_groups=[] if as_nobody else None,
            )
        self.expected_end = False
        self._started = time.monotonic()
        running.append(self)
        return self

    def wait(self) -> Self:
        """Wait until it answers; `NotReady` with its log when it ends or takes too long."""
        last: Exception | None = None
        while time.monotonic() - self._started < self.ready_seconds:
            if not self.alive:
                raise NotReady(f"{self.name} ended with code {self.returncode} at its start\n{self.tail()}")
            try:
                self.ready()
                self.seconds = time.monotonic() - self._started
                started.append(self)
                return self
            except Exception as failure:
                last = failure
            time.sleep(0.05)
        self.kill()
        raise NotReady(f"{self.name} did not answer within {self.ready_seconds:.0f} s ({last})\n{self.tail()}")

    def start(self) -> Self:
        return self.launch().wait()

    def restart(self) -> Self:
        """The same program with the same folder and ports, again."""
        self.stop()
        return self.start()

    def stop(self) -> None:
        """End it as an operator would; one that does not listen is killed."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End it as the kernel would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        self.expected_end = True
        if self.process is None:
            return
        if self.alive:
            self.signal(signal.SIGCONT)
            self.signal(how)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                self.process.wait()
        # What it started itself and left behind.
        self.signal(signal.SIGKILL)
        if self in running:
            running.remove(self)

    def pause(self) -> None:
        """It holds its connections and answers nothing, until `resume`. Returns when it has stopped."""
        self.signal(signal.SIGSTOP)
        deadline = time.monotonic() + STOP_SECONDS
        while not all(_is_stopped(pid) for pid in _group(self.pid)) and time.monotonic() < deadline:
            time.sleep(0.005)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """To the process and to what it started."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return

    # ------------------------------------------------------------ what is known of it

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was not started"
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def returncode(self) -> int | None:
        return self.process.poll() if self.process else None

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return f"--- the last {len(text)} lines of {self.log} ---\n" + "\n".join(text)

    def memory(self) -> int:
        """Resident bytes of its process group, 0 where the system does not say."""
        return sum(_resident(pid) for pid in _group(self.pid)) if self.alive else 0

    def __enter__(self) -> Self:
        return self if self.alive else self.start()

    def __exit__(self, kind: type[BaseException] | None, what: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class Served:
    """What every server of the test bed can be asked and told. `server` is its process."""

    server: Server

    @property
    def alive(self) -> bool:
        return self.server.alive

    @property
    def pid(self) -> int:
        return self.server.pid

    @property
    def log(self) -> Path:
        return self.server.log

    def stop(self) -> None:
        self.server.stop()

    def kill(self) -> None:
        self.server.kill()

    def pause(self) -> None:
        self.server.pause()

    def resume(self) -> None:
        self.server.resume()

    def restart(self) -> None:
        """Start it anew on what it stored."""
        self.server.restart()


def _environment() -> dict[str, str]:
    """Ours without what would change a server's or a client's mind."""
    unwanted = ("VAULT_", "KUBE", "ES_", "PG", "LDAP")
    return {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}


def _group(pid: int) -> Iterable[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getpgid(int(entry.name)) == pid:
                    yield int(entry.name)
            except (ProcessLookupError, PermissionError):
                continue


def _is_stopped(pid: int) -> bool:
    """Whether every thread of it is stopped (or it is gone)."""
    try:
        states = [
            (task / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
            for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except OSError:
        return True
    return all(state in "TtZX" for state in states)


def _resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def own(path: Path) -> Path:
    """The folder handed to nobody where we are root, so that an unprivileged server may write it."""
    if os.geteuid() == 0:
        for item in (path, *path.rglob("*")):
            os.chown(item, NOBODY, NOBODY)
    return path


def run_unprivileged(
    name: str, arguments: Sequence[str | Path], stdin: str = "", env: Mapping[str, str] | None = None
) -> str:
    """Runs a program to its end as the user that such servers have; what it printed. `NotReady` where it failed."""
    as_nobody = os.geteuid() == 0
    done = subprocess.run(
        [str(item) for item in arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd="/",
        env={**_environment(), **(env or {})},
        user=NOBODY if as_nobody else None,
        group=NOBODY if as_nobody else None,
        extra_groups=[] if as_nobody else None,
    )
    if done.returncode:
        raise NotReady(
            f"{name}: {arguments[0]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


def stop_all() -> None:
    """End whatever still runs, newest first."""
    for server in reversed(list(running)):
        server.kill()


atexit.register(stop_all)
