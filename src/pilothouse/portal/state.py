"""The platform of the moment: loaded once, derived lazily, loaded anew when its files change.

`Current.get()` never waits for a reload: it answers with what is there, and a change of the folder is
picked up in the background. A platform that no longer loads keeps the last good one, with the reason.
Of what is derived only problems and names are kept: at 2,000 services the documents
themselves would fill the memory.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from pilothouse.files.garbage import settle
from pilothouse.inputs import Content, Inputs
from pilothouse.platform.model import Platform
from pilothouse.problems import PilothouseError, Problem, Problems, has_errors, ordered
from pilothouse.workflows.network import Network

if TYPE_CHECKING:
    from pilothouse.policies.edges import Edges

log = structlog.get_logger(__name__)
Value = TypeVar("Value")
MOST_NETWORKS = 4
"""So many clusters have their evaluated policies kept: at 10,000 pods those of one are about 100 MB, with answers."""
IGNORED = frozenset((".git", "__pycache__", "node_modules", ".venv"))


@dataclass(frozen=True)
class Checked:
    """What is left of deriving a cluster: its problems and the paths of its documents."""

    problems: Problems
    paths: tuple[str, ...]


class Engine(Protocol):
    """How a platform is read and derived; `Workflows` is the real one, a test may bring its own."""

    def open(self, root: Path) -> tuple[Platform, Content, Problems, Any]: ...
    def inputs(self, opened: Any, cluster: str, today: date) -> tuple[Inputs, Problems]: ...
    def check(self, opened: Any, cluster: str, today: date) -> Checked: ...
    def edges(self, inputs: Inputs) -> Edges: ...


class Workflows:
    """The same functions that `pilothouse render` and `check` call. `kept` is the folder of the worker's snapshots,
    `domains` that of what it resolved, as of `clock`."""

    def __init__(
        self, kept: Path | None = None, domains: Path | None = None, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.kept = kept
        self.domains = domains
        self.clock = clock

    def open(self, root: Path) -> tuple[Platform, Content, Problems, Any]:
        from pilothouse.workflows import rendering

        domains = rendering.KeptDomains(self.domains, self.clock()) if self.domains and self.clock else None
        opened = rendering.open_platform(root, kept=self.kept, domains=domains)
        return opened.loaded.platform, opened.loaded.content, opened.problems, opened

    def inputs(self, opened: Any, cluster: str, today: date) -> tuple[Inputs, Problems]:
        from pilothouse.workflows import rendering

        return rendering.inputs_for(opened, cluster, today)

    def check(self, opened: Any, cluster: str, today: date) -> Checked:
        from pilothouse.workflows import rendering

        _, result = rendering.derive_cluster(opened, cluster, today)
        return Checked(result.problems, tuple(document.path for document in result.artifacts))

    def edges(self, inputs: Inputs) -> Edges:
        from pilothouse.policies import edges

        return edges.of(inputs)


class Once:
    """Values that are made once and kept, a lock for each; a failure is kept too, and raised again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._values: dict[str, Any] = {}
        self._failures: dict[str, PilothouseError] = {}

    def __call__(self, key: str, make: Callable[[], Value]) -> Value:
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key in self._failures:
                raise self._failures[key]
            if key not in self._values:
                try:
                    self._values[key] = make()
                except PilothouseError as failure:
                    self._failures[key] = failure
                    raise
            value: Value = self._values[key]
            return value

    def has(self, key: str) -> bool:
        return key in self._values or key in self._failures


