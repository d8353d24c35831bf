"""Names resolved as this machine does it (`getaddrinfo`), many at once, within one time limit for all.

`getaddrinfo` can be neither cancelled nor given a time limit, so it runs in a few threads of our own, which a process
that ends does not wait for. A look-up that hangs keeps its thread until the system gives up; as long as all of them
hang, names are answered with a failure. It does not say how long an answer may be used.

Names are asked for as absolute ones. In a pod the resolver would otherwise try `<name>.<namespace>.svc.cluster.local`
and the like first (https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/), and whoever may make a
service there could answer for a name outside.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

from pilothouse.clients import calls
from pilothouse.policies.domains import Address, Answer
from pilothouse.problems import Unavailable

SECONDS = 8.0
"""For all names of a run together; the worker's other jobs wait meanwhile."""
THREADS = 16

LookUp = Callable[[str], tuple[Address, ...]]


def system(name: str) -> tuple[Address, ...]:
    """A and AAAA records of a name, each once. Raises `OSError` where there are none, or nobody answers."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(_address(str(item[4][0])) for item in found))


def _address(text: str) -> Address:
    found = ip_address(text)
    if isinstance(found, IPv6Address) and found.scope_id:
        return IPv6Address(int(found))
    return found


@dataclass
class _Asked:
    """One call of `resolve`. Whoever takes a name off the queue after its end leaves it."""

    ends: float
    answers: queue.SimpleQueue[tuple[str, Answer | Exception]] = field(default_factory=queue.SimpleQueue)


class SystemResolver:
    """A `Resolver`. `seconds` bounds a call of `resolve`, `threads` the look-ups that run at once, of all calls."""

    def __init__(self, seconds: float = SECONDS, threads: int = THREADS, look_up: LookUp = system) -> None:
        self._seconds = seconds
        self._threads = threads
        self._look_up = look_up
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: queue.SimpleQueue[tuple[_Asked, str]] = queue.SimpleQueue()

    def resolve(self, names: Sequence[str]) -> dict[str, Answer]:
        """The answer to each name, in their order; one that is not back in time says so. A failure that is no matter of
        the name is a mistake, and is raised."""
        wanted = tuple(dict.fromkeys(names))
        if not wanted:
            return {}
        asked = _Asked(time.monotonic() + self._seconds)
        for name in wanted:
            self._waiting.put((asked, name))
        self._start(len(wanted))
        found: dict[str, Answer] = {}
        while len(found) < len(wanted):
            try:
                name, answer = asked.answers.get(timeout=max(asked.ends - time.monotonic(), 0.001))
            except queue.Empty:
                break
            if isinstance(answer, Exception):
                raise answer
            found[name] = answer
        late = Answer(failure=f"no answer within {self._seconds:g} s")
        return {name: found.get(name, late) for name in wanted}

    def _start(self, wanted: int) -> None:
        with self._lock:
            for _ in range(min(wanted, self._threads - self._running)):
                self._running += 1
                threading.Thread(target=self._work, name="resolve", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:  # so that nobody puts a name there and sees this thread as one that will take it
                try:
                    asked, name = self._waiting.get_nowait()
                except queue.Empty:
                    self._running -= 1
                    return
            if time.monotonic() < asked.ends:
                asked.answers.put((name, self._answer(name)))

    def _answer(self, name: str) -> Answer | Exception:
        try:
            with calls.measured("dns", "resolve"):
                try:
                    return Answer(self._look_up(f"{name.rstrip('.')}."))
                except (OSError, UnicodeError) as failure:  # a label that is too long is no name to the codec
                    raise Unavailable(_reason(failure)) from failure
        except Unavailable as failure:
            return Answer(failure=failure.message)
        except Exception as failure:
            return failure


def _reason(failure: OSError | UnicodeError) -> str:
    """In words that stay the same: the system's own differ from one C library to the next."""
    if isinstance(failure, socket.gaierror):
        if failure.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return "DNS knows no address of it"
        if failure.errno == socket.EAI_AGAIN:
            return "its name servers did not answer"
    return str(failure)
