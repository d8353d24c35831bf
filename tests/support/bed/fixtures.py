"""The real servers as fixtures: a pytest plugin, so that any test may ask for one.

A server is started once per run, when a test first asks for it, and once more when it died since. A test during which
it died without being told to fails, with the end of its log. `.fresh(…)` gives a server of the test's own.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pytest
from support.bed import directory, kubernetes, monitoring, process
from support.bed import elasticsearch as elasticsearch_server
from support.bed import postgresql as postgresql_server
from support.bed import vault as vault_server
from support.bed.faults import Proxy


class Life(Protocol):
    @property
    def alive(self) -> bool: ...
    def stop(self) -> None: ...


Kind = TypeVar("Kind", bound=Life)


@dataclass
class Keeper(Generic[Kind]):
    """Keeps one server of a kind for the run, and starts another when it is gone."""

    name: str
    start: Callable[..., Kind]
    server: Kind | None = None
    starts: int = 0

    def get(self) -> Kind:
        if self.server is not None and not self.server.alive:
            self.server.stop()
            self.server = None
        if self.server is None:
            self.server = self.start()
            self.starts += 1
        return self.server

    def used(self) -> Iterator[Kind]:
        """The body of a fixture: the server, and a failure where it died in the meantime by itself."""
        given = self.get()
        yield given
        if not given.alive and self.server is given and not _was_told(given):
            process_ = _processes(given)
            logs = "\n".join(item.tail() for item in process_)
            given.stop()
            pytest.fail(f"the server {self.name} died during this test; the next one gets another\n{logs}", False)


def _processes(server: Any) -> list[process.Server]:
    return list(server.servers) if hasattr(server, "servers") else [server.server]


def _was_told(server: Any) -> bool:
    return all(item.alive or item.expected_end for item in _processes(server))


@dataclass
class Bed:
    keepers: dict[str, Keeper[Any]] = field(default_factory=dict)

    def keeper(self, name: str, start: Callable[..., Kind]) -> Keeper[Kind]:
        return self.keepers.setdefault(name, Keeper(name, start))


_bed = Bed()


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    """Every server of the run."""
    yield _bed
    process.stop_all()


def _fresh(kept: Any, start: Callable[..., Kind], mine: list[Any]) -> None:
    """Gives `kept` a method `fresh`, whose servers end with the test."""

    def fresh(*arguments: Any, **options: Any) -> Kind:
        made = start(*arguments, **options)
        mine.append(made)
        return made

    kept.fresh = fresh


def _serve(bed: Bed, name: str, start: Callable[..., Kind]) -> Iterator[Kind]:
    mine: list[Any] = []
    body = bed.keeper(name, start).used()
    server = next(body)
    _fresh(server, start, mine)
    try:
        yield server
    finally:
        for item in mine:
            item.stop()
    next(body, None)


@pytest.fixture
def kube_api(bed: Bed) -> Iterator[kubernetes.KubeApi]:
    """A Kubernetes API server."""
    yield from _serve(bed, "kube_api", kubernetes.start)


@pytest.fixture
def kwok(bed: Bed, kube_api: kubernetes.KubeApi) -> Iterator[kubernetes.Kwok]:
    """kwok on `kube_api`."""
    keeper = bed.keeper("kwok", lambda: kubernetes.start_kwok(kube_api))
    if keeper.server is not None and keeper.server.api is not kube_api:
        keeper.server.stop()
        keeper.server = None
    yield from keeper.used()


@pytest.fixture
def vault(bed: Bed) -> Iterator[vault_server.Vault]:
    """Vault in development mode."""
    yield from _serve(bed, "vault", vault_server.start)


@pytest.fixture
def slapd(bed: Bed) -> Iterator[directory.Slapd]:
    """A directory."""
    yield from _serve(bed, "slapd", directory.start)


@pytest.fixture
def elasticsearch(bed: Bed) -> Iterator[elasticsearch_server.Elasticsearch]:
    """Elasticsearch without security; `fresh(security=True)` has it."""
    yield from _serve(bed, "elasticsearch", elasticsearch_server.start)


@pytest.fixture
def postgresql(bed: Bed) -> Iterator[postgresql_server.PostgreSQL]:
    """PostgreSQL; take a `database()` of your own."""
    yield from _serve(bed, "postgresql", postgresql_server.start)


Start = Callable[..., monitoring.Monitor]


def _several(start: Start) -> Iterator[Start]:
    mine: list[monitoring.Monitor] = []

    def one(config: Path, *flags: str, **options: Any) -> monitoring.Monitor:
        made = start(config, *flags, **options)
        mine.append(made)
        return made

    yield one
    for item in mine:
        item.stop()


@pytest.fixture
def prometheus(bed: Bed) -> Iterator[Start]:
    """`prometheus(config, *flags)`: a Prometheus of the test's own."""
    yield from _several(monitoring.start_prometheus)


@pytest.fixture
def alertmanager(bed: Bed) -> Iterator[Start]:
    """`alertmanager(config, *flags)`: an Alertmanager of the test's own."""
    yield from _several(monitoring.start_alertmanager)


@pytest.fixture
def faults() -> Iterator[Callable[[str], Proxy]]:
    """`faults(server.url)`: a proxy in front of a server."""
    mine: list[Proxy] = []

    def one(url: str) -> Proxy:
        mine.append(Proxy(url))
        return mine[-1]

    yield one
    for proxy in mine:
        proxy.close()


# ---------------------------------------------------------------- what is shown

_seen: dict[str, list[float]] = {}


def _servers_of(item: pytest.Item) -> list[process.Server]:
    """Those of the fixtures that the test asked for, and those that it started itself."""
    names = getattr(item, "fixturenames", ())
    kept = {
        id(one): keeper.name
        for keeper in _bed.keepers.values()
        if keeper.server is not None
        for one in _processes(keeper.server)
    }
    return [server for server in process.running if kept.get(id(server)) in (None, *names)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A test that fails shows the end of the log of every server that ran for it."""
    report: Any = yield
    if report.failed:
        report.sections += [(f"log of {server.name}", server.tail()) for server in _servers_of(item)]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    for server in process.started:
        _seen.setdefault(server.name, []).append(server.seconds)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How long each server took to start."""
    if not _seen:
        return
    terminalreporter.section("real servers", sep="-")
    for name, times in sorted(_seen.items()):
        each = ", ".join(f"{seconds:.1f} s" for seconds in times[:8]) + (" …" if len(times) > 8 else "")
        terminalreporter.write_line(f"{name:16} started {len(times)}×: {each}")


def pytest_configure(config: pytest.Config) -> None:
    """A run that is told to end ends its servers: SIGTERM does what Ctrl-C does."""
    del config
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