class Recent:
    """The last few values that were made, each once; what was not asked for longest is forgotten first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: OrderedDict[str, Once] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: str, make: Callable[[], Value]) -> Value:
        with self._lock:
            known = self._values.setdefault(key, Once())
            self._values.move_to_end(key)
            while len(self._values) > self.most:
                self._values.popitem(last=False)
        return known(key, make)  # outside the lock: another key need not wait


@dataclass(frozen=True)
class Live:
    """A platform as it was read at one moment. Immutable; what is derived from it is made on first use.

    `reason` is set when the folder could not be read as it is now and this is an older state (or
    nothing at all): one line for the page.
    """

    platform: Platform
    content: Content
    problems: Problems
    root: Path
    stamp: str
    loaded_at: datetime
    reason: str = ""
    hint: str = ""
    _opened: Any = None
    _engine: Engine = field(default_factory=Workflows)
    _once: Once = field(default_factory=Once)
    _recent: Recent = field(default_factory=lambda: Recent(MOST_NETWORKS))

    @property
    def today(self) -> date:
        return self.loaded_at.date()

    @property
    def opened(self) -> Any:
        """What the engine read (`workflows.rendering.Opened`), for workflows that go on from it."""
        return self._opened

    @property
    def clusters(self) -> tuple[str, ...]:
        return tuple(self.platform.clusters)

    @property
    def main_cluster(self) -> str:
        """The last declared cluster that is a production one, else the first; "" where none is declared."""
        known = self.platform.clusters
        production = [item.name for item in known.values() if item.environment in ("prod", "production")]
        return production[-1] if production else next(iter(known), "")

    @property
    def has_errors(self) -> bool:
        """Whether the documents themselves have errors, so that nothing is derived from them."""
        return has_errors(self.problems)

    def inputs(self, cluster: str) -> Inputs:
        """The inputs of a cluster with its snapshot. KeyError for one that is not declared."""
        return self._inputs(cluster)[0]

    def _inputs(self, cluster: str) -> tuple[Inputs, Problems]:
        self.platform.clusters[cluster]
        return self._once(f"inputs:{cluster}", lambda: self._engine.inputs(self._opened, cluster, self.today))

    def edges(self, cluster: str) -> Edges:
        """Declared and implied edges of a cluster (`policies.edges`)."""
        return self._once(f"edges:{cluster}", lambda: self._engine.edges(self.inputs(cluster)))

    def checked(self, cluster: str) -> Checked:
        """Every check of every area on that cluster. Takes seconds on a large platform: see `is_checked`."""
        self.platform.clusters[cluster]
        if self.has_errors:
            return Checked((), ())
        return self._once(f"checked:{cluster}", lambda: self._engine.check(self._opened, cluster, self.today))

    def is_checked(self, cluster: str) -> bool:
        """Whether `checked` answers at once."""
        return self.has_errors or self._once.has(f"checked:{cluster}")

    def derived(self, key: str, make: Callable[[], Value]) -> Value:
        """Anything else that a page derives from this platform: made once, kept as long as the platform is."""
        return self._once(f"page:{key}", make)

    def network(self, cluster: str) -> Network:
        """What answers questions about the network of a cluster. Those of the last few clusters are kept."""
        return self._recent(cluster, lambda: Network(self.inputs(cluster), self.edges(cluster)))

    def all_problems(self) -> tuple[Problems, tuple[str, ...], Mapping[str, str]]:
        """The problems known by now, the clusters that are still being checked, and cluster → why it could not be."""
        found: list[Problem] = list(self.problems)
        waiting: list[str] = []
        failed: dict[str, str] = {}
        for name in self.clusters:
            if not self.is_checked(name):
                waiting.append(name)
                continue
            try:
                found.extend(self.checked(name).problems)
            except PilothouseError as failure:
                failed[name] = failure.message
        return ordered(found), tuple(waiting), failed


def stamp_of(root: Path) -> str:
    """A value that changes whenever a file below `root` does: names, sizes and times of change."""
    digest = hashlib.sha256()
    for path, size, changed in _walk(str(root)):
        digest.update(f"{path}\0{size}\0{changed}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def snapshots_stamp(folder: Path | None) -> str:
    """The same of the snapshots in a folder: not of the files that say when they were last found to be so."""
    if folder is None or not folder.is_dir():
        return ""
    seen = sorted((path.name, path.stat()) for path in folder.glob("*.json"))
    text = "".join(f"{name}\0{info.st_size}\0{info.st_mtime_ns}\n" for name, info in seen)
    return hashlib.sha256(text.encode()).hexdigest()


def _walk(folder: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            if entry.name in IGNORED:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            elif entry.is_file():
                info = entry.stat()
                yield entry.path, info.st_size, info.st_mtime_ns


class Current:
    """The platform of one folder, kept up to date. Safe for many threads."""

    def __init__(
        self,
        root: Path,
        clock: Callable[[], datetime],
        every: float = 2.0,
        engine: Engine | None = None,
        warm: bool = True,
        kept: Path | None = None,
        domains: Path | None = None,
    ) -> None:
        """`every` is the least number of seconds between two looks at the folder; `warm` checks the clusters
        in the background after each load; `kept` is the folder of the worker's snapshots, `domains` that of
        what it resolved, both watched as well."""
        self.root = root
        self._clock = clock
        self._every = every
        self._engine = engine or Workflows(kept, domains, clock)
        self._kept = kept
        self._domains = domains
        self._warm = warm
        self.warmers: list[Callable[[Live, str], object]] = []
        """What pages derive for a cluster and would rather not make their first reader wait for."""
        self._live: Live | None = None
        self._looked_at: datetime | None = None
        self._refreshing = threading.Lock()
        self._warming: threading.Thread | None = None

    def get(self) -> Live:
        """What is there now; the first call loads it, later ones start a reload in the background when it is time."""
        found = self._live
        if found is None:
            return self.refresh()
        last = self._looked_at
        moment = self._clock()
        if last is not None and (moment - last).total_seconds() >= self._every and not self._refreshing.locked():
            self._looked_at = moment
            threading.Thread(target=self.refresh, name="platform-reload", daemon=True).start()
        return found

    def refresh(self) -> Live:
        """Look at the folder and load it if it changed (or the day did); returns what holds afterwards."""
        with self._refreshing:
            moment = self._clock()
            self._looked_at = moment
            old = self._live
            try:
                stamp = stamp_of(self.root) + snapshots_stamp(self._kept) + snapshots_stamp(self._domains)
            except OSError as failure:
                return self._keep(old, f"cannot read {self.root}: {failure.strerror}", "", "")
            if old is not None and old.stamp == stamp and old.today == moment.date():
                return old
            try:
                platform, content, problems, opened = self._engine.open(self.root)
            except PilothouseError as failure:
                return self._keep(old, failure.message, failure.hint, stamp)
            if old is not None and old.platform.services and has_errors(problems):
                # Documents with errors derive nothing. The last good state stays, its problems are those of now.
                return self._keep(old, "the documents have errors", "the problems page lists them", stamp, problems)
            fresh = Live(platform, content, problems, self.root, stamp, moment, _opened=opened, _engine=self._engine)
            self._live = fresh
            log.info("platform loaded", services=len(platform.services), problems=len(problems))
            if self._warm:
                self._warming = threading.Thread(target=self.check_all, args=(fresh,), name="warm", daemon=True)
                self._warming.start()
            return fresh

    def _keep(self, old: Live | None, reason: str, hint: str, stamp: str, problems: Problems | None = None) -> Live:
        log.warning("platform not loaded", reason=reason)
        base = old or Live(Platform(), Content(), (), self.root, stamp, self._clock(), _engine=self._engine)
        kept = Live(
            base.platform,
            base.content,
            base.problems if problems is None else problems,
            self.root,
            stamp,
            base.loaded_at,
            reason,
            hint,
            base._opened,
            base._engine,
            base._once,
            base._recent,
        )
        self._live = kept
        return kept

    def check_all(self, wanted: Live) -> None:
        """Derive what every page needs of every cluster; ends early once a newer platform was loaded."""
        for name in wanted.clusters:
            if self._live is None or self._live._once is not wanted._once:
                return  # a newer platform is there
            try:
                wanted.edges(name)
                wanted.checked(name)
                for make in self.warmers:
                    make(wanted, name)
            except PilothouseError as failure:
                log.warning("cluster not checked", cluster=name, reason=failure.message)
            except Exception as failure:
                log.exception("cluster not checked", cluster=name, reason=repr(failure))
        settle()
